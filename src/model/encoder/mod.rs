//! Encoder architectures. In: `config.json`. Out: an [`architecture::Architecture`], from which the graph writer, the training network
//! and the reader of checkpoints take every layer and every tensor's name. It must not read weights.
//!
//! | file | what |
//! |---|---|
//! | [`architecture`] | the description of an encoder |
//! | `validation` | checks of keys that several encoders have |
//! | [`bert`], [`roberta`], [`electra`] | the keys of BERT and of encoders that differ from it in a few things → their descriptions |
//! | [`distilbert`], [`albert`] | the same of BERT's relatives with other keys and names |
//! | [`deberta_v2`], [`modernbert`] | the same of encoders with attention of their own |
//! | [`config`] | `config.json` → the configuration of one of them |
//!
//! A new encoder is a file like [`distilbert`] and a variant of [`config::EncoderConfig`]. A new kind of block is also a variant in
//! [`architecture`], which `graph/encoder.rs` writes and `train/network/encoder.rs` computes.

pub mod albert;
pub mod architecture;
pub mod bert;
pub mod config;
pub mod deberta_v2;
pub mod distilbert;
pub mod electra;
pub mod modernbert;
pub mod roberta;
mod validation;

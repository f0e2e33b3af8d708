//! Encoder architectures. In: `config.json`. Out: an [`architecture::Architecture`], from which the graph writer, the training network
//! and the reader of checkpoints take every layer and every tensor's name. It must not read weights.
//!
//! | file | what |
//! |---|---|
//! | [`architecture`] | the description of an encoder |
//! | [`bert`] | BERT's keys in `config.json` → its description |
//! | [`config`] | `config.json` → the configuration of one of the supported encoders |
//!
//! A new encoder is a file like [`bert`] and a variant of [`config::EncoderConfig`]. A new kind of block is also a variant in
//! [`architecture`], which `graph/encoder.rs` writes and `train/network/encoder.rs` computes.

pub mod architecture;
pub mod bert;
pub mod config;

//! Encoder architectures. In: `config.json`. Out: a validated configuration for the graph writer and the training network. It must
//! not read weights.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | a BERT's `config.json` |

pub mod config;

//! What an encoder looks like. In: `config.json`. Out: its checked shape, which the graph writer and the training network build
//! from. It must not read weights.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | a BERT's `config.json` |

pub mod config;

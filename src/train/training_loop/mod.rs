//! The loop. In: a network, batches, a recipe. Out: steps, scores, checkpoints. It must not draw.
//!
//! | file | what |
//! |---|---|
//! | [`trainer`] | the loop itself |
//! | [`dev`] | network + documents → scores |
//! | [`checkpoint`] | a training on disk |
//! | [`fingerprint`] | what a checkpoint belongs to |
//! | `provenance` | encoder folder → its name and how it was trained |
//! | `output` | where the model goes, and why that can be refused |
//! | [`signals`] | signals that ask the training to stop |

pub mod checkpoint;
pub mod dev;
pub mod fingerprint;
pub(crate) mod output;
pub(crate) mod provenance;
pub mod signals;
pub mod trainer;

//! The training loop. In: a network, batches, a recipe. Out: steps, scores, checkpoints. It must not draw.
//!
//! | file | content |
//! |---|---|
//! | [`trainer`] | the loop itself |
//! | [`dev`] | network + documents → scores |
//! | [`checkpoint`] | position and tensors on disk |
//! | [`fingerprint`] | the identity of a training |
//! | `provenance` | encoder folder → its name and how it was trained |
//! | `output` | the output folder, and reasons to refuse it |
//! | [`signals`] | signals that stop the training |

pub mod checkpoint;
pub mod dev;
pub mod fingerprint;
pub(crate) mod output;
pub(crate) mod provenance;
pub mod signals;
pub mod trainer;

//! The training loop. In: a network, batches, a recipe. Out: steps, scores, checkpoints. It must not draw.
//!
//! | file | content |
//! |---|---|
//! | [`trainer`] | the loop itself |
//! | `scoring` | dev is scored, the best weights are kept |
//! | [`dev`] | network + documents → scores |

pub mod dev;
pub(crate) mod scoring;
pub mod trainer;

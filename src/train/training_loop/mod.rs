//! The training loop. In: a network, batches, a recipe. Out: steps, scores, checkpoints. It must not draw.
//!
//! | file | content |
//! |---|---|
//! | [`trainer`] | the loop itself |
//! | [`dev`] | network + documents → scores |

pub mod dev;
pub mod trainer;

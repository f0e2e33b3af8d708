//! BERT encoder layers in 8-bit integers on the CPU.
//!
//! In: token vectors of a batch, `[tokens, hidden]`, without padding. Out: the same after all layers. Rows of activations are quantized
//! with a scale each, so an answer depends on nothing else in its batch; integer sums are exact, and floats are computed in one order on
//! every path, so all processors give the same bits.
//!
//! | module | contents |
//! |---|---|
//! | `weights` | weights as they are stored, and their checks |
//! | `lanes` | vectors of sixteen values on every path, and the choice of the path |
//! | `memory` | buffers on cache lines and huge pages |
//! | `compute` | products, attention, normalization, gelu |
//! | `layer`, `block` | a packed layer; a layer over a block of rows |
//! | `workers`, `schedule` | threads; which thread computes which block when |
//! | `encoder` | the layers, one after another |
//! | `operator` (feature `operator`) | the encoder as an operator of ONNX Runtime |

mod block;
mod compute;
mod encoder;
mod error;
mod lanes;
mod layer;
mod memory;
#[cfg(feature = "operator")]
pub mod operator;
mod schedule;
mod weights;
mod workers;

pub use encoder::{Encoder, Scratch};
pub use error::Error;
pub use lanes::Path;
pub use weights::{LayerWeights, Linear, Norm, Shape};
pub use workers::{Alone, Pool, Workers};

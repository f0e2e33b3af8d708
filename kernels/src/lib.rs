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
//! | `product` | rows of bytes × packed weights, with an epilogue |
//! | `functions`, `rows` | 2ˣ and gelu; quantization and layer normalization of rows |
//! | `attention` | one head over one sequence |
//! | `layer` | a packed layer over a block of rows |
//! | `schedule`, `workers` | blocks and threads |
//! | `encoder` | the layers, one after another |

mod attention;
mod encoder;
mod error;
mod functions;
mod lanes;
mod layer;
mod memory;
mod product;
mod rows;
mod schedule;
mod weights;
mod workers;

pub use encoder::{Encoder, Scratch};
pub use error::Error;
pub use lanes::Path;
pub use weights::{LayerWeights, Linear, Norm, Shape};
pub use workers::{Alone, Pool, Workers};

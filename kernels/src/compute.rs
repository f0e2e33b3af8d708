//! What is computed, written once for all instructions. In: pointers into memory of a batch. Out: results there. It must not know layers.
//!
//! | file | computes |
//! |---|---|
//! | `product` | rows of bytes × packed weights, with an epilogue |
//! | `attention` | one head over one sequence |
//! | `rows` | quantization and layer normalization of rows |
//! | `functions` | 2ˣ and gelu |

pub(crate) mod attention;
pub(crate) mod functions;
pub(crate) mod product;
pub(crate) mod rows;

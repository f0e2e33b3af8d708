//! Runs graphs with ONNX Runtime. In: a model directory, a device. Out: sessions on their own threads that compute batches. It must
//! not know how a graph is written.
//!
//! | file | what |
//! |---|---|
//! | [`distribution`] | the distributions of ONNX Runtime, and the pinned release |
//! | [`library`] | finds, fetches, checks and loads ONNX Runtime's shared library |
//! | `wheel` | fetches and unpacks its pinned PyPI wheels |
//! | [`device`] | CPU or CUDA, and the execution provider for it |
//! | [`hardware`] | the processor, GPUs, and how busy the machine is |
//! | [`selection`] | selects device, precision and library |
//! | [`session`] | a loaded graph: tensors → outputs |
//! | [`questions`] | what a model of two graphs is given of the questions |
//! | [`scorer`] | a model's sessions on their own threads, behind one bounded channel |
//! | [`scorer_counters`] | what they count |
//! | [`batch_tuning`] | the fastest number of tokens per batch, measured once and cached |

pub mod batch_tuning;
pub mod device;
pub mod distribution;
pub mod hardware;
pub mod library;
pub mod questions;
pub mod scorer;
pub mod scorer_counters;
pub mod selection;
pub mod session;
pub(crate) mod wheel;

//! What runs a graph. In: a model directory, a device. Out: sessions on their threads that answer batches. It must not know how a
//! graph is written.
//!
//! | file | what |
//! |---|---|
//! | [`distribution`] | the distributions of ONNX Runtime, and the pinned release |
//! | [`library`] | ONNX Runtime's shared library: found, fetched, checked, loaded |
//! | `wheel` | its PyPI wheels: pinned, fetched, unpacked |
//! | [`device`] | CPU or CUDA, and how a session gets there |
//! | [`hardware`] | the processor, GPUs, and how busy the machine is |
//! | [`selection`] | device, precision and library: what `auto` selects, and why |
//! | [`session`] | one loaded graph: `QueryBatch` → `Logits` |
//! | [`stage_timer`](crate::machine::stage_timer) | (in `machine`) time spent in a stage |
//! | [`pool`] | sessions on their threads, behind one bounded channel |
//! | [`batch_tuning`] | how many tokens a batch should have: measured once, remembered |

pub mod batch_tuning;
pub mod device;
pub mod distribution;
pub mod hardware;
pub mod library;
pub mod pool;
pub mod selection;
pub mod session;
pub(crate) mod wheel;

//! Several machines: a job's chunks on a Ballista cluster. In: the plan of a chunk, as bytes. Out: the data files that an executor has
//! written for it, and what it counted. It must not commit: only the driver of a run does.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | where a cluster is |
//! | [`program`] | what the processes agree on, and which work together |
//! | [`exchange`] | what a driver and its executors exchange of a chunk |
//! | [`chunk_exec`] | `ChunkExec`: a chunk's plan as an operator that Ballista sends |
//! | [`worker`] | runs a chunk's plan in an executor, with a model that stays open |
//! | `codec` | the operator as bytes, beside Ballista's own |
//! | [`driver`] | sends chunks to a scheduler and waits for their outcomes |
//! | `service` | what the next two have in common |
//! | [`scheduler`] | `quarry scheduler` |
//! | [`executor`] | `quarry executor` |
//! | `standalone` | a scheduler and an executor in this process |

pub mod address;
pub mod chunk_exec;
mod codec;
pub mod driver;
pub mod exchange;
pub mod executor;
pub mod program;
pub mod scheduler;
mod service;
mod standalone;
pub mod worker;

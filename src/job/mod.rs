//! The job, twice: [`JobFile`] as a person wrote it, [`Job`] as it runs. In: a job file, `--set` values, the files it names. Out:
//! a validated job, or an error that names the key and the value. Only [`Job::load`] starts anything.
//!
//! | file | what |
//! |---|---|
//! | [`file`] | the job file: TOML → sections |
//! | `schemas` | entity schemas as files |
//! | `resolved` | sections → a checked [`Job`] |
//! | `spec` | what changes the rows, and its hash |
//! | `ready` | a job's model, loaded |

pub mod file;
mod ready;
mod resolved;
mod schemas;
mod spec;

pub use file::{JobFile, json_schema};
pub use ready::Ready;
pub use resolved::{Job, Limit};
pub use schemas::read_schema;
pub use spec::{spec_changes, spec_id};

//! The job: [`JobFile`] as a user wrote it and [`Job`] as it runs. In: a job file, `--set` values and the files it names. Out: a validated
//! job, or an error that names the key and the value. It must not load a model or open files of the input, except in [`Job::load`].
//!
//! | file | what |
//! |---|---|
//! | [`mod@file`] | the job file: TOML → sections |
//! | `schemas` | paths → entity schemas |
//! | `resolved` | sections → a checked [`Job`] |
//! | `spec` | the settings that change the rows, and their hash |
//! | `ready` | a job → its loaded model |

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

//! The job: [`JobFile`] as a user wrote it and [`Job`] as it runs. In: a job file, `--set` values and the files it names. Out: a
//! validated job, or an error that names the key and the value; the plan of an extraction. It must not load a model or open files of the
//! input.
//!
//! | file | what |
//! |---|---|
//! | [`mod@file`] | the job file: TOML → sections |
//! | `schemas` | paths → entity schemas |
//! | `resolved` | sections → a checked [`Job`] |
//! | [`plan`] | documents and a specification → the plan of an extraction, which can be sent to another process |

pub mod file;
pub mod plan;
mod resolved;
mod schemas;

pub use file::{JobFile, json_schema};
pub use resolved::{Job, Limit};
pub use schemas::{read_schema, schema_of};

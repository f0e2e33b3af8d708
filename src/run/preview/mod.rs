//! What a run would do. In: a job. Out: `--explain` and `--dry-run`. It must not make, lock or repair a store.
//!
//! | file | what |
//! |---|---|
//! | `preflight` | what a run would find, and why it would be refused |
//! | `sample` | a look at some of the documents |
//! | `explain` | files, documents, queries, about how long, and the plan |
//! | `dry_run` | a run that writes nothing |

pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod preflight;
pub(crate) mod sample;

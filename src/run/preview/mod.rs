//! A run that writes nothing. In: a job. Out: `--explain` and `--dry-run`. It must not create, lock or repair a store.
//!
//! | file | contents |
//! |---|---|
//! | `sample` | estimates from some of the documents |
//! | `explain` | files, documents, queries, estimated time, and the plan |
//! | `dry_run` | a run that writes nothing |

pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod sample;

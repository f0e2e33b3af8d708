//! The store's tables. In: ledger rows as structs, record batches of `ExtractExec`. Out: Arrow schemas, and record batches of these
//! schemas. It must not read or write files.
//!
//! | file | what |
//! |---|---|
//! | [`schema`] | the six tables and their Arrow schemas |
//! | `rows` | rows of `sources`, `metrics` and `runs` → record batches |
//! | `split` | extracted rows → rows of `entities`, `documents` and `rejects` |

mod rows;
#[cfg(test)]
pub(crate) mod sample;
pub mod schema;
mod split;
#[cfg(test)]
mod tests;

pub use rows::{MetricRow, RunRow, SourceRow, metric_rows, run_rows, source_rows};
pub use schema::*;
pub use split::{SplitBatch, Stamp, refused_files, split};

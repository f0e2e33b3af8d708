//! The store's tables. In: ledger rows as structs, record batches of `ExtractExec`. Out: Arrow schemas, record batches of these
//! schemas, and values read from record batches. It must not read or write files.
//!
//! | file | what |
//! |---|---|
//! | [`schema`] | the six tables and their Arrow schemas |
//! | `outcome` | the outcomes of input files and runs ↔ their text |
//! | [`result_row`] | rows of a query's result → values, by column name and type |
//! | `rows` | rows of `sources`, `metrics` and `runs` → record batches |
//! | `totals` | sums over extracted rows |
//! | `split` | extracted rows → rows of `entities`, `documents` and `rejects` |
//! | `sample` | extracted rows for tests |

mod outcome;
pub mod result_row;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
pub mod schema;
mod split;
#[cfg(test)]
mod tests;
mod totals;

pub use outcome::{RunOutcome, SourceOutcome, UnknownOutcome};
pub use rows::{MetricRow, RunRow, SourceRow, metric_rows, run_rows, source_rows};
pub use schema::*;
pub use split::{SplitBatch, Stamp, refused_files, replaced_rows, split};
pub use totals::{Totals, TypeTotals};

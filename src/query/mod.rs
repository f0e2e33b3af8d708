//! SQL over tables. In: a session's tables, files and stores. Out: rows, views, and counts of true and false mentions. It must not
//! write to a store.
//!
//! | file | what |
//! |---|---|
//! | [`session`] | DataFusion's session, its limits, tables and views |
//! | [`statement`] | SQL text → rows, views, tables in memory |
//! | [`views`] | views for the most common questions |
//! | `cooperative_joins` | a physical plan → one whose joins can be cancelled |
//! | [`external_table`] | data files → a checked table in the session |
//! | [`file_catalog`] | a quoted path in SQL → a table |
//! | [`mention_table`] | a table of mentions → a view with one row each |
//! | [`read_only`] | a planned statement → an error if it could write |
//! | [`run_history`] | the `runs` table → the store's state relative to a specification |
//! | [`scoring`] | predicted ⋈ gold → counts |
//! | [`error_analysis`] | a matched table → its false positives and false negatives |

pub(crate) mod cooperative_joins;
pub mod error_analysis;
pub mod external_table;
pub mod file_catalog;
pub mod mention_table;
pub mod read_only;
pub mod run_history;
pub mod scoring;
pub mod session;
pub mod statement;
pub mod views;

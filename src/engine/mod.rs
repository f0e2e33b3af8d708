//! The query engine: DataFusion reads, our operators extract and write, Delta Lake commits. In: a resolved job's specifications.
//! Out: rows in the store's tables. It may not parse job files or print.
//!
//! | file | what |
//! |---|---|
//! | [`listing`] | a path, glob or URL → the files behind it |
//! | [`chunk`] | files → chunks of rows, each one plan |
//! | `inspect` | listed files → those that can be read, and their columns |
//! | [`input`] | a chunk → a plan of (source, row, id, text) |
//! | `columns` | files → their columns |
//! | `broken` | a file that cannot be read to its end → what can be read of it |
//! | `scan` | a chunk as a table |
//! | [`number`] | `NumberRowsExec`: row numbers for formats whose scan has none |
//! | [`admit`] | `AdmitExec`: leaves out documents that are done |
//! | [`extract`] | `ExtractExec`: document rows → one row per document with its mentions |
//! | [`slices`] | the scan's batches → slices |
//! | [`pipeline`] | its threads: tokenize, ask |
//! | `room` | how many slices, and bytes of their texts, may be under way |
//! | `collect` | answers → documents → finished slices |
//! | [`counters`] | what a run has done, as numbers |
//! | [`mod@write`] | `WriteExec`: extracted rows → Parquet files and their Add actions |
//! | [`cut`] | what it tells of them: a commit's files, and how far they reach |
//! | [`files`] | the Parquet files of one table |
//! | [`commit`] | Add actions → Delta commits, in the order that keeps them exact |
//! | `transact` | one transaction in one table's log |
//! | `read` | the data files that are in a table, and their rows |
//! | `ids` | ids of documents, to be looked up in them |
//! | [`lookup`] | ids → what the ledger knows of the documents |
//! | [`rewrite`] | rows that give way to others |
//! | [`runs`] | the `runs` table: a run's beginning and end |
//! | [`compact`] | many small files → few large ones |
//! | [`clean`] | files that no log knows, removed |
//! | `faults` | places where a test may end the process |
//! | [`store`] | the six Delta tables of a store |
//! | [`location`] | where a store lies: a folder or an object store |
//! | [`lock`] | one run at a time in a local store |
//! | [`provider`] | a Delta table as DataFusion reads it |
//! | [`attach`] | data files → a checked table in the session |
//! | [`by_path`] | a quoted path in SQL → a table |
//! | [`mentions`] | a table of mentions → a view with one row each |
//! | [`mistakes`] | a matched table → what is wrong in it |
//! | [`query`] | SQL text → rows, views, tables in memory |
//! | [`scores`] | predicted ⋈ gold → counts |
//! | [`objects`] | a URL in SQL → its object store |
//! | [`views`] | views that answer what is asked most |
//! | [`session`] | DataFusion's session, its limits, tables and views |
//! | `yielding` | joins that can be cancelled |

pub mod admit;
pub mod attach;
mod broken;
pub mod by_path;
pub mod chunk;
pub mod clean;
mod collect;
mod columns;
pub mod commit;
pub mod compact;
pub mod counters;
pub mod cut;
pub mod extract;
mod faults;
pub mod files;
mod ids;
pub mod input;
mod inspect;
pub mod listing;
pub mod location;
pub mod lock;
pub mod lookup;
pub mod mentions;
pub mod mistakes;
pub mod number;
pub mod objects;
pub mod pipeline;
pub mod provider;
pub mod query;
mod read;
pub mod rewrite;
mod room;
pub mod runs;
mod scan;
pub mod scores;
pub mod session;
pub mod slices;
pub mod store;
mod transact;
pub mod views;
pub mod write;
mod yielding;

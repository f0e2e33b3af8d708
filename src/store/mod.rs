//! The Delta Lake store. In: extracted rows. Out: six tables, committed together or not at all. It must not know where rows come from.
//!
//! | file | what |
//! |---|---|
//! | [`delta_store`] | the six Delta tables of a store |
//! | [`provider`] | a Delta table as DataFusion reads it |
//! | [`table_files`] | writes the Parquet files of one table |
//! | `data_files` | the data files of a table, and their rows |
//! | [`lock`] | one run at a time in a local store |
//! | [`runs`] | the `runs` table: a run's start and end |
//! | [`ledger`] | ids → what the store knows of the documents |
//! | `ids` | sets of document ids to look up |
//! | [`mod@write`] | rows → data files → commits |
//! | [`maintenance`] | optimize and vacuum |

pub(crate) mod data_files;
pub mod delta_store;
pub(crate) mod ids;
pub mod ledger;
pub mod lock;
pub mod maintenance;
pub mod provider;
pub mod runs;
pub mod table_files;
pub mod write;

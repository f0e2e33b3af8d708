//! The Delta Lake store. In: extracted rows. Out: six tables, committed together or not at all. It must not know the source of the rows.
//!
//! | file | what |
//! |---|---|
//! | [`delta_store`] | the six Delta tables of a store |
//! | `log` | the tables' transaction logs: each table as it is open, what is damaged, what we cannot honour |
//! | [`provider`] | a Delta table → a DataFusion table provider |
//! | [`table_files`] | writes the Parquet files of one table |
//! | `data_files` | a table's log → its data files and their rows |
//! | [`lock`] | allows one run at a time in a local store |
//! | [`runs`] | the `runs` table: the start and end of each run |
//! | [`document_hashes`] | document ids → their content hashes in the store |
//! | `ids` | sets of document ids for lookups |
//! | [`mod@write`] | rows → data files → commits |
//! | [`maintenance`] | optimize and vacuum |

pub(crate) mod data_files;
pub mod delta_store;
pub mod document_hashes;
pub(crate) mod ids;
pub mod lock;
pub(crate) mod log;
pub mod maintenance;
pub mod provider;
pub mod runs;
pub mod table_files;
pub mod write;

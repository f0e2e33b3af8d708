//! The tables' transaction logs. In: a store's location. Out: each table as it is open, or an error for a log that is damaged or that this
//! version cannot honour. It must not write data files.
//!
//! | file | what |
//! |---|---|
//! | `open_table` | a table as it is open: newest version, last commit, snapshot |
//! | `open_tables` | all six: created, opened, or gone |
//! | `log_files` | the files of a log: which are there, and which are damaged |
//! | `hidden_files` | an object store without the checkpoints that cannot be read |
//! | `log_store` | a log as `deltalake-core` reads and writes it, with bounds on its memory |
//! | `features` | what other tools can ask of a table's readers and writers, and we cannot honour |
//! | `agreement` | whether the tables' last commits and data files fit together |
//! | `conditional_puts` | whether an object store honours conditional puts |

pub(crate) mod agreement;
pub(crate) mod conditional_puts;
pub(crate) mod features;
pub(crate) mod hidden_files;
pub(crate) mod log_files;
pub(crate) mod log_store;
pub(crate) mod open_table;
pub(crate) mod open_tables;

//! Writes rows to the tables. In: extracted rows. Out: data files, and Delta commits in an order that can be rolled back. It must not
//! run queries.
//!
//! | file | what |
//! |---|---|
//! | [`write_exec`] | `WriteExec`: extracted rows → Parquet files and their Add actions |
//! | `replaced` | rows that later rows of the same chunk replace |
//! | [`commit_batch`] | a commit's data files and the input offset they cover |
//! | [`commit`] | Add actions → Delta commits |
//! | [`roll_back`] | an incomplete commit → the state before it |
//! | `transaction` | one transaction in one table's log |
//! | [`rewrite`] | removes rows that others replace |
//! | `fault_injection` | points where a test can end the process |

pub mod commit;
pub mod commit_batch;
pub(crate) mod fault_injection;
pub(crate) mod replaced;
pub mod rewrite;
pub mod roll_back;
pub(crate) mod transaction;
pub mod write_exec;

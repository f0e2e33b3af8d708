//! What the store has already. In: the ledger's tables. Out: files, rows and documents that are done, and how the store stands to this
//! run's specification. It must not read a text.
//!
//! | file | what |
//! |---|---|
//! | `ledger` | which input files are done, and from which row on others are read |
//! | `documents` | which documents of a chunk are known, and which rows later rows replace |
//! | `specification` | continue, replace, or an error that says what changed |

pub(crate) mod documents;
pub(crate) mod ledger;
pub(crate) mod specification;

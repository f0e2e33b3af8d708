//! What the store already has. In: the ledger's tables. Out: files, rows and documents that are done, and whether the store has rows of
//! another specification. It must not read a text.
//!
//! | file | contents |
//! |---|---|
//! | `ledger` | which input files are done, and the row at which others resume |
//! | `documents` | which documents of a chunk are known, and where their rows come from |
//! | `rejects` | the rejects in force of a job's input |
//! | `replacement` | which rows of another specification must stay |
//! | `specification` | continue, replace, or an error that names what changed |

pub(crate) mod documents;
pub(crate) mod ledger;
pub(crate) mod rejects;
pub(crate) mod replacement;
pub(crate) mod specification;

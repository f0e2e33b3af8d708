//! What the store already has. In: the ledger's tables. Out: files, rows and documents that are done, and whether the store has rows of
//! another specification. It must not read a text.
//!
//! The order of the input is (source, row): files by path, then rows. Of the accepted rows of a document, the last in this order is in
//! force, whenever it was read. What the store records for that:
//!
//! - `documents` has one row for each document and specification: the text's hash, the place (`source`, `row`) and the `commit` of the row
//!   in force. Each accepted row with another text replaces it in its own commit, which also adds the replaced row to `rejects`. So after
//!   every commit the tables are those of the rows read so far, and a refused row replaces none. A row with the same text is done.
//! - `sources` has one row for each file, specification and `input_hash`: how many rows are done; `changed_in`, so that it is known which
//!   rows of `documents` are from the file's present state; `repeated`, whether the file has rows that are done with the row of another file.
//! - A row of an older file loses to the row in force if the later file is listed and still has the document. That is certain if the
//!   later file's present state was read before the row's commit; if not, or if later files are `repeated`, they are read for the document.
//! - The damage of a file is recorded by the first commit that passes it. Every run looks for it again before it resumes the file: where it
//!   is gone or another, the file counts as changed.
//! - `rejects` of a file go when its new state is read; those of runs with another `input_hash` stay.
//!
//! | file | contents |
//! |---|---|
//! | `ledger` | which input files are done, and the row at which others resume |
//! | `visit` | the state of a file at its last visit |
//! | `documents` | which documents of a chunk are known, and where their rows come from |
//! | `rejects` | the rejects in force of a job's input |
//! | `replaced` | rows that a commit replaces, as rejects |
//! | `replacement` | which rows of another specification must stay |
//! | `specification` | continue, replace, or an error that names what changed |

pub(crate) mod documents;
pub(crate) mod ledger;
pub(crate) mod rejects;
pub(crate) mod replaced;
pub(crate) mod replacement;
pub(crate) mod specification;
mod visit;

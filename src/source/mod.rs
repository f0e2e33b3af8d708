//! Where documents come from. In: a path, glob or URL. Out: the files behind it, chunks of their rows, and a plan of (source, row, id,
//! text) for any chunk. It must not know the store or the model.
//!
//! | file | what |
//! |---|---|
//! | [`location`] | a folder or object-store prefix |
//! | [`object_stores`] | a URL in SQL → its object store |
//! | [`listing`] | a path, glob or URL → the files behind it |
//! | [`chunk`] | files → chunks of rows, each one plan |
//! | `columns` | files → their columns |
//! | [`input`] | a chunk → a plan of (source, row, id, text) |
//! | `validate` | listed files → those that can be read, and their columns |
//! | `corrupt_file` | a file that cannot be read to its end → how far it can be read |
//! | `scan` | a chunk as a table |
//! | [`plan_error`] | errors of the query engine → ours |
//! | [`row_number`] | `NumberRowsExec`: row numbers for formats whose scan has none |

pub mod chunk;
pub(crate) mod columns;
pub(crate) mod corrupt_file;
pub mod input;
pub mod listing;
pub mod location;
pub mod object_stores;
pub mod plan_error;
pub mod row_number;
pub(crate) mod scan;
pub(crate) mod validate;

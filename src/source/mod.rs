//! Where documents come from. In: a path, glob or URL. Out: the files it names, chunks of their rows, and a scan plan of (source, row,
//! id, text) for any chunk. It must not read the store's tables or know the model.
//!
//! | file | what |
//! |---|---|
//! | [`location`] | a folder or object-store prefix |
//! | [`object_stores`] | a URL in SQL → its object store |
//! | [`listing`] | a path, glob or URL → the files it names |
//! | [`chunk`] | files → chunks of rows, one plan each |
//! | `columns` | files → their columns |
//! | [`input`] | a chunk → a plan of (source, row, id, text) |
//! | `validate` | listed files → the readable ones and their columns |
//! | `corrupt_file` | a corrupt file → how many of its rows can be read |
//! | `scan` | a chunk as a table |
//! | [`plan_error`] | DataFusion's errors → ours |
//! | [`row_number`] | `NumberRowsExec`: row numbers for formats whose scan has no row index |

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

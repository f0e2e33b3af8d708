//! Where documents come from. In: a path, glob or URL. Out: the files it names, chunks of their rows, and a scan plan of (source, row,
//! id, text) for any chunk. It must not read the store's tables or know the model.
//!
//! | file | what |
//! |---|---|
//! | [`location`] | a folder or object-store prefix |
//! | [`object_stores`] | a URL in SQL → its object store |
//! | [`listing`] | a path, glob or URL → the files it names |
//! | [`chunk`] | files → chunks of rows, one plan each |
//! | `columns` | a file → its columns; types that files have in common |
//! | [`input`] | the job's documents; a chunk of them → a scan of (source, row, id, text) |
//! | `validate` | listed files → the readable ones and their columns |
//! | `corrupt_file` | a corrupt file → which of its rows cannot be read |
//! | [`mod@scan`] | a scan as data (files, row ranges, columns, filter) → the plan that reads it |
//! | `filter` | the job's `where` → an expression |
//! | [`plan_error`] | DataFusion's errors → ours |
//! | `records` | JSON Lines and CSV → rows, and a fault for each record that cannot be read |
//! | [`operator`] | the plan node that all operators share; the operators that scan and number rows |

pub mod chunk;
pub(crate) mod columns;
pub(crate) mod corrupt_file;
pub(crate) mod filter;
pub mod input;
pub mod listing;
pub mod location;
pub mod object_stores;
pub mod operator;
pub mod plan_error;
pub(crate) mod records;
pub mod scan;
pub(crate) mod validate;

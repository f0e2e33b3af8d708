//! JSON Lines and CSV. In: files of text, plain or compressed. Out: their columns, and their rows, with a fault in place of each record
//! that cannot be read. A bad record must not cost another one.
//!
//! | file | what |
//! |---|---|
//! | `object_bytes` | an object → its bytes, decompressed |
//! | `json_lines` | bytes → JSON objects, one a line |
//! | `csv` | bytes → header and records |
//! | `record` | a record, and what its readers share |
//! | `sample` | the first records of a file → its columns |
//! | `filter_columns` | the columns that a condition uses → arrays |
//! | `read` | files → batches of (source, id, text, fault, columns of the condition) |

mod csv;
mod filter_columns;
mod json_lines;
mod object_bytes;
pub(crate) mod read;
mod record;
pub(crate) mod sample;

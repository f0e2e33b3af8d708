//! Checked documents → files. In: documents. Out: rows, parts of the corpus, figures, Parquet. It must not read a corpus.
//!
//! | file | what |
//! |---|---|
//! | `granularity` | documents → a row a document or a sentence |
//! | `split` | rows → parts |
//! | `summary` | rows → figures |
//! | `write` | rows → files |

pub(crate) mod granularity;
pub(crate) mod split;
pub(crate) mod summary;
pub(crate) mod write;

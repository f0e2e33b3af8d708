//! Checked documents → files. In: documents. Out: rows, parts of the corpus, figures, Parquet files. It must not read a corpus.
//!
//! | file | content |
//! |---|---|
//! | `granularity` | documents → one row per document or sentence |
//! | `split` | rows → parts |
//! | `summary` | rows → figures |
//! | `write` | rows → Parquet files and `schema.toml` |

pub(crate) mod granularity;
pub(crate) mod split;
pub(crate) mod summary;
pub(crate) mod write;

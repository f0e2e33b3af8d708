//! Formats with one tag per token. In: columns of tokens and tags. Out: documents with mentions. They must not guess what a tag means.
//!
//! | file | format |
//! |---|---|
//! | [`conll`] | CoNLL columns |
//! | [`conll2012`] | CoNLL-2012 `_gold_conll` |
//! | [`bmes`] | one sentence per line, BMES tags |
//! | [`token_parquet`] | Parquet with lists of tokens and tags |
//! | [`tags`] | tags → spans |

pub(crate) mod bmes;
pub(crate) mod conll;
pub(crate) mod conll2012;
pub(crate) mod tags;
pub(crate) mod token_parquet;

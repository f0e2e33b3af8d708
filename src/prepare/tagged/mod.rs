//! Formats with one tag per token. In: columns of tokens and tags. Out: documents with mentions. They must not guess what a tag means.
//!
//! | file | format |
//! |---|---|
//! | [`conll`] | CoNLL columns |
//! | [`columns`] | the lines of a column file → sentences of rows |
//! | [`layout`] | rows → which column holds what |
//! | [`conll2012`] | CoNLL-2012 `_gold_conll` |
//! | [`bmes`] | one sentence per line, BMES tags |
//! | [`token_parquet`] | Parquet with lists of tokens and tags |
//! | [`tags`] | tags → spans |
//! | [`brackets`] | names in brackets → spans |

pub(crate) mod bmes;
pub(crate) mod brackets;
pub(crate) mod columns;
pub(crate) mod conll;
pub(crate) mod conll2012;
pub(crate) mod layout;
pub(crate) mod tags;
pub(crate) mod token_parquet;

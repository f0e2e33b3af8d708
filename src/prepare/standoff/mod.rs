//! Formats that locate mentions by offsets. In: text, JSON and annotation files. Out: documents with mentions. They must not change the
//! text.
//!
//! | file | format |
//! |---|---|
//! | [`brat`] | brat standoff |
//! | [`jsonl`] | JSON Lines |
//! | [`mrc`] | the reference implementation's MRC JSON, read and written |
//! | [`positions`] | the reference implementation's GENIA JSON |
//! | [`spacy`] | spaCy's JSON |
//! | [`plain`] | plain text, without mentions |
//! | [`json`] | a JSON list → its items with line numbers |
//! | [`spans`] | spans in JSON → mentions |

pub(crate) mod brat;
pub(crate) mod json;
pub(crate) mod jsonl;
pub(crate) mod mrc;
pub(crate) mod plain;
pub(crate) mod positions;
pub(crate) mod spacy;
pub(crate) mod spans;

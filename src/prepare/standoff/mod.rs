//! Formats that locate mentions by offsets. In: text, JSON and annotation files. Out: documents with mentions. They must not change the
//! text.
//!
//! | file | format |
//! |---|---|
//! | [`brat`] | brat standoff |
//! | [`jsonl`] | JSON Lines, or a list of objects |
//! | [`layouts`] | an object of JSON → its text and labels |
//! | [`label_studio`] | an object of Label Studio's exports → its text and labels |
//! | [`records`] | the text and labels of an object |
//! | [`mrc`] | the reference implementation's MRC JSON, read and written |
//! | [`positions`] | the reference implementation's GENIA JSON |
//! | [`spacy`] | spaCy's JSON |
//! | [`plain`] | plain text, without mentions |
//! | [`json`] | a JSON list, or objects → items with line numbers |
//! | [`spans`] | spans in JSON → mentions |

pub(crate) mod brat;
pub(crate) mod json;
pub(crate) mod jsonl;
pub(crate) mod label_studio;
pub(crate) mod layouts;
pub(crate) mod mrc;
pub(crate) mod plain;
pub(crate) mod positions;
pub(crate) mod records;
pub(crate) mod spacy;
pub(crate) mod spans;

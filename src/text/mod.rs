//! Documents as text. In: a text cell. Out: documents, tokens, windows and mentions, with offsets in tokens, bytes and code points. It
//! must stay pure: no I/O, no threads, no Arrow, no ONNX Runtime.
//!
//! | file | what |
//! |---|---|
//! | [`span`] | ranges of tokens, bytes or code points |
//! | [`document`] | cell → [`Document`](document::Document) or [`Reject`](document::Reject) |
//! | [`tokens`] | text → [`Token`](tokens::Token)s, a segment at a time |
//! | [`frame`] | a tokenizer → the special tokens around questions and windows |
//! | `split_words` | words for models that tokenize word by word |
//! | `word_boundary` | where words begin and end, for tokenizers whose parts are no words |
//! | [`word_shape`] | a word → how it is written |
//! | `growth` | a `tokenizer.json` → how much longer it makes texts, bounded |
//! | [`mention`] | a type and its place in the text |
//! | [`window`] | tokens → [`Window`](window::Window)s that fit the encoder |

pub mod document;
pub mod frame;
pub(crate) mod growth;
pub mod mention;
pub mod span;
pub(crate) mod split_words;
pub mod tokens;
pub mod window;
pub(crate) mod word_boundary;
pub mod word_shape;

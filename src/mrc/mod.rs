//! The pure core: text in, mentions out, one file an arrow of the chain. In: document text, entity types, logits. Out:
//! windows, queries, batches, mentions and scores. It may not do I/O and knows neither Arrow nor ONNX Runtime nor tokio.
//!
//! | file | arrow |
//! |---|---|
//! | [`span`] | the coordinates: tokens, bytes, code points |
//! | [`documents`] | cell → [`Document`](documents::Document) or [`Reject`](documents::Reject) |
//! | [`tokens`] | text → [`Token`](tokens::Token)s, a segment at a time |
//! | [`window`] | tokens → [`Window`](window::Window)s that fit the encoder |
//! | [`query`] | window × entity type → [`Encoded`](query::Encoded) |
//! | [`batch`] | encoded queries → [`QueryBatch`](batch::QueryBatch)es by token budget |
//! | [`decode`] | logits → [`Span`](decode::Span)s |
//! | [`mention`] | spans of all windows → [`Mention`](mention::Mention)s of the document |
//! | [`random`] | seeded random numbers |
//! | [`score`] | counts of right and wrong mentions → precision, recall, F1 |

pub mod batch;
pub mod decode;
pub mod documents;
pub mod mention;
pub mod query;
pub mod random;
pub mod score;
pub mod span;
pub mod tokens;
pub mod window;

//! Model inputs and outputs of the MRC task. In: windows, entity types and logits. Out: batches of queries, spans and mentions.
//! It must stay pure, as `text` is.
//!
//! | file | what |
//! |---|---|
//! | [`entity_schema`] | entity types and their questions |
//! | [`query`] | window × entity type → [`Encoded`](query::Encoded) |
//! | [`batch`] | encoded queries → [`QueryBatch`](batch::QueryBatch)es by token budget |
//! | [`decode`] | logits → [`Span`](decode::Span)s |
//! | [`merge`] | spans of all windows → [`Mention`](crate::text::mention::Mention)s of the document |

pub mod batch;
pub mod decode;
pub mod entity_schema;
pub mod merge;
pub mod query;

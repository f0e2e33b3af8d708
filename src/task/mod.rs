//! What a model is asked, and how its answer is read. In: windows, entity types, and the outputs of a graph. Out: batches of inputs,
//! spans and mentions. It must stay pure, as `text` is.
//!
//! | file | what |
//! |---|---|
//! | [`entity_schema`] | entity types and their questions |
//! | [`kind`] | the closed list of kinds: window → inputs, the contract of the graph, outputs → spans |
//! | [`mrc`] | the kind of Li et al. 2020: one question per type and window |
//! | [`mrc::decode`] | its logits → [`Span`](answer::Span)s |
//! | [`late`] | the same with late interaction: all types of a window in one pass |
//! | [`tagger`] | token classification: one tag per word, all types in one pass |
//! | [`qa`] | extractive question answering: one best span per question and document |
//! | [`gliner`] | types in plain words, read with the text |
//! | `one_pass` | a kind for tests: all types of a window in one pass |
//! | [`input`] | window (× question) → [`ModelInput`](input::ModelInput) |
//! | [`batch`] | inputs → [`Batch`](batch::Batch)es by token budget |
//! | [`tensor`] | named arrays: the inputs and outputs of a graph |
//! | [`answer`] | the spans found in one input |
//! | [`merge`] | spans of all windows → [`Mention`](crate::text::mention::Mention)s of the document |

pub mod answer;
pub mod batch;
pub mod entity_schema;
pub mod gliner;
pub mod input;
pub mod kind;
pub mod late;
pub mod merge;
pub mod mrc;
#[cfg(test)]
pub(crate) mod one_pass;
pub mod qa;
pub mod tagger;
pub mod tensor;

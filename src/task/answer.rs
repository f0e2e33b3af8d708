//! What a model finds in one input: spans with their scores. In: decoded logits. Out: an [`Answer`]. It must not know the kind that
//! found it.

use crate::text::span::TokenSpan;

/// A span of one entity type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// Its range in the document's tokens.
    pub tokens: TokenSpan,
    /// The logit of its score.
    pub logit: f32,
}

/// The spans that were found in one input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The spans in order of start and end.
    pub spans: Vec<Span>,
    /// Candidates dropped because there were more than the maximum.
    pub capped: usize,
    /// Decisions so close to a threshold that another device could decide them differently.
    pub undecided: usize,
    /// Whether a document has at most one mention of a type of this input: the best that its windows find.
    pub one_of_type: bool,
}

/// The logit whose sigmoid is `probability`.
pub fn logit(probability: f32) -> f32 {
    (probability / (1.0 - probability)).ln()
}

/// The logistic function σ.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

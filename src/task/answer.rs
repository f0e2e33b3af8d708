//! What a model finds in one input: spans with their scores. In: decoded logits. Out: an [`Answer`]. It must not know the kind that
//! found it.
//!
//! Every kind decides through [`Acceptance`] which spans are mentions: it is the only place where thresholds and temperatures are applied.

use crate::task::entity_schema::{EntitySchema, EntityType};
use crate::text::span::TokenSpan;

/// A span of one entity type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// Its range in the document's tokens.
    pub tokens: TokenSpan,
    /// The logit of its score: what [`Acceptance::judge`] returned.
    pub logit: f32,
}

/// When a span of each type of a schema is a mention, and what its score is.
#[derive(Debug, Clone, PartialEq)]
pub struct Acceptance {
    /// By type: the logit of the threshold, and the temperature.
    types: Vec<(f32, f32)>,
    tolerance: f32,
}

impl Acceptance {
    /// The thresholds and temperatures of the types of `schema`. Decisions on logits within `tolerance` of a threshold are undecided.
    pub fn new(schema: &EntitySchema, tolerance: f32) -> Self {
        let of = |one: &EntityType| (logit(one.threshold()), one.temperature());
        Self { types: schema.types.iter().map(of).collect(), tolerance }
    }

    /// The logit of the score of a span of type `entity_type` (an index into the schema) whose logit is `logit`; `None` if its score does not
    /// pass the threshold.
    pub fn judge(&self, entity_type: usize, logit: f32) -> Option<f32> {
        let (threshold, temperature) = self.types[entity_type];
        Some(logit / temperature).filter(|scaled| *scaled > threshold)
    }

    /// Whether another device could judge this span differently.
    pub fn undecided(&self, entity_type: usize, logit: f32) -> bool {
        let (threshold, temperature) = self.types[entity_type];
        (logit - threshold * temperature).abs() < self.tolerance
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::task::entity_schema::Nesting;

    /// An acceptance of `types` types with these thresholds (probabilities) and temperatures in turn.
    pub(crate) fn acceptance(types: usize, scores: &[(f32, f32)], tolerance: f32) -> Acceptance {
        let one = |number: usize| {
            let (threshold, temperature) = scores[number % scores.len()];
            EntityType { threshold: Some(threshold), temperature: Some(temperature), ..EntityType::new("", "") }
        };
        Acceptance::new(&EntitySchema { nested: Nesting::Nested, types: (0..types).map(one).collect() }, tolerance)
    }

    #[test]
    fn each_type_has_its_threshold_and_temperature() {
        let judged = acceptance(2, &[(0.5, 1.0), (0.9, 2.0)], 0.1);
        assert_eq!(judged.judge(0, 0.2), Some(0.2));
        assert_eq!(judged.judge(0, -0.2), None);
        // σ(4.4 / 2) = 0.9002, σ(4.3 / 2) = 0.8957.
        assert_eq!(judged.judge(1, 4.4), Some(2.2));
        assert_eq!(judged.judge(1, 4.3), None);
        // The tolerance is one of logits before they are divided: the threshold is at 2 ln 9 = 4.3944.
        assert_eq!([4.28, 4.3, 4.49, 4.5].map(|logit| judged.undecided(1, logit)), [false, true, true, false]);
        assert_eq!([-0.09, 0.11].map(|logit| judged.undecided(0, logit)), [true, false]);
    }
}

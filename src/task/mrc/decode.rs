//! Logits → [`Span`]s. In: a batch and its logits. Out: for each input the spans whose match logit passes the threshold, with
//! that logit. It must not compare inputs: `merge` resolves conflicts between windows and types.
//!
//! Decisions follow section 3.3 of the BERT-MRC paper: a start and an end are candidates if their own logits pass, and a pair of
//! them is a mention if its match logit passes. Flat decoding gives each start the nearest end that passes.

use std::cmp::Ordering;

use crate::task::answer::{Acceptance, Answer, Span};
use crate::task::batch::Batch;
use crate::task::input::ModelInput;
use crate::text::tokens::Token;

/// The graph's outputs for a batch of `[rows, tokens]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logits {
    /// `[rows, tokens]`, row-major: does a mention start here?
    pub start: Vec<f32>,
    /// `[rows, tokens]`, row-major: does a mention end here?
    pub end: Vec<f32>,
    /// `[k]`: row, start and end (inclusive) of each candidate.
    pub span_index: Vec<[usize; 3]>,
    /// `[k]`: do this start and this end belong together?
    pub span: Vec<f32>,
}

/// The limits of decoding that are the same for all types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeRule {
    /// Start and end logits were above this (the graph's `boundary_logit`).
    pub boundary: f32,
    /// Whether one start can have several ends.
    pub nested: bool,
    /// The maximum number of candidates of one input; the best by start + end logit are kept.
    pub max_candidates: usize,
    /// A start or end logit closer to the boundary than this counts as undecided.
    pub tolerance: f32,
}

/// One [`Answer`] per input of `batch`, in its order.
pub fn decode(batch: &Batch, logits: &Logits, rule: &DecodeRule, acceptance: &Acceptance) -> Vec<Answer> {
    let width = batch.tokens();
    let mut candidates: Vec<Vec<Candidate>> = vec![Vec::new(); batch.inputs.len()];
    for (&[row, start, end], &logit) in logits.span_index.iter().zip(&logits.span) {
        let boundary = logits.start[row * width + start] + logits.end[row * width + end];
        candidates[row].push(Candidate { start, end, logit, boundary });
    }
    let rows = batch.inputs.iter().zip(candidates).enumerate();
    rows.map(|(row, (query, candidates))| {
        let mut answer = answer(query, query.entity_type().unwrap_or_default(), candidates, (rule, acceptance));
        let of_row = row * width..(row + 1) * width;
        answer.undecided += undecided(query, &logits.start[of_row.clone()], &logits.end[of_row], rule);
        answer
    })
    .collect()
}

/// How many of an input's start and end logits, `[tokens]` each, are close to the boundary. Only tokens that can start or end a mention are
/// decisions.
pub fn undecided(query: &ModelInput, starts: &[f32], ends: &[f32], rule: &DecodeRule) -> usize {
    let near = |values: &[f32], decides: fn(&Token) -> bool| {
        let tokens = query.window.tokens.iter().zip(&values[query.context_start()..]);
        tokens.filter(|(token, value)| decides(token) && (*value - rule.boundary).abs() < rule.tolerance).count()
    };
    near(starts, |token| token.starts_word) + near(ends, |token| token.ends_word)
}

/// A start and an end in the tokens of an input, both above the boundary.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The first token.
    pub start: usize,
    /// The last token.
    pub end: usize,
    /// The match logit.
    pub logit: f32,
    /// Start logit + end logit.
    pub boundary: f32,
}

/// The answer that the candidates of one input and type give; the boundary's decisions are not among its undecided ones.
pub fn answer(
    query: &ModelInput,
    entity_type: usize,
    mut candidates: Vec<Candidate>,
    (rule, acceptance): (&DecodeRule, &Acceptance),
) -> Answer {
    let capped = candidates.len().saturating_sub(rule.max_candidates);
    if capped > 0 {
        candidates.sort_by(|a, b| {
            b.boundary.partial_cmp(&a.boundary).unwrap_or(Ordering::Equal).then((a.start, a.end).cmp(&(b.start, b.end)))
        });
        candidates.truncate(rule.max_candidates);
    }
    candidates.sort_by_key(|candidate| (candidate.start, candidate.end));
    let undecided = candidates.iter().filter(|one| acceptance.undecided(entity_type, one.logit)).count();
    let mut spans = Vec::new();
    let mut last_start = None;
    for candidate in candidates {
        let Some(logit) = acceptance.judge(entity_type, candidate.logit) else { continue };
        if !rule.nested && last_start == Some(candidate.start) {
            continue;
        }
        if let Some(tokens) = query.place(candidate.start, candidate.end) {
            last_start = Some(candidate.start);
            spans.push(Span { entity_type, tokens, logit });
        }
    }
    Answer { spans, capped, undecided, one_of_type: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::answer::tests::acceptance;
    use crate::task::batch::tests::queries;
    use crate::text::span::TokenSpan;
    use proptest::prelude::*;

    const RULE: DecodeRule = DecodeRule { boundary: 0.0, nested: true, max_candidates: 4096, tolerance: 1e-3 };

    /// The two types of the queries, each with a threshold of 0.5.
    fn halves() -> Acceptance {
        acceptance(2, &[(0.5, 1.0)], RULE.tolerance)
    }

    /// Logits of a graph that scores every pair with `pair`, by the contract of the MRC graph.
    fn graph(batch: &Batch, start: &[f32], end: &[f32], pair: impl Fn(usize, usize, usize) -> f32) -> Logits {
        let (inputs, width) = (batch.tensors(), batch.tokens());
        let mut logits = Logits { start: start.into(), end: end.into(), ..Logits::default() };
        for row in 0..batch.inputs.len() {
            for first in
                (0..width).filter(|at| inputs.start_mask[row * width + at] && start[row * width + at] > RULE.boundary)
            {
                for last in (first..width)
                    .filter(|at| inputs.end_mask[row * width + at] && end[row * width + at] > RULE.boundary)
                {
                    logits.span_index.push([row, first, last]);
                    logits.span.push(pair(row, first, last));
                }
            }
        }
        logits
    }

    #[test]
    fn a_span_outside_the_context_is_not_a_mention() {
        let batch = Batch { inputs: queries(&["new york".into()]) };
        let size = batch.padded_tokens();
        let logits =
            Logits { start: vec![1.0; size], end: vec![1.0; size], span_index: vec![[0, 1, 2]], span: vec![9.0] };
        assert!(decode(&batch, &logits, &RULE, &halves())[0].spans.is_empty());
    }

    #[test]
    fn masked_tokens_are_not_counted_as_undecided() {
        // One word of two wordpieces: it starts with the first and ends with the second.
        let batch = Batch { inputs: queries(&["banker".into()])[..1].to_vec() };
        let size = batch.padded_tokens();
        let logits = Logits { start: vec![0.0; size], end: vec![0.0; size], ..Logits::default() };
        assert_eq!(batch.inputs[0].window.tokens.len(), 2);
        assert_eq!(decode(&batch, &logits, &RULE, &halves())[0].undecided, 2);
    }

    #[test]
    fn the_cap_keeps_the_best_boundaries() {
        let batch = Batch { inputs: queries(&["a b c".into()])[..1].to_vec() };
        let (width, context) = (batch.tokens(), batch.inputs[0].context_start());
        let mut start = vec![0.5; width];
        start[context + 1] = 3.0;
        let logits = graph(&batch, &start, &vec![0.5; width], |_, _, _| 1.0);
        let found = decode(&batch, &logits, &DecodeRule { max_candidates: 2, ..RULE }, &halves());
        assert_eq!(found[0].capped, 4);
        let places: Vec<TokenSpan> = found[0].spans.iter().map(|span| span.tokens).collect();
        assert_eq!(places, [TokenSpan::new(1, 2), TokenSpan::new(1, 3)]);
    }

    proptest! {
        #[test]
        fn decoding_equals_brute_force(
            texts in proptest::collection::vec("[a-f .]{1,12}", 1..4),
            values in proptest::collection::vec(-2.0_f32..2.0, 4096),
            nested in any::<bool>(),
            scores in proptest::collection::vec((0.2_f32..0.8, 0.5_f32..2.0), 1..3),
        ) {
            let batch = Batch { inputs: queries(&texts) };
            prop_assume!(!batch.inputs.is_empty());
            let (size, width) = (batch.padded_tokens(), batch.tokens());
            let start: Vec<f32> = (0..size).map(|at| values[at % 2048]).collect();
            let end: Vec<f32> = (0..size).map(|at| values[2048 + at % 2047]).collect();
            let pair = |row: usize, first: usize, last: usize| values[(row * 31 + first * 7 + last) % 4096];
            let judged = acceptance(2, &scores, RULE.tolerance);
            let found = decode(&batch, &graph(&batch, &start, &end, pair), &DecodeRule { nested, ..RULE }, &judged);
            let inputs = batch.tensors();
            for (row, query) in batch.inputs.iter().enumerate() {
                let mut expected = Vec::new();
                let (threshold, temperature) = scores[query.entity_type().unwrap() % scores.len()];
                for first in query.context_start()..query.len() - 1 {
                    for last in first..query.len() - 1 {
                        let at = |position: usize| row * width + position;
                        let passes = inputs.start_mask[at(first)] && inputs.end_mask[at(last)]
                            && start[at(first)] > 0.0 && end[at(last)] > 0.0
                            && pair(row, first, last) / temperature > (threshold / (1.0 - threshold)).ln();
                        if passes {
                            let offset = query.window.span.start;
                            let context = query.context_start();
                            expected.push(TokenSpan::new(offset + first - context, offset + last + 1 - context));
                            if !nested { break; }
                        }
                    }
                }
                let places: Vec<TokenSpan> = found[row].spans.iter().map(|span| span.tokens).collect();
                prop_assert_eq!(places, expected);
            }
        }
    }
}

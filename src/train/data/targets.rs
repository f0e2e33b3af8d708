//! [`Example`]s → a batch and what it is to answer. In: examples, which of them. Out: a [`Batch`] and its [`Targets`]. It must not know logits.

use crate::task::batch::Batch;
use crate::task::tagger::TagReader;
use crate::train::data::examples::{Example, GoldSpan};
use crate::train::data::tag_targets;

/// The targets of a batch. T = the types that a row answers: one if it has a question, else all of the schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// T.
    pub types: usize,
    /// `[rows, T]`: whether the type is labelled in the row's document.
    pub labelled: Vec<bool>,
    /// `[rows, T, tokens]`: 1 at the first token of an answer.
    pub starts: Vec<f32>,
    /// `[rows, T, tokens]`: 1 at the last token of an answer.
    pub ends: Vec<f32>,
    /// Row, type, start and end (inclusive) of every answer.
    pub spans: Vec<[i64; 4]>,
    /// Of a tagger `[rows, tokens, tags]`: the tags that each token may have. A token without any has no part in the loss.
    pub tags: Vec<bool>,
}

/// A batch and its targets, longest input first; the schema has `types` types, and `reader` reads the tags of a tagger.
pub fn batch(examples: &[Example], numbers: &[usize], types: usize, reader: Option<&TagReader>) -> (Batch, Targets) {
    let mut numbers = numbers.to_vec();
    numbers.sort_by_key(|&number| std::cmp::Reverse(examples[number].query.len()));
    let batch = Batch { inputs: numbers.iter().map(|&number| examples[number].query.clone()).collect() };
    let width = batch.tokens();
    let asks = batch.inputs.first().is_some_and(|input| input.entity_type().is_some());
    let types = if asks { 1 } else { types };
    let lanes = numbers.len() * types;
    let zeros = || vec![0.0; lanes * width];
    let (starts, ends) = (zeros(), zeros());
    let labelled = vec![false; lanes];
    let mut targets = Targets { types, labelled, starts, ends, spans: Vec::new(), tags: Vec::new() };
    for (row, &number) in numbers.iter().enumerate() {
        let Example { query, types: labelled, answers, .. } = &examples[number];
        if let Some(reader) = reader {
            targets.tags.extend(tag_targets::allowed(&examples[number].marked(), width, reader));
        }
        let rank = |entity_type: usize| if asks { 0 } else { entity_type };
        for &entity_type in &**labelled {
            targets.labelled[row * types + rank(entity_type)] = true;
        }
        for GoldSpan { entity_type, tokens } in answers {
            let (rank, offset) = (rank(*entity_type), query.context_start());
            let start = tokens.start - query.window.span.start + offset;
            let end = tokens.end - 1 - query.window.span.start + offset;
            let lane = (row * types + rank) * width;
            targets.starts[lane + start] = 1.0;
            targets.ends[lane + end] = 1.0;
            targets.spans.push([row, rank, start, end].map(|place| place as i64));
        }
    }
    (batch, targets)
}

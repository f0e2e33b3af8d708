//! Logits → spans. In: a batch and the logits of its spans or words. Out: an [`Answer`] per input. It must not compare inputs: `merge` resolves
//! conflicts between windows and between prompts.

use std::cmp::Ordering;

use crate::task::answer::{Acceptance, Answer, Span};
use crate::task::batch::Batch;
use crate::task::entity_schema::Nesting;
use crate::task::gliner::layout::Scores;
use crate::task::gliner::overlap::{Scored, best};
use crate::task::gliner::words::{Word, prompt, words};
use crate::task::input::ModelInput;
use crate::task::mrc;
use crate::task::tensor::Tensors;

/// The limits of decoding that are the same for all types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRule {
    /// Which spans of an input exclude each other; `None` if all are wanted.
    pub nesting: Option<Nesting>,
    /// The maximum number of spans of one input among which the best are searched for; those with the highest logits are kept.
    pub max_candidates: usize,
}

/// The logits of one input, of the shape `[words, a, b]`.
struct Logits<'l> {
    values: &'l [f32],
    inner: [usize; 2],
}

impl Logits<'_> {
    fn at(&self, word: usize, middle: usize, last: usize) -> f32 {
        self.values[(word * self.inner[0] + middle) * self.inner[1] + last]
    }
}

/// One [`Answer`] per input of `batch`, in its order.
///
/// # Errors
/// Outputs that [`accept`](super::contract::accept) has not returned, or for fewer types than are asked for.
pub fn decode(
    batch: &Batch,
    mut outputs: Tensors,
    rule: &DecodeRule,
    acceptance: &Acceptance,
) -> Result<Vec<Answer>, String> {
    let shape = outputs.get("logits").map(|logits| logits.shape.clone()).unwrap_or_default();
    let &[rows, length, middle, last] = shape.as_slice() else {
        return Err(format!("logits has shape {shape:?}, expected four dimensions"));
    };
    let values = mrc::values(&mut outputs, "logits")?;
    let size = length * middle * last;
    if rows != batch.inputs.len() || values.len() != rows * size {
        return Err(format!("logits has shape {shape:?}, for {} inputs", batch.inputs.len()));
    }
    let answered = batch.inputs.iter().enumerate().map(|(row, input)| {
        let Some(prompt) = prompt(input) else { return Err("an input has no prompt".to_owned()) };
        let words = words(&input.window.tokens);
        let found = match prompt.layout.scores {
            Scores::Spans(_) => last,
            Scores::Words => middle,
        };
        if found < prompt.types || words.len() > length {
            return Err(format!("logits has shape {shape:?}, for {} types of {} words", prompt.types, words.len()));
        }
        let logits = Logits { values: &values[row * size..(row + 1) * size], inner: [middle, last] };
        let first = input.entity_type().unwrap_or_default();
        let types = (first..first + prompt.types).enumerate();
        let mut answer = Answer::default();
        let spans = match prompt.layout.scores {
            Scores::Spans(_) => of_spans(&logits, words.len(), &types, acceptance, &mut answer),
            Scores::Words => of_words(&logits, words.len(), &types, acceptance, &mut answer),
        };
        Ok(selected(input, &words, spans, rule, answer))
    });
    answered.collect()
}

/// The spans that pass, of logits of spans: `[words, width, types]`, in the order of start, length and type.
fn of_spans(
    logits: &Logits<'_>,
    count: usize,
    types: &(impl Iterator<Item = (usize, usize)> + Clone),
    acceptance: &Acceptance,
    answer: &mut Answer,
) -> Vec<Scored> {
    let mut spans = Vec::new();
    for first in 0..count {
        for more in 0..logits.inner[0].min(count - first) {
            for (column, entity_type) in types.clone() {
                let logit = logits.at(first, more, column);
                answer.undecided += usize::from(acceptance.undecided(entity_type, logit));
                if let Some(logit) = acceptance.judge(entity_type, logit) {
                    spans.push(Scored { first, last: first + more, entity_type, logit });
                }
            }
        }
    }
    spans
}

/// The places of the logits of a word, of a graph that scores words.
const FIRST: usize = 0;
const LAST: usize = 1;
const ANY: usize = 2;

/// The spans that pass, of logits of words: `[words, types, 3]`, in the order of start, type and end. All the words of a span must pass, its first
/// one as such and its last one as such.
fn of_words(
    logits: &Logits<'_>,
    count: usize,
    types: &(impl Iterator<Item = (usize, usize)> + Clone),
    acceptance: &Acceptance,
    answer: &mut Answer,
) -> Vec<Scored> {
    let mut spans = Vec::new();
    for first in 0..count {
        for (column, entity_type) in types.clone() {
            let judge = |word: usize, role: usize| acceptance.judge(entity_type, logits.at(word, column, role));
            let near = |role: usize| acceptance.undecided(entity_type, logits.at(first, column, role));
            answer.undecided += [FIRST, LAST, ANY].into_iter().filter(|&role| near(role)).count();
            let Some(mut least) = judge(first, FIRST) else { continue };
            for last in first..count {
                let Some(any) = judge(last, ANY) else { break };
                least = least.min(any);
                if let Some(end) = judge(last, LAST) {
                    spans.push(Scored { first, last, entity_type, logit: least.min(end) });
                }
            }
        }
    }
    spans
}

/// The answer of one input: the best of its spans, of which no more than the rule allows are compared.
fn selected(
    input: &ModelInput,
    words: &[Word],
    mut spans: Vec<Scored>,
    rule: &DecodeRule,
    mut answer: Answer,
) -> Answer {
    spans.retain(|span| words[span.first].whole && words[span.last].whole);
    answer.capped = spans.len().saturating_sub(rule.max_candidates);
    if answer.capped > 0 {
        let mut ranked: Vec<usize> = (0..spans.len()).collect();
        ranked.sort_by(|&one, &other| spans[other].logit.partial_cmp(&spans[one].logit).unwrap_or(Ordering::Equal));
        ranked.truncate(rule.max_candidates);
        ranked.sort_unstable();
        spans = ranked.into_iter().map(|index| spans[index]).collect();
    }
    if let Some(nesting) = rule.nesting {
        spans = best(spans, nesting);
    }
    let context = input.context_start();
    for Scored { first, last, entity_type, logit } in spans {
        if let Some(tokens) = input.place(context + words[first].first, context + words[last].last) {
            answer.spans.push(Span { entity_type, tokens, logit });
        }
    }
    answer.spans.sort_by_key(|span| (span.tokens.start, span.tokens.end, span.entity_type));
    answer
}

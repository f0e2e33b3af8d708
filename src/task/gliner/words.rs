//! A batch → the tensors of a graph that reads words. In: inputs with their prompts. Out: tokens, the words that they belong to, and the spans of
//! words. It must not know what is asked.

use crate::task::batch::Batch;
use crate::task::gliner::layout::{Layout, Pieces, Prompt, Scores};
use crate::task::input::ModelInput;
use crate::task::tensor::{Tensors, Values};
use crate::text::tokens::Token;

/// A word of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Its first token in the window.
    pub first: usize,
    /// Its last.
    pub last: usize,
    /// Whether the window has all of it: only then can a mention begin or end there.
    pub whole: bool,
}

/// The words of a window. Every token is in one: what the window cuts off counts as a word, so that a text always has one.
pub fn words(tokens: &[Token]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        match words.last_mut() {
            Some(word) if !token.starts_word => word.last = place,
            _ => words.push(Word { first: place, last: place, whole: token.starts_word }),
        }
    }
    if let Some(last) = words.last_mut() {
        last.whole &= tokens.get(last.last).is_some_and(|token| token.ends_word);
    }
    words
}

/// What a batch is asked: the same layout for every input.
pub(super) fn layout(batch: &Batch) -> Option<Layout> {
    batch.inputs.iter().find_map(prompt).map(|prompt| prompt.layout)
}

/// What an input asks for.
pub(super) fn prompt(input: &ModelInput) -> Option<Prompt> {
    input.question.as_ref().and_then(|question| question.prompt)
}

/// The tensors of a batch.
pub fn tensors(batch: &Batch) -> Tensors {
    let made = batch.tensors();
    let (rows, shape) = (made.rows, [made.rows, made.tokens]);
    let words: Vec<Vec<Word>> = batch.inputs.iter().map(|input| words(&input.window.tokens)).collect();
    let longest = words.iter().map(Vec::len).max().unwrap_or(0);
    let layout = layout(batch);
    let pieces = layout.map(|layout| layout.pieces).unwrap_or_default();
    let mut numbers = vec![0_i64; rows * made.tokens];
    for (row, (input, words)) in batch.inputs.iter().zip(&words).enumerate() {
        let context = row * made.tokens + input.context_start();
        for (word, number) in words.iter().zip(1..) {
            let read = match pieces {
                Pieces::First => word.first..=word.first,
                Pieces::Last => word.last..=word.last,
                Pieces::All => word.first..=word.last,
            };
            numbers[context + read.start()..=context + read.end()].fill(number);
        }
    }
    let lengths = words.iter().map(|words| words.len() as i64).collect();
    let tensors = Tensors::default()
        .with("input_ids", &shape, Values::I64(made.input_ids))
        .with("attention_mask", &shape, Values::I64(made.attention_mask))
        .with("words_mask", &shape, Values::I64(numbers))
        .with("text_lengths", &[rows, 1], Values::I64(lengths));
    let Some(Layout { scores: Scores::Spans(width), .. }) = layout else { return tensors };
    let (mut spans, mut inside) = (Vec::new(), Vec::new());
    for words in &words {
        for first in 0..longest {
            for last in first..first + width {
                // As the package has it: rows of short texts are filled with the span of the first word.
                let place = if first < words.len() { [first as i64, last as i64] } else { [0, 0] };
                spans.extend(place);
                inside.push(last < words.len());
            }
        }
    }
    let count = longest * width;
    tensors.with("span_idx", &[rows, count, 2], Values::I64(spans)).with(
        "span_mask",
        &[rows, count],
        Values::Bool(inside),
    )
}

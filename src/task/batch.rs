//! Model inputs → [`Batch`]es by token budget. In: the inputs of a block of windows. Out: batches of inputs of similar
//! length, whose padded size stays within the budget. It must not lose an input or make one depend on another.

use crate::task::input::{InputRow, ModelInput};

/// The maximum share of padding among computed tokens, in per cent.
const PADDING: usize = 3;

/// Inputs that are computed in one pass. The batch owns them, so no answer can be matched to the wrong input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The inputs, longest first.
    pub inputs: Vec<ModelInput>,
}

/// A batch as arrays of its tokens, each a row-major `[rows, tokens]`. Every kind makes its graph's inputs of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchTensors {
    /// How many inputs.
    pub rows: usize,
    /// The length of the longest one.
    pub tokens: usize,
    /// Vocabulary ids, the token of padding beyond an input's end.
    pub input_ids: Vec<i64>,
    /// 1 on an input's tokens, 0 beyond.
    pub attention_mask: Vec<i64>,
    /// The types of tokens, as the tokenizer's post-processor sets them; 0 beyond.
    pub token_type_ids: Vec<i64>,
    /// The [`WordShape`](crate::text::word_shape::WordShape) of context tokens, else 0.
    pub shape_ids: Vec<i64>,
    /// Context tokens that can start a mention.
    pub start_mask: Vec<bool>,
    /// Context tokens that can end a mention.
    pub end_mask: Vec<bool>,
}

impl BatchTensors {
    /// Only padding, of the token 0.
    pub fn zeros(rows: usize, tokens: usize) -> Self {
        let size = rows * tokens;
        let zeros = || vec![0; size];
        let none = || vec![false; size];
        Self {
            rows,
            tokens,
            input_ids: zeros(),
            attention_mask: zeros(),
            token_type_ids: zeros(),
            shape_ids: zeros(),
            start_mask: none(),
            end_mask: none(),
        }
    }
}

impl Batch {
    /// The length that its rows are padded to.
    pub fn tokens(&self) -> usize {
        self.inputs.iter().map(ModelInput::len).max().unwrap_or(0)
    }

    /// The number of tokens that are not padding.
    pub fn real_tokens(&self) -> usize {
        self.inputs.iter().map(ModelInput::len).sum()
    }

    /// The number of tokens that the device computes, padding included.
    pub fn padded_tokens(&self) -> usize {
        self.inputs.len() * self.tokens()
    }

    /// Splits the batch into the longer and the shorter half of its inputs.
    #[must_use]
    pub fn halves(mut self) -> [Self; 2] {
        let shorter = self.inputs.split_off(self.inputs.len().div_ceil(2));
        [self, Self { inputs: shorter }]
    }

    /// Splits the batch into the inputs in these rows, which are in order, and the others.
    #[must_use]
    pub fn divided(self, rows: &[usize]) -> [Self; 2] {
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for (row, input) in self.inputs.into_iter().enumerate() {
            if rows.binary_search(&row).is_ok() { chosen.push(input) } else { others.push(input) }
        }
        [Self { inputs: chosen }, Self { inputs: others }]
    }

    /// The tokens of all inputs.
    pub fn tensors(&self) -> BatchTensors {
        let (rows, tokens) = (self.inputs.len(), self.tokens());
        let mut tensors = BatchTensors::zeros(rows, tokens);
        for (row, input) in self.inputs.iter().enumerate() {
            let range = row * tokens..(row + 1) * tokens;
            input.write(&mut InputRow {
                input_ids: &mut tensors.input_ids[range.clone()],
                attention_mask: &mut tensors.attention_mask[range.clone()],
                token_type_ids: &mut tensors.token_type_ids[range.clone()],
                shape_ids: &mut tensors.shape_ids[range.clone()],
                start_mask: &mut tensors.start_mask[range.clone()],
                end_mask: &mut tensors.end_mask[range],
            });
        }
        tensors
    }
}

/// Sorts inputs by length, longest first, and splits them into batches of at most `budget` padded tokens; an input longer than
/// the budget is a batch of its own. A batch ends early if the next input would raise the share of padding in all batches so far
/// above 3 per cent. Small budgets never reach this limit. Large budgets do not produce tiny batches, because inputs of equal length
/// leave padding for the rest to use. Inputs of equal length keep their order, so the same inputs make the same batches.
pub fn batches(mut inputs: Vec<ModelInput>, budget: usize) -> Vec<Batch> {
    inputs.sort_by_key(|input| std::cmp::Reverse(input.len()));
    let mut found: Vec<Batch> = Vec::new();
    // The length of the last batch; the real tokens and the padded tokens of all batches.
    let (mut width, mut real, mut padded) = (0, 0, 0);
    for input in inputs {
        real += input.len();
        let little_padding = 100 * real >= (100 - PADDING) * (padded + width);
        match found.last_mut() {
            Some(batch) if little_padding && (batch.inputs.len() + 1) * width <= budget => batch.inputs.push(input),
            _ => {
                width = input.len();
                found.push(Batch { inputs: vec![input] });
            }
        }
        padded += width;
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::random::Random;
    use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
    use crate::task::input::{Question, Questions};
    use crate::task::kind::{Own, Task, TaskSettings};
    use crate::text::document::Document;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;
    use crate::text::window::{Window, WindowRule, Windows};
    use proptest::prelude::*;

    /// The queries of some texts with two questions.
    pub(crate) fn queries(texts: &[String]) -> Vec<ModelInput> {
        let tokenizer = tiny(Words::Tokenizer);
        let questions = Questions::new(&schema(), &tokenizer).unwrap();
        let rule = WindowRule { tokens: 16, overlap: 4, words: None };
        let mut found = Vec::new();
        for (document, text) in texts.iter().enumerate() {
            for window in Windows::new(&tokenizer, rule, Document { text }) {
                found.extend(questions.ask(document, &window.unwrap()));
            }
        }
        found
    }

    /// The task of [`queries`]: accept everything above even odds.
    pub(crate) fn task() -> Task {
        let settings = TaskSettings::Mrc { boundary_threshold: 0.5, max_candidates: 4096 };
        Task::new(&settings, &schema(), &tiny(Words::Tokenizer), Own::Nothing, 1e-3).unwrap()
    }

    fn schema() -> EntitySchema {
        let types = ["which bank", "who"].map(|question| EntityType::new(question, question));
        EntitySchema { nested: Nesting::Nested, types: types.into() }
    }

    /// Queries of synthetic documents with the lengths of news wire (those of benches/stages.rs), in windows of 256 wordpieces, with
    /// `questions` questions of eight wordpieces. Each query has its own number as its document.
    fn news(documents: usize, questions: usize) -> Vec<ModelInput> {
        let mut query = queries(&["a".to_owned()]).swap_remove(0);
        query.question = Some(Arc::new(Question { entity_type: 0, ids: vec![5; 8], prompt: None }));
        let window = |tokens: usize| {
            let mut window = Window::clone(&query.window);
            window.tokens = vec![window.tokens[0]; tokens];
            Arc::new(window)
        };
        let windows: Vec<Arc<Window>> = (0..=256).map(window).collect();
        let mut random = Random::new(7, 0);
        let mut found: Vec<ModelInput> = Vec::new();
        for _ in 0..documents {
            // About 1.3 wordpieces a word.
            let mut left = (1.3 * (4.34 + 0.98 * random.normal()).exp()).clamp(3.0, 6000.0) as usize;
            while left > 0 {
                let last = left <= 256;
                // If the text continues, a window ends with a sentence, and the next window repeats a quarter of it.
                let tokens = if last { left } else { 256 - random.below(32) };
                left -= if last { left } else { tokens - 64 };
                for _ in 0..questions {
                    query.document = found.len();
                    query.window = Arc::clone(&windows[tokens]);
                    found.push(query.clone());
                }
            }
        }
        found
    }

    #[test]
    fn news_make_large_batches_with_little_padding_at_every_budget() {
        // About as many documents as a GPU computes together.
        for (documents, questions) in [(4096, 1), (1024, 4), (256, 18)] {
            let queries = news(documents, questions);
            for budget in (10..20).map(|power| 1_usize << power) {
                let found = batches(queries.clone(), budget);
                let numbers = found.iter().flat_map(|batch| batch.inputs.iter().map(|query| query.document));
                let mut numbers: Vec<usize> = numbers.collect();
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..queries.len()), "a query is lost or duplicated");
                let padded: usize = found.iter().map(Batch::padded_tokens).sum();
                let real: usize = found.iter().map(Batch::real_tokens).sum();
                let (padding, mean) = (1.0 - real as f64 / padded as f64, padded / found.len());
                let what =
                    format!("{questions} question(s), budget {budget}: padding {padding:.4}, {mean} tokens a batch");
                assert!(padding <= 0.03, "{what}");
                assert!(5 * mean > 4 * budget.min(1 << 14), "{what}");
            }
        }
    }

    #[test]
    fn a_row_is_cls_question_sep_window_sep_and_padding() {
        let encoded = queries(&["new york.".into(), "a".into()]);
        let batch = Batch { inputs: vec![encoded[1].clone(), encoded[3].clone()] };
        let inputs = batch.tensors();
        // "who" is three letters: [CLS] w ##h ##o [SEP] new york . [SEP]
        assert_eq!((inputs.rows, inputs.tokens), (2, 9));
        assert_eq!(inputs.input_ids[0], 2);
        assert_eq!(&inputs.input_ids[4..9], &[3, 4, 5, inputs.input_ids[7], 3]);
        assert_eq!(&inputs.token_type_ids[..9], &[0, 0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(&inputs.start_mask[..9], &[false, false, false, false, false, true, true, true, false]);
        assert_eq!(&inputs.attention_mask[9..], &[1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(&inputs.input_ids[16..], &[0, 0]);
    }

    proptest! {
        #[test]
        fn batching_loses_no_query(texts in proptest::collection::vec("[a-z .]{1,80}", 0..12), budget in 1_usize..400) {
            let encoded = queries(&texts);
            let found = batches(encoded.clone(), budget);
            for batch in &found {
                prop_assert!(batch.padded_tokens() <= budget || batch.inputs.len() == 1);
            }
            let padded: usize = found.iter().map(Batch::padded_tokens).sum();
            let real: usize = found.iter().map(Batch::real_tokens).sum();
            prop_assert!(100 * real >= (100 - PADDING) * padded);
            let key = |query: &ModelInput| (query.document, query.window.index, query.entity_type());
            let mut keys: Vec<_> = found.iter().flat_map(|batch| batch.inputs.iter().map(key)).collect();
            keys.sort_unstable();
            let mut expected: Vec<_> = encoded.iter().map(key).collect();
            expected.sort_unstable();
            prop_assert_eq!(keys, expected);
        }
    }
}

//! Encoded queries → [`QueryBatch`]es by token budget. In: the queries of a block of windows. Out: batches of queries of
//! similar length, whose padded size stays within the budget. It must not lose a query or make one depend on another.

use crate::task::query::{Encoded, EncodedRow};

/// The maximum share of padding among computed tokens, in per cent.
const PADDING: usize = 3;

/// Queries that are computed in one pass. The batch owns them, so no answer can be matched to the wrong query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryBatch {
    /// The queries, longest first.
    pub queries: Vec<Encoded>,
}

/// A batch as tensors for the graph, each a row-major `[rows, tokens]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchInputs {
    /// How many queries.
    pub rows: usize,
    /// The length of the longest one.
    pub tokens: usize,
    /// Vocabulary ids, `[PAD]` beyond a query's end.
    pub input_ids: Vec<i64>,
    /// 1 on a query's tokens, 0 beyond.
    pub attention_mask: Vec<i64>,
    /// 1 on the context.
    pub token_type_ids: Vec<i64>,
    /// Context tokens that can start a mention.
    pub start_mask: Vec<bool>,
    /// Context tokens that can end a mention.
    pub end_mask: Vec<bool>,
}

impl QueryBatch {
    /// The length that its rows are padded to.
    pub fn tokens(&self) -> usize {
        self.queries.iter().map(Encoded::len).max().unwrap_or(0)
    }

    /// The number of tokens that are not padding.
    pub fn real_tokens(&self) -> usize {
        self.queries.iter().map(Encoded::len).sum()
    }

    /// The number of tokens that the device computes, padding included.
    pub fn padded_tokens(&self) -> usize {
        self.queries.len() * self.tokens()
    }

    /// Splits the batch into the longer and the shorter half of its queries.
    #[must_use]
    pub fn halves(mut self) -> [Self; 2] {
        let shorter = self.queries.split_off(self.queries.len().div_ceil(2));
        [self, Self { queries: shorter }]
    }

    /// The input tensors for the graph.
    pub fn inputs(&self) -> BatchInputs {
        let (rows, tokens) = (self.queries.len(), self.tokens());
        let size = rows * tokens;
        let mut inputs = BatchInputs {
            rows,
            tokens,
            input_ids: vec![0; size],
            attention_mask: vec![0; size],
            token_type_ids: vec![0; size],
            start_mask: vec![false; size],
            end_mask: vec![false; size],
        };
        for (row, query) in self.queries.iter().enumerate() {
            let range = row * tokens..(row + 1) * tokens;
            query.write(&mut EncodedRow {
                input_ids: &mut inputs.input_ids[range.clone()],
                attention_mask: &mut inputs.attention_mask[range.clone()],
                token_type_ids: &mut inputs.token_type_ids[range.clone()],
                start_mask: &mut inputs.start_mask[range.clone()],
                end_mask: &mut inputs.end_mask[range],
            });
        }
        inputs
    }
}

/// Sorts queries by length, longest first, and splits them into batches of at most `budget` padded tokens; a query longer than
/// the budget is a batch of its own. A batch ends early if the next query would raise the share of padding in all batches so far
/// above 3 per cent. Small budgets never reach this limit. Large budgets do not produce tiny batches, because queries of equal length
/// leave padding for the rest to use. Queries of equal length keep their order, so the same queries make the same batches.
pub fn batches(mut queries: Vec<Encoded>, budget: usize) -> Vec<QueryBatch> {
    queries.sort_by_key(|query| std::cmp::Reverse(query.len()));
    let mut found: Vec<QueryBatch> = Vec::new();
    // The length of the last batch; the real tokens and the padded tokens of all batches.
    let (mut width, mut real, mut padded) = (0, 0, 0);
    for query in queries {
        real += query.len();
        let little_padding = 100 * real >= (100 - PADDING) * (padded + width);
        match found.last_mut() {
            Some(batch) if little_padding && (batch.queries.len() + 1) * width <= budget => batch.queries.push(query),
            _ => {
                width = query.len();
                found.push(QueryBatch { queries: vec![query] });
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
    use crate::task::entity_schema::{EntitySchema, EntityType};
    use crate::task::query::{Question, Questions};
    use crate::text::document::Document;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;
    use crate::text::window::{Window, WindowRule, Windows};
    use proptest::prelude::*;

    /// The queries of some texts with two questions.
    pub(crate) fn queries(texts: &[String]) -> Vec<Encoded> {
        let tokenizer = tiny(Words::Tokenizer);
        let types =
            ["which bank", "who"].map(|question| EntityType { name: question.into(), question: question.into() });
        let questions = Questions::new(&EntitySchema { nested: true, types: types.into() }, &tokenizer).unwrap();
        let rule = WindowRule { tokens: 16, overlap: 4 };
        let mut found = Vec::new();
        for (document, text) in texts.iter().enumerate() {
            for window in Windows::new(&tokenizer, rule, Document { text }) {
                found.extend(questions.ask(document, &window.unwrap()));
            }
        }
        found
    }

    /// Queries of synthetic documents with the lengths of news wire (those of benches/stages.rs), in windows of 256 wordpieces, with
    /// `questions` questions of eight wordpieces. Each query has its own number as its document.
    fn news(documents: usize, questions: usize) -> Vec<Encoded> {
        let mut query = queries(&["a".to_owned()]).swap_remove(0);
        query.question = Arc::new(Question { entity_type: 0, ids: vec![5; 8] });
        let window = |tokens: usize| {
            let mut window = Window::clone(&query.window);
            window.tokens = vec![window.tokens[0]; tokens];
            Arc::new(window)
        };
        let windows: Vec<Arc<Window>> = (0..=256).map(window).collect();
        let mut random = Random::new(7, 0);
        let mut found: Vec<Encoded> = Vec::new();
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
                let numbers = found.iter().flat_map(|batch| batch.queries.iter().map(|query| query.document));
                let mut numbers: Vec<usize> = numbers.collect();
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..queries.len()), "a query is lost or duplicated");
                let padded: usize = found.iter().map(QueryBatch::padded_tokens).sum();
                let real: usize = found.iter().map(QueryBatch::real_tokens).sum();
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
        let batch = QueryBatch { queries: vec![encoded[1].clone(), encoded[3].clone()] };
        let inputs = batch.inputs();
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
                prop_assert!(batch.padded_tokens() <= budget || batch.queries.len() == 1);
            }
            let padded: usize = found.iter().map(QueryBatch::padded_tokens).sum();
            let real: usize = found.iter().map(QueryBatch::real_tokens).sum();
            prop_assert!(100 * real >= (100 - PADDING) * padded);
            let key = |query: &Encoded| (query.document, query.window.index, query.question.entity_type);
            let mut keys: Vec<_> = found.iter().flat_map(|batch| batch.queries.iter().map(key)).collect();
            keys.sort_unstable();
            let mut expected: Vec<_> = encoded.iter().map(key).collect();
            expected.sort_unstable();
            prop_assert_eq!(keys, expected);
        }
    }
}

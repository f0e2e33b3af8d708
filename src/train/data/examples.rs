//! [`LabelledDocument`]s → [`Example`]s. In: texts with gold mentions, the tokenizer, the questions. Out: every window's inputs, as
//! in extraction, each with the positions of its answers. It must not drop a mention without counting it.

use std::sync::Arc;

use crate::task::input::{ModelInput, Questions};
use crate::task::kind::Kind;
use crate::text::document::{Document, Reject};
use crate::text::span::{ByteSpan, TokenSpan};
use crate::text::tokens::{Token, Tokenizer};
use crate::text::window::{Window, WindowRule, Windows};
use crate::train::data::dataset::{LabelledDocument, byte_spans};
use crate::train::data::tag_targets::Marked;

/// The minimum of [`Examples::usual_window`]: shorter windows would split most sentences, even if the training texts are shorter.
const SHORTEST_USUAL: usize = 32;

/// An input and its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The window, after its question if it has one.
    pub query: ModelInput,
    /// The types that are labelled in its document, in order; of an input with a question only that one.
    pub types: Arc<[usize]>,
    /// The answers.
    pub answers: Vec<GoldSpan>,
    /// Of a tagger: the document's tokens that belong to mentions which the window holds only in part.
    pub cut: Vec<TokenSpan>,
}

impl Example {
    /// The input as a tagger learns it.
    pub(crate) fn marked(&self) -> Marked<'_> {
        let answers = self.answers.iter().map(|answer| (answer.entity_type, answer.tokens)).collect();
        Marked { query: &self.query, types: &self.types, answers, cut: &self.cut }
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoldSpan {
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// Its range in the document's tokens.
    pub tokens: TokenSpan,
}

/// The examples of some documents, and the mentions that no example holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examples {
    /// Document by document, window by window, type by type.
    pub examples: Vec<Example>,
    /// Gold mentions that begin or end inside a word, which a model cannot predict.
    pub misaligned: Vec<Misaligned>,
    /// Gold mentions that fit into no window: they cross a window boundary and are longer than the overlap, or their document has no
    /// tokens.
    pub split: usize,
}

impl Examples {
    /// The 99th percentile of the context lengths in wordpieces, at least 32: a window length like that of these examples. `None` without
    /// examples.
    pub fn usual_window(&self) -> Option<usize> {
        let mut lengths: Vec<usize> = self.examples.iter().map(|example| example.query.window.tokens.len()).collect();
        let rank = lengths.len().checked_sub(1)? * 99 / 100;
        let (_, usual, _) = lengths.select_nth_unstable(rank);
        Some((*usual).max(SHORTEST_USUAL))
    }
}

/// A gold mention that does not consist of whole words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misaligned {
    /// The document.
    pub id: String,
    /// The marked text.
    pub text: String,
    /// Its start in code points.
    pub start: usize,
}

/// Creates the examples of `documents` for a model of this kind: one for each window and labelled type if it is asked with a question, else one for
/// each window.
///
/// # Errors
/// A [`Reject`] if the tokenizer fails on a text.
pub fn examples(
    documents: &[LabelledDocument],
    tokenizer: &Tokenizer,
    (questions, kind): (&Questions, Kind),
    rule: WindowRule,
) -> Result<Examples, Reject> {
    let mut all = Examples::default();
    for (number, document) in documents.iter().enumerate() {
        let windows: Vec<Arc<Window>> =
            Windows::new(tokenizer, rule, Document { text: &document.text }).collect::<Result<_, _>>()?;
        if windows.is_empty() {
            all.split += document.mentions.len();
            continue;
        }
        let first = all.examples.len();
        let example = |query: ModelInput, types: &Arc<[usize]>| Example {
            query,
            types: types.clone(),
            answers: vec![],
            cut: vec![],
        };
        let types: Arc<[usize]> = document.labelled_types.as_ref().into();
        let each: Vec<Arc<[usize]>> = types.iter().map(|&one| [one].into()).collect();
        for window in &windows {
            if asks(kind) {
                let queries = types.iter().map(|&one| questions.one(one, number, window));
                all.examples.extend(queries.zip(&each).map(|(query, types)| example(query, types)));
            } else {
                let query = ModelInput::alone(number, window, questions.frame());
                all.examples.push(example(query, &types));
            }
        }
        for (gold, bytes) in document.mentions.iter().zip(byte_spans(&document.text, &document.mentions)) {
            let place = place(&windows, bytes);
            if kind == Kind::Tagger && !matches!(place, Place::Misaligned) {
                for (window, tokens) in parts(&windows, bytes) {
                    let whole =
                        matches!(&place, Place::In(holders) if holders.iter().any(|(holder, _)| *holder == window));
                    if !whole {
                        all.examples[first + window].cut.push(tokens);
                    }
                }
            }
            match place {
                Place::Misaligned => all.misaligned.push(Misaligned {
                    id: document.id.clone(),
                    text: bytes.of(&document.text).to_owned(),
                    start: gold.chars.start,
                }),
                Place::Split => all.split += 1,
                Place::In(holders) => {
                    let Ok(rank) = types.binary_search(&gold.entity_type) else { continue };
                    for (window, tokens) in holders {
                        let example = if asks(kind) { window * types.len() + rank } else { window };
                        let answer = GoldSpan { entity_type: gold.entity_type, tokens };
                        all.examples[first + example].answers.push(answer);
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Whether an input of this kind has a question.
pub(crate) const fn asks(kind: Kind) -> bool {
    matches!(kind, Kind::Mrc | Kind::Qa)
}

/// The windows that share tokens with a mention, and these tokens.
fn parts(windows: &[Arc<Window>], bytes: ByteSpan) -> impl Iterator<Item = (usize, TokenSpan)> + '_ {
    windows.iter().enumerate().filter_map(move |(index, window)| {
        let (tokens, base) = (&window.tokens, window.span.start);
        let start = tokens.partition_point(|token| token.bytes.end <= bytes.start);
        let end = tokens.partition_point(|token| token.bytes.start < bytes.end);
        (start < end).then(|| (index, TokenSpan::new(base + start, base + end)))
    })
}

enum Place {
    Misaligned,
    Split,
    /// The windows that contain all of it, and its tokens.
    In(Vec<(usize, TokenSpan)>),
}

/// Locates a mention in the windows. White space and characters that the tokenizer drops at its ends are ignored.
fn place(windows: &[Arc<Window>], bytes: ByteSpan) -> Place {
    let mut holders = Vec::new();
    let mut misaligned = false;
    let near = windows.partition_point(|window| window.tokens.last().is_some_and(|last| last.bytes.end <= bytes.start));
    for (index, window) in windows.iter().enumerate().skip(near) {
        let tokens = &window.tokens;
        if tokens[0].bytes.start >= bytes.end {
            break;
        }
        let mut start = tokens.partition_point(|token| token.bytes.end <= bytes.start);
        let mut end = tokens.partition_point(|token| token.bytes.start < bytes.end);
        // Tokens of white space are part of no mention's end.
        let white = |token: &Token| token.bytes.is_empty();
        start += tokens[start..end.max(start)].iter().take_while(|token| white(token)).count();
        end -= tokens[start..end.max(start)].iter().rev().take_while(|token| white(token)).count();
        if start >= end {
            continue;
        }
        // A mention that can continue in the neighbouring window is not in this one.
        let crosses_edge = tokens[start].bytes.start > bytes.start && start == 0 && window.index > 0
            || tokens[end - 1].bytes.end < bytes.end && end == tokens.len() && index + 1 < windows.len();
        if crosses_edge {
            continue;
        }
        let whole_words = tokens[start].bytes.start >= bytes.start
            && tokens[end - 1].bytes.end <= bytes.end
            && tokens[start].starts_word
            && tokens[end - 1].ends_word;
        if whole_words {
            let base = window.span.start;
            holders.push((index, TokenSpan::new(base + start, base + end)));
        } else {
            misaligned = true;
        }
    }
    match (holders.is_empty(), misaligned) {
        (false, _) => Place::In(holders),
        (true, true) => Place::Misaligned,
        (true, false) => Place::Split,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
    use crate::text::span::CharSpan;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;
    use crate::train::data::dataset::Gold;
    use crate::train::data::targets::batch;
    use proptest::prelude::*;

    fn questions(tokenizer: &Tokenizer) -> Questions {
        let types = ["which bank", "who"].map(|one| EntityType::new(one, one));
        Questions::new(&EntitySchema { nested: Nesting::Nested, types: types.into() }, tokenizer).unwrap()
    }

    fn labelled(text: &str, mentions: &[(usize, usize, usize)]) -> LabelledDocument {
        let gold =
            |&(start, end, entity_type): &(usize, usize, usize)| Gold { chars: CharSpan::new(start, end), entity_type };
        LabelledDocument {
            id: "a".into(),
            text: text.into(),
            mentions: mentions.iter().map(gold).collect(),
            labelled_types: [0, 1].into(),
        }
    }

    fn made(document: &LabelledDocument, tokens: usize, overlap: usize) -> Examples {
        let tokenizer = tiny(Words::Tokenizer);
        let questions = questions(&tokenizer);
        let asking = (&questions, Kind::Mrc);
        examples(std::slice::from_ref(document), &tokenizer, asking, WindowRule { tokens, overlap, words: None })
            .unwrap()
    }

    #[test]
    fn gold_mentions_become_answers_of_their_type_s_query() {
        // é is two bytes: positions are code points.
        let document = labelled("é new york bank", &[(2, 10, 1), (2, 15, 0), (11, 15, 1)]);
        let made = made(&document, 16, 4);
        assert_eq!((made.misaligned.len(), made.split, made.examples.len()), (0, 0, 2));
        let answer = |entity_type, start, end| GoldSpan { entity_type, tokens: TokenSpan::new(start, end) };
        assert_eq!(made.examples[0].answers, [answer(0, 1, 4)]);
        assert_eq!(made.examples[1].answers, [answer(1, 1, 3), answer(1, 3, 4)]);
        let (batch, targets) = batch(&made.examples, &[1, 0], 2, None);
        let width = batch.tokens();
        let inputs = batch.tensors();
        assert_eq!(targets.spans.len(), 3);
        assert_eq!((targets.types, targets.labelled), (1, vec![true, true]));
        for [row, _, start, end] in targets.spans {
            let (start, end) = (row as usize * width + start as usize, row as usize * width + end as usize);
            assert!(inputs.start_mask[start] && inputs.end_mask[end], "the masks must allow every answer");
            assert!(targets.starts[start] > 0.0 && targets.ends[end] > 0.0);
        }
    }

    #[test]
    fn the_usual_window_is_as_long_as_nearly_all_contexts() {
        assert_eq!(Examples::default().usual_window(), None);
        let of = |lengths: &[usize]| {
            let text = |words: usize| labelled(&vec!["bank"; words].join(" "), &[]);
            let examples = lengths.iter().flat_map(|&words| made(&text(words), 200, 0).examples).collect();
            Examples { examples, ..Examples::default() }.usual_window()
        };
        let mut lengths = vec![50; 198];
        lengths.extend([70, 90]);
        assert_eq!(of(&lengths), Some(50), "one in a hundred is longer");
        lengths.extend([90; 4]);
        assert_eq!(of(&lengths), Some(90));
        assert_eq!(of(&[3, 3]), Some(SHORTEST_USUAL));
    }

    #[test]
    fn only_labelled_types_are_asked_for() {
        let document = LabelledDocument { labelled_types: [1].into(), ..labelled("new york bank", &[(0, 8, 1)]) };
        let made = made(&document, 16, 4);
        let [only] = made.examples.as_slice() else { panic!("one window, one type") };
        let answer = GoldSpan { entity_type: 1, tokens: TokenSpan::new(0, 2) };
        assert_eq!((only.query.entity_type(), only.answers.as_slice()), (Some(1), [answer].as_slice()));
    }

    #[test]
    fn a_mention_inside_a_word_is_listed_and_one_outside_every_window_counted() {
        let inside = made(&labelled("new york", &[(4, 6, 0)]), 16, 4);
        assert_eq!(inside.misaligned, [Misaligned { id: "a".into(), text: "yo".into(), start: 4 }]);
        let long = "new york ".repeat(8);
        let split = made(&labelled(long.trim(), &[(0, long.trim().len(), 0)]), 6, 2);
        assert_eq!((split.split, split.misaligned.len()), (1, 0));
    }

    proptest! {
        /// For any windows, the answers map back to the gold mentions.
        #[test]
        fn every_answer_is_its_mention(
            words in proptest::collection::vec("[a-zé]{1,5}", 1..60),
            places in proptest::collection::vec((0_usize..60, 1_usize..4, 0_usize..2), 0..8),
            tokens in 8_usize..40,
        ) {
            let text = words.join(" ");
            let starts: Vec<usize> = words.iter().scan(0, |at, word| { let here = *at; *at += word.chars().count() + 1; Some(here) }).collect();
            let mut mentions: Vec<Gold> = places.iter().filter(|(first, ..)| *first < words.len()).map(|&(first, length, entity_type)| {
                let last = (first + length - 1).min(words.len() - 1);
                Gold { chars: CharSpan::new(starts[first], starts[last] + words[last].chars().count()), entity_type }
            }).collect();
            mentions.sort_unstable();
            mentions.dedup();
            let document = LabelledDocument { id: "a".into(), text: text.clone(), mentions: mentions.clone(), labelled_types: [0, 1].into() };
            let made = made(&document, tokens, tokens / 2);
            prop_assert!(made.misaligned.is_empty());
            let mut found = Vec::new();
            for example in &made.examples {
                for answer in &example.answers {
                    let window = &example.query.window;
                    let from = window.tokens[answer.tokens.start - window.span.start].bytes.start;
                    let to = window.tokens[answer.tokens.end - 1 - window.span.start].bytes.end;
                    let chars = |byte: usize| text[..byte].chars().count();
                    found.push(Gold { chars: CharSpan::new(chars(from), chars(to)), entity_type: answer.entity_type });
                }
            }
            found.sort_unstable();
            found.dedup();
            prop_assert!(found.iter().all(|one| mentions.contains(one)));
            prop_assert_eq!(found.len() + made.split, mentions.len());
        }
    }
}

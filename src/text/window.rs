//! Tokens → [`Window`]s that fit the encoder. In: a document's text, read segment by segment. Out: token ranges that
//! cover every token, overlap their neighbours, and know which spans they own. It must not hold more tokens than two
//! windows and one segment.
//!
//! Windows start and end at sentence boundaries (Unicode Standard Annex 29, which also breaks at line ends) if one is near, else
//! between words, else between wordpieces. At most two windows share a token, so ownership depends only on the neighbours.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::text::document::{Document, Reject};
use crate::text::span::{ByteSpan, TokenSpan};
use crate::text::tokens::{Token, Tokenizer, segments};

/// The fewest wordpieces of context in a window.
pub const SHORTEST_WINDOW: usize = 8;

/// Length and overlap of windows, in wordpieces of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRule {
    /// The most context wordpieces in one window.
    pub tokens: usize,
    /// About how many of them the next window repeats; at most half of `tokens`.
    pub overlap: usize,
    /// The most words in one window, of a model that counts its text in words; the cut part of a word counts as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<usize>,
}

impl WindowRule {
    /// Windows of `tokens` tokens. The default overlap is an eighth of them: nearly every mention then fits entirely into one of two
    /// neighbouring windows, and a larger overlap costs more computation.
    ///
    /// # Errors
    /// The overlap, if it is more than half of the tokens.
    pub fn new(tokens: usize, overlap: Option<usize>) -> Result<Self, usize> {
        let overlap = overlap.unwrap_or(tokens / 8);
        if overlap > tokens / 2 { Err(overlap) } else { Ok(Self { tokens, overlap, words: None }) }
    }
}

/// A range of a document's tokens that fits the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its index in the document, from 0.
    pub index: usize,
    /// The range of the document's tokens that it covers.
    pub span: TokenSpan,
    /// The tokens of this range.
    pub tokens: Vec<Token>,
    previous: Option<TokenSpan>,
    next: Option<TokenSpan>,
}

impl Window {
    /// Whether this window's prediction for `place` (document tokens) is the one that counts. Of the windows that contain the
    /// place, the owner is the one whose nearer edge is farthest from it; on a tie, the earlier one.
    pub fn owns(&self, place: TokenSpan) -> bool {
        let own = self.distance(place, self.previous.is_none(), self.next.is_none());
        let beaten_by_previous = self.previous.filter(|previous| previous.contains(&place)).is_some_and(|previous| {
            let before = if previous.start == 0 { usize::MAX } else { place.start - previous.start };
            before.min(previous.end - place.end) >= own
        });
        let beaten_by_next = self.next.filter(|next| next.contains(&place)).is_some_and(|next| {
            // The start of the next window is always nearer to a shared place than its end.
            place.start - next.start > own
        });
        !beaten_by_previous && !beaten_by_next
    }

    /// Tokens between `place` and the nearer edge of the window; the document's start and end are not edges.
    fn distance(&self, place: TokenSpan, first: bool, last: bool) -> usize {
        let before = if first { usize::MAX } else { place.start - self.span.start };
        let after = if last { usize::MAX } else { self.span.end - place.end };
        before.min(after)
    }
}

/// Counts of a document's tokens so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Wordpieces.
    pub tokens: usize,
    /// Of these, unknown ones.
    pub unknown: usize,
    /// Of these, words longer than the tokenizer's limit.
    pub words_cut: usize,
}

/// The windows of one document, made lazily.
pub struct Windows<'text> {
    tokenizer: &'text Tokenizer,
    rule: WindowRule,
    text: &'text str,
    segments: Box<dyn Iterator<Item = ByteSpan> + Send + 'text>,
    /// Tokens from `offset` on; no later window needs a token before `left`.
    buffer: Vec<Token>,
    offset: usize,
    left: usize,
    exhausted: bool,
    counts: TokenCounts,
    index: usize,
    previous: Option<TokenSpan>,
    current: Option<TokenSpan>,
}

impl<'text> Windows<'text> {
    /// The windows of `document` under `rule`.
    pub fn new(tokenizer: &'text Tokenizer, rule: WindowRule, document: Document<'text>) -> Self {
        Self {
            tokenizer,
            rule,
            text: document.text,
            segments: Box::new(segments(document.text)),
            buffer: Vec::new(),
            offset: 0,
            left: 0,
            exhausted: false,
            counts: TokenCounts::default(),
            index: 0,
            previous: None,
            current: None,
        }
    }

    /// The counts so far; complete after the last window.
    pub const fn counts(&self) -> TokenCounts {
        self.counts
    }

    /// Tokenizes until the token `position` is in the buffer or the text ends.
    fn fill(&mut self, position: usize) -> Result<(), Reject> {
        while !self.exhausted && self.offset + self.buffer.len() <= position {
            let Some(segment) = self.segments.next() else {
                self.exhausted = true;
                break;
            };
            let found = self.tokenizer.tokenize(self.text, segment)?;
            self.counts.tokens += found.tokens.len();
            self.counts.unknown += found.unknown;
            self.counts.words_cut += found.words_cut;
            self.buffer.drain(..self.left - self.offset);
            self.offset = self.left;
            self.buffer.extend(found.tokens);
        }
        Ok(())
    }

    fn token(&self, position: usize) -> &Token {
        &self.buffer[position - self.offset]
    }

    /// The last position where a window that starts at `start` can end: the token there is not in it.
    fn limit(&self, start: usize, reached: usize) -> usize {
        let limit = start + self.rule.tokens;
        let known = limit.min(self.offset + self.buffer.len());
        let beyond = |words: usize| {
            let mut starts = (start + 1..known).filter(|&at| self.token(at).starts_word);
            starts.nth(words.saturating_sub(1))
        };
        self.rule.words.and_then(beyond).map_or(limit, |at| at.max(reached + 1))
    }

    /// The span of the window that starts at `start` and ends after `reached`; `None` if no token is left.
    fn span_from(&mut self, start: usize, reached: usize) -> Result<Option<TokenSpan>, Reject> {
        self.fill(start + self.rule.tokens)?;
        let limit = self.limit(start, reached);
        let known = self.offset + self.buffer.len();
        if start >= known {
            return Ok(None);
        }
        if known <= limit {
            return Ok(Some(TokenSpan::new(start, known)));
        }
        // More text follows: end at the last sentence boundary in the last `overlap` tokens, else between words.
        let half = (limit - start) / 2;
        let earliest = (limit - self.rule.overlap.min(half)).max(reached);
        let sentence = self.sentence_starts(start, limit).into_iter().rfind(|&at| at > earliest);
        let lowest = (limit - half).max(reached + 1);
        let word = || (lowest..=limit).rev().find(|&at| self.token(at).starts_word);
        Ok(Some(TokenSpan::new(start, sentence.or_else(word).unwrap_or(limit))))
    }

    /// Where the window after `current` starts: about `overlap` tokens before its end, at a sentence or a word.
    fn next_start(&self, current: TokenSpan, previous_end: usize) -> usize {
        // A limit of words can end a window long before its limit of tokens.
        let longest = if self.rule.words.is_some() { current.len() / 2 } else { current.len() - 1 };
        let overlap = self.rule.overlap.min(longest);
        let target = current.end - overlap;
        let first = previous_end.max(current.start + 1);
        let lowest = target.saturating_sub(overlap / 2).max(first);
        let highest = (target + overlap / 2).min(current.end);
        let sentence = self
            .sentence_starts(current.start, current.end)
            .into_iter()
            .filter(|at| (lowest..=highest).contains(at))
            .min_by_key(|&at| at.abs_diff(target));
        // A model that reads words is given whole ones wherever they fit.
        let farthest = if self.rule.words.is_some() { first } else { lowest };
        let word = || (farthest..=target).rev().find(|&at| self.token(at).starts_word);
        sentence.or_else(word).unwrap_or_else(|| target.max(lowest))
    }

    /// The tokens in `start + 1 ..= end` before which a sentence of the text `start..` begins, in order.
    fn sentence_starts(&self, start: usize, end: usize) -> Vec<usize> {
        let first_byte = self.token(start).bytes.start;
        let Some(text) = self.text.get(first_byte..self.token(end.min(self.offset + self.buffer.len() - 1)).bytes.end)
        else {
            return Vec::new();
        };
        let mut starts = Vec::new();
        let mut position = start + 1;
        for (at, _) in text.split_sentence_bound_indices().skip(1) {
            // A token of white space does not begin a sentence.
            let passes = |token: &Token| token.bytes.is_empty() || token.bytes.start < first_byte + at;
            while position <= end && passes(self.token(position)) {
                position += 1;
            }
            let between = position <= end && self.token(position - 1).bytes.end <= first_byte + at;
            if between && self.token(position).starts_word && starts.last() != Some(&position) {
                starts.push(position);
            }
        }
        starts
    }

    fn advance(&mut self) -> Result<Option<Window>, Reject> {
        let current = match self.current.take() {
            Some(current) => current,
            None if self.index == 0 => match self.span_from(0, 0)? {
                Some(first) => first,
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        self.fill(current.end)?;
        let next = if current.end < self.offset + self.buffer.len() {
            let start = self.next_start(current, self.previous.map_or(0, |previous| previous.end));
            self.span_from(start, current.end)?
        } else {
            None
        };
        let from = current.start - self.offset;
        let tokens = self.buffer[from..from + current.len()].to_vec();
        let window = Window { index: self.index, span: current, tokens, previous: self.previous, next };
        if let Some(next) = next {
            self.left = next.start;
        }
        self.previous = Some(current);
        self.current = next;
        self.index += 1;
        Ok(Some(window))
    }
}

impl Iterator for Windows<'_> {
    type Item = Result<Arc<Window>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().map(|window| window.map(Arc::new)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens::Words;
    use crate::text::tokens::tests::tiny;
    use proptest::prelude::*;

    fn windows(text: &str, tokens: usize, overlap: usize) -> Vec<Arc<Window>> {
        let tokenizer = tiny(Words::Tokenizer);
        let rule = WindowRule { tokens, overlap, words: None };
        Windows::new(&tokenizer, rule, Document { text }).collect::<Result<_, _>>().unwrap()
    }

    /// A text's tokens, split only into segments.
    fn tokenized(text: &str) -> Vec<Token> {
        let tokenizer = tiny(Words::Tokenizer);
        segments(text).flat_map(|segment| tokenizer.tokenize(text, segment).unwrap().tokens).collect()
    }

    /// Any characters, mixed with words, punctuation and white space: sentences end, words are split, tokens are missing.
    fn any_text() -> impl Strategy<Value = String> {
        let piece =
            prop_oneof![any::<String>(), "[a-zA-Z]{1,30}", "[.?!,;'\"-]{1,3}", "[ \t\r\n\u{a0}\u{2028}\u{200b}]{1,3}"];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn covered<'text>(window: &Window, text: &'text str) -> &'text str {
        &text[window.tokens[0].bytes.start..window.tokens.last().unwrap().bytes.end]
    }

    #[test]
    fn a_short_text_is_one_window() {
        let found = windows("new york", 8, 2);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].span, TokenSpan::new(0, 2));
    }

    #[test]
    fn a_text_without_tokens_has_no_window() {
        assert!(windows("\u{200b}", 8, 2).is_empty());
    }

    #[test]
    fn windows_end_between_sentences_if_one_is_near() {
        let text = "A b c d. E f g h. I j k l. M n o p. Q r s t.";
        let found: Vec<String> = windows(text, 12, 5).iter().map(|window| covered(window, text).to_owned()).collect();
        assert_eq!(found, ["A b c d. E f g h.", "E f g h. I j k l.", "I j k l. M n o p.", "M n o p. Q r s t."]);
    }

    #[test]
    fn a_window_has_at_most_so_many_words() {
        let text = "banker a b. Banker c d e f banker g h.";
        let tokenizer = tiny(Words::Tokenizer);
        let rule = WindowRule { tokens: 40, overlap: 2, words: Some(5) };
        let found: Vec<_> = Windows::new(&tokenizer, rule, Document { text })
            .map(|window| covered(&window.unwrap(), text).to_owned())
            .collect();
        assert_eq!(found, ["banker a b. Banker", "Banker c d e f", "e f banker g h", "g h."]);
    }

    #[test]
    fn a_word_longer_than_a_window_is_split() {
        let text = "a".repeat(90);
        let found = windows(&text, 10, 4);
        assert_eq!(found.last().unwrap().span.end, 90);
        assert!(found.iter().all(|window| window.tokens.len() <= 10));
    }

    proptest! {
        #[test]
        fn windows_cover_every_token_and_own_every_place_once(
            words in proptest::collection::vec("[a-z]{1,9}[.,]{0,1}", 1..300),
            tokens in 4_usize..60,
            share in 0_usize..=50,
        ) {
            let text = words.join(" ");
            let overlap = tokens * share / 100;
            let found = windows(&text, tokens, overlap);
            let total = found.last().unwrap().span.end;
            let mut reached = 0;
            for window in &found {
                prop_assert!(window.span.start <= reached && window.span.end > reached);
                prop_assert!(window.span.len() <= tokens);
                prop_assert_eq!(window.span.len(), window.tokens.len());
                reached = window.span.end;
            }
            prop_assert_eq!(reached, total);
            for window in found.windows(3) {
                prop_assert!(!window[0].span.overlaps(&window[2].span));
            }
            for window in &found {
                for start in window.span.start..window.span.end {
                    for end in start + 1..=window.span.end.min(start + 5) {
                        let place = TokenSpan::new(start, end);
                        let owners = found.iter().filter(|one| one.span.contains(&place) && one.owns(place)).count();
                        prop_assert_eq!(owners, 1, "{:?}", place);
                    }
                }
            }
        }

        #[test]
        fn windows_of_any_text_hold_its_tokens_in_order(text in any_text(), tokens in 2_usize..20, share in 0_usize..=50) {
            let expected = tokenized(&text);
            let found = windows(&text, tokens, tokens * share / 100);
            let mut reached = 0;
            for (index, window) in found.iter().enumerate() {
                prop_assert_eq!(window.index, index);
                prop_assert!(window.span.start <= reached && window.span.end > reached && window.span.len() <= tokens);
                prop_assert_eq!(&window.tokens[..], &expected[window.span.start..window.span.end]);
                reached = window.span.end;
            }
            prop_assert_eq!(reached, expected.len());
            for start in 0..expected.len() {
                let place = TokenSpan::new(start, start + 1);
                let owners = found.iter().filter(|one| one.span.contains(&place) && one.owns(place)).count();
                prop_assert_eq!(owners, 1, "{:?}", place);
            }
        }
    }
}

//! Spans of all windows → [`Mention`]s of the document. In: each input's spans. Out: mentions in code points, without
//! duplicates, in the order of the text. It must not use a window's prediction for a place that another window owns.
//!
//! Starts and ends move outward to grapheme boundaries (Unicode Standard Annex 29), so no mention starts or ends inside a
//! character as readers see it. Of mentions that must not overlap, the one with the higher score is kept.

use std::collections::{BTreeMap, BTreeSet};

use unicode_segmentation::GraphemeCursor;

use crate::task::answer::{Acceptance, Answer, sigmoid};
use crate::task::entity_schema::Nesting;
use crate::task::gliner::overlap;
use crate::task::gliner::overlap::Scored;
use crate::task::input::ModelInput;
use crate::task::kind::Kind;
use crate::text::mention::Mention;
use crate::text::span::{ByteSpan, CharSpan};

/// Collects the answers to a document's inputs.
#[derive(Debug, Default)]
pub struct Mentions {
    found: Vec<(ByteSpan, usize, f32, usize)>,
}

impl Mentions {
    /// Adds the answer to one input; only the spans that its window owns are kept.
    pub fn add(&mut self, query: &ModelInput, answer: &Answer) {
        let window = &query.window;
        for span in answer.spans.iter().filter(|span| window.owns(span.tokens)) {
            let base = window.span.start;
            let first = window.tokens[span.tokens.start - base].bytes;
            let last = window.tokens[span.tokens.end - 1 - base].bytes;
            let one = (ByteSpan::new(first.start, last.end), span.entity_type, span.logit, window.index);
            let other = self.found.iter_mut().find(|other| answer.one_of_type && other.1 == one.1);
            match other {
                // Answers come in any order, so of equal ones the earlier counts.
                Some(other) if one.2.total_cmp(&other.2).then(other.0.cmp(&one.0)).is_gt() => *other = one,
                Some(_) => {}
                None => self.found.push(one),
            }
        }
    }

    /// The document's mentions by start, end and type.
    pub fn finish(mut self, text: &str, nesting: Nesting) -> Vec<Mention> {
        for (bytes, ..) in &mut self.found {
            *bytes = whole_graphemes(text, *bytes);
        }
        self.found.retain(|(bytes, ..)| !bytes.is_empty());
        // Two spans can become equal after the move: the better one stays.
        self.found.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(b.2.total_cmp(&a.2)));
        self.found.dedup_by_key(|(bytes, entity_type, ..)| (*bytes, *entity_type));
        self.found = allowed(self.found, nesting);
        with_chars(text, &self.found)
    }
}

type Found = (ByteSpan, usize, f32, usize);

/// Without the spans that others of the same place displace, by start, end and type.
fn allowed(found: Vec<Found>, nesting: Nesting) -> Vec<Found> {
    match nesting {
        Nesting::Nested => found,
        Nesting::Flat => without_overlaps(found),
        Nesting::Types => {
            let mut by_type = BTreeMap::<usize, Vec<Found>>::new();
            for one in found {
                by_type.entry(one.1).or_default().push(one);
            }
            let mut kept: Vec<Found> = by_type.into_values().flat_map(without_overlaps).collect();
            kept.sort_by_key(|(bytes, entity_type, ..)| (*bytes, *entity_type));
            kept
        }
    }
}

/// The best of overlapping spans: by logit, then the longer, the earlier, the first type of the schema.
fn without_overlaps(found: Vec<Found>) -> Vec<Found> {
    let mut ranked = found;
    ranked.sort_by(|a, b| b.2.total_cmp(&a.2).then(b.0.len().cmp(&a.0.len())).then((a.0, a.1).cmp(&(b.0, b.1))));
    let mut kept = BTreeMap::<usize, Found>::new();
    for one in ranked {
        let before = kept.range(..one.0.end).next_back();
        if before.is_none_or(|(_, other)| !other.0.overlaps(&one.0)) {
            kept.insert(one.0.start, one);
        }
    }
    kept.into_values().collect()
}

/// The mentions that a job with these thresholds and temperatures finds, of `candidates`: all mentions of a document at a threshold near 0, with
/// temperature 1 and overlaps, in the order of [`Mentions::finish`]. Where mentions of one type cannot overlap, a model of MRC has for each start
/// the nearest end that passes, as in [`crate::task::mrc::decode`]. Mentions that one of kind `gliner` finds in a window do not cross.
pub fn decide(candidates: &[Mention], acceptance: &Acceptance, (kind, nesting): (Kind, Nesting)) -> Vec<Mention> {
    let mut starts = BTreeSet::new();
    let judge = |one: &Mention| {
        let logit = acceptance.judge(one.entity_type, one.logit)?;
        let all = nesting == Nesting::Nested || kind == Kind::Gliner;
        let first = all || starts.insert((one.window, one.entity_type, one.bytes.start));
        first.then(|| Mention { logit, score: sigmoid(logit), ..*one })
    };
    let accepted: Vec<Mention> = candidates.iter().filter_map(judge).collect();
    if kind == Kind::Gliner && nesting == Nesting::Nested {
        return without_crossing(&accepted);
    }
    best(&accepted, nesting)
}

/// Mentions of which no two of one window cross.
fn without_crossing(mentions: &[Mention]) -> Vec<Mention> {
    let mut windows = BTreeMap::<usize, Vec<Scored>>::new();
    for (index, one) in mentions.iter().enumerate() {
        let ByteSpan { start, end, .. } = one.bytes;
        // The index stands for the type, which does not decide here.
        let scored = Scored { first: start, last: end - 1, entity_type: index, logit: one.logit };
        windows.entry(one.window).or_default().push(scored);
    }
    let kept = windows.into_values().flat_map(|spans| overlap::best(spans, Nesting::Nested));
    let mut kept: Vec<usize> = kept.map(|span| span.entity_type).collect();
    kept.sort_unstable();
    kept.into_iter().map(|index| mentions[index]).collect()
}

/// The best of mentions that must not overlap.
pub fn best(mentions: &[Mention], nesting: Nesting) -> Vec<Mention> {
    let found = mentions.iter().enumerate().map(|(index, one)| (one.bytes, one.entity_type, one.logit, index));
    allowed(found.collect(), nesting).into_iter().map(|(.., index)| mentions[index]).collect()
}

/// Adds code point offsets in one pass over the text; `found` is sorted by start.
fn with_chars(text: &str, found: &[Found]) -> Vec<Mention> {
    let (mut byte, mut chars) = (0, 0);
    found
        .iter()
        .map(|&(bytes, entity_type, logit, window)| {
            chars += text[byte..bytes.start].chars().count();
            byte = bytes.start;
            let length = bytes.of(text).chars().count();
            let (chars, score) = (CharSpan::new(chars, chars + length), sigmoid(logit));
            Mention { entity_type, chars, bytes, logit, score, window }
        })
        .collect()
}

/// Moves the start backward and the end forward to grapheme boundaries.
fn whole_graphemes(text: &str, bytes: ByteSpan) -> ByteSpan {
    let boundary = |at: usize| GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(true);
    let moved = |at: usize, step: fn(&mut GraphemeCursor, &str) -> Option<usize>| {
        if boundary(at) { at } else { step(&mut GraphemeCursor::new(at, text.len(), true), text).unwrap_or(at) }
    };
    let start = moved(bytes.start, |cursor, text| cursor.prev_boundary(text, 0).ok().flatten());
    let end = moved(bytes.end, |cursor, text| cursor.next_boundary(text, 0).ok().flatten());
    ByteSpan::new(start, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::answer::tests::acceptance;
    use proptest::prelude::*;

    fn finish(found: &[Found], text: &str, nesting: Nesting) -> Vec<Mention> {
        Mentions { found: found.to_vec() }.finish(text, nesting)
    }

    fn at(start: usize, end: usize, entity_type: usize, logit: f32) -> Found {
        (ByteSpan::new(start, end), entity_type, logit, 0)
    }

    #[test]
    fn mentions_start_and_end_at_grapheme_boundaries() {
        // A decomposed é whose accent the tokenizer dropped, and a family joined by zero-width joiners.
        let text = "cafe\u{301} 👨\u{200d}👩\u{200d}👧!";
        let found = finish(&[at(0, 4, 0, 1.0), at(7, 11, 0, 1.0)], text, Nesting::Nested);
        let texts: Vec<&str> = found.iter().map(|mention| mention.bytes.of(text)).collect();
        assert_eq!(texts, ["cafe\u{301}", "👨\u{200d}👩\u{200d}👧"]);
        assert_eq!(found[1].chars, CharSpan::new(6, 11));
    }

    #[test]
    fn flat_keeps_the_better_of_overlapping_mentions_and_both_of_touching_ones() {
        let text = "Bank of New York City";
        let all = [at(0, 16, 0, 2.0), at(8, 16, 1, 3.0), at(16, 21, 1, 0.5), at(0, 4, 2, 0.1)];
        let spans = |nesting| -> Vec<(usize, usize)> {
            finish(&all, text, nesting).iter().map(|mention| (mention.chars.start, mention.chars.end)).collect()
        };
        assert_eq!(spans(Nesting::Nested), [(0, 4), (0, 16), (8, 16), (16, 21)]);
        assert_eq!(spans(Nesting::Flat), [(0, 4), (8, 16), (16, 21)]);
    }

    #[test]
    fn types_keeps_the_better_of_overlapping_mentions_of_one_type() {
        let text = "Bank of New York City";
        let all = [at(0, 16, 0, 2.0), at(8, 16, 0, 1.0), at(8, 16, 1, 3.0), at(8, 21, 1, 4.0)];
        let found: Vec<_> = finish(&all, text, Nesting::Types)
            .iter()
            .map(|mention| (mention.chars.start, mention.chars.end, mention.entity_type))
            .collect();
        assert_eq!(found, [(0, 16, 0), (8, 21, 1)]);
    }

    #[test]
    fn candidates_are_decided_as_a_job_decides_them() {
        let text = "Bank of New York City";
        let all = [at(0, 4, 0, 0.4), at(0, 16, 0, 2.0), at(8, 16, 1, 1.5), at(16, 21, 1, -1.0)];
        let candidates = finish(&all, text, Nesting::Nested);
        let decide = |scores: &[(f32, f32)], nesting| -> Vec<(usize, usize, f32)> {
            let mentions = decide(&candidates, &acceptance(2, scores, 0.0), (Kind::Mrc, nesting));
            mentions.iter().map(|one| (one.bytes.start, one.bytes.end, one.logit)).collect()
        };
        // The nearest end of a start that passes: without the first candidate, the longer one is the best of all.
        assert_eq!(decide(&[(0.5, 1.0)], Nesting::Flat), [(0, 4, 0.4), (8, 16, 1.5)]);
        assert_eq!(decide(&[(0.6, 1.0)], Nesting::Flat), [(0, 16, 2.0)]);
        assert_eq!(decide(&[(0.6, 1.0)], Nesting::Nested), [(0, 16, 2.0), (8, 16, 1.5)]);
        // Types are compared by their calibrated scores.
        assert_eq!(decide(&[(0.6, 2.0), (0.2, 1.0)], Nesting::Flat), [(8, 16, 1.5), (16, 21, -1.0)]);
        assert_eq!(best(&candidates, Nesting::Flat).len(), 2);
    }

    #[test]
    fn candidates_of_the_kind_gliner_have_no_nearest_end_and_do_not_cross() {
        let text = "Bank of New York City";
        let all = [at(0, 4, 0, 0.4), at(0, 16, 0, 2.0), at(8, 21, 0, 1.5), at(8, 16, 1, 0.3)];
        let candidates = finish(&all, text, Nesting::Nested);
        let decide = |nesting| -> Vec<(usize, usize)> {
            let mentions = decide(&candidates, &acceptance(2, &[(0.5, 1.0)], 0.0), (Kind::Gliner, nesting));
            mentions.iter().map(|one| (one.bytes.start, one.bytes.end)).collect()
        };
        assert_eq!(decide(Nesting::Flat), [(0, 16)]);
        assert_eq!(decide(Nesting::Nested), [(0, 4), (0, 16), (8, 16)]);
    }

    proptest! {
        #[test]
        fn coordinates_round_trip_on_any_text(text in "\\PC{1,40}", cuts in proptest::collection::vec((0_usize..200, 0_usize..200), 1..8)) {
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let found: Vec<Found> = cuts.iter().enumerate().map(|(number, &(a, b))| {
                let (a, b) = (boundaries[a % boundaries.len()], boundaries[b % boundaries.len()]);
                at(a.min(b), a.max(b), number % 3, number as f32)
            }).collect();
            let all = finish(&found, &text, Nesting::Nested);
            for (place, entity_type, ..) in found.iter().filter(|(place, ..)| !place.is_empty()) {
                let kept = all.iter().any(|one| one.entity_type == *entity_type && one.bytes.contains(place));
                prop_assert!(kept, "{:?} is lost", place);
            }
            for nesting in [Nesting::Flat, Nesting::Types, Nesting::Nested] {
                let mentions = finish(&found, &text, nesting);
                for one in &all {
                    prop_assert!(mentions.iter().any(|other| other.bytes.overlaps(&one.bytes)), "{:?} is lost", one);
                }
                for (index, mention) in mentions.iter().enumerate() {
                    let by_chars: String = text.chars().skip(mention.chars.start).take(mention.chars.len()).collect();
                    prop_assert_eq!(by_chars.as_str(), mention.bytes.of(&text));
                    prop_assert!(!mention.bytes.is_empty());
                    for other in &mentions[index + 1..] {
                        let allowed = match nesting {
                            Nesting::Flat => false,
                            Nesting::Types => mention.entity_type != other.entity_type,
                            Nesting::Nested => true,
                        };
                        prop_assert!(allowed || !mention.bytes.overlaps(&other.bytes));
                        prop_assert!((mention.bytes, mention.entity_type) != (other.bytes, other.entity_type));
                    }
                }
            }
        }
    }
}

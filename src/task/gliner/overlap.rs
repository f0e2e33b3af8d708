//! Spans → those that are allowed beside each other. In: spans of one input with their logits. Out: the best of those that exclude each other.
//! It must not know how they were scored.
//!
//! The search is greedy, as in the package: by logit, of equal ones the earlier in the order of the graph's logits, a span is kept unless one
//! that is kept excludes it.

use std::collections::BTreeMap;

use crate::task::entity_schema::Nesting;

/// A span of words with its type and logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The first word.
    pub first: usize,
    /// The last word.
    pub last: usize,
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// The logit of its score.
    pub logit: f32,
}

/// The best of `spans`, which are in the order of the graph's logits. Flat: no word is in two spans; `Types`: in two of one type. Nested: spans
/// can be in one another, also with the same words and another type, but not cross.
pub fn best(mut spans: Vec<Scored>, nesting: Nesting) -> Vec<Scored> {
    spans.sort_by(|one, other| other.logit.total_cmp(&one.logit));
    match nesting {
        Nesting::Nested => without_crossing(spans),
        Nesting::Flat => without_overlaps(spans, |_| 0),
        Nesting::Types => without_overlaps(spans, |span| span.entity_type),
    }
}

/// Without spans that share a word with a better one of the same `group`.
fn without_overlaps(ranked: Vec<Scored>, group: fn(&Scored) -> usize) -> Vec<Scored> {
    // Of each group the last word of every kept span, by its first.
    let mut kept = BTreeMap::<(usize, usize), usize>::new();
    let mut free = |span: &Scored| {
        let group = group(span);
        let before = kept.range((group, 0)..=(group, span.last)).next_back();
        let free = before.is_none_or(|(_, &last)| last < span.first);
        if free {
            kept.insert((group, span.first), span.last);
        }
        free
    };
    ranked.into_iter().filter(&mut free).collect()
}

/// Without spans that a better one crosses: they share a word, and neither is in the other.
fn without_crossing(ranked: Vec<Scored>) -> Vec<Scored> {
    let mut kept: Vec<Scored> = Vec::new();
    let crosses = |one: &Scored, other: &Scored| {
        let (one, other) = if one.first <= other.first { (one, other) } else { (other, one) };
        one.first < other.first && other.first <= one.last && one.last < other.last
    };
    for span in ranked {
        if !kept.iter().any(|other| crosses(&span, other)) {
            kept.push(span);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(first: usize, last: usize, entity_type: usize, logit: f32) -> Scored {
        Scored { first, last, entity_type, logit }
    }

    fn kept(spans: &[Scored], nesting: Nesting) -> Vec<(usize, usize, usize)> {
        let mut kept: Vec<_> =
            best(spans.to_vec(), nesting).iter().map(|one| (one.first, one.last, one.entity_type)).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn the_better_of_spans_that_exclude_each_other_is_kept() {
        let spans =
            [span(0, 3, 0, 2.0), span(2, 3, 1, 3.0), span(3, 5, 1, 1.0), span(2, 3, 0, 0.5), span(4, 4, 0, 0.1)];
        assert_eq!(kept(&spans, Nesting::Flat), [(2, 3, 1), (4, 4, 0)]);
        assert_eq!(kept(&spans, Nesting::Types), [(0, 3, 0), (2, 3, 1), (4, 4, 0)]);
        assert_eq!(kept(&spans, Nesting::Nested), [(0, 3, 0), (2, 3, 0), (2, 3, 1), (4, 4, 0)]);
    }

    #[test]
    fn of_equal_spans_the_first_is_kept() {
        let spans = [span(1, 2, 0, 1.0), span(1, 1, 0, 1.0), span(1, 2, 1, 1.0)];
        assert_eq!(kept(&spans, Nesting::Flat), [(1, 2, 0)]);
    }

    proptest! {
        #[test]
        fn the_search_equals_one_that_compares_all_pairs(
            places in proptest::collection::vec((0_usize..12, 0_usize..4, 0_usize..3, -3_i8..4), 0..40),
        ) {
            let spans: Vec<Scored> =
                places.iter().map(|&(first, more, of, logit)| span(first, first + more, of, logit.into())).collect();
            for nesting in [Nesting::Flat, Nesting::Types, Nesting::Nested] {
                let excludes = |one: &Scored, other: &Scored| {
                    let shared = one.first <= other.last && other.first <= one.last;
                    let inside = |one: &Scored, other: &Scored| one.first >= other.first && one.last <= other.last;
                    match nesting {
                        Nesting::Flat => shared,
                        Nesting::Types => shared && one.entity_type == other.entity_type,
                        Nesting::Nested => shared && !inside(one, other) && !inside(other, one),
                    }
                };
                let mut ranked = spans.clone();
                ranked.sort_by(|one, other| other.logit.total_cmp(&one.logit));
                let mut expected: Vec<Scored> = Vec::new();
                for one in ranked {
                    if !expected.iter().any(|other| excludes(&one, other)) {
                        expected.push(one);
                    }
                }
                prop_assert_eq!(best(spans.clone(), nesting), expected);
            }
        }
    }
}

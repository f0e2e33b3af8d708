//! Rows → figures. In: the rows of a part. Out: counts of documents, sentences and mentions, nested mentions and the longest one. It
//! must not print.

use std::collections::{BTreeMap, BTreeSet};

use crate::prepare::char_index::CharIndex;
use crate::prepare::output::granularity::Row;
use crate::prepare::record::Mention;

/// The figures of one type, or of all types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Mentions.
    pub mentions: usize,
    /// Mentions inside a longer one, of any type.
    pub nested: usize,
    /// Words in the longest mention.
    pub longest: usize,
}

/// The figures of one part of a corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The part's name; empty if the corpus was not split.
    pub part: String,
    /// Rows of the documents table.
    pub rows: usize,
    /// Documents they belong to.
    pub documents: usize,
    /// Sentences: those the corpus marks, else those of UAX 29 and line breaks.
    pub sentences: usize,
    /// All types together.
    pub all: Figures,
    /// Each type by name.
    pub types: BTreeMap<String, Figures>,
    /// Mentions that partly overlap another.
    pub crossing: usize,
    /// Mentions whose span has more than one type.
    pub shared: usize,
}

impl Summary {
    /// The figures of a part.
    pub(crate) fn of(part: &str, rows: &[Row]) -> Self {
        let mut summary = Self { part: part.to_owned(), rows: rows.len(), ..Self::default() };
        summary.documents = rows.iter().map(|row| row.document.as_str()).collect::<BTreeSet<_>>().len();
        for row in rows {
            summary.sentences += row.sentences;
            summary.add(row);
        }
        summary
    }

    /// Whether flat decoding would lose mentions.
    #[must_use]
    pub fn needs_nesting(&self) -> bool {
        self.all.nested + self.crossing + self.shared > 0
    }

    fn add(&mut self, row: &Row) {
        let index = CharIndex::new(&row.text);
        // Mentions come sorted by start, the longer first, so the one that reaches farthest so far contains every nested mention.
        let mut reach: Option<&Mention> = None;
        let mut places: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for mention in &row.mentions {
            let span = mention.span;
            let nested = reach.is_some_and(|other| other.span != span && other.span.contains(&span));
            self.crossing +=
                usize::from(!nested && reach.is_some_and(|other| other.span != span && other.span.overlaps(&span)));
            if reach.is_none_or(|other| span.end > other.span.end) {
                reach = Some(mention);
            }
            *places.entry((span.start, span.end)).or_default() += 1;
            let words = index.slice(&row.text, span).unwrap_or_default().split_whitespace().count();
            let one = self.types.entry(mention.entity_type.clone()).or_default();
            for figures in [&mut self.all, one] {
                figures.mentions += 1;
                figures.nested += usize::from(nested);
                figures.longest = figures.longest.max(words);
            }
        }
        self.shared += places.into_values().filter(|count| *count > 1).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::record::Place;
    use crate::text::span::CharSpan;

    #[test]
    fn nested_crossing_and_shared_mentions_are_counted_apart() {
        let mention =
            |(start, end, name): (usize, usize, &str)| Mention::new(name, CharSpan::new(start, end), Place::Line(1));
        let row = Row {
            id: "1".into(),
            text: "a b c d e f".into(),
            source: String::new(),
            place: Place::Line(1),
            document: "1".into(),
            sentence: None,
            sentences: 2,
            group: String::new(),
            mentions: [(0, 5, "X"), (2, 3, "Y"), (4, 7, "X"), (8, 9, "X"), (8, 9, "Y")].map(mention).into(),
        };
        let summary = Summary::of("", &[row]);
        assert_eq!(summary.all, Figures { mentions: 5, nested: 1, longest: 3 });
        assert_eq!(summary.types["Y"], Figures { mentions: 2, nested: 1, longest: 1 });
        assert_eq!((summary.crossing, summary.shared, summary.sentences, summary.documents), (1, 2, 2, 1));
        assert!(summary.needs_nesting());
    }
}

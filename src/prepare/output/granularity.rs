//! Documents → rows. In: checked documents. Out: one row per document or sentence, with mentions in the row's own coordinates. It must
//! not split a mention: sentences that share one stay together.

use clap::ValueEnum;
use unicode_segmentation::UnicodeSegmentation;

use crate::prepare::char_index::CharIndex;
use crate::prepare::record::{Document, Kind, Mention, Place};
use crate::text::span::CharSpan;

/// What becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// One row per sentence.
    Sentence,
    /// One row per document.
    Document,
}

/// A row of the documents table with its gold mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The row's id.
    pub(crate) id: String,
    /// Its text.
    pub(crate) text: String,
    /// The file it comes from.
    pub(crate) source: String,
    /// The place in the file where its document begins.
    pub(crate) place: Place,
    /// The document it belongs to.
    pub(crate) document: String,
    /// The number of the sentence in its document, from 0; `None` if rows are documents.
    pub(crate) sentence: Option<usize>,
    /// The number of sentences in the row.
    pub(crate) sentences: usize,
    /// The unit that stays together when a corpus is split: the document, or the sentence if the file marks no documents.
    pub(crate) group: String,
    /// Its mentions by position.
    pub(crate) mentions: Vec<Mention>,
}

/// The rows of a document.
pub(crate) fn rows(document: Document, unit: Unit) -> Vec<Row> {
    let sentences = sentences(&document);
    let row = |document: &Document, id: String| Row {
        id,
        text: String::new(),
        source: document.source.clone(),
        place: document.place,
        document: document.id.clone(),
        sentence: None,
        sentences: 1,
        group: document.id.clone(),
        mentions: Vec::new(),
    };
    if unit == Unit::Document || document.kind == Kind::Sentence {
        let sentence = (unit == Unit::Sentence).then_some(0);
        let empty = row(&document, document.id.clone());
        let (text, mentions) = (document.text, document.mentions);
        return vec![Row { text, sentence, sentences: sentences.len(), mentions, ..empty }];
    }
    let index = CharIndex::new(&document.text);
    let mut mentions = document.mentions.iter().peekable();
    let mut rows = Vec::with_capacity(sentences.len());
    for (number, sentence) in sentences.into_iter().enumerate() {
        let mut made = row(&document, format!("{}/{number}", document.id));
        if document.kind == Kind::File {
            made.group.clone_from(&made.id);
        }
        made.sentence = Some(number);
        made.text.push_str(index.slice(&document.text, sentence).unwrap_or_default());
        let moved = |span: CharSpan| CharSpan::new(span.start - sentence.start, span.end - sentence.start);
        while let Some(mention) = mentions.next_if(|mention| mention.span.start < sentence.end) {
            // A head lies outside its sentence only if it lies outside its mention.
            let head = mention.head.filter(|head| sentence.contains(head)).map(moved);
            made.mentions.push(Mention { span: moved(mention.span), head, ..mention.clone() });
        }
        rows.push(made);
    }
    rows
}

/// The document's sentences; if it marks none, those of UAX 29 and line breaks. Every mention lies inside one sentence: sentences
/// that share a mention are joined, and a sentence is extended if a mention begins or ends in the white space next to it.
fn sentences(document: &Document) -> Vec<CharSpan> {
    let found = if document.sentences.is_empty() { segmented(&document.text) } else { document.sentences.clone() };
    let mut mentions = document.mentions.iter().map(|mention| mention.span).peekable();
    let mut joined: Vec<CharSpan> = Vec::with_capacity(found.len());
    for sentence in found {
        let start = mentions.peek().map_or(sentence.start, |mention| mention.start.min(sentence.start));
        let mut reach = sentence.end;
        while let Some(mention) = mentions.next_if(|mention| mention.start < reach) {
            reach = reach.max(mention.end);
        }
        match joined.last_mut() {
            Some(last) if start < last.end => *last = CharSpan::new(last.start, reach.max(last.end)),
            _ => joined.push(CharSpan::new(start, reach)),
        }
    }
    // Only white space follows the last sentence, but a mention can cover it.
    joined.extend(mentions.reduce(|one, other| CharSpan::new(one.start, one.end.max(other.end))));
    joined
}

fn segmented(text: &str) -> Vec<CharSpan> {
    let index = CharIndex::new(text);
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split('\n') {
        for (start, sentence) in line.split_sentence_bound_indices() {
            let words = sentence.trim();
            if !words.is_empty() {
                let from = line_start + start + (sentence.len() - sentence.trim_start().len());
                found.push(CharSpan::new(index.char_at(from), index.char_at(from + words.len())));
            }
        }
        line_start += line.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str, spans: &[(usize, usize)]) -> Document {
        let mention = |&(start, end): &(usize, usize)| Mention::new("X", CharSpan::new(start, end), Place::Line(1));
        Document {
            id: "d".into(),
            source: "f".into(),
            place: Place::Line(1),
            text: text.into(),
            sentences: Vec::new(),
            kind: Kind::Document,
            mentions: spans.iter().map(mention).collect(),
        }
    }

    fn shown(document: Document, unit: Unit) -> Vec<(String, String, Vec<String>)> {
        let one = |row: Row| {
            let index = CharIndex::new(&row.text);
            let covered = |mention: &Mention| index.slice(&row.text, mention.span).unwrap().to_owned();
            let mentions = row.mentions.iter().map(covered).collect();
            (row.id, row.text, mentions)
        };
        rows(document, unit).into_iter().map(one).collect()
    }

    #[test]
    fn sentences_end_at_unicode_boundaries_and_line_breaks() {
        let text = "Zoë left. Ada met\nZoë in  Rome.  ";
        let rows = shown(document(text, &[(0, 3), (10, 13), (18, 21), (26, 30)]), Unit::Sentence);
        let row = |id: &str, text: &str, mentions: &[&str]| {
            (id.to_owned(), text.to_owned(), mentions.iter().map(|&one| one.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            rows,
            [
                row("d/0", "Zoë left.", &["Zoë"]),
                row("d/1", "Ada met", &["Ada"]),
                row("d/2", "Zoë in  Rome.", &["Zoë", "Rome"])
            ]
        );
    }

    proptest::proptest! {
        /// For any text, every mention is in a row and covers the same characters as in the document.
        #[test]
        fn no_mention_is_lost(text in "[ aé.?A\u{a0}\n]{0,40}", spans in proptest::collection::vec((0..40_usize, 1..9_usize), 0..6)) {
            let index = CharIndex::new(&text);
            let mut spans: Vec<(usize, usize)> = spans.into_iter().map(|(start, length)| (start, start + length)).collect();
            spans.retain(|&(start, end)| index.slice(&text, CharSpan::new(start, end)).is_some());
            spans.sort_by_key(|&(start, end)| (start, usize::MAX - end));
            let expected: Vec<String> =
                spans.iter().map(|&(start, end)| index.slice(&text, CharSpan::new(start, end)).unwrap().to_owned()).collect();
            let rows = shown(document(&text, &spans), Unit::Sentence);
            let found: Vec<String> = rows.into_iter().flat_map(|(_, _, mentions)| mentions).collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_mention_across_sentences_joins_them() {
        let rows = shown(document("At Yahoo! Inc. He left. Ok.", &[(3, 14)]), Unit::Sentence);
        assert_eq!(rows[0].2, ["Yahoo! Inc."]);
        assert!(rows.len() > 1 && rows[0].1.starts_with("At Yahoo! Inc."), "{rows:?}");
    }

    #[test]
    fn a_document_row_keeps_the_text_unchanged() {
        let rows = shown(document("One.\nTwo. ", &[(5, 8)]), Unit::Document);
        assert_eq!(rows, [("d".to_owned(), "One.\nTwo. ".to_owned(), vec!["Two".to_owned()])]);
    }

    #[test]
    fn sentences_of_a_file_without_documents_are_their_own_groups() {
        let mut file = document("a\nb", &[]);
        (file.kind, file.sentences) = (Kind::File, vec![CharSpan::new(0, 1), CharSpan::new(2, 3)]);
        let groups = |document| rows(document, Unit::Sentence).into_iter().map(|row| row.group).collect::<Vec<_>>();
        assert_eq!(groups(file.clone()), ["d/0", "d/1"]);
        file.kind = Kind::Document;
        assert_eq!(groups(file), ["d", "d"]);
    }
}

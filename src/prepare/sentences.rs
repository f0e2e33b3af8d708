//! Sentences → a document. In: sentences as tokens or as text, with mentions relative to them. Out: one text, with tokens separated by
//! spaces and sentences by line breaks, and the mentions shifted to it. It must not drop a token.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Document, Kind, Mention, Place, outside_tokens};
use crate::text::span::{CharSpan, TokenSpan};

/// A sentence given as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenSentence<'text> {
    /// Its tokens, in order.
    pub(crate) tokens: Vec<&'text str>,
    /// Labels and the tokens they cover.
    pub(crate) mentions: Vec<(TokenSpan, String)>,
    /// The place where it begins.
    pub(crate) place: Place,
    /// The line of each token; empty if all are at `place`.
    pub(crate) lines: Vec<usize>,
}

/// Builds a document from its sentences.
pub(crate) struct Assembler {
    document: Document,
    chars: usize,
}

impl Assembler {
    /// An empty document.
    pub(crate) fn new(id: String, file: &InputFile, place: Place, kind: Kind) -> Self {
        let document = Document {
            id,
            source: file.name.clone(),
            place,
            text: String::new(),
            sentences: Vec::new(),
            kind,
            mentions: Vec::new(),
        };
        Self { document, chars: 0 }
    }

    /// Adds a sentence of tokens. A mention that reaches past its last token is a problem.
    pub(crate) fn tokens(&mut self, sentence: &TokenSentence<'_>, file: &InputFile, corpus: &mut Corpus) -> Result<()> {
        let start = self.open();
        let mut places = Vec::with_capacity(sentence.tokens.len());
        for (number, token) in sentence.tokens.iter().enumerate() {
            if number > 0 {
                self.append(" ");
            }
            let from = self.chars;
            self.append(token);
            places.push(CharSpan::new(from, self.chars));
        }
        for (token_span, entity_type) in &sentence.mentions {
            let covered = places.get(token_span.start..token_span.end).unwrap_or_default();
            let (Some(first), Some(last)) = (covered.first(), covered.last()) else {
                let (from, to, count) = (token_span.start, token_span.end, places.len());
                let reason = outside_tokens(entity_type, from..to, count);
                corpus.problem(file, sentence.place, reason)?;
                continue;
            };
            let span = CharSpan::new(first.start, last.end);
            let place = sentence.lines.get(token_span.start).map_or(sentence.place, |line| Place::Line(*line));
            self.document.mentions.push(Mention::new(entity_type.as_str(), span, place));
        }
        self.close(start);
        Ok(())
    }

    /// Adds a sentence of text. Mentions count from its beginning, and one that reaches past its end is a problem.
    pub(crate) fn text(
        &mut self,
        text: &str,
        mentions: impl IntoIterator<Item = Mention>,
        file: &InputFile,
        corpus: &mut Corpus,
    ) -> Result<()> {
        let start = self.open();
        self.append(text);
        let length = self.chars - start;
        let moved = |span: CharSpan| CharSpan::new(span.start.saturating_add(start), span.end.saturating_add(start));
        for mention in mentions {
            let CharSpan { start: from, end: to, .. } = mention.span;
            if to > length {
                let name = &mention.entity_type;
                let reason =
                    format!("a mention of type {name} covers characters {from}..{to}, but the text has {length}");
                corpus.problem(file, mention.place, reason)?;
                continue;
            }
            let (span, head) = (moved(mention.span), mention.head.map(moved));
            self.document.mentions.push(Mention { span, head, ..mention });
        }
        self.close(start);
        Ok(())
    }

    /// The document; `None` if no sentence was added.
    pub(crate) fn finish(self) -> Option<Document> {
        (!self.document.sentences.is_empty()).then_some(self.document)
    }

    /// The document without sentence boundaries, if the parts added are texts and not sentences.
    pub(crate) fn finish_texts(self) -> Option<Document> {
        self.finish().map(|document| Document { sentences: Vec::new(), ..document })
    }

    fn open(&mut self) -> usize {
        if !self.document.sentences.is_empty() {
            self.append("\n");
        }
        self.chars
    }

    fn close(&mut self, start: usize) {
        self.document.sentences.push(CharSpan::new(start, self.chars));
    }

    fn append(&mut self, text: &str) {
        self.document.text.push_str(text);
        self.chars += text.chars().count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::corpus::OnError;

    #[test]
    fn sentences_are_separated_by_line_breaks() {
        let file = InputFile { path: "a".into(), name: "a".into() };
        let mut document = Assembler::new("a".into(), &file, Place::Line(1), Kind::Document);
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        let first =
            TokenSentence { tokens: vec!["Zoë", "left", "."], mentions: vec![], place: Place::Line(1), lines: vec![] };
        document.tokens(&first, &file, &mut corpus).unwrap();
        let mentions = [(0, 2), (1, 3), (1, 1)].map(|(start, end)| (TokenSpan::new(start, end), "LOC".to_owned()));
        let second = TokenSentence {
            tokens: vec!["São", "Paulo"],
            mentions: mentions.into(),
            place: Place::Line(5),
            lines: vec![],
        };
        document.tokens(&second, &file, &mut corpus).unwrap();
        let reasons: Vec<_> = corpus.problems.iter().map(|problem| problem.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "a mention of type LOC covers tokens 1..3, but the sentence has 2",
                "a mention of type LOC covers tokens 1..1, but the sentence has 2"
            ]
        );
        let mentions =
            [(2, 5), (2, 6)].map(|(start, end)| Mention::new("LOC", CharSpan::new(start, end), Place::Line(9)));
        document.text("O Rio", mentions, &file, &mut corpus).unwrap();
        let expected = "a mention of type LOC covers characters 2..6, but the text has 5";
        assert_eq!(corpus.problems.last().unwrap().reason, expected, "even if another sentence follows");
        document.text("e Zoë", [], &file, &mut corpus).unwrap();
        let document = document.finish().unwrap();
        assert_eq!(document.text, "Zoë left .\nSão Paulo\nO Rio\ne Zoë");
        let spans: Vec<_> = document.mentions.iter().map(|mention| (mention.span.start, mention.span.end)).collect();
        assert_eq!(spans, [(11, 20), (23, 26)]);
        let sentences: Vec<_> = document.sentences.iter().map(|sentence| (sentence.start, sentence.end)).collect();
        assert_eq!(sentences, [(0, 10), (11, 20), (21, 26), (27, 32)]);
    }
}

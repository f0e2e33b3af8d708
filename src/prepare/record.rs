//! Documents and mentions as a corpus gives them. In: the fields of a format. Out: values with their place in the file, for error
//! messages. It must not check them.

use std::fmt;
use std::ops::Range;

use crate::text::span::CharSpan;

/// A position in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A line of text.
    Line(usize),
    /// A row of a table.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(formatter, "line {number}"),
            Self::Row(number) => write!(formatter, "row {number}"),
        }
    }
}

impl Place {
    /// The number alone, as written to the `line` column.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::Line(number) | Self::Row(number) => number,
        }
    }
}

/// A gold mention: character coordinates in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// The label.
    pub(crate) entity_type: String,
    /// Its full extent.
    pub(crate) span: CharSpan,
    /// Its head, if the corpus marks heads.
    pub(crate) head: Option<CharSpan>,
    /// The covered text as the corpus repeats it, if it does.
    pub(crate) surface: Option<String>,
    /// The place it was read from.
    pub(crate) place: Place,
}

impl Mention {
    /// A mention without a head and without a surface text.
    pub(crate) fn new(entity_type: impl Into<String>, span: CharSpan, place: Place) -> Self {
        Self { entity_type: entity_type.into(), span, head: None, surface: None, place }
    }
}

/// The unit that a document is in its corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A document.
    Document,
    /// A sentence with an id of its own.
    Sentence,
    /// All sentences of a file that marks no documents.
    File,
}

/// A document with its gold mentions.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Its id, unique in the corpus.
    pub(crate) id: String,
    /// The file it comes from, relative to the input.
    pub(crate) source: String,
    /// The place in the file where it begins.
    pub(crate) place: Place,
    /// The text that all coordinates refer to.
    pub(crate) text: String,
    /// Its sentences, if the corpus marks them.
    pub(crate) sentences: Vec<CharSpan>,
    /// The unit it is in the corpus.
    pub(crate) kind: Kind,
    /// Its mentions.
    pub(crate) mentions: Vec<Mention>,
}

/// The reason why a mention does not fit its sentence of `count` tokens.
pub(crate) fn outside_tokens(entity_type: &str, tokens: Range<usize>, count: usize) -> String {
    let Range { start, end } = tokens;
    format!("a mention of type {entity_type} covers tokens {start}..{end}, but the sentence has {count}")
}

/// The line of an error in a file, and the reason.
pub(crate) type LineError = (usize, String);

/// The beginning of a text, at most 60 characters, for a message.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
    .replace('\n', "⏎")
}

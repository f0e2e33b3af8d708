//! Documents and mentions as a corpus has them. In: what a format says. Out: values with their place in the file, for error messages.
//! It must not check them.

use std::fmt;

use crate::text::span::CharSpan;

/// Where in a file something is, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A line of text.
    Line(usize),
    /// Lines of a token each, from this one on.
    Lines(usize),
    /// A row of a table.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) | Self::Lines(number) => write!(formatter, "line {number}"),
            Self::Row(number) => write!(formatter, "row {number}"),
        }
    }
}

impl Place {
    /// The number alone, as it stands in the `line` column.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::Line(number) | Self::Lines(number) | Self::Row(number) => number,
        }
    }

    /// Where the token numbered `index` of a sentence that begins here is.
    pub(crate) fn token(self, index: usize) -> Self {
        match self {
            Self::Lines(number) => Self::Line(number + index),
            other => other,
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
    /// Its head, where the corpus marks heads.
    pub(crate) head: Option<CharSpan>,
    /// What the corpus says it covers, where it says so.
    pub(crate) surface: Option<String>,
    /// Where it was read.
    pub(crate) place: Place,
}

impl Mention {
    /// A mention without a head whose words the corpus does not repeat.
    pub(crate) fn new(entity_type: impl Into<String>, span: CharSpan, place: Place) -> Self {
        Self { entity_type: entity_type.into(), span, head: None, surface: None, place }
    }
}

/// What a document is in its corpus.
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
    /// Where it begins in the file.
    pub(crate) place: Place,
    /// The text all coordinates count in.
    pub(crate) text: String,
    /// Its sentences, where the corpus marks them.
    pub(crate) sentences: Vec<CharSpan>,
    /// What the corpus makes of it.
    pub(crate) kind: Kind,
    /// Its mentions.
    pub(crate) mentions: Vec<Mention>,
}

/// What is wrong with a file, and in which line.
pub(crate) type Broken = (usize, String);

/// At most the first words of a text, for a message.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
    .replace('\n', "⏎")
}

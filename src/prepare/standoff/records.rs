//! A labelled record: what an object of JSON holds. In: the parts that a layout finds. Out: values for the reader of JSON Lines. It must
//! not know the layouts.

use crate::prepare::standoff::spans::Labelled;

/// What an object holds.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its id.
    pub(crate) id: Option<String>,
    /// The document that it is a sentence of.
    pub(crate) document: Option<String>,
    /// Its text.
    pub(crate) content: Content,
    /// Its labels.
    pub(crate) labels: Labels,
    /// Reasons why annotations of it are left out, one for each.
    pub(crate) left_out: Vec<&'static str>,
    /// Keys of lists that are neither text nor labels.
    pub(crate) unread: Vec<String>,
}

/// The text of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A text.
    Text(String),
    /// The tokens of sentences.
    Tokens(Vec<Vec<String>>),
}

/// The labels of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    /// There is no key of labels.
    Missing,
    /// Under this key there are none.
    Empty(String),
    /// Spans, by sentence.
    Spans(Vec<Vec<Labelled>>),
    /// Layers of one tag per word, and the words.
    Tags {
        /// What the tags are tags of.
        words: Vec<String>,
        /// The tags, by layer.
        layers: Vec<Vec<String>>,
    },
}

/// What reading an object gives.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A record.
    Record(Record),
    /// The record is left out, for this reason.
    LeftOut(&'static str),
}

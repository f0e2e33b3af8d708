//! What to prepare and how. In: arguments, checked. Out: options as the readers and writers take them.

use std::path::PathBuf;

use crate::cli::{Format, Labels, OnError, Scheme, Unit};
use crate::prepare::output::split::Split;
use crate::task::entity_schema::EntitySchema;

/// How to read files; each format takes what it knows.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The types there may be, where that is known.
    pub schema: Option<EntitySchema>,
    /// How tags mark mentions.
    pub scheme: Scheme,
    /// The column of tokens.
    pub tokens: Option<String>,
    /// The columns of tags, one a layer.
    pub tags: Vec<String>,
    /// The key or column of a row's id.
    pub id: Option<String>,
    /// The key of a row's text.
    pub text: Option<String>,
    /// Types, subtypes or both; `None` is the format's own choice.
    pub labels: Option<Labels>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { schema: None, scheme: Scheme::Auto, tokens: None, tags: Vec::new(), id: None, text: None, labels: None }
    }
}

/// What to prepare and how.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// What the corpus is written in.
    pub format: Format,
    /// A file or folder.
    pub input: PathBuf,
    /// The folder to write to; made where it is missing.
    pub out: PathBuf,
    /// What becomes a row; `None` is the format's own choice.
    pub unit: Option<Unit>,
    /// Parts, each in a folder of its own.
    pub split: Option<Split>,
    /// What a broken line does.
    pub on_error: OnError,
    /// Whether to write MRC JSON too.
    pub mrc: bool,
    /// How to read files.
    pub read: ReadOptions,
}

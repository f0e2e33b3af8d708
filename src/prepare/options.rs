//! Options of a conversion. In: validated arguments. Out: the options for the readers and writers. It must not read a file.

use std::path::PathBuf;

use crate::cli::{Format, Labels, OnError, Scheme, Unit};
use crate::prepare::output::split::Split;
use crate::task::entity_schema::EntitySchema;

/// How to read files; each format uses the options it supports.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The allowed types, if known.
    pub schema: Option<EntitySchema>,
    /// The tagging scheme.
    pub scheme: Scheme,
    /// The column of tokens.
    pub tokens: Option<String>,
    /// The columns of tags, one per layer.
    pub tags: Vec<String>,
    /// The key or column of a row's id.
    pub id: Option<String>,
    /// The key of a row's text.
    pub text: Option<String>,
    /// Types, subtypes or both; `None` means the format's default.
    pub labels: Option<Labels>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { schema: None, scheme: Scheme::Auto, tokens: None, tags: Vec::new(), id: None, text: None, labels: None }
    }
}

/// The input, the output and how to convert.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// The format of the corpus.
    pub format: Format,
    /// A file or folder.
    pub input: PathBuf,
    /// The output folder; created if missing.
    pub out: PathBuf,
    /// The unit of a row; `None` means the format's default.
    pub unit: Option<Unit>,
    /// The parts, each written to its own folder.
    pub split: Option<Split>,
    /// How to handle an invalid line.
    pub on_error: OnError,
    /// Whether to write MRC JSON as well.
    pub mrc: bool,
    /// How to read files.
    pub read: ReadOptions,
}

//! The arguments of `quarry prepare`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must
//! not read a corpus.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::job::read_schema;
use crate::prepare::{Format, Labels, OnError, ReadOptions, Scheme, Settings, Split, Unit};

/// Convert a corpus to Parquet documents and gold entities.
#[derive(Debug, Clone, Args)]
pub struct PrepareArgs {
    /// The format of the corpus.
    pub format: Format,
    /// A file, or a folder to search for files of the format.
    pub input: PathBuf,
    /// The folder to write documents.parquet and gold.parquet to.
    pub out: PathBuf,
    /// What becomes a row. By default the sentence in formats of sentences (conll, mrc, positions, bmes, parquet), else the
    /// document.
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<Unit>,
    /// Split into parts, each in its own folder: by shares such as `train=8,dev=1,test=1`, or by lists such as
    /// `train=train.txt,dev=dev.txt` with one document id per line (one sentence id, if the corpus marks no documents).
    #[arg(long, value_name = "PARTS")]
    pub split: Option<String>,
    /// What to do at a malformed line: `stop` reports it and writes nothing, `skip` counts it and continues.
    #[arg(long, default_value = "stop", value_name = "ACTION")]
    pub on_error: OnError,
    /// The allowed entity types, and their questions for `--mrc` (a schema file).
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// Also write mrc.json, with one item per row and type, tokenized at whitespace.
    #[arg(long)]
    pub mrc: bool,
    /// The tagging scheme (conll, bmes, jsonl, parquet).
    #[arg(long, default_value = "auto", value_name = "SCHEME")]
    pub scheme: Scheme,
    /// The column of the tokens: a number from 1 (conll) or a name (jsonl, parquet).
    #[arg(long, value_name = "COLUMN")]
    pub tokens: Option<String>,
    /// The columns of the tags, one per layer, separated by commas: numbers from 1 (conll) or names (jsonl, parquet). In jsonl also the
    /// keys of spans.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// The names of tags that are numbers, from 0, separated by commas, such as `O,B-PER,I-PER` (jsonl, parquet).
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub tag_names: Vec<String>,
    /// Read only the texts, for a corpus without labels (jsonl).
    #[arg(long)]
    pub unlabelled: bool,
    /// The key of the id (jsonl, parquet).
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// The key of the text (jsonl).
    #[arg(long, value_name = "KEY")]
    pub text: Option<String>,
    /// Which labels to use if types have subtypes (ace, bbn, genia): coarse, fine or both. By default fine for bbn, else coarse.
    #[arg(long, value_name = "WHICH")]
    pub labels: Option<Labels>,
}

impl PrepareArgs {
    /// The settings of the command. The schema is read and the parts are parsed.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::error::Error::Setting) for an invalid `--split`, or the error of an invalid schema file.
    pub fn settings(self) -> Result<Settings> {
        Ok(Settings {
            format: self.format,
            input: self.input,
            out: self.out,
            unit: self.unit,
            split: self.split.as_deref().map(Split::parse).transpose()?,
            on_error: self.on_error,
            mrc: self.mrc,
            read: ReadOptions {
                schema: self.schema.as_deref().map(read_schema).transpose()?,
                scheme: self.scheme,
                tokens: self.tokens,
                tags: self.tags,
                tag_names: self.tag_names,
                unlabelled: self.unlabelled,
                id: self.id,
                text: self.text,
                labels: self.labels,
            },
        })
    }
}

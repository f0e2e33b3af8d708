//! The settings of `quarry sql`. In: resolved arguments. Out: what the command gets. It must not open a store.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// The store, the statements and the output.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A store (a folder or a URL), or a job file (.toml), which names its store.
    pub store: String,
    /// Where the statements come from.
    pub statements: Statements,
    /// The output format.
    pub format: RowFormat,
    /// The file to write the rows to; `None` means the screen.
    pub out: Option<PathBuf>,
    /// Maximum number of rows of a table on the screen; 0 for all.
    pub rows: usize,
    /// Memory limit in bytes of sorts, joins and aggregations before they spill to disk; `None` means three quarters of the free memory.
    pub memory: Option<usize>,
    /// The values of `${KEY}` in the job file.
    pub set: Vec<(String, String)>,
}

/// Where statements come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statements {
    /// The command line.
    Text(String),
    /// A file.
    File(PathBuf),
    /// Standard input, up to its end.
    Input,
    /// An interactive shell on the terminal.
    Shell,
}

/// The format in which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// A table that fits the terminal.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line.
    Json,
    /// Parquet, only to a file.
    Parquet,
}

impl RowFormat {
    /// The format of a file extension; a table for any other extension.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("csv") => Self::Csv,
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            Some("parquet") => Self::Parquet,
            _ => Self::Table,
        }
    }
}

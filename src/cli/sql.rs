//! `quarry sql` as it is typed. In: arguments. Out: clap structs, whose doc comments are the help texts. It may not look at a
//! store.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::values::key_value;

/// Ask a store's tables with SQL; without a query, in a shell.
///
/// Tables: entities, documents, rejects, sources, metrics, runs.
/// Views: current_entities and current_documents (what counts), entities_by_type, top_mentions,
/// co_occurrence, documents_by_source, rejects_by_reason, metrics_by_run, last_run.
/// Where STORE is a job file, the table input_documents is what the job reads.
/// A quoted path, glob or URL of Parquet, JSON Lines or CSV files is a table too.
/// The SQL is DataFusion's; none of it writes to the store.
///
/// Does every mention stand where its offsets say?
///
///   quarry sql STORE "SELECT count(*) AS mentions, count(*) FILTER (WHERE
///       substr(body, start_char + 1, end_char - start_char) = text) AS in_place
///     FROM current_entities JOIN 'docs/*.parquet' USING (doc_id)"
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct SqlArgs {
    /// The store: a folder, a URL (s3://, gs://, az://), or a job file (.toml) whose store is meant.
    pub store: String,
    /// One or several statements, separated by `;`. Without them: a shell on a terminal, elsewhere what standard input has.
    pub query: Option<String>,
    /// Take the statements from a file; `-` is standard input.
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "query")]
    pub file: Option<PathBuf>,
    /// How rows are written; by default as the ending of `--out` says (csv, json, jsonl, parquet), else as a table.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<RowFormat>,
    /// Write the rows of the one query to a file.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How many rows a table on the screen shows; 0 shows all. Files and the other formats always have all.
    #[arg(long, default_value_t = 40, value_name = "NUMBER")]
    pub rows: usize,
    /// What sorts, joins and aggregations may hold in memory before they spill to disk, such as `4GB`; by default three quarters
    /// of what is free.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<usize>,
    /// Fills `${KEY}` in the job file; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// A table for people, which fits the terminal.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Json,
    /// Parquet, into a file.
    Parquet,
}

impl RowFormat {
    /// What the ending of a file's name says; a table where it says nothing.
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("csv") => Self::Csv,
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            Some("parquet") => Self::Parquet,
            _ => Self::Table,
        }
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end();
    let factor: usize = match text[digits.len()..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        unit => return Err(format!("`{unit}` is no unit: write B, KB, MB or GB")),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    number.filter(|bytes| *bytes > 0).ok_or_else(|| "write a number and a unit, such as 4GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        assert_eq!(bytes("4GB"), Ok(4_000_000_000));
        assert_eq!(bytes("512 mb"), Ok(512_000_000));
        assert_eq!(bytes("7"), Ok(7));
        for text in ["", "GB", "0", "1.5GB", "4 PB", "99999999999999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}

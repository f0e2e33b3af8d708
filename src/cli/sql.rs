//! The arguments of `quarry sql`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must not
//! open a store.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use crate::cli::values::key_value;
use crate::sql::{RowFormat, Settings, Statements};

/// Query a store's tables with SQL. Without a query, start an interactive shell.
///
/// Tables: entities, documents, rejects, sources, metrics, runs.
/// Views: current_entities and current_documents (the rows in effect), entities_by_type,
/// top_mentions, co_occurrence, documents_by_source, rejects_by_reason, metrics_by_run, last_run.
/// If STORE is a job file, the table input_documents holds the documents that the job reads.
/// A quoted path, glob or URL of Parquet, JSON Lines or CSV files is a table, too.
/// The SQL dialect is DataFusion's. No statement writes to the store or to files; --out does, outside of the store.
///
/// Example: check that every mention's offsets point at its text.
///
///   quarry sql STORE "SELECT count(*) AS mentions, count(*) FILTER (WHERE
///       substr(body, start_char + 1, end_char - start_char) = text) AS in_place
///     FROM current_entities JOIN 'docs/*.parquet' USING (doc_id)"
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct SqlArgs {
    /// The store: a folder, a URL (s3://, gs://, az://), or a job file (.toml), which names its store.
    pub store: String,
    /// One or more statements, separated by `;`. Without it: an interactive shell on a terminal, else the statements on standard input.
    pub query: Option<String>,
    /// Read the statements from a file; `-` is standard input.
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "query")]
    pub file: Option<PathBuf>,
    /// Output format. By default the format of the `--out` file's extension (csv, json, jsonl, ndjson, parquet), else a table.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<RowFormat>,
    /// Write the rows to a file. Only one statement can return rows.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Maximum number of rows of a table on the screen; 0 for all. Files and the other formats always contain all rows.
    #[arg(long, default_value_t = 40, value_name = "NUMBER")]
    pub rows: usize,
    /// Memory limit of sorts, joins and aggregations before they spill to disk, such as `4GB`. By default three quarters of the
    /// free memory.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<usize>,
    /// Set `${KEY}` in the job file. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

impl SqlArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        let statements = match (self.query, self.file) {
            (Some(query), _) => Statements::Text(query),
            (None, Some(path)) if path.as_os_str() != "-" => Statements::File(path),
            (None, None) if std::io::stdin().is_terminal() => Statements::Shell,
            (None, _) => Statements::Input,
        };
        let of_file = || self.out.as_deref().map_or(RowFormat::Table, RowFormat::of);
        Settings {
            store: self.store,
            statements,
            format: self.format.unwrap_or_else(of_file),
            out: self.out,
            rows: self.rows,
            memory: self.memory,
            set: self.set,
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
        unit => return Err(format!("`{unit}` is not a unit: write B, KB, MB or GB")),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    number.filter(|bytes| *bytes > 0).ok_or_else(|| "write a number and a unit, such as 4GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_number_and_a_unit() {
        assert_eq!(bytes("4GB"), Ok(4_000_000_000));
        assert_eq!(bytes("512 mb"), Ok(512_000_000));
        assert_eq!(bytes("7"), Ok(7));
        for text in ["", "GB", "0", "1.5GB", "4 PB", "99999999999999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}

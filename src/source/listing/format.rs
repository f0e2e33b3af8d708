//! Formats of input files. In: a file's name. Out: its format, its compression, and DataFusion's reader for SQL. It must not open files.

use std::sync::Arc;

use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use serde::{Deserialize, Serialize};

/// A file format of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

impl Format {
    /// The format for a file's extension. Text formats can be compressed.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        match plain.rsplit_once('.')?.1 {
            "parquet" | "pq" if plain == name => Some(Self::Parquet),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            "csv" | "tsv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// DataFusion's reader for the format.
    pub fn reader(self) -> Arc<dyn FileFormat> {
        match self {
            Self::Parquet => Arc::new(ParquetFormat::default().with_enable_pruning(true)),
            Self::JsonLines => Arc::new(JsonFormat::default()),
            Self::Csv => Arc::new(CsvFormat::default().with_has_header(true).with_newlines_in_values(true)),
        }
    }
}

/// Whether a file is CSV with tabs between the fields, by its extension.
pub(crate) fn has_tabs(path: &str) -> bool {
    path.to_ascii_lowercase().contains(".tsv")
}

/// How a text file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstandard,
}

impl Compression {
    /// The compression for a file's extension.
    pub fn of(path: &str) -> Self {
        let path = path.to_ascii_lowercase();
        match path.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstandard,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_format_and_compression() {
        for (name, format, compression) in [
            ("a/b.parquet", Some(Format::Parquet), Compression::None),
            ("b.JSONL.gz", Some(Format::JsonLines), Compression::Gzip),
            ("b.csv.zst", Some(Format::Csv), Compression::Zstandard),
            ("b.tsv", Some(Format::Csv), Compression::None),
            ("b.parquet.gz", None, Compression::Gzip),
            ("b.csv/part", None, Compression::None),
            ("notes.txt", None, Compression::None),
        ] {
            assert_eq!((Format::of(name), Compression::of(name)), (format, compression), "{name}");
        }
        assert!(has_tabs("a.TSV.gz") && !has_tabs("a.csv"));
    }
}

//! `quarry prepare`: every format, on small fixtures and on the corpora beside the project, whose counts must match exactly.

mod corpora;
mod edges;
mod fixtures;
mod formats;
mod labels;
mod layouts;
mod wrong;

use std::path::{Path, PathBuf};

use quarry::prepare::Summary;
use quarry::prepare::{Format, OnError};
use quarry::prepare::{Prepared, run};
use quarry::prepare::{ReadOptions, Settings};

use crate::support::{Dir, project};

/// A file of the fixtures.
fn fixture(name: &str) -> PathBuf {
    project().join("tests/fixtures/prepare").join(name)
}

/// Default options.
fn options(format: Format, input: &Path, out: &Path) -> Settings {
    Settings {
        format,
        input: input.to_path_buf(),
        out: out.to_path_buf(),
        unit: None,
        split: None,
        on_error: OnError::Stop,
        mrc: false,
        read: ReadOptions::default(),
    }
}

/// Prepares `input` into `out` and checks with SQL that every mention matches its offsets.
fn prepared(dir: &Dir, options: &Settings) -> Prepared {
    let prepared = run(options).unwrap();
    for summary in &prepared.summaries {
        let folder = options.out.join(&summary.part);
        let standing = "SELECT count(*), count(d.doc_id), sum(CASE WHEN substr(d.text, g.start_char + 1, g.end_char - g.start_char) = g.text THEN 1 ELSE 0 END)
            FROM gold g LEFT JOIN documents d ON g.doc_id = d.doc_id";
        let all = summary.all.mentions;
        if all > 0 {
            assert_eq!(sql(dir, &folder, standing), [format!("{all}|{all}|{all}")]);
        }
        let ids = "SELECT count(*), count(DISTINCT doc_id), count(DISTINCT document) FROM documents";
        assert_eq!(sql(dir, &folder, ids), [format!("{0}|{0}|{1}", summary.rows, summary.documents)]);
    }
    prepared
}

/// Documents, sentences, rows and mentions.
fn counts(summary: &Summary) -> [usize; 4] {
    [summary.documents, summary.sentences, summary.rows, summary.all.mentions]
}

/// Each type's mentions.
fn types(summary: &Summary) -> Vec<(&str, usize)> {
    summary.types.iter().map(|(name, figures)| (name.as_str(), figures.mentions)).collect()
}

/// SQL over the tables in a folder.
fn sql(dir: &Dir, folder: &Path, sql: &str) -> Vec<String> {
    let (documents, gold) = (folder.join("documents.parquet"), folder.join("gold.parquet"));
    dir.sql(None, &[("documents", &documents), ("gold", &gold)], sql)
}

/// The mentions of a folder by document and place.
fn mentions(dir: &Dir, folder: &Path) -> Vec<String> {
    sql(
        dir,
        folder,
        "SELECT doc_id, entity_type, start_char, end_char, text FROM gold ORDER BY doc_id, start_char, end_char, entity_type",
    )
}

//! Arbitrary values in any format: every row becomes a document or a reject, with its text unchanged.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;

use crate::promises::job;
use crate::support::Dir;

/// A file's format, and the type of its ids.
#[derive(Debug, Clone, Copy)]
enum GraphVariant {
    Parquet,
    ParquetNumbers,
    ParquetNarrow,
    Json,
    JsonNumbers,
    Csv,
    CsvNumbers,
}

type Row = (Option<u8>, Option<String>);

impl GraphVariant {
    fn ending(self) -> &'static str {
        match self {
            Self::Parquet | Self::ParquetNumbers | Self::ParquetNarrow => "parquet",
            Self::Json | Self::JsonNumbers => "jsonl",
            Self::Csv | Self::CsvNumbers => "csv",
        }
    }

    /// An id as the store shows it.
    fn id(self, id: u8) -> String {
        match self {
            // Arbitrary strings; some are empty, all are different.
            Self::Parquet | Self::Json if id > 0 => format!("{id}\u{0}\"\\\u{202e}👩\u{200d}👧 \n{id}"),
            Self::Parquet | Self::Json => String::new(),
            Self::Csv => format!("k{id}, \"q\"\n"),
            _ => (i64::from(id) - 9).to_string(),
        }
    }

    fn write(self, dir: &Dir, name: &str, rows: &[Row]) {
        let ids = || rows.iter().map(|(id, _)| id.map(|id| self.id(id)));
        let numbers = || rows.iter().map(|(id, _)| id.map(|id| i32::from(id) - 9));
        let mut text = String::new();
        match self {
            Self::Parquet | Self::ParquetNumbers | Self::ParquetNarrow => {
                let ids: ArrayRef = match self {
                    Self::Parquet => Arc::new(ids().collect::<StringArray>()),
                    Self::ParquetNumbers => Arc::new(numbers().map(|id| id.map(i64::from)).collect::<Int64Array>()),
                    _ => Arc::new(numbers().collect::<Int32Array>()),
                };
                let texts: ArrayRef = Arc::new(rows.iter().map(|(_, text)| text.as_deref()).collect::<StringArray>());
                let columns = [("id", ids, true), ("body", texts, true)];
                dir.parquet(name, &RecordBatch::try_from_iter_with_nullable(columns).unwrap());
                return;
            }
            Self::Json | Self::JsonNumbers => {
                for ((id, number), (_, body)) in ids().zip(numbers()).zip(rows) {
                    let mut row = serde_json::Map::new();
                    let id = if matches!(self, Self::Json) { serde_json::json!(id) } else { serde_json::json!(number) };
                    // A null can be written or omitted.
                    if !id.is_null() || rows.len().is_multiple_of(2) {
                        row.insert("id".into(), id);
                    }
                    row.insert("body".into(), serde_json::json!(body));
                    writeln!(text, "{}", serde_json::Value::from(row)).unwrap();
                }
            }
            Self::Csv | Self::CsvNumbers => {
                text += "id,body\n";
                let quoted = |value: Option<&str>| value.map(|value| format!("\"{}\"", value.replace('"', "\"\"")));
                for (id, (_, body)) in ids().zip(rows) {
                    let (id, body) = (quoted(id.as_deref()), quoted(body.as_deref()));
                    writeln!(text, "{},{}", id.unwrap_or_default(), body.unwrap_or_default()).unwrap();
                }
            }
        }
        dir.write(name, &text);
    }
}

fn text() -> impl Strategy<Value = Option<String>> {
    let odd = prop::sample::select(vec![
        "",
        " \t\u{3000}",
        "\u{0}",
        "\u{1}\u{7f}\u{85}",
        "\u{feff}",
        "e\u{301}\u{301}",
        "\u{202e}abc",
        "]]>[SEP]",
        "NULL",
        "\\N",
    ]);
    prop_oneof![
        1 => Just(None),
        2 => odd.prop_map(|text| Some(text.to_owned())),
        6 => any::<String>().prop_map(Some),
        3 => "(Ada|met|Babbage|in|London|[.,]| |\n){0,30}".prop_map(Some),
        1 => (1_usize..20_000).prop_map(|length| Some("x".repeat(length))),
        1 => (1_usize..2_000).prop_map(|words| Some("É \u{301}a ".repeat(words))),
    ]
}

fn form() -> impl Strategy<Value = GraphVariant> {
    use GraphVariant::{Csv, CsvNumbers, Json, JsonNumbers, Parquet, ParquetNarrow, ParquetNumbers};
    prop::sample::select(vec![Parquet, ParquetNumbers, ParquetNarrow, Json, JsonNumbers, Csv, CsvNumbers])
}

#[test]
fn the_last_row_of_an_id_is_kept_in_every_format() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let rows: Vec<Row> = [(1, "Ada ."), (2, "London ."), (1, "Babbage ."), (1, "Mr. Babbage .")]
        .map(|(id, text)| (Some(id), Some(text.to_owned())))
        .to_vec();
    for form in [GraphVariant::Parquet, GraphVariant::JsonNumbers, GraphVariant::Csv] {
        let (name, store) = (format!("docs.{}", form.ending()), form.ending());
        form.write(&dir, &name, &rows);
        dir.quarry(&["run", &job(&dir, &name, store, &model, "")]).ended(0);
        assert_eq!(dir.rows(store, "documents", "n_chars", ""), ["13", "8"], "{form:?}");
        assert_eq!(dir.rows(store, "rejects", "\"row\", reason", ""), ["0|duplicate_id", "2|duplicate_id"], "{form:?}");
    }
}

#[test]
fn a_large_csv_file_with_lines_in_its_texts_is_read() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let text = |row: u8| Some(format!("Ada said :\n\n\"{}\",\nand no more .\n", "word ".repeat(usize::from(row) * 9)));
    let rows: Vec<Row> = (0..60).map(|row| (Some(row), text(row))).collect();
    GraphVariant::Csv.write(&dir, "docs.csv", &rows);
    dir.quarry(&["run", &job(&dir, "docs.csv", "store", &model, "")]).ended(0);
    let found = dir.rows("store", "documents", "n_chars", "ORDER BY n_chars");
    let expected: Vec<String> =
        rows.iter().map(|(_, text)| text.as_ref().unwrap().chars().count().to_string()).collect();
    assert_eq!(found, expected);
}

#[test]
fn csv_columns_are_found_by_the_header_of_each_file() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    dir.write("docs/a.csv", "id,body\na,Ada .\n");
    dir.write("docs/b.csv", "body,id\nLondon .,b\n");
    dir.quarry(&["run", &job(&dir, "docs", "store", &model, "")]).ended(0);
    let documents = dir.rows("store", "documents", "doc_id, n_chars", "ORDER BY doc_id");
    assert_eq!(documents, ["a|5", "b|8"]);
}

#[test]
fn any_value_is_a_document_or_a_reject() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let number = Cell::new(0);
    let rows = prop::collection::vec((prop::option::weighted(0.95, 0_u8..60), text()), 0..60);
    let settings = ProptestConfig { cases: 10, max_shrink_iters: 40, ..ProptestConfig::default() };
    proptest!(settings, |(form in form(), mut rows in rows)| {
        // A column of nulls has no type.
        rows.push((Some(60), Some("Ada .".to_owned())));
        number.set(number.get() + 1);
        let (name, store) = (format!("docs-{}.{}", number.get(), form.ending()), format!("store-{}", number.get()));
        form.write(&dir, &name, &rows);
        dir.quarry(&["run", &job(&dir, &name, &store, &model, "")]).ended(0);

        // The last row of an id that is no reject; a row that repeats the text in force is neither a document nor a reject.
        let (mut in_force, mut done) = (BTreeMap::new(), 0);
        for (id, text) in rows.iter().filter_map(|(id, text)| Some(((*id)?, text.as_deref()?))) {
            let blank = text.trim().is_empty();
            if !blank && in_force.insert(form.id(id), text) == Some(text) {
                done += 1;
            }
        }
        let mut expected: Vec<String> =
            in_force.into_iter().map(|(id, text)| format!("{id}|{}", text.chars().count())).collect();
        let found = dir.rows(&store, "documents", "doc_id, n_chars", "");
        expected.sort_unstable();
        prop_assert_eq!(&found, &expected);
        let refused = dir.rows(&store, "rejects", "DISTINCT source, \"row\"", "").len();
        let (count, all) = (found.len(), rows.len());
        prop_assert_eq!(refused + count + done, all, "{} documents, {} rejects, {} done", count, refused, done);
    });
}

//! Tables that are not tables of mentions, and rows that are not mentions.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use insta::assert_snapshot;
use serde_json::Value;

use super::{Mention, batch, counted, mention, write};
use crate::support::Dir;

#[test]
fn rows_that_are_no_mentions_are_reported_and_not_counted() {
    let dir = Dir::new();
    write(&dir, "gold.parquet", &[mention("1", "A", 0, 3), mention("2", "A", 0, 3)]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(2), Some(2)]));
    let rows = [("A", 0, 3), ("A", 0, 3), ("A", 0, 3), ("A", 4, 4), ("A", 7, 5)];
    let rows: Vec<Mention> = rows.iter().map(|&(name, start, end)| mention("", name, start, end)).collect();
    dir.parquet("predicted.parquet", &batch(ids, &rows));
    let finished = dir.quarry(&["evaluate", "--json", "predicted.parquet", "gold.parquet"]).ended(0);
    let found: Value = serde_json::from_str(&finished.stdout()).unwrap();
    assert_eq!(counted(&found["micro"]), (1, 0, 1));
    let said = finished.stderr();
    for sentence in [
        "`predicted.parquet`: 1 row(s) with a null in",
        "`predicted.parquet`: 2 row(s) whose end is not behind",
        "`predicted.parquet`: 1 row(s) that repeat another",
        "ids are integers in `predicted.parquet` and strings in `gold.parquet`: they are compared as text",
    ] {
        assert!(said.contains(sentence), "{sentence} is not in\n{said}");
    }
}

#[test]
fn tables_that_cannot_be_used() {
    let dir = Dir::new();
    write(&dir, "gold.parquet", &[mention("1", "A", 0, 3)]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    dir.parquet("short.parquet", &RecordBatch::try_from_iter([("doc_id", Arc::clone(&numbers))]).unwrap());
    let reals: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["A"]));
    let columns =
        [("doc_id", numbers), ("entity_type", names), ("start_char", Arc::clone(&reals)), ("end_char", reals)];
    dir.parquet("reals.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    dir.write("broken.parquet", "this is no Parquet");
    dir.write("empty.parquet", "");
    std::fs::create_dir(dir.path("nothing")).unwrap();
    let error = |arguments: &[&str]| dir.quarry(&[&["evaluate"], arguments].concat()).ended(1).error();
    assert_snapshot!(error(&["short.parquet", "gold.parquet"]), @r##"
    error: cannot use the predicted mentions at `short.parquet`: there is no column `entity_type`, only doc_id
    hint: a table of mentions has doc_id, entity_type, start_char and end_char (code points, half-open), and may have text and score
    "##);
    assert_snapshot!(error(&["gold.parquet", "reals.parquet"]), @r##"
    error: cannot use the gold mentions at `reals.parquet`: column `start_char` is Float64, expected an integer
    hint: a table of mentions has doc_id, entity_type, start_char and end_char (code points, half-open), and may have text and score
    "##);
    assert_snapshot!(error(&["none.parquet", "gold.parquet"]), @r##"
    error: cannot use the predicted mentions at `none.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
    assert_snapshot!(error(&["gold.parquet", "nothing"]), @r##"
    error: cannot use the gold mentions at `nothing`: there is no Parquet, JSON Lines or CSV file
    hint: the format is known by the file extension: .parquet, .jsonl, .ndjson, .json, .csv or .tsv; all but .parquet also with .gz or .zst
    "##);
    assert_snapshot!(error(&["gold.parquet", "empty.parquet"]), @r##"
    error: cannot use the gold mentions at `empty.parquet`: the file `empty.parquet` is empty
    hint: even a table without rows has columns: write it again
    "##);
    assert!(
        error(&["gold.parquet", "broken.parquet"])
            .starts_with("error: cannot use the gold mentions at `broken.parquet`")
    );
    assert_snapshot!(error(&["gold.parquet"]), @r##"
    error: evaluate: `gold`: no gold mentions are named
    hint: run quarry evaluate PREDICTED GOLD
    "##);
    assert_snapshot!(error(&["gold.parquet", "gold.parquet", "--counting", "reference:128"]), @r##"
    error: evaluate: `model`: this counting method needs the model's tokenizer
    hint: add --model FOLDER
    "##);
    assert_snapshot!(error(&["gold.parquet", "gold.parquet", "--documents", "gold.parquet"]), @r##"
    error: cannot use the documents at `gold.parquet`: there is no column `text`, only doc_id, entity_type, start_char, end_char
    hint: name the columns with --id and --text
    "##);
}

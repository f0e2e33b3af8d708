//! The page shows only texts that are the extracted ones.

use insta::assert_snapshot;
use serde_json::json;

use super::{Page, TEXTS, report, store};
use crate::promises::corpus;
use crate::support::{Dir, Random};

#[test]
fn texts_are_shown_only_where_they_are_what_was_extracted() {
    let dir = Dir::new();
    store(&dir, &TEXTS, "");
    let remarks = |page: &Page| {
        page.documents["remarks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let with_text =
        |page: &Page| page.documents["rows"].as_array().unwrap().iter().filter(|row| !row["text"].is_null()).count();
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!((with_text(&page), remarks(&page).len()), (5, 0));
    // Another text under the same id: the offsets would not match.
    let mut changed = TEXTS;
    changed[0].1 = Some("Now another text stands here , about Angela Merkel .");
    dir.documents("docs.parquet", &changed[..3]);
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!(with_text(&page), 1);
    assert_eq!(
        remarks(&page),
        [
            "3 documents without text: the document is no longer in its source file",
            "1 document without text: the document's text has changed"
        ]
    );
    let changed = page.documents["rows"].as_array().unwrap().iter().find(|row| row["id"] == "a").unwrap();
    assert_eq!(changed["names"][0], "Angela Merkel");
    // The file is gone, and is given again elsewhere with other columns.
    std::fs::rename(dir.path("docs.parquet"), dir.path("gone.parquet")).unwrap();
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!(with_text(&page), 0);
    assert_eq!(remarks(&page).len(), 1, "{:?}", remarks(&page));
    let lines: Vec<String> = TEXTS
        .iter()
        .filter_map(|(id, text)| Some(json!({"number": (*id)?, "content": (*text)?}).to_string()))
        .collect();
    dir.write("moved.jsonl", &lines.join("\n"));
    let page =
        report(&dir, &["store", "page.html", "--documents", "moved.jsonl", "--id", "number", "--text", "content"]);
    assert_eq!((with_text(&page), remarks(&page).len()), (5, 0));
    assert_snapshot!(dir.quarry(&["report", "store", "page.html", "--documents", "moved.jsonl"]).ended(1).error(), @r##"
    error: cannot use the documents at `moved.jsonl`: it has no column `id` (`[input] id`), only content, number
    hint: name the columns with --id and --text
    "##);
}

#[test]
fn ids_that_are_numbers_and_ids_that_come_twice() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 600, &mut Random(3));
    let model = dir.small_model().display().to_string();
    let job =
        dir.job("docs.parquet", "store", &format!("[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'fp32'"));
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    let page = report(&dir, &["store", "page.html", "--limit", "1000"]);
    // Of the rows with one id the text is shown that was extracted, and every mention stands in it.
    let rows = page.documents["rows"].as_array().unwrap();
    assert!(rows.len() > 500 && rows.iter().all(|row| row["text"].is_string()), "{:?}", page.documents["remarks"]);
    let found: Vec<String> =
        page.mentions().into_iter().map(|(id, name, text, _)| [id, name, text].join("|")).collect();
    let mut expected = dir.rows("store", "entities", "doc_id, entity_type, text", "");
    expected.sort();
    let mut found = found;
    found.sort();
    assert_eq!(found, expected);
    let rejects: u64 =
        page.summary["rejects"].as_array().unwrap().iter().map(|one| one["count"].as_u64().unwrap()).sum();
    assert_eq!(json!(rejects), page.summary["totals"]["rejects"]);
    assert!(page.summary["rejects"].as_array().unwrap().iter().any(|one| one["reason"] == "duplicate_id"));
}

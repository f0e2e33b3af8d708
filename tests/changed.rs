//! Changes between two runs: which rows are replaced, and which stay.

use std::fs;

use quarry::machine::hash::short_hash;
use serde_json::Value;

use crate::promises::job;
use crate::support::Dir;

/// The small model with a tokenizer that fails on unknown words, and such a text.
fn strict_model(dir: &Dir) -> (String, String) {
    let model = dir.small_model();
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(model.join(name)).unwrap()).unwrap() };
    let mut tokenizer = read("tokenizer.json");
    tokenizer["model"]["unk_token"] = "[NO SUCH TOKEN]".into();
    let tokenizer = serde_json::to_vec(&tokenizer).unwrap();
    let mut manifest = read("quarry.json");
    manifest["files"]["tokenizer.json"] = short_hash(&tokenizer, 32).into();
    fs::write(model.join("tokenizer.json"), tokenizer).unwrap();
    fs::write(model.join("quarry.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    // Words of more than a hundred characters are not split into wordpieces.
    (model.display().to_string(), format!("Ada met {} .", "x".repeat(101)))
}

/// Rows of `entities` and `documents` except those of document `c`, each with its run and commit.
fn old_rows(dir: &Dir) -> [Vec<String>; 2] {
    let columns = "doc_id, start_char, end_char, text, run_id, commit";
    let documents = "doc_id, source, content_hash, n_chars, n_entities, run_id, commit";
    [("current_entities", columns), ("current_documents", documents)]
        .map(|(view, columns)| dir.rows("store", view, columns, "WHERE doc_id <> 'c'"))
}

#[test]
fn a_document_whose_new_text_is_refused_keeps_its_old_rows() {
    let dir = Dir::new();
    let (model, strange) = strict_model(&dir);
    let (strange, blank) = (Some(strange.as_str()), Some(" "));
    let text = Some("Ada met Mr. Babbage in London , yesterday .");
    dir.documents("docs/a.parquet", &["a", "b", "c", "e"].map(|id| (Some(id), text)));
    let job = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &job]).ended(0);
    let before = old_rows(&dir);
    assert_eq!(before[1].len(), 3);

    let changed = [
        (Some("a"), strange),
        (Some("b"), blank),
        (Some("c"), Some("Nobody at all .")),
        (Some("d"), strange),
        (Some("e"), Some("Ada .")),
        (Some("e"), strange),
    ];
    dir.documents("docs/a.parquet", &changed);
    // The run that reads it is killed during its commit, and the next run repeats it.
    let mut killed = dir.command(&["run", &job]).env("QUARRY_FAULT", "after:rejects:2").spawn().unwrap();
    assert_eq!(killed.wait().unwrap().code(), None);
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(old_rows(&dir), before);
    assert_eq!(dir.rows("store", "documents", "doc_id, n_chars", "WHERE doc_id = 'c'"), ["c|15"]);
    let refused = ["0|a|tokenizer", "1|b|empty_text", "3|d|tokenizer", "4|e|duplicate_id", "5|e|tokenizer"];
    assert_eq!(dir.rows("store", "rejects", "\"row\", doc_id, reason", ""), refused);
    let orphans = "WHERE doc_id NOT IN (SELECT doc_id FROM documents)";
    assert!(dir.rows("store", "entities", "doc_id", orphans).is_empty());

    // An unchanged text is skipped, and one that is accepted again replaces the rows that were kept.
    let repaired = [
        (Some("a"), Some("Nobody at all .")),
        (Some("b"), text),
        (Some("c"), Some("Nobody at all .")),
        (Some("e"), strange),
    ];
    dir.documents("docs/a.parquet", &repaired);
    dir.quarry(&["run", &job]).ended(0);
    let documents = dir.rows("store", "documents", "doc_id, n_chars, commit", "");
    assert_eq!(documents, ["a|15|3", "b|43|1", "c|15|2", "e|43|1"]);
    assert_eq!(dir.rows("store", "rejects", "\"row\", doc_id, reason", ""), ["3|e|tokenizer"]);
}

#[test]
fn a_job_does_not_forget_what_another_job_refused_of_the_same_file() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let whole = fs::read_to_string(job(&dir, "docs", "store", &model, "")).unwrap();
    let [first, second] = [("first.toml", "id < 'c'"), ("second.toml", "id >= 'c'")].map(|(name, condition)| {
        let text = whole.replace("text = 'body'", &format!("text = 'body'\nwhere = \"{condition}\""));
        dir.write(name, &text).display().to_string()
    });
    let refused = |job: &str| {
        dir.quarry(&["run", job]).ended(0);
        dir.rows("store", "rejects", "\"row\", doc_id, reason", "")
    };
    let mut rows =
        vec![(Some("a"), Some("Ada .")), (Some("b"), None), (Some("c"), Some("London .")), (Some("d"), None)];
    dir.documents("docs/a.parquet", &rows);
    assert_eq!(refused(&first), ["1|b|null_text"]);
    let both = ["1|b|null_text", "3|d|null_text"];
    assert_eq!(refused(&second), both);
    // Each of the two jobs replaces its own rejects, and no others.
    rows.push((Some("e"), Some("Zürich , yesterday .")));
    dir.documents("docs/a.parquet", &rows);
    assert_eq!(refused(&first), both);
    assert_eq!(refused(&second), both);
    rows[1].1 = Some("Babbage .");
    dir.documents("docs/a.parquet", &rows);
    assert_eq!(refused(&first), both[1..]);
    assert_eq!(refused(&second), both[1..]);
    assert_eq!(dir.rows("store", "documents", "doc_id", ""), ["a", "b", "c", "e"]);
}

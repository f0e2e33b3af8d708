//! Changes between two runs: which rows are replaced, and which stay.

use std::fs;

use quarry::machine::hash::short_hash;
use serde_json::Value;

use crate::promises::job;
use crate::support::Dir;

/// The small model with a tokenizer that fails on unknown words, and such a text.
pub(crate) fn strict_model(dir: &Dir) -> (String, String) {
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

/// Rows of `entities` and `documents` except those of the documents `c` and `e`, each with its run and commit.
fn old_rows(dir: &Dir) -> [Vec<String>; 2] {
    let columns = "doc_id, start_char, end_char, text, run_id, commit";
    let documents = "doc_id, source, content_hash, n_chars, n_entities, run_id, commit";
    [("current_entities", columns), ("current_documents", documents)]
        .map(|(view, columns)| dir.rows("store", view, columns, "WHERE doc_id NOT IN ('c', 'e')"))
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
    assert_eq!(before[1].len(), 2);

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
    let changed = "WHERE doc_id IN ('c', 'e')";
    assert_eq!(dir.rows("store", "documents", "doc_id, n_chars, \"row\"", changed), ["c|15|2", "e|5|4"]);
    // The refused row of `e` refuses no other one.
    let refused = ["0|a|tokenizer", "1|b|empty_text", "3|d|tokenizer", "5|e|tokenizer"];
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
    assert_eq!(documents, ["a|15|3", "b|43|1", "c|15|2", "e|5|2"]);
    assert_eq!(dir.rows("store", "rejects", "\"row\", doc_id, reason", ""), ["3|e|tokenizer"]);
}

/// Documents with their lengths and places, and rejects.
fn in_force(dir: &Dir, store: &str) -> [Vec<String>; 2] {
    let place = "substr(source, length(source) - 8) || ':' || \"row\"";
    [
        dir.rows(store, "documents", &format!("doc_id, n_chars, {place}"), ""),
        dir.rows(store, "rejects", &format!("doc_id, reason, {place}"), ""),
    ]
}

#[test]
fn a_row_that_cannot_be_read_refuses_no_other() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let ids: Vec<String> = (0..600).map(|number| format!("d{number:03}")).collect();
    let rows: Vec<_> = ["Ada .", "Mr. Babbage ."]
        .iter()
        .flat_map(|text| ids.iter().map(move |id| (Some(id.as_str()), Some(*text))))
        .collect();
    let file = dir.documents("docs/a.parquet", &rows);
    let sound = fs::read(&file).unwrap();
    dir.tear("docs/a.parquet", "body", 700);
    let job = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &job]).ended(3);
    let counts = || dir.rows("store", "documents", "n_chars, count(*)", "GROUP BY n_chars");
    // The batch before the torn row group can have a few of its rows.
    assert_eq!(dir.rows("store", "documents", "count(DISTINCT doc_id), count(*)", ""), ["600|600"]);
    let first: usize = counts().iter().find_map(|row| row.strip_prefix("5|")?.parse().ok()).unwrap();
    assert!(first > 500, "{:?}", counts());
    fs::write(&file, sound).unwrap();
    dir.younger("docs/a.parquet");
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(counts(), ["13|600"]);
    assert_eq!(
        dir.rows("store", "rejects", "reason, count(*), max(\"row\")", "GROUP BY reason"),
        ["duplicate_id|600|599"]
    );
}

#[test]
fn a_refused_row_refuses_no_other() {
    let dir = Dir::new();
    let (model, strange) = strict_model(&dir);
    let rows = [
        (Some("a"), Some("Ada .")),
        (Some("a"), Some(" ")),
        (Some("b"), Some("Ada .")),
        (Some("b"), None),
        (Some("c"), Some("Ada .")),
        (Some("c"), Some(strange.as_str())),
        (Some("d"), Some("Ada .")),
        (Some("d"), Some("Mr. Babbage .")),
        (Some("d"), Some("Ada .")),
        (Some("d"), Some("Ada .")),
    ];
    dir.documents("docs/a.parquet", &rows);
    let job = job(&dir, "docs", "store", &model, "");
    let said = dir.quarry(&["run", &job, "--dry-run", "--json"]).ended(0).stdout();
    let dry: Value = serde_json::from_str(&said).unwrap();
    let said = dir.quarry(&["run", &job, "--json"]).ended(0).stdout();
    let real: Value = serde_json::from_str(&said).unwrap();
    let [documents, rejects] = in_force(&dir, "store");
    assert_eq!(documents, ["a|5|a.parquet:0", "b|5|a.parquet:2", "c|5|a.parquet:4", "d|5|a.parquet:8"]);
    let refused = ["a|empty_text|a.parquet:1", "b|null_text|a.parquet:3", "c|tokenizer|a.parquet:5"];
    assert_eq!(rejects, [&refused[..], &["d|duplicate_id|a.parquet:6", "d|duplicate_id|a.parquet:7"]].concat());
    let mentions = dir.rows("store", "entities", "count(*)", "").concat();
    for said in [dry, real] {
        let counted = ["documents", "rejects", "mentions"].map(|key| said[key].to_string());
        assert_eq!(counted, ["4".to_owned(), "5".to_owned(), mentions.clone()], "{said}");
    }
}

#[test]
fn a_file_that_is_removed_before_it_is_read_refuses_no_row() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let ids: Vec<String> = (0..256).map(|number| format!("d{number:03}")).collect();
    let rows = |text| ids.iter().map(|id| (Some(id.as_str()), Some(text))).collect::<Vec<_>>();
    dir.documents("docs/a.parquet", &rows("Ada ."));
    let later = dir.documents("docs/b.parquet", &rows("Mr. Babbage ."));
    let job = job(&dir, "docs", "store", &model, "");
    let mut killed = dir.command(&["run", &job]).env("QUARRY_FAULT", "after:documents:1").spawn().unwrap();
    assert_eq!(killed.wait().unwrap().code(), None);
    fs::remove_file(later).unwrap();
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(dir.rows("store", "documents", "n_chars, count(*)", "GROUP BY n_chars"), ["5|256"]);
    assert_eq!(dir.rows("store", "rejects", "count(*)", ""), ["0"]);
}

#[test]
fn repeated_documents_survive_kills() {
    let dir = Dir::new();
    let (model, strange) = strict_model(&dir);
    let ids: Vec<String> = (0..300).map(|number| format!("d{number:03}")).collect();
    let texts = ["Ada .", "Mr. Babbage .", " ", "London , yesterday .", strange.as_str(), "Ada ."];
    for (file, name) in ["docs/a.parquet", "docs/b.parquet", "docs/c.parquet"].into_iter().enumerate() {
        // Each file has every id twice.
        let text = |row: usize| texts[(row / (file + 1) + row * row + file) % texts.len()];
        let rows: Vec<_> = (0..600).map(|row| (Some(ids[row * 7 % 300].as_str()), Some(text(row)))).collect();
        dir.documents(name, &rows);
    }
    let tables = |store: &str| {
        let entities = dir.rows(store, "entities", "doc_id, entity_type, start_char, end_char, text", "");
        let [documents, rejects] = in_force(&dir, store);
        let sources = dir.rows(store, "sources", "rows, outcome", "");
        [entities, documents, rejects, sources]
    };
    let undisturbed = job(&dir, "docs", "undisturbed", &model, "");
    let said = dir.quarry(&["run", &undisturbed, "--json"]).ended(0).stdout();
    let expected = tables("undisturbed");
    let said: Value = serde_json::from_str(&said).unwrap();
    let counted = ["mentions", "documents", "rejects"].map(|key| said[key].as_u64().unwrap());
    assert_eq!(counted, [0, 1, 2].map(|table: usize| expected[table].len() as u64), "{said}");
    assert!(expected[2].iter().any(|row| row.contains("duplicate_id")), "{:?}", expected[2]);
    let commits: usize = dir.rows("undisturbed", "runs", "1", "").len() + 6;
    for number in 1..=commits {
        let store = format!("killed-{number}");
        let killed = job(&dir, "docs", &store, &model, "");
        let point = ["after:documents", "after:rejects", "before:documents"][number % 3];
        let mut child =
            dir.command(&["run", &killed]).env("QUARRY_FAULT", format!("{point}:{number}")).spawn().unwrap();
        let code = child.wait().unwrap().code();
        if code.is_none() {
            dir.quarry(&["run", &killed]).ended(0);
        }
        assert!(tables(&store) == expected, "killed at {point}:{number}: {code:?}");
    }
    // All documents in one commit.
    let large = dir.write(
        "large.toml",
        &fs::read_to_string(&undisturbed).unwrap().replace("= 256", "= 100000").replace("undisturbed", "large"),
    );
    dir.quarry(&["run", &large.display().to_string()]).ended(0);
    assert!(tables("large") == expected);
}

#[test]
fn an_older_file_that_is_touched_brings_no_older_text_back() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let job = job(&dir, "docs", "store", &model, "");
    let rows = |name: &str, rows: &[(&str, &str)]| {
        dir.documents(name, &rows.iter().map(|(id, text)| (Some(*id), Some(*text))).collect::<Vec<_>>());
    };
    rows("docs/1.parquet", &[("a", "Ada ."), ("b", "London ."), ("e", "one")]);
    rows("docs/2.parquet", &[("a", "Mr. Babbage ."), ("b", "London .")]);
    let run = || {
        dir.quarry(&["run", &job]).ended(0);
        in_force(&dir, "store")
    };
    let first = run();
    assert_eq!(first[0], ["a|13|2.parquet:0", "b|8|1.parquet:1", "e|3|1.parquet:2"]);
    assert_eq!(first[1], ["a|duplicate_id|1.parquet:0"]);
    dir.younger("docs/1.parquet");
    assert_eq!(run(), first, "touched");
    // The later file has the text that is in force, although the row is from the older file.
    rows("docs/1.parquet", &[("a", "Ada ."), ("b", "Zürich , yesterday ."), ("e", "two ...")]);
    dir.younger("docs/1.parquet");
    let [documents, rejects] = run();
    assert_eq!(documents[1..], ["b|8|1.parquet:1", "e|7|1.parquet:2"]);
    assert_eq!(rejects, ["a|duplicate_id|1.parquet:0", "b|duplicate_id|1.parquet:1"]);
    // A document that moves to an older file is not held by the file that it has left.
    rows("docs/1.parquet", &[("a", "Nobody at all ."), ("b", "Zürich , yesterday .")]);
    rows("docs/2.parquet", &[("b", "London .")]);
    dir.younger("docs/1.parquet");
    dir.younger("docs/2.parquet");
    let [documents, _] = run();
    assert_eq!(documents[..2], ["a|15|1.parquet:0", "b|8|1.parquet:1"]);
    // Without the later file, the older one is the last.
    fs::remove_file(dir.path("docs/2.parquet")).unwrap();
    dir.younger("docs/1.parquet");
    let [documents, rejects] = run();
    assert_eq!(documents[..2], ["a|15|1.parquet:0", "b|20|1.parquet:1"]);
    assert!(rejects.is_empty(), "{rejects:?}");
}

#[test]
fn the_limit_of_rejects_counts_all_rejects_of_the_input() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let blank = |prefix: &'static str, from: usize| -> Vec<(String, &str)> {
        (0..300).map(|row| (format!("{prefix}{row:03}"), if row < from { " " } else { "Ada ." })).collect()
    };
    for (name, rows) in [("docs/a.parquet", blank("a", 5)), ("docs/b.parquet", blank("b", 0))] {
        let rows: Vec<_> = rows.iter().map(|(id, text)| (Some(id.as_str()), Some(*text))).collect();
        dir.documents(name, &rows);
    }
    let limited = |store: &str, most: &str| {
        let text = fs::read_to_string(job(&dir, "docs", store, &model, "")).unwrap();
        let text = text.replace("text = 'body'", &format!("text = 'body'\nmax_rejects = {most}"));
        dir.write(&format!("{store}.toml"), &text).display().to_string()
    };
    for (most, code) in [("4", 3), ("5", 0), ("'0.8%'", 3), ("'0.9%'", 0)] {
        let undisturbed = limited(&format!("undisturbed-{code}-{}", most.len()), most);
        dir.quarry(&["run", &undisturbed]).ended(code);
        // Nothing is new, and the rejects are still there.
        dir.quarry(&["run", &undisturbed]).ended(code);
        let store = format!("killed-{code}-{}", most.len());
        let killed = limited(&store, most);
        let mut child = dir.command(&["run", &killed]).env("QUARRY_FAULT", "after:documents:2").spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
        dir.quarry(&["run", &killed]).ended(code);
    }
    // Rejects of another job over the same files do not count.
    let text = fs::read_to_string(dir.path("undisturbed-3-1.toml")).unwrap();
    let other = text.replace("text = 'body'", "text = 'body'\nwhere = \"id >= 'b'\"");
    let other = dir.write("other.toml", &other).display().to_string();
    dir.quarry(&["run", &other]).ended(0);
    // Nor do those of a file that is gone.
    fs::remove_file(dir.path("docs/a.parquet")).unwrap();
    dir.quarry(&["run", &dir.path("undisturbed-3-1.toml").display().to_string()]).ended(0);
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

//! Replacements: rows of another specification replace the old ones once all of them are written, and only with `--replace`.

use std::fs;

use crate::changed::strict_model;
use crate::promises::job;
use crate::support::Dir;

const ADA: Option<&str> = Some("Ada met Babbage .");

/// A job over `docs` with a threshold: another threshold is another specification.
fn at(dir: &Dir, model: &str, threshold: &str) -> String {
    job(dir, "docs", "store", model, &format!("[extract]\nthreshold = {threshold}"))
}

/// Specifications and documents of a table or view.
fn specs(dir: &Dir, view: &str) -> String {
    dir.rows("store", view, "count(DISTINCT spec_id), count(*)", "").concat()
}

#[test]
fn a_finished_replacement_is_not_undone_by_the_job_before_it() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &["a", "b"].map(|id| (Some(id), ADA)));
    let model = dir.small_model().display().to_string();
    dir.quarry(&["run", &at(&dir, &model, "0.5")]).ended(0);
    for threshold in ["0.6", "0.7"] {
        dir.quarry(&["run", &at(&dir, &model, threshold), "--replace"]).ended(0);
    }
    let in_force = dir.rows("store", "documents", "DISTINCT spec_id", "");
    let before = at(&dir, &model, "0.6");
    let error = dir.quarry(&["run", &before]).ended(1).error();
    assert!(error.contains(": threshold 0.7 → 0.6\n"), "{error}");
    // The doctor reports it beforehand.
    let said = dir.quarry(&["doctor", "--within", "60", &before]).ended(1).stdout();
    assert!(said.contains("the store has ") && said.contains(": threshold 0.7 → 0.6\n"), "{said}");
    assert_eq!(dir.rows("store", "documents", "DISTINCT spec_id", ""), in_force);
    // The specification in force continues, and the other one with `--replace`.
    dir.quarry(&["run", &at(&dir, &model, "0.7")]).ended(0);
    dir.quarry(&["run", &at(&dir, &model, "0.6"), "--replace"]).ended(0);
    assert_eq!(specs(&dir, "documents"), "1|2");
    assert_ne!(dir.rows("store", "documents", "DISTINCT spec_id", ""), in_force);
}

#[test]
fn rows_of_a_file_that_cannot_be_read_again_stay() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &["a", "b", "c"].map(|id| (Some(id), ADA)));
    let torn = dir.documents("docs/b.parquet", &["d", "e"].map(|id| (Some(id), ADA)));
    let model = dir.small_model().display().to_string();
    dir.quarry(&["run", &at(&dir, &model, "0.5")]).ended(0);
    let sound = fs::read(&torn).unwrap();
    fs::write(&torn, &sound[..sound.len() / 2]).unwrap();
    let new = at(&dir, &model, "0.6");
    let said = dir.quarry(&["run", &new, "--replace"]).ended(3).stderr();
    assert!(said.contains("2 document(s) of 1 file(s)") && said.contains("docs/b.parquet`"), "{said}");
    assert_eq!((specs(&dir, "documents"), specs(&dir, "current_documents")), ("2|8".into(), "1|5".into()));
    let said = dir.quarry(&["doctor", "--within", "60", &new]).stdout();
    assert!(said.contains(" is being replaced by ") && said.contains("run the job to completion"), "{said}");
    // Once repaired, the file is read again, and then the old rows are dropped.
    fs::write(&torn, sound).unwrap();
    dir.quarry(&["run", &new]).ended(0);
    assert_eq!((specs(&dir, "documents"), specs(&dir, "current_documents")), ("1|5".into(), "1|5".into()));
}

#[test]
fn an_unfinished_replacement_is_scored_by_its_own_rows() {
    let dir = Dir::new();
    dir.documents("docs/dt=1/a.parquet", &[(Some("a"), ADA)]);
    dir.documents("docs/dt=2/a.parquet", &["b", "c"].map(|id| (Some(id), ADA)));
    let mention =
        |id: &str| format!("{{\"doc_id\": \"{id}\", \"entity_type\": \"PER\", \"start_char\": 0, \"end_char\": 3}}\n");
    let gold = dir.write("gold.jsonl", &["a", "b", "c"].map(mention).concat());
    let model = dir.small_model().display().to_string();
    let scored = |threshold: &str, documents: &str| {
        let text = fs::read_to_string(at(&dir, &model, threshold)).unwrap();
        let text = text.replace("text = 'body'", &format!("text = 'body'\ngold = '{}'", gold.display()));
        let (all, some) = (dir.path("docs").display().to_string(), dir.path(documents).display().to_string());
        let text = text.replace(&format!("'{all}'"), &format!("'{some}'"));
        dir.quarry(&["run", &dir.write("scored.toml", &text).display().to_string(), "--replace"]).ended(0);
        let last = "run_id = (SELECT run_id FROM runs ORDER BY started_at DESC LIMIT 1)";
        let gold = format!("WHERE scope = 'all' AND name IN ('true_positives', 'false_negatives') AND {last}");
        dir.rows("store", "metrics", "CAST(sum(value) AS bigint)", &gold).concat()
    };
    assert_eq!(scored("0.5", "docs"), "3");
    assert_eq!(scored("0.6", "docs/dt=1"), "1", "mentions in documents that were read again");
    assert_eq!((specs(&dir, "documents"), specs(&dir, "current_documents")), ("2|4".into(), "1|3".into()));
    assert_eq!(scored("0.6", "docs"), "3");
}

/// A job at a threshold over the documents that meet a condition.
fn part(dir: &Dir, model: &str, threshold: &str, condition: &str) -> String {
    let text = fs::read_to_string(at(dir, model, threshold)).unwrap();
    let text = text.replace("text = 'body'", &format!("text = 'body'\nwhere = \"{condition}\""));
    dir.write("part.toml", &text).display().to_string()
}

#[test]
fn one_of_two_jobs_over_the_same_files_does_not_drop_the_rows_of_the_other() {
    let dir = Dir::new();
    let ids: Vec<String> =
        (0..20).map(|number| format!("{}{number}", if number % 2 == 0 { "en" } else { "de" })).collect();
    dir.documents("docs/a.parquet", &ids.iter().map(|id| (Some(id.as_str()), ADA)).collect::<Vec<_>>());
    let model = dir.small_model().display().to_string();
    let (english, german) = ("id LIKE 'en%'", "id LIKE 'de%'");
    for condition in [english, german] {
        dir.quarry(&["run", &part(&dir, &model, "0.5", condition)]).ended(0);
    }
    let said = dir.quarry(&["run", &part(&dir, &model, "0.6", english), "--replace"]).ended(0).stderr();
    assert!(said.contains("the old rows stay current: 10 document(s) of 1 file(s), such as `de1` of `"), "{said}");
    assert_eq!((specs(&dir, "documents"), specs(&dir, "current_documents")), ("2|30".into(), "1|20".into()));
    // The other job completes the replacement.
    let said = dir.quarry(&["run", &part(&dir, &model, "0.6", german)]).ended(0).stderr();
    assert!(!said.contains("stay current"), "{said}");
    assert_eq!((specs(&dir, "documents"), specs(&dir, "current_documents")), ("1|20".into(), "1|20".into()));
}

#[test]
fn documents_that_vanished_or_are_refused_now_wait() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let write = |rows: &[(&str, &str)]| {
        dir.documents("docs/a.parquet", &rows.iter().map(|(id, text)| (Some(*id), Some(*text))).collect::<Vec<_>>());
        dir.younger("docs/a.parquet");
    };
    write(&[("a", "Ada ."), ("b", "Ada ."), ("c", "Ada ."), ("d", "Ada .")]);
    dir.quarry(&["run", &at(&dir, &model, "0.5")]).ended(0);
    // `d` vanishes before the replacement, `b` with it, and the new text of `c` is refused.
    write(&[("a", "Ada ."), ("b", "Ada ."), ("c", "Ada .")]);
    dir.quarry(&["run", &at(&dir, &model, "0.5")]).ended(0);
    write(&[("a", "Ada ."), ("c", " ")]);
    let new = at(&dir, &model, "0.6");
    let current = || dir.rows("store", "current_documents", "doc_id", "");
    for arguments in [&["run", new.as_str(), "--replace"][..], &["run", new.as_str()]] {
        let said = dir.quarry(arguments).ended(0).stderr();
        assert!(said.contains("3 document(s) of 1 file(s), such as `b` of `"), "{said}");
        assert_eq!(current(), ["a", "b", "c", "d"]);
    }
    // Once `c` is accepted, two are left, and only the user can say that they can go.
    write(&[("a", "Ada ."), ("c", "Ada .")]);
    let said = dir.quarry(&["run", &new]).ended(0).stderr();
    assert!(said.contains("2 document(s) of 1 file(s), such as `b` of `"), "{said}");
    dir.quarry(&["run", &new, "--drop-missing"]).ended(0);
    assert_eq!((current(), specs(&dir, "documents")), (vec!["a".into(), "c".into()], "1|2".into()));
}

#[test]
fn a_document_that_vanished_before_the_replacement_waits() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let write = |ids: &[&str]| {
        dir.documents("docs/a.parquet", &ids.iter().map(|id| (Some(*id), ADA)).collect::<Vec<_>>());
        dir.younger("docs/a.parquet");
    };
    write(&["a", "b"]);
    dir.quarry(&["run", &at(&dir, &model, "0.5")]).ended(0);
    write(&["a"]);
    dir.quarry(&["run", &at(&dir, &model, "0.5")]).ended(0);
    // The file is the same for both specifications, and the row is from an earlier state of it.
    let said = dir.quarry(&["run", &at(&dir, &model, "0.6"), "--replace"]).ended(0).stderr();
    assert!(said.contains("1 document(s) of 1 file(s), such as `b` of `"), "{said}");
    assert_eq!(specs(&dir, "current_documents"), "1|2");
}

#[test]
fn a_document_that_only_the_new_specification_refuses_goes_with_the_old_rows() {
    let dir = Dir::new();
    let (strict, strange) = strict_model(&dir);
    dir.documents("docs/a.parquet", &[(Some("a"), ADA), (Some("b"), Some(strange.as_str()))]);
    let lenient = dir.tiny_model().display().to_string();
    dir.quarry(&["run", &at(&dir, &lenient, "0.5")]).ended(0);
    assert_eq!(specs(&dir, "documents"), "1|2");
    dir.quarry(&["run", &at(&dir, &strict, "0.5"), "--replace"]).ended(0);
    assert_eq!((specs(&dir, "documents"), specs(&dir, "current_documents")), ("1|1".into(), "1|1".into()));
    assert_eq!(dir.rows("store", "rejects", "doc_id, reason", ""), ["b|tokenizer"]);
}

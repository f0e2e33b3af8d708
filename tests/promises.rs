//! The store's guarantees: after any interruption, the tables end up as if there had been none.

mod disk;
mod kills;

use std::process::Stdio;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use crate::support::{Dir, Random, project, same_but_for_scores, until};

#[cfg(feature = "cluster")]
pub(crate) use disk::SmallDisk;
pub(crate) use kills::{Stores, documents_to_lose};

/// The rows that must be the same in every store of the same documents.
const ROWS: [(&str, &str); 4] = [
    ("entities", "doc_id, entity_type, start_char, end_char, text, score, \"window\", spec_id"),
    ("documents", "doc_id, source, content_hash, n_chars, n_tokens, n_windows, n_entities, spec_id"),
    ("rejects", "source, \"row\", doc_id, reason, detail, spec_id"),
    ("sources", "path, size, input_hash, rows, outcome, spec_id"),
];

/// The rows of each of these tables.
pub(crate) fn rows(dir: &Dir, store: &str) -> Vec<Vec<String>> {
    ROWS.iter().map(|(table, columns)| dir.rows(store, table, columns, "")).collect()
}

/// `count` sentences from a few words, with an id each from `first` on; some texts are null or empty, some ids come twice.
pub(crate) fn corpus(dir: &Dir, name: &str, first: i64, count: usize, random: &mut Random) {
    let words = ["Ada", "Lovelace", "met", "Mr.", "Babbage", "in", "London", ",", "Zürich", "🎉", "yesterday", "."];
    let text = |random: &mut Random| {
        let sentence: Vec<&str> =
            (0..3 + random.next() % 12).map(|_| words[random.next() as usize % words.len()]).collect();
        sentence.join(" ")
    };
    let mut ids = Vec::new();
    let mut texts = Vec::new();
    for row in 0..count as i64 {
        ids.push(match random.next() % 200 {
            0 => None,
            1 => Some(first + row / 2),
            _ => Some(first + row),
        });
        texts.push(match random.next() % 100 {
            0 => None,
            1 => Some("  ".to_owned()),
            _ => Some(text(random)),
        });
    }
    let (ids, texts): (ArrayRef, ArrayRef) = (Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(texts)));
    dir.parquet(name, &RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("body", texts, true)]).unwrap());
}

/// A job with the small model; every slice is a commit.
pub(crate) fn job(dir: &Dir, documents: &str, store: &str, model: &str, more: &str) -> String {
    let model = format!("[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'fp32'\n{more}");
    let job = dir.job(documents, store, &model);
    let text = std::fs::read_to_string(&job).unwrap() + "commit_documents = 256\n";
    dir.write(&format!("{store}.toml"), &text).display().to_string()
}

#[test]
fn a_stopped_run_commits_finished_documents_and_the_next_resumes() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 8000, &mut Random(5));
    let model = dir.small_model().display().to_string();
    let stopped = job(&dir, "docs.parquet", "stopped", &model, "");
    // Two slices are committed, and about thirty remain.
    let second = dir.path("stopped/documents/_delta_log/00000000000000000002.json");
    dir.stopped_when(&["run", &stopped], |_| second.exists()).ended(143);
    let documents = |store: &str| dir.rows(store, "documents", "count(*)", "").concat().parse::<usize>().unwrap();
    let done = documents("stopped");
    dir.quarry(&["run", &stopped]).ended(0);
    let undisturbed = job(&dir, "docs.parquet", "undisturbed", &model, "");
    dir.quarry(&["run", &undisturbed]).ended(0);
    assert!(done > 256 && done < documents("undisturbed"), "{done}");
    assert_eq!(dir.rows("stopped", "runs", "outcome", ""), ["done", "stopped"]);
    assert!(rows(&dir, "undisturbed") == rows(&dir, "stopped"));
}

/// Documents of very different lengths, so that slices end at any row: some at a time, long ones alone. Some ids come twice.
fn uneven(dir: &Dir, name: &str, count: usize, random: &mut Random) {
    let text = "Ada Lovelace met Mr. Babbage in London , yesterday . ";
    let mut id = 0;
    let rows = (0..count).map(|_| {
        id += usize::from(!random.next().is_multiple_of(9));
        let times = match random.next() % 14 {
            0 => 600 + random.next() % 1200,
            1..=5 => 20 + random.next() % 60,
            _ => 1,
        };
        let from = (random.next() % 8) as usize;
        (format!("{id:04}"), text.repeat(times as usize)[from..].trim().to_owned())
    });
    let rows: Vec<(String, String)> = rows.collect();
    let rows: Vec<_> = rows.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    dir.documents(name, &rows);
}

#[test]
fn a_run_killed_after_any_slice_resumes_at_its_last_row() {
    let dir = Dir::new();
    let mut random = Random(11);
    uneven(&dir, "docs/a.parquet", 300, &mut random);
    uneven(&dir, "docs/b.parquet", 40, &mut random);
    let model = dir.small_model().display().to_string();
    // Every slice is a commit.
    let job = |store: &str| {
        let path = job(&dir, "docs", store, &model, "[extract]\nwindow_tokens = 64\nbatch_tokens = 1024");
        let text = std::fs::read_to_string(&path).unwrap().replace("commit_documents = 256", "commit_documents = 1");
        dir.write(&format!("{store}.toml"), &text).display().to_string()
    };
    dir.quarry(&["run", &job("undisturbed")]).ended(0);
    let commits = dir.rows("undisturbed", "documents", "max(commit)", "").concat().parse::<usize>().unwrap();
    assert!(commits > 20, "{commits}");
    // A file is done in part at other rows than multiples of 256; the second kill is in the slice after the first.
    let disturbed = job("disturbed");
    let mut positions = Vec::new();
    for kill in [2, 3, 5, 9, commits / 2, commits - 4] {
        let fault = format!("after:documents:{kill}");
        let ended = dir.command(&["run", &disturbed]).env("QUARRY_FAULT", fault).output().unwrap();
        assert_eq!(ended.status.code(), None, "it was not killed in commit {kill}");
        positions.extend(dir.rows("disturbed", "sources", "rows", "WHERE outcome = 'partial'"));
    }
    let inside = positions.iter().filter(|rows| rows.parse::<u64>().is_ok_and(|rows| rows % 256 != 0)).count();
    assert!(inside > 3, "{positions:?}");
    dir.quarry(&["run", &disturbed]).ended(0);
    assert!(rows(&dir, "undisturbed") == rows(&dir, "disturbed"));
    assert_eq!(dir.rows("disturbed", "documents", "max(commit)", ""), [commits.to_string()]);
}

#[test]
fn a_changed_document_replaces_its_rows_and_a_finished_one_is_skipped() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let write = |name: &str, rows: &[(&str, &str)]| {
        let rows: Vec<(Option<&str>, Option<&str>)> = rows.iter().map(|(id, text)| (Some(*id), Some(*text))).collect();
        dir.documents(name, &rows)
    };
    write("docs/1.parquet", &[("a", "Ada met Babbage in London ."), ("b", "Zürich , yesterday .")]);
    let job = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &job]).ended(0);
    let before = dir.rows("store", "entities", "doc_id, text, run_id", "WHERE doc_id = 'b'");
    // A file changes: one document is the same, one has another text, one is new, one moved to another file.
    write("docs/1.parquet", &[("a", "Nobody at all ."), ("b", "Zürich , yesterday ."), ("c", "Mr. Babbage .")]);
    dir.younger("docs/1.parquet");
    write("docs/2.parquet", &[("d", "one"), ("d", "the last one wins")]);
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(dir.rows("store", "documents", "doc_id, n_chars", "ORDER BY 1"), ["a|15", "b|20", "c|13", "d|17"]);
    let texts = dir.rows("store", "entities", "text", "WHERE doc_id = 'a'");
    assert!(texts.iter().all(|text| "Nobody at all .".contains(text.as_str())), "{texts:?}");
    assert_eq!(dir.rows("store", "entities", "doc_id, text, run_id", "WHERE doc_id = 'b'"), before);
    let orphans = "WHERE doc_id NOT IN (SELECT doc_id FROM documents)";
    assert!(dir.rows("store", "entities", "doc_id", orphans).is_empty());
    assert_eq!(dir.rows("store", "rejects", "doc_id, reason, \"row\"", ""), ["d|duplicate_id|0"]);
    assert_eq!(dir.rows("store", "sources", "count(*), sum(rows)", "WHERE outcome = 'done'"), ["2|5"]);
    // Nothing is new: no commit, no rows.
    let commits = dir.rows("store", "documents", "max(commit)", "");
    let said = dir.quarry(&["run", &job]).ended(0).stderr();
    assert!(said.contains("0 file(s)"), "{said}");
    assert_eq!(dir.rows("store", "documents", "max(commit)", ""), commits);
}

#[test]
fn another_specification_replaces_the_old_rows_when_asked_to() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 2000, &mut Random(9));
    let model = dir.small_model().display().to_string();
    let old = job(&dir, "docs.parquet", "store", &model, "");
    dir.quarry(&["run", &old]).ended(0);
    let new = job(&dir, "docs.parquet", "store", &model, "[extract]\nthreshold = 0.6");
    let error = dir.quarry(&["run", &new]).ended(1).error();
    assert!(error.contains("threshold 0.5 → 0.6") && error.contains("--replace"), "{error}");
    // After a kill it resumes without the flag, and views show the old rows until it is done.
    let mut child = dir.command(&["run", &new, "--replace"]).env("QUARRY_FAULT", "after:documents:10").spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    let specs = |view: &str| dir.rows("store", view, "count(DISTINCT spec_id), count(*)", "");
    assert!(specs("documents")[0].starts_with("2|"), "{:?}", specs("documents"));
    assert!(specs("current_documents")[0].starts_with("1|"), "{:?}", specs("current_documents"));
    dir.quarry(&["run", &new]).ended(0);
    assert_eq!(specs("documents"), specs("current_documents"));
    let fresh = job(&dir, "docs.parquet", "fresh", &model, "[extract]\nthreshold = 0.6");
    dir.quarry(&["run", &fresh]).ended(0);
    assert!(rows(&dir, "store") == rows(&dir, "fresh"));
}

#[test]
fn a_replacement_of_some_files_drops_nothing_of_the_others() {
    let dir = Dir::new();
    dir.documents("docs/dt=1/a.parquet", &["a", "b", "c"].map(|id| (Some(id), Some("Ada met Babbage ."))));
    dir.documents("docs/dt=2/a.parquet", &["d", "e"].map(|id| (Some(id), Some("London , yesterday ."))));
    let model = dir.small_model().display().to_string();
    let whole = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &whole]).ended(0);
    let specs = |view: &str| dir.rows("store", view, "count(DISTINCT spec_id), count(*)", "");
    assert_eq!(specs("documents"), ["1|5"]);
    let day = |number: usize| {
        let text = std::fs::read_to_string(&whole).unwrap();
        let day = dir.path(&format!("docs/dt={number}")).display().to_string();
        let text = text.replace(&format!("'{}'", dir.path("docs").display()), &format!("'{day}/*.parquet'"));
        dir.write(&format!("day-{number}.toml"), &format!("{text}\n[extract]\nthreshold = 0.6\n")).display().to_string()
    };
    let said = dir.quarry(&["run", &day(1), "--replace"]).ended(0).stderr();
    assert!(said.contains("2 document(s) of 1 file(s)") && said.contains("--drop-missing"), "{said}");
    assert_eq!((specs("documents"), specs("current_documents")), (vec!["2|8".into()], vec!["1|5".into()]));
    // The next night continues it, and once everything is read again the old rows are dropped.
    dir.quarry(&["run", &day(2)]).ended(0);
    assert_eq!((specs("documents"), specs("current_documents")), (vec!["1|5".into()], vec!["1|5".into()]));
    assert_eq!(dir.rows("store", "runs", "DISTINCT spec_id", "").len(), 2);

    // With `--drop-missing`, rows of a missing file are dropped.
    std::fs::remove_dir_all(dir.path("docs/dt=2")).unwrap();
    dir.quarry(&["run", &whole, "--replace"]).ended(0);
    assert_eq!((specs("documents"), specs("current_documents")), (vec!["2|8".into()], vec!["1|5".into()]));
    dir.quarry(&["run", &whole, "--drop-missing"]).ended(0);
    assert_eq!((specs("documents"), specs("current_documents")), (vec!["1|3".into()], vec!["1|3".into()]));
}

#[test]
fn two_runs_on_one_store_do_not_mix() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 12_000, &mut Random(3));
    let model = dir.small_model().display().to_string();
    let job = job(&dir, "docs.parquet", "store", &model, "");
    let mut first = dir.command(&["run", &job]).stderr(Stdio::null()).spawn().unwrap();
    // The lock file names the run that holds the lock.
    until("the first run holds the lock", || {
        assert!(first.try_wait().unwrap().is_none(), "the first run took no lock");
        std::fs::read(dir.path("store/.quarry.lock")).is_ok_and(|holder| !holder.is_empty())
    });
    let error = dir.quarry(&["run", &job]).ended(2).error();
    assert!(error.contains("is being written to by the run "), "{error}");
    assert!(first.wait().unwrap().success());
}

#[test]
fn rows_do_not_depend_on_batch_and_commit_settings() {
    let dir = Dir::new();
    let bodies = dir.sql(
        None,
        &[("source", &project().join("jobs/demo/documents.parquet"))],
        "SELECT body FROM source WHERE length(body) < 2000 ORDER BY doc_id LIMIT 40",
    );
    let rows: Vec<(String, &str)> =
        bodies.iter().enumerate().map(|(id, body)| (id.to_string(), body.as_str())).collect();
    let rows: Vec<(Option<&str>, Option<&str>)> =
        rows.iter().map(|(id, body)| (Some(id.as_str()), Some(*body))).collect();
    dir.documents("docs.parquet", &rows);
    let model = dir.small_model().display().to_string();
    let found: Vec<Vec<String>> = [300, 1000, 16_384]
        .iter()
        .map(|budget| {
            let store = format!("store-{budget}");
            let more = format!("[extract]\nwindow_tokens = 48\noverlap_tokens = 12\nbatch_tokens = {budget}");
            dir.quarry(&["run", &job(&dir, "docs.parquet", &store, &model, &more)]).ended(0);
            dir.rows(&store, "entities", "doc_id, entity_type, start_char, end_char, text, score", "")
        })
        .collect();
    assert!(found[0].len() > 100, "{}", found[0].len());
    // Batches of other shapes can add in another order: in fp32 the logits are the same to a thousandth (`parity`), and a score, which is
    // σ of one, to a quarter of that.
    for other in &found[1..] {
        same_but_for_scores(&found[0], other, 1e-3 / 4.0);
    }
}

//! Files that cannot be read as a whole: what can be read is extracted, and the rest of the job runs. Of text a bad line is a reject, of
//! Parquet a bad row group, and then the exit code is 3 until the file is repaired.

use std::fmt::Write;

use serde_json::Value;

use crate::promises::{corpus, job, rows};
use crate::support::{Dir, Finished, Random};

/// `count` lines of JSON, or of CSV with a header, with ids from `first` on; the line `torn` is invalid.
fn lines(json: bool, first: usize, count: usize, torn: Option<(usize, &str)>) -> String {
    let mut text = if json { String::new() } else { "id,body\n".to_owned() };
    for row in 0..count {
        match torn {
            Some((at, line)) if at == row => text.push_str(line),
            // Every hundredth text is empty and rejected.
            _ if json && row % 100 == 7 => write!(text, r#"{{"id": {}, "body": ""}}"#, first + row).unwrap(),
            _ if json => write!(text, r#"{{"id": {}, "body": "Ada met Babbage ."}}"#, first + row).unwrap(),
            _ if row % 100 == 7 => write!(text, "{}, ", first + row).unwrap(),
            _ => write!(text, "{},Ada met Babbage .", first + row).unwrap(),
        }
        text.push('\n');
    }
    text
}

/// What `--json` printed.
fn object(said: &Finished) -> Value {
    serde_json::from_str(&said.stdout()).unwrap_or_else(|error| panic!("{error}: {}", said.stdout()))
}

/// Documents and rejects of a store, and rejects of whole files.
fn counted(dir: &Dir) -> Vec<String> {
    let documents = dir.rows("store", "documents", "count(*), count(DISTINCT doc_id)", "");
    let rejects = "count(*), count(DISTINCT source || \"row\"), count(*) FILTER (WHERE \"row\" = -1)";
    [documents, dir.rows("store", "rejects", rejects, "")].concat()
}

#[test]
fn a_line_that_cannot_be_read_costs_that_line_until_it_is_repaired() {
    for (ending, json, torn) in
        [("jsonl", true, r#"{"id": 1, "body"#), ("jsonl", true, r#"{"id": "x", "body": "y"}"#), ("csv", false, "x,y,z")]
    {
        let dir = Dir::new();
        let names = ["a", "b", "c"].map(|name| format!("docs/{name}.{ending}"));
        dir.write(&names[0], &lines(json, 0, 400, None));
        dir.write(&names[1], &lines(json, 10_000, 2000, Some((1500, torn))));
        dir.write(&names[2], &lines(json, 20_000, 400, None));
        let model = dir.small_model().display().to_string();
        let job = job(&dir, "docs", "store", &model, "");
        let run = dir.quarry(&["run", &job, "--json"]).ended(0);
        // Of the 2,800 documents 28 are empty; the torn line is one reject more.
        let expected = ["2771|2771", "29|29|0"];
        assert_eq!(counted(&dir), expected, "{torn}");
        let invalid = dir.rows("store", "rejects", "\"row\", reason", "WHERE reason <> 'empty_text'");
        assert_eq!(invalid, ["1500|invalid_row"], "{torn}");
        let figures = ["documents", "rejects", "unreadable_files"].map(|key| object(&run)[key].as_u64());
        assert_eq!(figures, [2771, 29, 0].map(Some), "{torn}");
        let sources = dir.rows("store", "sources", "rows, outcome = 'done'", "");
        assert_eq!(sources, ["2000|true", "400|true", "400|true"]);
        dir.quarry(&["run", &job]).ended(0);
        assert_eq!(counted(&dir), expected, "{torn}");
        dir.write(&names[1], &lines(json, 10_000, 2000, None));
        dir.quarry(&["run", &job]).ended(0);
        assert_eq!(counted(&dir), ["2772|2772", "28|28|0"], "repaired");
        assert_eq!(dir.rows("store", "sources", "sum(rows), count(*)", "WHERE outcome = 'done'"), ["2800|3"]);
    }
}

#[test]
fn parquet_files_are_read_except_for_what_cannot_be_read() {
    let dir = Dir::new();
    for (name, first) in [("docs/a.parquet", 0), ("docs/b.parquet", 5000), ("docs/c.parquet", 10_000)] {
        corpus(&dir, name, first, 2000, &mut Random(8));
    }
    let model = dir.small_model().display().to_string();
    let whole = job(&dir, "docs", "whole", &model, "");
    dir.quarry(&["run", &whole]).ended(0);
    let sound = std::fs::read(dir.path("docs/b.parquet")).unwrap();
    dir.tear("docs/b.parquet", "body", 1300);
    let job = job(&dir, "docs", "store", &model, "");
    let said = dir.quarry(&["run", &job]).ended(3).stderr();
    assert!(said.contains("b.parquet` cannot be read: rows 1"), "{said}");
    let rows = dir.rows("store", "sources", "rows", "WHERE outcome <> 'done'").concat().parse::<usize>().unwrap();
    assert!((900..=1200).contains(&rows), "{rows}");
    let before = counted(&dir);
    dir.quarry(&["run", &job]).ended(3);
    assert_eq!(counted(&dir), before);
    std::fs::write(dir.path("docs/b.parquet"), sound).unwrap();
    dir.younger("docs/b.parquet");
    dir.quarry(&["run", &job]).ended(0);
    for (table, columns) in [
        ("documents", "doc_id, content_hash, n_entities"),
        ("entities", "doc_id, start_char, end_char, text"),
        ("rejects", "source, \"row\", reason"),
    ] {
        assert!(dir.rows("store", table, columns, "") == dir.rows("whole", table, columns, ""), "{table}");
    }
}

#[test]
fn a_run_killed_behind_damage_remembers_it() {
    let dir = Dir::new();
    corpus(&dir, "docs/a.parquet", 0, 2000, &mut Random(3));
    let model = dir.small_model().display().to_string();
    let job = |store: &str| job(&dir, "docs", store, &model, "");
    dir.quarry(&["run", &job("sound")]).ended(0);
    let file = dir.path("docs/a.parquet");
    let sound = std::fs::read(&file).unwrap();
    dir.tear("docs/a.parquet", "body", 700);
    let torn = std::fs::metadata(&file).unwrap().modified().unwrap();
    dir.quarry(&["run", &job("torn")]).ended(3);
    let expected = rows(&dir, "torn");
    let commits = dir.rows("torn", "documents", "max(commit)", "").concat().parse::<usize>().unwrap();
    let mut behind = 0;
    for commit in 1..=commits {
        let store = format!("killed-{commit}");
        let killed = job(&store);
        let fault = format!("after:documents:{commit}");
        let ended = dir.command(&["run", &killed]).env("QUARRY_FAULT", fault).output().unwrap();
        assert_eq!(ended.status.code(), None, "it was not killed in commit {commit}");
        behind += dir.rows(&store, "sources", "rows", "WHERE outcome LIKE 'partial: rows 600 to 1199: %'").len();
        dir.quarry(&["run", &killed]).ended(3);
        assert!(rows(&dir, &store) == expected, "{commit}");
        dir.quarry(&["run", &killed]).ended(3);
        assert!(rows(&dir, &store) == expected, "again {commit}");
    }
    assert!(behind >= 2, "{behind} of {commits}");
    // Repaired without another size or time, as after a fault of the disk: all of it is read, and nothing twice.
    let half_done = job("half-done");
    let fault = format!("after:documents:{}", commits - 1);
    dir.command(&["run", &half_done]).env("QUARRY_FAULT", fault).output().unwrap();
    std::fs::write(&file, sound).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(torn).unwrap();
    for store in ["half-done", "torn"] {
        dir.quarry(&["run", &job(store)]).ended(0);
        assert!(rows(&dir, store) == rows(&dir, "sound"), "{store}");
    }
}

#[test]
fn a_torn_file_counts_once_in_every_figure_and_stops_no_look_ahead() {
    let dir = Dir::new();
    for (name, first) in [("docs/a.parquet", 0), ("docs/b.parquet", 5000), ("docs/c.parquet", 10_000)] {
        corpus(&dir, name, first, 2000, &mut Random(8));
    }
    dir.tear("docs/b.parquet", "body", 1300);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    // All documents are one commit, so if one cannot be read, the others are read again.
    let job = dir.job("docs", "store", &model).display().to_string();
    let file = dir.path("quarry.prom").display().to_string();
    let explained = object(&dir.quarry(&["run", &job, "--explain", "--json"]).ended(0));
    assert_eq!(explained["unreadable_files"], 1);
    let dry = dir.quarry(&["run", &job, "--dry-run", "--profile", "profile.json"]).ended(3).stdout();
    assert!(dry.contains("│ unreadable files ") && dry.contains("stage (stages overlap)"), "{dry}");
    let dry = object(&dir.quarry(&["run", &job, "--dry-run", "--json"]).ended(3));
    let real = object(&dir.quarry(&["run", &job, "--json", "--metrics-file", &file]).ended(3));
    let count = |table: &str, rest: &str| dir.rows("store", table, "count(*)", rest).concat();
    let expected = [count("documents", ""), count("entities", ""), count("rejects", "WHERE \"row\" >= 0")];
    for said in [dry, real] {
        assert_eq!(["documents", "mentions", "rejects"].map(|key| said[key].to_string()), expected, "{said}");
        let files = [&said["unreadable_files"], &said["rejects_by_reason"]["unreadable_file"]];
        assert_eq!(files.map(Value::as_u64), [Some(1); 2], "{said}");
    }
    let figures = std::fs::read_to_string(&file).unwrap();
    assert!(figures.contains("reason=\"unreadable_file\"} 1\n"), "{figures}");
    let figures = "WHERE scope = 'all' AND name IN ('documents', 'unreadable_files') ORDER BY name";
    assert_eq!(dir.rows("store", "metrics", "CAST(value AS bigint)", figures), [expected[0].as_str(), "1"]);
}

#[test]
fn rejects_of_a_changed_file_are_replaced() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let job = job(&dir, "docs", "store", &model, "");
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Ada .")), (Some("b"), None), (None, Some("x"))]);
    dir.write("docs/b.parquet", "no Parquet");
    dir.quarry(&["run", &job]).ended(3);
    assert_eq!(dir.rows("store", "rejects", "\"row\", reason", ""), ["-1|unreadable_file", "1|null_text", "2|null_id"]);
    dir.documents(
        "docs/a.parquet",
        &[(Some("a"), Some("Ada .")), (Some("b"), Some("Babbage .")), (None, Some("x")), (None, None)],
    );
    dir.write("docs/b.parquet", "still no Parquet");
    dir.quarry(&["run", &job]).ended(3);
    assert_eq!(dir.rows("store", "rejects", "\"row\", reason", ""), ["-1|unreadable_file", "2|null_id", "3|null_id"]);
    dir.documents("docs/b.parquet", &[(Some("c"), Some("London ."))]);
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(dir.rows("store", "rejects", "\"row\", reason", ""), ["2|null_id", "3|null_id"]);
    assert_eq!(dir.rows("store", "documents", "doc_id", ""), ["a", "b", "c"]);
}

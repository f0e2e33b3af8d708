//! `quarry run` with `--explain`, `--dry-run` and `--limit`, and its output for programs: `--json` and `--metrics-file`.

use serde_json::Value;

use crate::promises::corpus;
use crate::support::{Dir, Random};

/// A job over `docs` with the small model; every slice is a commit.
fn job(dir: &Dir, store: &str) -> String {
    let model = dir.path("small-model");
    if !model.exists() {
        dir.small_model();
    }
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n", model.display());
    let job = dir.job("docs", store, &model);
    let text = std::fs::read_to_string(&job).unwrap() + "commit_documents = 256\n";
    dir.write(&format!("{store}.toml"), &text).display().to_string()
}

/// The rows that must not depend on how the work was divided; with scores if the batches were the same.
fn rows(dir: &Dir, store: &str, scores: bool) -> Vec<Vec<String>> {
    let column = if scores { "score, " } else { "" };
    let entities = format!("doc_id, entity_type, start_char, end_char, text, {column}\"window\", spec_id");
    [
        ("entities", entities.as_str()),
        ("documents", "doc_id, source, content_hash, n_chars, n_tokens, n_windows, n_entities, spec_id"),
        ("rejects", "source, \"row\", doc_id, reason, detail, spec_id"),
        ("sources", "path, size, input_hash, rows, outcome, spec_id"),
    ]
    .into_iter()
    .map(|(table, columns)| dir.rows(store, table, columns, ""))
    .collect()
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn limited_runs_one_after_the_other_are_one_run() {
    let dir = Dir::new();
    corpus(&dir, "docs/a.parquet", 0, 700, &mut Random(3));
    corpus(&dir, "docs/b.parquet", 600, 500, &mut Random(4));
    let whole = job(&dir, "whole");
    dir.quarry(&["run", &whole]).ended(0);
    for (store, limit, scores) in [("slices", "512", true), ("odd", "190", false), ("one", "699", false)] {
        let limited = job(&dir, store);
        let mut outcomes = Vec::new();
        for round in 0.. {
            assert!(round < 10, "it does not come to its end: {outcomes:?}");
            let said = object(&dir.quarry(&["run", &limited, "--limit", limit, "--json"]).ended(0).stdout());
            let (done, refused) = (said["documents"].as_u64().unwrap(), said["rejects"].as_u64().unwrap());
            let limit: u64 = limit.parse().unwrap();
            assert!(done + refused <= limit, "{done} and {refused} of {limit}");
            outcomes.push(said["outcome"].as_str().unwrap().to_owned());
            if round == 0 {
                assert_eq!(done + refused, limit);
                let begun = dir.rows(store, "sources", "rows, outcome", "");
                assert_eq!(begun, [format!("{limit}|partial")]);
            }
            if said["outcome"] == "done" {
                break;
            }
        }
        let expected = 1200_usize.div_ceil(limit.parse().unwrap());
        assert_eq!(outcomes.len(), expected, "{outcomes:?}");
        assert_eq!(dir.rows(store, "runs", "count(*)", "WHERE outcome = 'limited'"), [(expected - 1).to_string()]);
        for (expected, found) in rows(&dir, "whole", scores).iter().zip(rows(&dir, store, scores)) {
            assert!(expected == &found, "{store}: {} rows, {} expected", found.len(), expected.len());
        }
    }
}

#[test]
fn limited_runs_advance_over_known_documents() {
    let dir = Dir::new();
    corpus(&dir, "docs/a.parquet", 0, 600, &mut Random(3));
    let job = job(&dir, "store");
    dir.quarry(&["run", &job]).ended(0);
    let state =
        || (rows(&dir, "store", true).swap_remove(0), dir.rows("store", "documents", "doc_id, content_hash", ""));
    let before = state();
    let replaced = dir.rows("store", "rejects", "count(*)", "WHERE reason = 'duplicate_id'");
    // The same documents in another file: all are known. A row that a later row replaces is extracted again, and can be in another commit
    // than that row, which is then extracted again too.
    std::fs::rename(dir.path("docs/a.parquet"), dir.path("docs/z.parquet")).unwrap();
    let mut documents = 0;
    for expected in ["limited", "limited", "done", "done"] {
        let said = object(&dir.quarry(&["run", &job, "--limit", "250", "--json"]).ended(0).stdout());
        assert_eq!(said["outcome"].as_str(), Some(expected));
        documents += said["documents"].as_u64().unwrap();
    }
    let replaced: u64 = replaced[0].parse().unwrap();
    assert!((replaced..=2 * replaced).contains(&documents), "{documents} of {replaced}");
    assert!(state() == before, "mentions or documents have changed");
}

#[test]
fn a_limit_counts_what_the_condition_lets_through_in_every_format() {
    let dir = Dir::new();
    let line = |id: usize| format!("{{\"id\": {id}, \"body\": \"Ada Lovelace met Babbage .\"}}\n");
    let lines = (0..40).map(line).collect::<Vec<String>>().concat();
    dir.write("docs/a.jsonl", &lines);
    dir.write("docs/b.jsonl", &lines.replace("\"id\": ", "\"id\": 100"));
    let path = job(&dir, "store");
    let text = std::fs::read_to_string(&path).unwrap().replace("text = 'body'", "text = 'body'\nwhere = 'id % 2 = 0'");
    let job = dir.write("even.toml", &text).display().to_string();
    dir.quarry(&["run", &job, "--limit", "5"]).ended(0);
    assert_eq!(dir.rows("store", "documents", "doc_id", "ORDER BY doc_id"), ["0", "2", "4", "6", "8"]);
    dir.quarry(&["run", &job, "--limit", "16"]).ended(0);
    assert_eq!(dir.rows("store", "documents", "count(*), max(doc_id)", ""), ["21|1000"]);
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(dir.rows("store", "documents", "count(*), max(doc_id)", ""), ["40|10038"]);
    assert_eq!(dir.rows("store", "sources", "rows, outcome", ""), ["40|done", "40|done"]);
}

#[test]
fn a_dry_run_does_everything_and_writes_nothing() {
    let dir = Dir::new();
    corpus(&dir, "docs/a.parquet", 0, 300, &mut Random(3));
    let path = job(&dir, "store");
    let dry = object(&dir.quarry(&["run", &path, "--dry-run", "--json"]).ended(0).stdout());
    assert!(!dir.path("store").exists(), "it made a store");
    let real = object(&dir.quarry(&["run", &path, "--json"]).ended(0).stdout());
    assert_eq!((&dry["dry_run"], &real["dry_run"]), (&Value::from(true), &Value::from(false)));
    for key in
        ["outcome", "exit_code", "documents", "mentions", "mentions_by_type", "rejects", "rejects_by_reason", "spec_id"]
    {
        assert!(!real[key].is_null() && dry[key] == real[key], "{key}: {} {}", dry[key], real[key]);
    }
    assert!(dry["mentions"].as_u64().unwrap() > 20, "{dry}");
    // Finished documents are skipped, and the store is unchanged.
    corpus(&dir, "docs/b.parquet", 1000, 100, &mut Random(4));
    let versions = || -> Vec<_> {
        let folder = |table: &str| std::fs::read_dir(dir.path(&format!("store/{table}/_delta_log"))).unwrap().count();
        ["entities", "documents", "runs", "sources", "metrics", "rejects"].into_iter().map(folder).collect()
    };
    let before = versions();
    let said = dir.quarry(&["run", &path, "--dry-run"]).ended(0);
    assert!(said.stdout().contains("nothing was written"), "{}", said.stdout());
    let again = object(&dir.quarry(&["run", &path, "--dry-run", "--json", "--limit", "40"]).ended(0).stdout());
    assert_eq!(again["outcome"], "limited");
    assert_eq!(again["documents"].as_u64().unwrap() + again["rejects"].as_u64().unwrap(), 40);
    assert_eq!(versions(), before);
    // Another specification is refused as a run refuses it.
    let text = std::fs::read_to_string(&path).unwrap().replace("[store]", "[extract]\nthreshold = 0.6\n[store]");
    let other = dir.write("other.toml", &text).display().to_string();
    let error = dir.quarry(&["run", &other, "--dry-run"]).ended(1).error();
    assert!(error.contains("holds documents extracted under another specification"), "{error}");
    assert!(error.contains("threshold 0.5 → 0.6"), "{error}");
}

#[test]
fn explain_counts_the_pending_work() {
    let dir = Dir::new();
    corpus(&dir, "docs/a.parquet", 0, 300, &mut Random(3));
    let path = job(&dir, "store");
    let first = object(&dir.quarry(&["run", &path, "--explain", "--json"]).ended(0).stdout());
    assert!(!dir.path("store").exists(), "it made a store");
    let dry = object(&dir.quarry(&["run", &path, "--dry-run", "--json"]).ended(0).stdout());
    assert_eq!((&first["estimated"], &first["documents"]), (&Value::from(false), &Value::from(300)));
    assert_eq!((&first["new"], &first["refused"]), (&dry["documents"], &dry["rejects"]));
    assert_eq!(first["queries"].as_u64(), first["windows"].as_u64().map(|windows| windows * 4));
    assert!(first["seconds"].as_f64().unwrap() > 0.0 && first["tokens_per_second"].as_f64().unwrap() > 0.0, "{first}");
    assert!(first["plan"].as_str().unwrap().starts_with("WriteExec: "), "{first}");
    dir.quarry(&["run", &path]).ended(0);
    let done = object(&dir.quarry(&["run", &path, "--explain", "--json"]).ended(0).stdout());
    assert_eq!((&done["files"], &done["files_done"], &done["documents"]), (&0.into(), &1.into(), &0.into()));
    assert!(done["plan"].is_null() && done["seconds"].is_null(), "{done}");
    // More documents than the sample: the counts are estimates.
    corpus(&dir, "docs/c.parquet", 5000, 2500, &mut Random(9));
    let more = object(&dir.quarry(&["run", &path, "--explain", "--json"]).ended(0).stdout());
    assert_eq!((&more["files"], &more["documents"], &more["estimated"]), (&1.into(), &2500.into(), &true.into()));
    let (windows, expected) = (more["windows"].as_f64().unwrap(), 2500.0 * 0.97);
    assert!((windows / expected - 1.0).abs() < 0.05, "{windows} windows, about {expected} expected");
    // A run would be refused: the table comes first, then the error.
    let text = std::fs::read_to_string(&path).unwrap().replace("[store]", "[extract]\nthreshold = 0.6\n[store]");
    let other = dir.write("other.toml", &text).display().to_string();
    let said = dir.quarry(&["run", &other, "--explain"]).ended(1);
    assert!(said.stdout().contains("differs from the store's"), "{}", said.stdout());
    assert!(said.error().contains("threshold 0.5 → 0.6"), "{}", said.error());
}

#[test]
fn explain_distinguishes_finished_and_changed_documents() {
    let dir = Dir::new();
    let text = |number: usize| format!("Rosa Parks was born in Tuskegee number {number} .");
    let write = |texts: &[(String, String)]| {
        let rows: Vec<_> = texts.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
        dir.documents("docs/a.parquet", &rows);
    };
    let mut texts: Vec<_> = (0..20).map(|number| (format!("d{number:02}"), text(number))).collect();
    write(&texts);
    let path = job(&dir, "store");
    dir.quarry(&["run", &path]).ended(0);
    texts[3].1 = "Another text .".into();
    texts.extend((20..25).map(|number| (format!("d{number:02}"), text(number))));
    texts.push(("d24".into(), "The last of one id wins .".into()));
    write(&texts);
    let said = object(&dir.quarry(&["run", &path, "--explain", "--json"]).ended(0).stdout());
    let counted =
        ["documents", "new", "changed", "done", "refused", "known_ids", "duplicates"].map(|key| said[key].as_u64());
    assert_eq!(counted, [26, 5, 1, 19, 1, 20, 1].map(Some));
    let table = dir.quarry(&["run", &path, "--explain"]).ended(0).stdout();
    for line in ["│ documents to read ", "│   changed ", "│   done ", "│ specification ", "ExtractExec: model="]
    {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }
}

#[test]
fn json_and_metrics_report_how_a_run_ended() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Rosa Parks was born in Tuskegee .")), (Some("b"), Some(" "))]);
    let path = job(&dir, "store");
    let figures = dir.path("quarry.prom");
    let file = figures.display().to_string();
    let run = |job: &str| dir.quarry(&["run", job, "--json", "--metrics-file", &file]);
    let said = object(&run(&path).ended(0).stdout());
    let keys: Vec<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
    insta::assert_snapshot!(keys.join(" "), @"device documents documents_per_second dry_run error exit_code mentions mentions_by_type outcome precision prompts_split rejects rejects_by_reason run_id seconds spec_id started_at store tokens_per_second unreadable_files");
    assert_eq!(said["rejects_by_reason"]["empty_text"], 1);
    assert_eq!((&said["outcome"], &said["exit_code"], &said["documents"]), (&"done".into(), &0.into(), &1.into()));
    let runs = dir.rows("store", "runs", "run_id, outcome", "");
    assert_eq!(runs, [format!("{}|done", said["run_id"].as_str().unwrap())]);
    let text = std::fs::read_to_string(&figures).unwrap();
    let store = dir.path("store").display().to_string();
    assert!(text.contains(&format!("quarry_run_documents{{store=\"{store}\"}} 1\n")), "{text}");
    assert!(text.contains(&format!("quarry_run_rejects{{store=\"{store}\",reason=\"empty_text\"}} 1\n")), "{text}");
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    quarry_run_exit_code gauge
    quarry_run_start_time_seconds gauge
    quarry_run_end_time_seconds gauge
    quarry_run_last_success_time_seconds gauge
    quarry_run_duration_seconds gauge
    quarry_run_documents gauge
    quarry_run_rejects gauge
    quarry_run_mentions gauge
    quarry_run_prompts_split gauge
    quarry_run_tokens gauge
    quarry_run_stage_seconds gauge
    ");
    assert_eq!(
        std::fs::read_dir(dir.path("quarry.prom").parent().unwrap())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().contains("partial") })
            .count(),
        0,
        "a temporary file is left"
    );

    // A failure is reported too, and keeps the time of the last success.
    let success = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("quarry_run_last_success_time_seconds{"));
        line.map(str::to_owned)
    };
    let text_before = success(&text);
    assert!(text_before.is_some(), "{text}");
    let broken = std::fs::read_to_string(&path).unwrap().replace("text = 'body'", "text = 'content'");
    let broken = dir.write("broken.toml", &broken).display().to_string();
    std::fs::write(dir.path("docs/a.parquet"), "no Parquet").unwrap();
    std::fs::remove_dir_all(dir.path("store")).unwrap();
    let failed = run(&broken).ended(1);
    let said = object(&failed.stdout());
    assert_eq!((&said["outcome"], &said["exit_code"]), (&"failed".into(), &1.into()));
    assert!(said["error"]["message"].as_str().unwrap().contains("cannot use the documents"), "{said}");
    assert!(failed.error().starts_with("error: cannot use the documents"));
    let text = std::fs::read_to_string(&figures).unwrap();
    let code = text.lines().find(|line| line.starts_with("quarry_run_exit_code{")).unwrap();
    assert!(code.ends_with("} 1"), "{code}");
    assert_eq!(success(&text), text_before);
    let nowhere = dir.quarry(&["run", &path, "--metrics-file", "no/such/quarry.prom"]).ended(1).error();
    insta::assert_snapshot!(nowhere, @"
    error: quarry run: `--metrics-file`: there is no folder `no/such`
    hint: create the folder, or name the one that node exporter's textfile collector reads
    ");
}

#[test]
fn a_stopped_run_is_reported_too() {
    let dir = Dir::new();
    corpus(&dir, "docs/a.parquet", 0, 30_000, &mut Random(3));
    let path = job(&dir, "store");
    let said = dir.stopped_at_work(&["run", &path, "--json"]).ended(143);
    let said = object(&said.stdout());
    assert_eq!((&said["outcome"], &said["exit_code"]), (&"stopped".into(), &143.into()));
    assert_eq!(said["error"]["message"], "stopped by SIGTERM");
}

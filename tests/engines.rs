//! Other engines on the store: DuckDB, Polars, pandas, `PyArrow` and delta-rs in Python give the figures of our own SQL.
//! `QUARRY_ENGINE_TESTS=1` installs them into a virtual environment of the test.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::sql::TEXTS;
use crate::support::{Dir, project};

/// Figures by name.
type Figures = BTreeMap<String, Value>;

/// A Python with the packages of `tests/engines.txt`; `None`, with a note, if they are not enabled.
fn python(dir: &Dir) -> Option<String> {
    if std::env::var_os("QUARRY_ENGINE_TESTS").is_none() {
        eprintln!("skipped: QUARRY_ENGINE_TESTS=1 installs other engines (some 400 MB) and asks them");
        return None;
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(dir.path("venv")).status();
    assert!(made.is_ok_and(|status| status.success()), "python3 -m venv failed");
    let python = dir.path("venv/bin/python").display().to_string();
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(project().join("tests/engines.txt"))
        .status();
    assert!(installed.is_ok_and(|status| status.success()), "pip install failed");
    Some(python)
}

/// The figures of every engine for the store in its current state.
fn asked(python: &str, store: &Path, documents: &Path, views: &Path) -> BTreeMap<String, Figures> {
    let output =
        Command::new(python).arg(project().join("tests/engines.py")).args([store, documents, views]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The figures of our own SQL.
fn ours(dir: &Dir, documents: &Path) -> Figures {
    let sql = format!(
        "SELECT (SELECT count(*) FROM entities) AS entities, (SELECT sum(start_char) FROM entities) AS starts,
            (SELECT sum(end_char) FROM entities) AS ends, (SELECT count(DISTINCT text) FROM entities) AS texts,
            (SELECT round(sum(CAST(score AS double)), 3) FROM entities) AS scores,
            (SELECT count(*) FROM documents) AS documents, (SELECT sum(n_entities) FROM documents) AS mentions,
            (SELECT count(*) FROM rejects) AS rejects, (SELECT count(*) FROM sources) AS sources,
            (SELECT count(*) FROM metrics) AS metrics, (SELECT count(*) FROM runs) AS runs,
            (SELECT count(*) FROM current_entities) AS current_entities,
            (SELECT count(*) FROM current_entities JOIN '{0}' ON doc_id = id) AS joined,
            (SELECT count(*) FROM current_entities JOIN '{0}' ON doc_id = id
                WHERE substr(body, start_char + 1, end_char - start_char) = text) AS in_place",
        documents.display()
    );
    let store = dir.path("store").display().to_string();
    serde_json::from_str(&dir.quarry(&["sql", &store, &sql, "--format", "json"]).ended(0).stdout()).unwrap()
}

/// Engines that read the tables' logs agree with us; those that read the files alone agree only if nothing was ever replaced.
fn compare(dir: &Dir, python: &str, documents: &Path, replaced: bool) {
    let views = dir.path("views.json");
    let store = dir.path("store");
    let sql = "SELECT table_name, definition FROM information_schema.views WHERE definition IS NOT NULL";
    let definitions = dir.quarry(&["sql", &store.display().to_string(), sql, "--format", "json"]).ended(0).stdout();
    std::fs::write(&views, definitions).unwrap();
    let ours = ours(dir, documents);
    assert_eq!(ours["joined"], ours["in_place"], "{ours:?}");
    assert!(ours["in_place"].as_i64().unwrap() > 5, "{ours:?}");
    let engines = asked(python, &store, documents, &views);
    let names: Vec<&str> = engines.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "deltalake",
            "duckdb_delta",
            "duckdb_files",
            "duckdb_views",
            "pandas_files",
            "polars_delta",
            "polars_files",
            "pyarrow_delta"
        ]
    );
    for (engine, figures) in &engines {
        assert!(figures.len() >= 5, "{engine}: {figures:?}");
        let files_alone = engine.ends_with("_files");
        // The row that a run writes at its start is replaced at its end.
        let given_way = |name: &str| files_alone && name == "runs";
        assert!(!files_alone || figures["runs"].as_i64() > ours["runs"].as_i64(), "{engine}: {figures:?}");
        let other: Vec<String> = figures
            .iter()
            .filter(|(name, value)| ours.get(*name) != Some(*value) && !given_way(name))
            .map(|(name, value)| format!("{name}: {value}, ours {:?}", ours.get(name)))
            .collect();
        if engine == "duckdb_views" {
            assert!(figures.values().all(|same| *same == Value::Bool(true)), "{figures:?}");
        } else if files_alone && replaced {
            // What docs/operate.md warns of.
            assert!(figures["entities"].as_i64() > ours["entities"].as_i64(), "{engine}: {figures:?}");
        } else {
            assert!(other.is_empty(), "{engine}: {other:?}");
        }
    }
}

#[test]
fn other_engines_see_what_our_own_sql_sees() {
    let dir = Dir::new();
    let Some(python) = python(&dir) else { return };
    let documents = dir.documents("docs/a.parquet", &TEXTS);
    let job = dir.job("docs", "store", "").display().to_string();
    dir.quarry(&["run", &job]).ended(0);
    compare(&dir, &python, &documents, false);

    // A changed document replaces its old rows, whose file stays until it is vacuumed.
    let mut changed = TEXTS.to_vec();
    changed[0].1 = Some("Barack Obama met Angela Merkel in Chicago on Friday .");
    let documents = dir.documents("docs/a.parquet", &changed);
    dir.quarry(&["run", &job]).ended(0);
    compare(&dir, &python, &documents, true);

    // A run that dies between the tables of a commit leaves rows in `entities` that the views leave out …
    changed[7].1 = Some("Madrid and Lisbon are cities in Europe , says Pedro Sánchez .");
    let documents = dir.documents("docs/a.parquet", &changed);
    let died = dir.command(&["run", &job]).env("QUARRY_FAULT", "after:entities:3").output().unwrap();
    assert!(!died.status.success(), "{}", String::from_utf8_lossy(&died.stderr));
    let incomplete = dir.rows("store", "entities", "count(*)", "WHERE commit > (SELECT max(commit) FROM documents)");
    assert_ne!(incomplete, ["0"]);
    let before = dir.path("docs/before/a.parquet");
    std::fs::create_dir_all(before.parent().unwrap()).unwrap();
    std::fs::rename(&documents, &before).unwrap();
    changed[7].1 = TEXTS[7].1;
    let committed = dir.documents("docs/a.parquet", &changed);
    compare(&dir, &python, &committed, true);

    // … and that the next run rolls back.
    std::fs::rename(&before, &documents).unwrap();
    dir.quarry(&["run", &job]).ended(0);
    compare(&dir, &python, &documents, true);
}

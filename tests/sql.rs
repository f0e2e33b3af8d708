//! `quarry sql`: whole commands over a store that a run has made, and SQL logic tests over its tables and views.

mod edges;
mod errors;
mod logic;
mod output;
mod shell;

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::support::{Dir, Finished};

pub(crate) const TEXTS: [(Option<&str>, Option<&str>); 8] = [
    (Some("a"), Some("Angela Merkel met Emmanuel Macron in Berlin on Monday .")),
    (Some("b"), None),
    (None, Some("A text without an id .")),
    (Some("c"), Some(" \u{3000}\r\n ")),
    (Some("d"), Some("Zoe\u{308} Kravitz 🎉 lives in Zürich 👩\u{200d}👩\u{200d}👧 , Switzerland .")),
    (Some("e"), Some("\u{200b}")),
    (Some("f"), Some("Emmanuel Macron flew from Paris to Berlin and met Olaf Scholz .")),
    (Some("g"), Some("Berlin and Paris are cities in Europe .")),
];

/// A folder with documents, a job and the store of its run; made once.
fn made() -> &'static Dir {
    static MADE: OnceLock<Dir> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Dir::lasting("sql");
        dir.documents("docs.parquet", &TEXTS);
        let job = dir.job("docs.parquet", "store", "");
        dir.quarry(&["run", &job.display().to_string()]).ended(0);
        dir
    })
}

/// Runs `quarry sql` on the store.
fn ask(arguments: &[&str]) -> Finished {
    let dir = made();
    let store = dir.path("store").display().to_string();
    dir.quarry(&[&["sql", store.as_str()], arguments].concat())
}

/// The temporary file that is written before it is renamed to this name.
fn unfinished(name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(made().path("")).unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(&format!(".{name}.")) && file.ends_with(".partial")
    };
    entries.into_iter().find(ours)
}

fn answer(sql: &str) -> String {
    ask(&[sql]).ended(0).stdout()
}

#[test]
fn a_job_stands_for_its_store_and_its_documents() {
    let dir = made();
    let text = std::fs::read_to_string(dir.path("store.toml")).unwrap();
    let text = text.replace(&dir.path("docs.parquet").display().to_string(), "${where}/docs.parquet");
    let job = dir.write("set.toml", &text).display().to_string();
    let at = format!("where={}", dir.path("").display());
    let sql = "SELECT count(*) AS mentions, count(*) FILTER (WHERE substr(body, start_char + 1, end_char - start_char) = text) AS in_place
        FROM current_entities JOIN input_documents ON doc_id = id";
    let rows = dir.quarry(&["sql", &job, sql, "--set", &at, "--format", "csv"]).ended(0).stdout();
    let (mentions, in_place) = rows.lines().nth(1).unwrap().split_once(',').unwrap();
    assert_eq!(mentions, in_place);
    assert!(mentions.parse::<usize>().unwrap() > 5, "{rows}");
    let missing = dir.quarry(&["sql", &job, "SELECT 1"]).ended(1).error();
    assert!(missing.contains("`${where}`"), "{missing}");
}

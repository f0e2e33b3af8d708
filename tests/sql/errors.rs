//! Invalid queries and stores, and their error messages.

use insta::assert_snapshot;

use super::{TEXTS, ask};
use crate::support::Dir;

#[test]
fn errors_show_where_and_the_way_out() {
    let error = |sql: &str| ask(&[sql]).ended(1).error();
    assert_snapshot!(error("SELECT * FROM entitis"), @r##"
    error: cannot answer the query: there is no table or view `entitis`
        |
      1 | SELECT * FROM entitis
        |               ^^^^^^^
    hint: did you mean `entities`?
    "##);
    assert_snapshot!(error("SELECT 1;\nSELECT txt, score\nFROM entities"), @r##"
    error: cannot answer the query: there is no column `txt`
        |
      2 | SELECT txt, score
        |        ^^^
    hint: did you mean `text`?
    "##);
    assert_snapshot!(error("SELECT * FORM entities"), @r##"
    error: cannot answer the query: end of statement is expected, not `FORM`
        |
      1 | SELECT * FORM entities
        |          ^^^^
    hint: did you mean FROM?
    "##);
    assert_snapshot!(error("SELECT e.txt FROM entities e"), @r##"
    error: cannot answer the query: `e` has no column `txt`
        |
      1 | SELECT e.txt FROM entities e
        |        ^^^^^
    hint: did you mean `text`?
    "##);
    assert_snapshot!(error("SELECT count(* FROM entities"), @r##"
    error: cannot answer the query: `)` is expected, not `FROM`
        |
      1 | SELECT count(* FROM entities
        |                ^^^^
    "##);
    assert_snapshot!(error("SELECT 'it"), @r##"
    error: cannot answer the query: unterminated string literal
        |
      1 | SELECT 'it
        |        ^
    "##);
    assert_snapshot!(error("SELECT cuont(*) FROM entities"), @r##"
    error: cannot answer the query: invalid function 'cuont'
        |
      1 | SELECT cuont(*) FROM entities
        |        ^^^^^
    hint: did you mean 'cot'?
    "##);
    assert_snapshot!(error("SELECT text FROM entities GROUP BY doc_id"), @r##"
    error: cannot answer the query: 'entities.text' must appear in GROUP BY clause because it's not an aggregate expression
        |
      1 | SELECT text FROM entities GROUP BY doc_id
        |        ^^^^
    hint: Either add 'entities.text' to GROUP BY clause, or use an aggregate function like ANY_VALUE(entities.text)
    "##);
    assert_snapshot!(error("SELECT * FROM 'none.parquet'"), @r##"
    error: cannot answer the query: cannot use the files at `none.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
    assert_snapshot!(error("DROP TABLE entities"), @r##"
    error: cannot answer the query: `entities` belongs to the store, which is read-only here
    "##);
    assert_snapshot!(error("INSERT INTO metrics VALUES ('a', 'b', 'c', 1.0, 'd')"), @r##"
    error: cannot answer the query: `metrics` belongs to the store, which is read-only here
    "##);
    assert_snapshot!(error("\\dx"), @r##"
    error: sql: `\dx`: there is no such command
    hint: \? lists them
    "##);
    assert_snapshot!(ask(&["SELECT 1", "--format", "parquet"]).ended(1).error(), @r##"
    error: sql: `out`: Parquet output needs a file
    hint: use --out FILE, or \o FILE in the shell
    "##);
}

#[test]
fn a_store_that_is_not_there() {
    let dir = Dir::new();
    assert_snapshot!(dir.quarry(&["sql", "none", "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/none/` does not exist
    hint: check the path; `quarry run` creates a store
    "##);
    dir.write("other/file.txt", "no store");
    assert_snapshot!(dir.quarry(&["sql", "other", "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/other/` has no table `runs`
    hint: check the path; `quarry run` makes a store where there is none
    "##);
    dir.documents("docs.parquet", &TEXTS);
    let job = dir.job("docs.parquet", "store", "").display().to_string();
    assert_snapshot!(dir.quarry(&["sql", &job, "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/store/` does not exist
    hint: run the job with `quarry run` first
    "##);
}

/// Every file below a folder with its size.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => folders.push(entry.path()),
                metadata => found.push((entry.path(), metadata.len())),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn no_statement_writes_a_file() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &TEXTS);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", dir.small_model().display());
    let job = dir.job("docs.parquet", "store", &model).display().to_string();
    dir.quarry(&["run", &job]).ended(0);
    let before = files(&dir.path(""));
    let log = dir.path("store/entities/_delta_log").display().to_string();
    let external = format!("CREATE EXTERNAL TABLE e (a BIGINT) STORED AS CSV LOCATION '{log}/';");
    for (sql, reason) in [
        (format!("COPY entities TO '{log}/00000000000000000009.json' STORED AS JSON"), "COPY writes files"),
        (format!("EXPLAIN ANALYZE COPY entities TO '{log}/x.csv'"), "COPY writes files"),
        (format!("PREPARE p AS COPY entities TO '{log}/x.csv'; EXECUTE p"), "COPY"),
        (format!("{external} INSERT INTO e VALUES (1)"), "`e` is not a table in memory"),
        (format!("{external} PREPARE p AS INSERT INTO e VALUES (1); EXECUTE p"), "`e` is not a table in memory"),
        (format!("SET datafusion.runtime.temp_directory = '{log}'; SELECT 1"), "cannot be changed"),
    ] {
        let error = dir.quarry(&["sql", "store", &sql]).ended(1).error();
        assert!(error.contains(reason), "{sql}: {error}");
        assert_eq!(files(&dir.path("")), before, "{sql}");
    }
    let out = dir.path("store/entities/part-0.parquet").display().to_string();
    let error = dir.quarry(&["sql", "store", "SELECT 1 AS a", "--out", &out]).ended(1).error();
    assert!(error.contains("is inside the store"), "{error}");
    let error = dir.quarry(&["sql", "store", &format!("\\o {out}\nSELECT 1 AS a")]).ended(1).error();
    assert!(error.contains("is inside the store"), "{error}");
    assert_eq!(files(&dir.path("")), before);
    // Tables in memory can be changed, and a file that is named with --out is written.
    let sql = "CREATE TABLE t AS SELECT 1 AS a; INSERT INTO t VALUES (2); SELECT sum(a) AS a FROM t";
    let sum = dir.quarry(&["sql", "store", sql, "--format", "csv"]).ended(0).stdout();
    assert!(sum.ends_with("a\n3\n"), "{sum}");
    dir.quarry(&["sql", "store", "SELECT 3 AS a", "--out", "three.csv"]).ended(0);
    assert_eq!(std::fs::read_to_string(dir.path("three.csv")).unwrap(), "a\n3\n");
}

#[test]
fn control_characters_are_escaped_on_the_screen_and_exact_in_data() {
    let acts = |letter: char| letter.is_control() && letter != '\n';
    let error = ask(&["SELECT \u{1b}[31mx FROM entities"]).ended(1).stderr();
    assert!(!error.contains(acts) && error.contains(r"\u{1b}"), "{error:?}");
    let error = ask(&["SELECT \"\u{9b}31mx\" FROM entities"]).ended(1).stderr();
    assert!(!error.contains(acts) && error.contains(r"\u{9b}31mx"), "{error:?}");
    let sql = "SELECT 'a\u{1b}[31m\u{9b}b' AS \"n\u{1b}\"";
    let table = ask(&[sql]).ended(0).stdout();
    assert!(!table.contains(acts) && table.contains(r"│ a\u{1b}[31m\u{9b}b │"), "{table:?}");
    let view = ask(&[&format!("CREATE VIEW v AS {sql};\n\\d v")]).ended(0).stdout();
    assert!(!view.contains(acts) && view.contains(r"n\u{1b}"), "{view:?}");
    let plan = ask(&[&format!("EXPLAIN {sql}")]).ended(0).stdout();
    assert!(!plan.contains(acts) && plan.contains(r"\u{1b}[31m"), "{plan:?}");
    assert_eq!(ask(&[sql, "--format", "csv"]).ended(0).stdout(), "n\u{1b}\na\u{1b}[31m\u{9b}b\n");
    let json = ask(&[sql, "--format", "json"]).ended(0).stdout();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["n\u{1b}"], "a\u{1b}[31m\u{9b}b");
}

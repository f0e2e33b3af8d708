//! Answers as tables, CSV, JSON Lines and Parquet, to a terminal and into files.

use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;

use super::{answer, ask, made, unfinished};

#[test]
fn a_table_says_how_many_rows_it_has() {
    assert_snapshot!(answer("SELECT doc_id, entity_type, start_char, text FROM current_entities WHERE doc_id IN ('a', 'f') ORDER BY 1, 3"), @r##"
    ┌────────┬─────────────┬────────────┬─────────────────┐
    │ doc_id │ entity_type │ start_char │ text            │
    ├────────┼─────────────┼────────────┼─────────────────┤
    │ a      │ PER         │          0 │ Angela Merkel   │
    │ a      │ PER         │         18 │ Emmanuel Macron │
    │ a      │ LOC         │         37 │ Berlin          │
    │ f      │ PER         │          0 │ Emmanuel Macron │
    │ f      │ LOC         │         26 │ Paris           │
    │ f      │ LOC         │         35 │ Berlin          │
    │ f      │ PER         │         50 │ Olaf Scholz     │
    └────────┴─────────────┴────────────┴─────────────────┘
    (7 rows)
    "##);
    assert_snapshot!(ask(&["SELECT text FROM top_mentions", "--rows", "2"]).ended(0).stdout(), @r##"
    ┌─────────────────┐
    │ text            │
    ├─────────────────┤
    │ Berlin          │
    │ Emmanuel Macron │
    └─────────────────┘
    (first 2 of 9 rows; --rows 0 shows all)
    "##);
    assert_snapshot!(answer("SELECT * FROM entities WHERE false"), @r##"
    ┌────────┬─────────────┬────────────┬──────────┬──────┬───────┬────────┬────────┬────────┬─────────┐
    │ doc_id │ entity_type │ start_char │ end_char │ text │ score │ window │ run_id │ commit │ spec_id │
    ├────────┼─────────────┼────────────┼──────────┼──────┼───────┼────────┼────────┼────────┼─────────┤
    └────────┴─────────────┴────────────┴──────────┴──────┴───────┴────────┴────────┴────────┴─────────┘
    (0 rows)
    "##);
}

#[test]
fn csv_and_json_have_all_rows_and_columns() {
    let sql = "SELECT doc_id, n_chars, CASE WHEN n_entities > 0 THEN source END IS NULL AS empty, make_array(n_tokens, n_windows) AS sizes
        FROM current_documents ORDER BY doc_id LIMIT 3";
    assert_snapshot!(ask(&[sql, "--format", "csv"]).ended(0).stdout(), @r##"
    doc_id,n_chars,empty,sizes
    a,55,false,"[12, 1]"
    d,52,false,"[13, 1]"
    e,1,true,"[0, 0]"
    "##);
    assert_snapshot!(ask(&[sql, "--format", "json"]).ended(0).stdout(), @r##"
    {"doc_id":"a","n_chars":55,"empty":false,"sizes":[12,1]}
    {"doc_id":"d","n_chars":52,"empty":false,"sizes":[13,1]}
    {"doc_id":"e","n_chars":1,"empty":true,"sizes":[0,0]}
    "##);
    // Two columns of one name, a null, and no rows at all.
    let twice = "SELECT a.\"row\", b.\"row\", a.doc_id FROM rejects a JOIN rejects b USING (reason) ORDER BY 1";
    assert_snapshot!(ask(&[twice, "--format", "json"]).ended(0).stdout(), @r##"
    {"row":1,"row_1":1,"doc_id":"b"}
    {"row":2,"row_1":2,"doc_id":null}
    {"row":3,"row_1":3,"doc_id":"c"}
    "##);
    assert_snapshot!(ask(&["SELECT doc_id FROM entities WHERE false", "--format", "csv"]).ended(0).stdout(), @r##"
    doc_id
    "##);
    assert_snapshot!(ask(&["SELECT doc_id FROM entities WHERE false", "--format", "json"]).ended(0).stdout(), @"");
}

#[test]
fn parquet_output_is_valid_parquet() {
    let dir = made();
    let out = dir.path("rows.parquet").display().to_string();
    ask(&["SELECT * FROM current_entities", "--format", "parquet", "--out", &out]).ended(0);
    let counted = dir.sql(None, &[("rows", Path::new(&out))], "SELECT count(*), count(DISTINCT doc_id) FROM rows");
    assert_eq!(counted, dir.rows("store", "current_entities", "count(*), count(DISTINCT doc_id)", ""));
    assert_eq!(counted.len(), 1);
    // It was written under a temporary name until it was complete.
    assert_eq!(unfinished("rows.parquet"), None);
}

#[test]
fn a_failed_query_leaves_no_file() {
    let out = made().path("none.csv").display().to_string();
    let sql = "SELECT CAST(text AS int) FROM current_entities";
    let error = ask(&[sql, "--format", "csv", "--out", &out]).ended(1).error();
    assert!(error.starts_with("error: cannot answer the query: "), "{error}");
    assert!(!Path::new(&out).exists());
    assert_eq!(unfinished("none.csv"), None);
    let error = ask(&["SELECT 1; SELECT 2", "--format", "csv", "--out", &out]).ended(1).error();
    assert_snapshot!(error, @r##"
    error: sql: `out`: a file takes the rows of one query
    hint: run one query, or write several files
    "##);
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_reader_of_only_the_first_rows_gets_them() {
    let dir = made();
    let store = dir.path("store").display().to_string();
    let mut child = dir
        .command(&["sql", &store, "SELECT * FROM range(0, 3000000)", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(first.starts_with(b"value\n0\n1\n"));
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn many_rows_pass_through_little_memory() {
    let dir = made();
    let store = dir.path("store").display().to_string();
    for (format, lines) in [("csv", 2_000_001), ("json", 2_000_000)] {
        let sql = "SELECT value, repeat('x', 200) AS text FROM range(0, 2000000)";
        let mut child = dir.command(&["sql", &store, sql, "--format", format]).stdout(Stdio::piped()).spawn().unwrap();
        let mut read = std::io::BufReader::new(child.stdout.take().unwrap());
        let (mut count, mut peak, mut line) = (0, 0, Vec::new());
        let status = format!("/proc/{}/status", child.id());
        while std::io::BufRead::read_until(&mut read, b'\n', &mut line).unwrap() > 0 {
            line.clear();
            count += 1;
            if count % 200_000 == 0 {
                let status = std::fs::read_to_string(&status).unwrap_or_default();
                let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                peak =
                    peak.max(held.and_then(|held| held.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0));
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(count, lines);
        // The rows are 400 MB. Only Linux reports the peak memory.
        assert!(peak < 300_000 && (peak > 0 || !cfg!(target_os = "linux")), "{format}: {peak} kB");
    }
}

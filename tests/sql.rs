//! `quarry sql`: whole commands over a store that a run has made, and SQL logic tests over its tables and views.

mod edges;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use insta::assert_snapshot;
use quarry::engine::by_path::with_files;
use quarry::engine::location::StoreLocation;
use quarry::engine::session::{SessionSettings, register_store, session};
use quarry::engine::store::Store;
use quarry::engine::views;

use crate::support::{Dir, Finished, project};

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

/// A folder with the documents, a job and the store that a run of it made; made once.
fn made() -> &'static Dir {
    static MADE: OnceLock<Dir> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Dir::new();
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

fn answer(sql: &str) -> String {
    ask(&[sql]).ended(0).stdout()
}

// ---------------------------------------------------------------------------------------------------------- SQL logic tests

/// One record of a logic test: what is asked, and what must come.
struct Record {
    head: String,
    sql: String,
    expected: String,
}

/// The records of a file: `query` or `statement error TEXT`, the SQL, and for a query `----` and its rows.
fn records(text: &str) -> Vec<Record> {
    let blocks = text.split("\n\n").map(|block| {
        let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
        lines.join("\n").trim().to_owned()
    });
    let record = |block: String| {
        let (head, rest) = block.split_once('\n').unwrap_or((block.as_str(), ""));
        let (sql, expected) = rest.split_once("\n----").unwrap_or((rest, ""));
        Record { head: head.to_owned(), sql: sql.to_owned(), expected: expected.trim_start_matches('\n').to_owned() }
    };
    blocks.filter(|block| !block.is_empty()).map(record).collect()
}

/// A session as `quarry sql` has it.
async fn context(store: &Path) -> SessionContext {
    let store = Store::open_existing(StoreLocation::parse(store.to_str().unwrap()).unwrap()).await.unwrap();
    let context = with_files(session(&SessionSettings::default()).unwrap());
    register_store(&context, &store).await.unwrap();
    views::register(&context).await.unwrap();
    context
}

async fn rows(context: &SessionContext, sql: &str) -> Result<String, String> {
    let frame = context.sql(sql).await.map_err(|error| error.to_string())?;
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in &batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    // A plan ends with an empty line.
    Ok(lines.join("\n").trim_end().to_owned())
}

/// Runs a file of logic tests and says what went wrong; `QUARRY_BLESS=1` writes what came into it.
async fn logic_test(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let context = context(&made().path("store")).await;
    let folder = made().path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let mut wrong = Vec::new();
    let mut blessed = text.clone();
    for record in records(&text) {
        let came = rows(&context, &record.sql.replace("$DIR", folder)).await;
        let came = came.map(|rows| rows.replace(folder, "$DIR")).map_err(|error| error.replace(folder, "$DIR"));
        match (record.head.strip_prefix("statement error "), &came) {
            (Some(part), Err(error)) if error.contains(part) => {}
            (None, Ok(rows)) if *rows == record.expected => {}
            (None, Ok(rows)) => {
                let before = format!("{}\n----{}", record.sql, text_after(&record.expected));
                blessed = blessed.replace(&before, &format!("{}\n----{}", record.sql, text_after(rows)));
                wrong.push(format!("{}\nexpected:\n{}\ncame:\n{rows}", record.sql, record.expected));
            }
            (_, came) => wrong.push(format!("{}\n{}\ncame: {came:?}", record.head, record.sql)),
        }
    }
    if std::env::var_os("QUARRY_BLESS").is_some() {
        std::fs::write(path, blessed).unwrap();
    }
    wrong
}

fn text_after(rows: &str) -> String {
    if rows.is_empty() { String::new() } else { format!("\n{rows}") }
}

#[test]
fn sql_logic_tests() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(project().join("tests/sql")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "slt"));
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    let mut wrong = Vec::new();
    for file in files {
        assert!(records(&std::fs::read_to_string(&file).unwrap()).len() > 2, "{}", file.display());
        wrong.extend(runtime.block_on(logic_test(&file)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_view_is_planned_and_run_and_described() {
    let names: Vec<&str> = views::all().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 9);
    let sql: Vec<String> = names.iter().map(|name| format!("SELECT * FROM {name};\n\\d {name}\n")).collect();
    let said = answer(&sql.concat());
    assert_eq!(said.matches(" rows)").count() + said.matches(" row)").count(), names.len(), "{said}");
    for (_, query) in views::all() {
        assert!(said.contains(query), "{said}");
    }
}

// ------------------------------------------------------------------------------------------------------------ whole commands

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
fn parquet_is_read_by_what_reads_parquet() {
    let dir = made();
    let out = dir.path("rows.parquet").display().to_string();
    ask(&["SELECT * FROM current_entities", "--format", "parquet", "--out", &out]).ended(0);
    let counted = dir.sql(None, &[("rows", Path::new(&out))], "SELECT count(*), count(DISTINCT doc_id) FROM rows");
    assert_eq!(counted, dir.rows("store", "current_entities", "count(*), count(DISTINCT doc_id)", ""));
    assert_eq!(counted.len(), 1);
    // It was written under another name until it was whole.
    assert!(!dir.path(".rows.parquet.part").exists());
}

#[test]
fn a_failed_query_leaves_no_file() {
    let out = made().path("none.csv").display().to_string();
    let sql = "SELECT CAST(text AS int) FROM current_entities";
    let error = ask(&[sql, "--format", "csv", "--out", &out]).ended(1).error();
    assert!(error.starts_with("error: cannot answer the query: "), "{error}");
    assert!(!Path::new(&out).exists() && !made().path(".none.csv.part").exists());
    let error = ask(&["SELECT 1; SELECT 2", "--format", "csv", "--out", &out]).ended(1).error();
    assert_snapshot!(error, @r##"
    error: sql: `out`: a file takes the rows of one query
    hint: ask for one result, or write several files
    "##);
    assert!(!Path::new(&out).exists());
}

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
    error: cannot answer the query: `entities` belongs to the store, which is only read here
    "##);
    assert_snapshot!(error("INSERT INTO metrics VALUES ('a', 'b', 'c', 1.0, 'd')"), @r##"
    error: cannot answer the query: `metrics` belongs to the store, which is only read here
    "##);
    assert_snapshot!(error("\\dx"), @r##"
    error: sql: `\dx`: there is no such command
    hint: \? lists them
    "##);
    assert_snapshot!(ask(&["SELECT 1", "--format", "parquet"]).ended(1).error(), @r##"
    error: sql: `out`: Parquet goes into a file
    hint: name it with --out FILE, or \o FILE in the shell
    "##);
}

#[test]
fn a_store_that_is_not_there() {
    let dir = Dir::new();
    assert_snapshot!(dir.quarry(&["sql", "none", "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/none/` is not there
    hint: check the path; `quarry run` makes a store where there is none
    "##);
    dir.write("other/file.txt", "no store");
    assert_snapshot!(dir.quarry(&["sql", "other", "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/other/` has no table `runs`
    hint: check the path; `quarry run` makes a store where there is none
    "##);
    dir.documents("docs.parquet", &TEXTS);
    let job = dir.job("docs.parquet", "store", "").display().to_string();
    assert_snapshot!(dir.quarry(&["sql", &job, "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/store/` is not there
    hint: start the job with `quarry run` first
    "##);
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

#[test]
fn statements_come_from_standard_input_or_a_file() {
    let dir = made();
    let script = "-- two results and a command\nCREATE VIEW people AS SELECT DISTINCT text FROM current_entities WHERE entity_type = 'PER';
SELECT count(*) AS people FROM people; \\x on
SELECT 'a;b' AS text, 1 AS one";
    let store = dir.path("store").display().to_string();
    let mut child = dir.command(&["sql", &store]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let piped = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_snapshot!(piped, @r##"
    ┌────────┐
    │ people │
    ├────────┤
    │      4 │
    └────────┘
    (1 row)
    ─[ 1 ]─
    text │ a;b
    one  │ 1
    (1 row)
    "##);
    let file = dir.write("people.sql", script).display().to_string();
    assert_eq!(ask(&["--file", &file]).ended(0).stdout(), piped);
    assert_eq!(ask(&[&format!("\\i {file}")]).ended(0).stdout(), piped);
    let looped = dir.write("loop.sql", &format!("\\i {}", dir.path("loop.sql").display())).display().to_string();
    assert!(ask(&["--file", &looped]).ended(1).error().contains("the files read each other"));
}

#[test]
fn whoever_reads_only_the_first_rows_has_them() {
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
fn ctrl_c_ends_a_query() {
    let dir = made();
    let out = dir.path("endless.csv");
    let store = dir.path("store").display().to_string();
    let sql = "SELECT a.value FROM range(0, 10000000) a, range(0, 10000000) b";
    let mut child = dir
        .command(&["sql", &store, sql, "--format", "csv", "--out", out.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = dir.path(".endless.csv.part");
    while !part.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!part.exists() && !out.exists(), "a part was left");
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
        // The rows are 400 MB.
        assert!(peak < 300_000, "{format}: {peak} kB");
    }
}

/// Types into the shell on a pseudo-terminal; what the screen got, without what moves the cursor. `None` where there is no Python.
fn typed(lines: &[&str]) -> Option<String> {
    let dir = made();
    let store = dir.path("store").display().to_string();
    let script = project().join("tests/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(env!("CARGO_BIN_EXE_quarry")).args(["sql", &store]).current_dir(dir.path(""));
    command.env("QUARRY_CACHE", dir.path("cache")).env("TERM", "xterm").env("NO_COLOR", "1");
    let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        eprintln!("skipped: there is no python3, which types into a terminal");
        return None;
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), (lines.join("\n") + "\n").as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let screen = String::from_utf8_lossy(&ended.stdout).replace("\r\n", "\n");
    assert!(ended.status.success(), "{screen}");
    Some(screen)
}

#[test]
fn the_shell_completes_remembers_cancels_and_goes_on() {
    if std::env::var_os("QUARRY_TERMINAL_TESTS").is_none() {
        eprintln!(
            "skipped: QUARRY_TERMINAL_TESTS=1 types into the shell, which wants a machine that does nothing else"
        );
        return;
    }
    // Keys are written as the script reads them: ⇥ Tab, ^C, ^D, ^P, ↵ Enter.
    let Some(screen) = typed(&[
        "SELECT count(*) AS n FROM current_ent⇥;↵",
        "(1 row",
        "SELECT 40 +↵2 AS answer;↵",
        "42",
        "SELECT * FROM entitis;↵",
        "did you mean `entities`?",
        "SELECT count(*) FROM range(0, 10000000) a, range(0, 10000000) b;↵",
        "@1",
        "^C",
        "(cancelled)",
        "\\d runs↵",
        "started_at",
        "\\timing off↵",
        "timing is off",
        "SELECT 41 AS before;↵",
        "(1 row)",
        "^P↵",
        "(1 row)",
        "\\q↵",
    ]) else {
        return;
    };
    assert!(screen.contains("FROM current_entities"), "{screen}");
    assert_eq!(screen.matches("│     41 │").count(), 2, "{screen}");
    let history = std::fs::read_to_string(made().path("cache/sql_history")).unwrap();
    assert!(history.contains("SELECT 40 +\\n2 AS answer;") && history.contains("timing off"), "{history}");
}

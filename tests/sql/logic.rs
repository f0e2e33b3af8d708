//! SQL logic tests: the queries of `tests/sql/*.slt` and their expected results.

use std::path::{Path, PathBuf};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use quarry::query::file_catalog::with_files;
use quarry::query::session::{SessionSettings, register_store, session};
use quarry::query::views;
use quarry::source::location::StoreLocation;
use quarry::store::delta_store::Store;

use super::{answer, made};
use crate::support::project;

/// One record of a logic test: a query and its expected result.
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

/// Runs a file of logic tests and returns its failures; `QUARRY_BLESS=1` writes the actual results into it.
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

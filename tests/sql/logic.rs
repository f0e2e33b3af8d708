//! SQL logic tests: the queries of `tests/sql/*.slt` and their expected results. `QUARRY_BLESS=1` writes the actual results into them.

use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use quarry::query::file_catalog::with_files;
use quarry::query::session::{SessionSettings, register_store, session};
use quarry::query::views;
use quarry::source::location::StoreLocation;
use quarry::store::delta_store::Store;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Normalizer, Record, Runner, default_normalizer};

use super::{answer, ask, made};
use crate::support::project;

/// Separates the columns of a row.
const BETWEEN: &str = "|";

/// A session as `quarry sql` has it. `$DIR` stands for the folder of the documents.
struct Session {
    context: SessionContext,
    folder: String,
}

impl Session {
    async fn open() -> Result<Self, DataFusionError> {
        let location = StoreLocation::parse(made().path("store").to_str().unwrap()).unwrap();
        let store = Store::open_existing(location).await.unwrap();
        let context = with_files(session(&SessionSettings::default()).unwrap());
        register_store(&context, &store).await.unwrap();
        views::register(&context).await.unwrap();
        Ok(Self { context, folder: made().path("").display().to_string().trim_end_matches('/').to_owned() })
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let hidden = |error: DataFusionError| DataFusionError::Plan(error.to_string().replace(&self.folder, "$DIR"));
        let frame = self.context.sql(&sql.replace("$DIR", &self.folder)).await.map_err(hidden)?;
        let types = frame.schema().fields().iter().map(|field| column_type(field.data_type())).collect();
        let batches = frame.collect().await.map_err(hidden)?;
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap());
            let columns: Vec<ArrayFormatter<'_>> = columns.collect();
            let cell = |column: &ArrayFormatter<'_>, row| column.value(row).to_string().replace(&self.folder, "$DIR");
            // A plan ends with an empty line, which would end the rows.
            let row = |row| columns.iter().map(|column| cell(column, row).trim_end_matches('\n').to_owned()).collect();
            rows.extend((0..batch.num_rows()).map(row));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

/// `I`, `R` or `T` in the head of a query, or `?`.
fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DefaultColumnType::Text,
        data_type if data_type.is_integer() => DefaultColumnType::Integer,
        data_type if data_type.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Any,
    }
}

/// Whether the rows are exactly the expected ones, in this order and with this white space. A cell can have several lines.
fn same(_: Normalizer, came: &[Vec<String>], expected: &[String]) -> bool {
    let came: Vec<String> = came.iter().map(|row| row.join(BETWEEN)).collect();
    came.join("\n") == expected.join("\n")
}

/// Runs a file of logic tests and says what went wrong.
async fn logic_test(path: &Path) -> Vec<String> {
    let mut runner = Runner::new(Session::open);
    runner.with_validator(same);
    runner.with_column_validator(sqllogictest::strict_column_validator);
    let records: Vec<Record<DefaultColumnType>> = sqllogictest::parse_file(path).unwrap();
    let asked = |record: &&Record<_>| matches!(record, Record::Query { .. } | Record::Statement { .. });
    assert!(records.iter().filter(asked).count() > 2, "{}", path.display());
    let mut wrong = Vec::new();
    for record in records {
        wrong.extend(runner.run_async(record).await.err().map(|error| error.display(false).to_string()));
    }
    if std::env::var_os("QUARRY_BLESS").is_some() {
        let validate = sqllogictest::strict_column_validator;
        runner.update_test_file(path, BETWEEN, same, default_normalizer, validate).await.unwrap();
    }
    wrong
}

#[test]
fn sql_logic_tests() {
    // The files that they read.
    for name in ["a.csv", "a.jsonl"] {
        let out = made().path(name).display().to_string();
        ask(&["SELECT doc_id, text FROM current_entities WHERE doc_id = 'a'", "--out", &out]).ended(0);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(project().join("tests/sql")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "slt"));
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    let wrong: Vec<String> = files.iter().flat_map(|file| runtime.block_on(logic_test(file))).collect();
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

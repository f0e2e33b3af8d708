//! Stores after commits. In: files of `WriteExec`. Out: the rows that SQL reads, the state for the next run, and conflict errors.

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::query::session::{SessionSettings, register_store, session};
use crate::source::location::StoreLocation;
use crate::store::table_files::TableFiles;
use crate::store::write::commit::*;
use crate::store::write::write_exec::WriteSpec;
use crate::store::write::write_exec::tests::{stamp, written};
use crate::tables;
use crate::tables::{MetricRow, SourceOutcome, Stamp, metric_rows, sample};

pub(crate) fn location(folder: &TempDir) -> StoreLocation {
    StoreLocation::parse(folder.path().join("a store").to_str().unwrap()).unwrap()
}

pub(crate) async fn open(folder: &TempDir) -> Store {
    Store::open(location(folder), DataType::Utf8).await.unwrap()
}

/// Commit `number` of `run_id`: three documents of `source`, one of them refused.
pub(crate) async fn commit(store: &Store, number: i64, run_id: &str, source: &str) -> Commit {
    commit_of(store, stamp(number, run_id), source, number * 10).await
}

/// The files of the documents `first` and `first + 1` of `source`, and of a refused one.
pub(crate) async fn files(
    store: &Store,
    stamp: &Stamp,
    source: &str,
    first: i64,
) -> datafusion::error::Result<Vec<WrittenFile>> {
    let split = tables::split(&sample::three(store.id_type(), source, first), stamp)?;
    let mut files = Vec::new();
    for (table, rows) in
        [(Table::Entities, split.entities), (Table::Documents, split.documents), (Table::Rejects, split.rejects)]
    {
        let mut writer = TableFiles::new(table, store.location(), &stamp.spec_id);
        writer.write(&rows).await?;
        files.extend(writer.finish().await?);
    }
    Ok(files)
}

/// A commit of [`files`] and of their source.
pub(crate) async fn commit_of(store: &Store, stamp: Stamp, source: &str, first: i64) -> Commit {
    let files = files(store, &stamp, source, first).await.unwrap();
    let Stamp { run_id, commit: number, spec_id, .. } = stamp;
    let row = SourceRow {
        path: source.to_owned(),
        size: 1,
        etag: None,
        modified_at: None,
        input_hash: "77".to_owned(),
        rows: 3,
        outcome: SourceOutcome::Done,
        changed_in: None,
        repeated: false,
        run_id: run_id.clone(),
        spec_id,
    };
    Commit { number, run_id, files, replaced: vec![], sources: vec![row] }
}

pub(crate) async fn context(store: &Store) -> SessionContext {
    let context = session(&SessionSettings { target_partitions: Some(2), ..SessionSettings::default() }).unwrap();
    register_store(&context, store).await.unwrap();
    context
}

pub(crate) async fn query(store: &Store, sql: &str) -> String {
    let batches = context(store).await.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// The rows of all commits.
pub(crate) async fn rows(store: &Store) -> String {
    let mut rows = String::new();
    for (table, order) in [
        ("entities", "commit, doc_id, start_char"),
        ("documents", "commit, doc_id"),
        ("rejects", "commit"),
        ("sources", "path, run_id"),
    ] {
        rows += &query(store, &format!("SELECT * FROM {table} ORDER BY {order}")).await;
    }
    rows
}

/// Numbers of rows in entities, documents, rejects and sources.
pub(crate) async fn counts(store: &Store) -> [i64; 4] {
    let context = context(store).await;
    let mut counts = [0; 4];
    for (count, table) in counts.iter_mut().zip([Table::Entities, Table::Documents, Table::Rejects, Table::Sources]) {
        *count = context.table(table.name()).await.unwrap().count().await.unwrap() as i64;
    }
    counts
}

#[tokio::test]
async fn committed_rows_are_readable() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    assert_eq!(store.last_commit(), None);
    assert_eq!(counts(&store).await, [0; 4]);
    let mut first = commit(&store, 1, "run-1", "a.parquet").await;
    let spec = WriteSpec::new(store.location(), stamp(1, "run-1"));
    first.files = written(spec, vec![vec![sample::three(&DataType::Utf8, "a.parquet", 10)]]).await;
    store.commit(&first).await.unwrap();
    assert_eq!(store.last_commit(), Some(1));
    assert_snapshot!(query(&store, "SELECT * FROM current_entities ORDER BY doc_id, start_char").await, @"
    +--------+-------------+------------+----------+--------+-------+--------+--------+--------+---------+
    | doc_id | entity_type | start_char | end_char | text   | score | window | run_id | commit | spec_id |
    +--------+-------------+------------+----------+--------+-------+--------+--------+--------+---------+
    | doc-10 | PER         | 0          | 3        | Ada    | 0.75  | 0      | run-1  | 1      | 5ec     |
    | doc-10 | LOC         | 10         | 16       | London | 0.75  | 0      | run-1  | 1      | 5ec     |
    | doc-11 | ORG         | 4          | 6        | É²     | 0.75  | 0      | run-1  | 1      | 5ec     |
    +--------+-------------+------------+----------+--------+-------+--------+--------+--------+---------+
    ");
    assert_snapshot!(query(&store, "SELECT * EXCEPT (finished_at) FROM current_documents ORDER BY doc_id").await, @"
    +--------+-----------+-----+--------------+---------+----------+-----------+------------+--------+--------+---------+
    | doc_id | source    | row | content_hash | n_chars | n_tokens | n_windows | n_entities | run_id | commit | spec_id |
    +--------+-----------+-----+--------------+---------+----------+-----------+------------+--------+--------+---------+
    | doc-10 | a.parquet | 0   | 0000000a     | 40      | 9        | 1         | 2          | run-1  | 1      | 5ec     |
    | doc-11 | a.parquet | 2   | 0000000b     | 40      | 9        | 1         | 1          | run-1  | 1      | 5ec     |
    +--------+-----------+-----+--------------+---------+----------+-----------+------------+--------+--------+---------+
    ");
    assert_snapshot!(query(&store, "SELECT * FROM rejects").await, @"
    +-----------+-----+--------+---------+--------+--------+--------+---------+
    | source    | row | doc_id | reason  | detail | run_id | commit | spec_id |
    +-----------+-----+--------+---------+--------+--------+--------+---------+
    | a.parquet | 1   |        | null_id | seen   | run-1  | 1      | 5ec     |
    +-----------+-----+--------+---------+--------+--------+--------+---------+
    ");
    assert_snapshot!(query(&store, "SELECT path, rows, outcome FROM sources").await, @"
    +-----------+------+---------+
    | path      | rows | outcome |
    +-----------+------+---------+
    | a.parquet | 3    | done    |
    +-----------+------+---------+
    ");
}

#[tokio::test]
async fn a_second_commit_appends_and_a_reopened_store_knows_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    for number in [1, 2] {
        let next = commit(&store, number, "run-1", "a.parquet").await;
        store.commit(&next).await.unwrap();
    }
    let metric = MetricRow {
        run_id: "run-1".to_owned(),
        scope: "all".to_owned(),
        name: "documents".to_owned(),
        value: 4.0,
        unit: "documents".to_owned(),
    };
    store.append(Table::Metrics, &metric_rows(&[metric]).unwrap(), "run-1").await.unwrap();
    drop(store);
    let store = Store::open_existing(location(&folder)).await.unwrap();
    assert_eq!(store.id_type(), &DataType::Utf8);
    assert_eq!(store.last_commit(), Some(2));
    assert_eq!(store.version(Table::Documents), 2);
    assert_eq!(counts(&store).await, [6, 4, 2, 2]);
    assert_eq!(store.incomplete_commit(), None);
    assert_snapshot!(query(&store, "SELECT scope, name, value FROM metrics").await, @"
    +-------+-----------+-------+
    | scope | name      | value |
    +-------+-----------+-------+
    | all   | documents | 4.0   |
    +-------+-----------+-------+
    ");
}

#[tokio::test]
async fn a_repeated_commit_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let first = commit(&store, 1, "run-1", "a.parquet").await;
    store.commit(&first).await.unwrap();
    store.commit(&first).await.unwrap();
    assert_eq!(counts(&store).await, [3, 2, 1, 1]);
    let other = commit(&store, 1, "run-2", "a.parquet").await;
    let error = store.commit(&other).await.unwrap_err();
    assert!(error.to_string().contains("by the run run-1"), "{error}");
}

#[tokio::test]
async fn another_writer_is_a_conflict_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (open(&folder).await, open(&folder).await);
    let (ours, theirs) = (commit(&one, 1, "run-1", "a.parquet").await, commit(&other, 1, "run-2", "b.parquet").await);
    one.commit(&ours).await.unwrap();
    let error = other.commit(&theirs).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let cause = std::error::Error::source(&error).unwrap();
    let shown = format!("{error}: {cause}").replace(&one.location().to_string(), "STORE");
    assert_snapshot!(shown, @"the store `STORE` is being written to by the run run-1: version 1 of `entities` is its transaction, not ours");
    assert_eq!(counts(&one).await, [3, 2, 1, 1]);
    other.refresh().await.unwrap();
    assert_eq!(counts(&other).await, [3, 2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_concurrent_writers_wins() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).await;
    let mut writers = Vec::new();
    for writer in 0..4 {
        let mut store = open(&folder).await;
        let run_id = format!("run-{writer}");
        let first = commit(&store, 1, &run_id, "a.parquet").await;
        writers.push(tokio::spawn(async move { store.commit(&first).await }));
    }
    let mut won = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error:?}"),
        }
    }
    assert_eq!(won, 1);
    let store = open(&folder).await;
    assert_eq!(counts(&store).await, [3, 2, 1, 1]);
    assert_eq!(store.incomplete_commit(), None);
}

#[tokio::test]
async fn rows_outside_commits_do_not_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (open(&folder).await, open(&folder).await);
    let metric = MetricRow {
        run_id: "run-1".to_owned(),
        scope: "all".to_owned(),
        name: "documents".to_owned(),
        value: 4.0,
        unit: "documents".to_owned(),
    };
    let rows = metric_rows(&[metric]).unwrap();
    one.append(Table::Metrics, &rows, "run-1").await.unwrap();
    other.append(Table::Metrics, &rows, "run-2").await.unwrap();
    assert_eq!(other.provider(Table::Metrics).unwrap().schema(), other.schema(Table::Metrics));
    let read = query(&other, "SELECT count(*) FROM metrics").await;
    assert!(read.contains("| 2 "), "{read}");
}

/// Commits only to the first `tables` of [`ORDER`], like a run that is killed in between.
pub(crate) async fn begin(store: &mut Store, commit: &Commit, tables: usize) -> Result<(), crate::error::Cause> {
    write(store, commit, &ORDER[..tables]).await
}

/// Commits to these tables.
async fn write(store: &mut Store, commit: &Commit, tables: &[Table]) -> Result<(), crate::error::Cause> {
    for table in tables {
        let actions = store.actions(*table, commit).await?;
        let change = Change { actions, run_id: &commit.run_id, number: Some(commit.number), compaction: false };
        store.transact(*table, change).await?;
    }
    Ok(())
}

mod incomplete;
mod many;

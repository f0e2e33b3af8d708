//! Rows of `runs` from start to end. In: runs that end, die or end concurrently. Out: the rows that SQL reads.

use arrow::datatypes::DataType;
use chrono::DateTime;
use insta::assert_snapshot;

use crate::store::runs::*;
use crate::store::write::commit::tests::{location, open, query};

pub(crate) fn run(id: &str, outcome: RunOutcome) -> RunRow {
    let text = |text: &str| text.to_owned();
    RunRow {
        run_id: text(id),
        spec_id: text("5ec"),
        job: text("{}"),
        model: text("models/default"),
        model_hash: text("00"),
        precision: text("fp32"),
        device: text("cpu"),
        versions: text("{}"),
        started_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        finished_at: DateTime::from_timestamp(1_700_000_060, 0),
        outcome,
        counts: text("{}"),
    }
}

async fn shown(store: &Store) -> String {
    query(store, "SELECT run_id, started_at, finished_at, outcome FROM runs ORDER BY run_id, outcome").await
}

/// Puts all rows of `runs` into one file, as an optimize does.
async fn in_one_file(store: &mut Store) {
    let schema = store.schema(TABLE);
    let files = store.data_files(TABLE).unwrap();
    let mut rows = Vec::new();
    for file in &files {
        let batches: Vec<_> =
            file.read(store.location().objects(), &schema).await.unwrap().try_collect().await.unwrap();
        rows.extend(batches);
    }
    let written = store.write_rows(TABLE, &concat_batches(&schema, &rows).unwrap()).await.unwrap().unwrap();
    let mut actions: Vec<_> = files.iter().map(|file| file.remove(false)).collect();
    actions.push(Action::Add(store.parse(&written).unwrap()));
    let change = Change { actions, run_id: "x", number: None, compaction: true };
    assert!(store.attempt(TABLE, change).await.unwrap());
    assert_eq!(store.data_files(TABLE).unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_begins_and_ends_in_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    store.begin_run(&run("run-1", RunOutcome::Done)).await.unwrap();
    assert_snapshot!(shown(&store).await, @"
    +--------+----------------------+-------------+---------+
    | run_id | started_at           | finished_at | outcome |
    +--------+----------------------+-------------+---------+
    | run-1  | 2023-11-14T22:13:20Z |             | running |
    +--------+----------------------+-------------+---------+
    ");
    let version = store.version(TABLE);
    store.end_run(&run("run-1", RunOutcome::Done)).await.unwrap();
    assert_eq!(store.version(TABLE), version + 1, "one transaction");
    assert_snapshot!(shown(&store).await, @"
    +--------+----------------------+----------------------+---------+
    | run_id | started_at           | finished_at          | outcome |
    +--------+----------------------+----------------------+---------+
    | run-1  | 2023-11-14T22:13:20Z | 2023-11-14T22:14:20Z | done    |
    +--------+----------------------+----------------------+---------+
    ");
}

#[tokio::test]
async fn without_a_start_the_end_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    store.end_run(&run("run-1", RunOutcome::Failed("no space".to_owned()))).await.unwrap();
    store.end_run(&run("run-2", RunOutcome::Done)).await.unwrap();
    assert_snapshot!(query(&store, "SELECT run_id, outcome FROM runs ORDER BY run_id").await, @"
    +--------+------------------+
    | run_id | outcome          |
    +--------+------------------+
    | run-1  | failed: no space |
    | run-2  | done             |
    +--------+------------------+
    ");
}

#[tokio::test]
async fn rows_of_other_runs_in_the_same_file_survive() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    for id in ["run-1", "run-2", "run-3"] {
        store.begin_run(&run(id, RunOutcome::Running)).await.unwrap();
    }
    in_one_file(&mut store).await;
    store.end_run(&run("run-2", RunOutcome::Done)).await.unwrap();
    assert_snapshot!(query(&store, "SELECT run_id, outcome FROM runs ORDER BY run_id").await, @"
    +--------+---------+
    | run_id | outcome |
    +--------+---------+
    | run-1  | running |
    | run-2  | done    |
    | run-3  | running |
    +--------+---------+
    ");
}

#[tokio::test]
async fn dead_runs_are_marked_and_no_others() {
    let mut marked = Vec::new();
    for together in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder).await;
        assert_eq!(store.mark_interrupted("run-3").await.unwrap(), 0);
        store.end_run(&run("run-0", RunOutcome::Done)).await.unwrap();
        for id in ["run-1", "run-2", "run-3"] {
            store.begin_run(&run(id, RunOutcome::Running)).await.unwrap();
        }
        if together {
            in_one_file(&mut store).await;
        }
        let version = store.version(TABLE);
        assert_eq!(store.mark_interrupted("run-3").await.unwrap(), 2);
        assert_eq!(store.mark_interrupted("run-3").await.unwrap(), 0);
        assert_eq!(store.version(TABLE), version + 1, "one transaction");
        marked.push(shown(&store).await);
    }
    assert_eq!(marked[0], marked[1]);
    assert_snapshot!(marked[0], @"
    +--------+----------------------+----------------------+-------------+
    | run_id | started_at           | finished_at          | outcome     |
    +--------+----------------------+----------------------+-------------+
    | run-0  | 2023-11-14T22:13:20Z | 2023-11-14T22:14:20Z | done        |
    | run-1  | 2023-11-14T22:13:20Z |                      | interrupted |
    | run-2  | 2023-11-14T22:13:20Z |                      | interrupted |
    | run-3  | 2023-11-14T22:13:20Z |                      | running     |
    +--------+----------------------+----------------------+-------------+
    ");
}

#[tokio::test]
async fn two_runs_that_end_at_once_both_have_their_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = open(&folder).await;
    one.begin_run(&run("run-1", RunOutcome::Running)).await.unwrap();
    one.begin_run(&run("run-2", RunOutcome::Running)).await.unwrap();
    let mut other = Store::open(location(&folder), DataType::Utf8).await.unwrap();
    in_one_file(&mut one).await;
    one.end_run(&run("run-1", RunOutcome::Done)).await.unwrap();
    // It has not read the new files yet, so its first attempt conflicts.
    other.end_run(&run("run-2", RunOutcome::Done)).await.unwrap();
    assert_snapshot!(query(&other, "SELECT run_id, outcome FROM runs ORDER BY run_id").await, @"
    +--------+---------+
    | run_id | outcome |
    +--------+---------+
    | run-1  | done    |
    | run-2  | done    |
    +--------+---------+
    ");
}

//! Long logs. In: hundreds of commits. Out: checkpoints, what a reopened store finds, and how long a commit takes.

#![allow(clippy::print_stderr, reason = "a measurement prints its figures")]

use std::time::{Duration, Instant};

use crate::store::write::commit::tests::{commit, counts, open};
use crate::store::write::transaction::*;

/// The checkpoints in a table's log.
fn checkpoints(store: &Store, table: Table) -> Vec<String> {
    let log = store.location().folder().unwrap().join(table.name()).join("_delta_log");
    let names = log.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut checkpoints: Vec<_> = names.filter(|name| name.contains(".checkpoint")).collect();
    checkpoints.sort();
    checkpoints
}

#[tokio::test]
async fn every_hundredth_transaction_writes_a_checkpoint_that_keeps_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let first = commit(&store, 1, "run-1", "a.parquet").await;
    store.commit(&first).await.unwrap();
    for number in 2..=101 {
        // Commits without files make the logs as long with less to write.
        let mut next = first.clone();
        (next.number, next.sources) = (number, vec![]);
        next.files = vec![];
        store.commit(&next).await.unwrap();
    }
    for table in [Table::Entities, Table::Rejects, Table::Sources, Table::Documents] {
        assert_eq!(checkpoints(&store, table), ["00000000000000000099.checkpoint.parquet"], "{}", table.name());
        // Log entries before the checkpoint are no longer needed.
        let log = store.location().folder().unwrap().join(table.name()).join("_delta_log");
        for version in 0..90 {
            std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
        }
    }
    let mut store = open(&folder).await;
    assert_eq!(store.last_commit(), Some(101));
    assert_eq!(counts(&store).await, [3, 2, 1, 1]);
    let last = commit(&store, 102, "run-2", "b.parquet").await;
    store.commit(&last).await.unwrap();
    assert_eq!(counts(&store).await, [6, 4, 2, 2]);
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_end_of_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    for number in 1..=99 {
        let change = Change { actions: vec![], run_id: "run-1", number: Some(number), compaction: false };
        store.write_log(Table::Entities, change).await.unwrap();
    }
    assert!(checkpoints(&store, Table::Entities).is_empty());
    store.write_checkpoints(&[Table::Entities]).await;
    assert_eq!(checkpoints(&store, Table::Entities), ["00000000000000000099.checkpoint.parquet"]);
}

#[tokio::test]
async fn tables_are_readable_after_commit_ahead_only_once_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    for number in 1..=45 {
        let next = commit(&store, number, "run-1", &format!("{number}.parquet")).await;
        store.commit_ahead(&next).await.unwrap();
        assert_eq!((store.version(Table::Documents), store.last_commit()), (number as u64, Some(number)));
        assert!(store.data_files(Table::Documents).is_err());
        if number % 7 == 0 {
            store.catch_up(&[Table::Documents]).await.unwrap();
            assert_eq!(store.data_files(Table::Documents).unwrap().len() as i64, number);
            assert!(store.data_files(Table::Sources).is_err());
        }
    }
    store.catch_up(&Table::ALL).await.unwrap();
    assert_eq!(counts(&store).await, [135, 90, 45, 45]);
    assert_eq!(counts(&open(&folder).await).await, [135, 90, 45, 45]);
    // A repeated commit is recognized without reading the tables, and another run's transaction stops the next commit.
    let last = commit(&store, 46, "run-1", "46.parquet").await;
    store.commit_ahead(&last).await.unwrap();
    store.commit_ahead(&last).await.unwrap();
    let mut other = open(&folder).await;
    let theirs = commit(&other, 47, "run-2", "47.parquet").await;
    other.commit(&theirs).await.unwrap();
    let ours = commit(&store, 47, "run-1", "47.parquet").await;
    let error = store.commit_ahead(&ours).await.unwrap_err();
    assert!(error.to_string().contains("by the run run-2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: the time of a commit, of catching up and of opening after 10 to 1000 commits"]
async fn commit_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let mut recent = Vec::new();
    for number in 1..=1000 {
        let next = commit(&store, number, "run-1", &format!("{number}.parquet")).await;
        let started = Instant::now();
        store.commit_ahead(&next).await.unwrap();
        recent.push(started.elapsed());
        if [10, 100, 190, 300, 600, 1000].contains(&number) {
            let last = &recent[recent.len() - 10..];
            let mean = last.iter().sum::<Duration>() / 10;
            let started = Instant::now();
            store.catch_up(&Table::ALL).await.unwrap();
            let catching_up = started.elapsed();
            let started = Instant::now();
            let reopened = open(&folder).await;
            let opening = started.elapsed();
            assert_eq!(reopened.last_commit(), Some(number));
            eprintln!(
                "{number:5} commits: commit {mean:?}, catch up {catching_up:?}, open {opening:?}, slowest {:?}",
                recent.iter().max()
            );
        }
    }
}

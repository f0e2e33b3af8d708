//! Unfinished commits and replaced files. In: a commit to the first tables only. Out: the state that the next run finds, and its
//! rollback.

use insta::assert_snapshot;

use crate::store::write::commit::tests::*;

#[tokio::test]
async fn a_incomplete_commit_is_found_and_removed() {
    for tables in 1..=3 {
        for before in [0, 1] {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(&folder).await;
            for number in 1..=before {
                let whole = commit(&store, number, "run-1", "a.parquet").await;
                store.commit(&whole).await.unwrap();
            }
            let expected = counts(&store).await;
            let half = commit(&store, before + 1, "run-1", "b.parquet").await;
            begin(&mut store, &half, tables).await.unwrap();
            let mut store = open(&folder).await;
            assert_eq!(store.incomplete_commit(), Some(before + 1));
            let view = query(&store, "SELECT count(*) AS n FROM current_entities").await;
            assert!(view.contains(&format!("| {} ", expected[0])), "{view}");
            store.roll_back_incomplete_commit("run-2").await.unwrap();
            let mut store = open(&folder).await;
            assert_eq!(store.incomplete_commit(), None);
            assert_eq!(store.last_commit(), (before > 0).then_some(before));
            assert_eq!(counts(&store).await, expected);
            let again = commit(&store, before + 1, "run-2", "b.parquet").await;
            store.commit(&again).await.unwrap();
            assert_eq!(counts(&store).await, [3, 2, 1, 1].map(|rows| rows * (before + 1)));
        }
    }
}

/// A store with one complete commit and a second one in its first `tables`.
async fn with_half(folder: &TempDir, tables: usize) -> (Store, Commit) {
    let mut store = open(folder).await;
    let whole = commit(&store, 1, "run-1", "a.parquet").await;
    store.commit(&whole).await.unwrap();
    let half = commit(&store, 2, "run-1", "b.parquet").await;
    begin(&mut store, &half, tables).await.unwrap();
    (store, half)
}

#[tokio::test]
async fn a_live_run_cannot_finish_a_commit_that_another_rolled_back() {
    for tables in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, half) = with_half(&folder, tables).await;
        let mut other = open(&folder).await;
        other.roll_back_incomplete_commit("run-2").await.unwrap();
        write(&mut one, &half, &ORDER[tables..]).await.unwrap_err();
        let error = one.commit(&half).await.unwrap_err();
        assert!(error.to_string().contains("by the run run-2"), "{error}");
        let again = commit(&other, 2, "run-2", "b.parquet").await;
        other.commit(&again).await.unwrap();
        let store = open(&folder).await;
        assert_eq!((store.incomplete_commit(), store.last_commit()), (None, Some(2)));
        assert_eq!(counts(&store).await, [6, 4, 2, 2], "{tables} tables");
    }
}

#[tokio::test]
async fn a_commit_that_was_completed_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, half) = with_half(&folder, 2).await;
    let mut other = open(&folder).await;
    assert_eq!(other.incomplete_commit(), Some(2));
    one.commit(&half).await.unwrap();
    other.roll_back_incomplete_commit("run-2").await.unwrap();
    for store in [&other, &open(&folder).await] {
        assert_eq!((store.incomplete_commit(), store.last_commit()), (None, Some(2)));
        assert_eq!(counts(store).await, [6, 4, 2, 2]);
    }
}

#[tokio::test]
async fn the_next_run_finishes_a_rollback_that_was_killed() {
    for killed_after in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        with_half(&folder, 2).await;
        let mut store = open(&folder).await;
        assert!(store.roll_back(ORDER.into_iter().rev().take(killed_after), "run-2").await.unwrap());
        let mut store = open(&folder).await;
        assert_eq!(store.incomplete_commit(), (killed_after < 4).then_some(2), "{killed_after} tables");
        store.roll_back_incomplete_commit("run-3").await.unwrap();
        assert_eq!(counts(&open(&folder).await).await, [3, 2, 1, 1], "{killed_after} tables");
        let again = commit(&store, 2, "run-3", "b.parquet").await;
        store.commit(&again).await.unwrap();
        assert_eq!(counts(&open(&folder).await).await, [6, 4, 2, 2], "{killed_after} tables");
    }
}

#[tokio::test]
async fn replaced_files_leave_every_table_and_come_back_when_the_commit_is_undone() {
    for tables in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder).await;
        for number in [1, 2] {
            let whole = commit(&store, number, "run-1", &format!("{number}.parquet")).await;
            store.commit(&whole).await.unwrap();
        }
        let rows = async |store: &Store| {
            let mut rows = String::new();
            for table in ORDER {
                let order = if table == Table::Sources { "path" } else { "commit, doc_id" };
                rows += &query(store, &format!("SELECT * FROM {} ORDER BY {order}", table.name())).await;
            }
            rows
        };
        let before = rows(&store).await;
        let mut third = commit(&store, 3, "run-1", "3.parquet").await;
        for table in ORDER {
            let files = store.data_files(table).unwrap();
            let first = files.iter().find(|file| match table {
                Table::Sources => file.bounds("path").unwrap().0 == "1.parquet",
                _ => file.bounds("commit").unwrap().0 == 1,
            });
            third.replaced.push((table, first.unwrap().path.clone()));
        }
        begin(&mut store, &third, tables).await.unwrap();
        if tables < ORDER.len() {
            let mut store = open(&folder).await;
            assert_ne!(rows(&store).await, before, "the incomplete commit shows");
            store.roll_back_incomplete_commit("run-2").await.unwrap();
            assert_eq!(rows(&store).await, before, "after {tables} tables");
            store.commit(&third).await.unwrap();
        }
        let mut store = open(&folder).await;
        store.commit(&third).await.unwrap();
        assert_eq!(counts(&store).await, [6, 4, 2, 2]);
        assert!(!query(&store, "SELECT DISTINCT commit FROM documents").await.contains("| 1 "));
        assert!(!query(&store, "SELECT path FROM sources").await.contains("1.parquet"));
    }
}

#[tokio::test]
async fn a_replaced_file_that_is_gone_is_an_error_and_not_a_table_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let first = commit(&store, 1, "run-1", "a.parquet").await;
    store.commit(&first).await.unwrap();
    let old = store.data_files(Table::Entities).unwrap().remove(0).path;
    let mut second = commit(&store, 2, "run-1", "a.parquet").await;
    second.replaced = vec![(Table::Entities, old.clone())];
    begin(&mut store, &second, 1).await.unwrap();
    std::fs::remove_file(folder.path().join("a store/entities").join(&old)).unwrap();
    let error = store.roll_back_incomplete_commit("run-2").await.unwrap_err();
    let shown = error.to_string().replace(&old, "FILE").replace(&location(&folder).to_string(), "STORE");
    assert_snapshot!(shown, @"the table `entities` of the store `STORE` is damaged: an incomplete commit cannot be rolled back: the file `FILE` that it replaced is gone");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn a_file_that_is_not_in_the_table_cannot_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let mut first = commit(&store, 1, "run-1", "a.parquet").await;
    first.replaced = vec![(Table::Rejects, "elsewhere.parquet".to_owned())];
    let error = store.commit(&first).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_snapshot!(cause, @"`rejects` has no file `elsewhere.parquet` to replace");
}

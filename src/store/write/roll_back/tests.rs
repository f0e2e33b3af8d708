//! The rollback of commits whose files another tool has merged. In: a commit to the first tables only, and an optimize by another tool. Out:
//! the rows before the commit, and the next commit.

use deltalake_core::kernel::{Add, CommitInfo};
use object_store::ObjectStoreExt as _;

use crate::store::write::commit::tests::*;
use crate::store::write::roll_back::*;

/// Merges all files of a table as another tool does: one entry without our numbers that changes no data.
async fn merged_by_another_tool(store: &mut Store, table: Table) {
    let schema = table.file_schema(store.id_type());
    let files = store.data_files(table).unwrap();
    let partition = files[0].partition.clone().unwrap_or_default();
    let mut writer = TableFiles::new(table, store.location(), &partition).with_file_bytes(usize::MAX);
    let mut actions = vec![Action::CommitInfo(CommitInfo {
        operation: Some("OPTIMIZE".to_owned()),
        engine_info: Some("another tool".to_owned()),
        ..CommitInfo::default()
    })];
    for file in &files {
        let mut batches = file.read(store.location().objects(), &schema).await.unwrap();
        while let Some(batch) = batches.try_next().await.unwrap() {
            writer.write(&batch).await.unwrap();
        }
        actions.push(file.remove(false));
    }
    let file = writer.finish().await.unwrap().unwrap();
    // Other tools do not know our statistics.
    actions.push(Action::Add(Add { data_change: false, stats: None, ..store.parse(&file).unwrap() }));
    append(store, table, &actions).await;
}

/// Appends an entry to a table's log.
async fn append(store: &mut Store, table: Table, actions: &[Action]) {
    let lines: Vec<String> = actions.iter().map(|action| serde_json::to_string(action).unwrap()).collect();
    let name = format!("_delta_log/{:020}.json", store.version(table) + 1);
    let path = store.location().table_path(table).parts().chain(object_store::path::Path::from(name).parts()).collect();
    store.location().objects().put(&path, lines.join("\n").into()).await.unwrap();
    store.refresh().await.unwrap();
}

/// Two commits, and a third that replaces a file of each table, in the first `tables`. Returns the rows before it, and the third.
async fn with_half(store: &mut Store, tables: usize) -> (String, crate::store::write::commit::Commit) {
    for number in [1, 2] {
        let whole = commit(store, number, "run-1", &format!("{number}.parquet")).await;
        store.commit(&whole).await.unwrap();
    }
    let before = rows(store).await;
    let mut third = commit(store, 3, "run-1", "3.parquet").await;
    for table in ORDER {
        third.replaced.push((table, store.data_files(table).unwrap()[0].path.clone()));
    }
    begin(store, &third, tables).await.unwrap();
    (before, third)
}

#[tokio::test]
async fn a_commit_whose_files_another_tool_has_merged_is_rolled_back() {
    for tables in 1..=3 {
        for times in 1..=2 {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(&folder).await;
            let (before, third) = with_half(&mut store, tables).await;
            for _ in 0..times {
                for table in ORDER {
                    merged_by_another_tool(&mut store, table).await;
                }
            }
            let mut store = open(&folder).await;
            assert_eq!(store.incomplete_commit(), Some(3));
            store.roll_back_incomplete_commit("run-2").await.unwrap();
            let mut store = open(&folder).await;
            assert_eq!((store.incomplete_commit(), store.last_commit()), (None, Some(2)));
            assert_eq!(rows(&store).await, before, "{tables} tables, merged {times} times");
            let mut again = commit(&store, 3, "run-2", "3.parquet").await;
            again.replaced = vec![];
            store.commit(&again).await.unwrap();
            assert_eq!(counts(&open(&folder).await).await, [9, 6, 3, 3]);
            assert_ne!(third.run_id, again.run_id);
        }
    }
}

#[tokio::test]
async fn merged_files_that_are_gone_are_an_error_that_no_retry_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let (_, third) = with_half(&mut store, 1).await;
    merged_by_another_tool(&mut store, Table::Entities).await;
    let written = third.files.iter().find(|file| file.table == Table::Entities).unwrap();
    let path = store.parse(written).unwrap().path;
    std::fs::remove_file(folder.path().join("a store/entities").join(&path)).unwrap();
    let error = store.roll_back_incomplete_commit("run-2").await.unwrap_err();
    let shown = error.to_string().replace(&path, "FILE").replace(&location(&folder).to_string(), "STORE");
    insta::assert_snapshot!(shown, @"the table `entities` of the store `STORE` is damaged: an incomplete commit cannot be rolled back: the file `FILE` that it wrote is gone");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn rows_that_another_tool_has_deleted_do_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    with_half(&mut store, 1).await;
    let files = store.data_files(Table::Entities).unwrap();
    let actions: Vec<Action> = files.iter().map(|file| file.remove(true)).collect();
    append(&mut store, Table::Entities, &actions).await;
    let error = store.roll_back_incomplete_commit("run-2").await.unwrap_err();
    assert!(error.to_string().contains("another tool has changed or deleted 3 of its rows since"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

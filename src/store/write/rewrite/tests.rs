//! Rewrites. In: stores of several commits. Out: the rows that SQL reads after the commit of a rewrite.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::store::write::commit::tests::{begin, commit, commit_of, counts, location, open, query};
use crate::store::write::rewrite::*;
use crate::store::write::write_exec::tests::stamp;
use crate::tables::{Stamp, sample, split};

/// Three commits; commit n has the documents n0 and n1.
async fn three_commits(folder: &TempDir) -> Store {
    let mut store = open(folder).await;
    for number in [1, 2, 3] {
        let next = commit(&store, number, "run-1", &format!("{number}.parquet")).await;
        store.commit(&next).await.unwrap();
    }
    store
}

fn texts(ids: &[&str]) -> StringArray {
    StringArray::from_iter_values(ids)
}

/// The number of replaced files per table.
fn replaced(rewrite: &Rewrite) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (table, _) in &rewrite.replaced {
        *counts.entry(table.name()).or_default() += 1;
    }
    counts
}

async fn documents(store: &Store) -> String {
    query(store, "SELECT doc_id, content_hash, n_entities, run_id, commit, finished_at FROM documents ORDER BY doc_id")
        .await
}

#[tokio::test]
async fn a_changed_document_replaces_its_old_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = three_commits(&folder).await;
    let rewrite = store.rewrite("5ec", &texts(&["doc-21", "unknown"])).await.unwrap();
    assert_eq!(replaced(&rewrite), BTreeMap::from([("documents", 1), ("entities", 1)]));
    assert_eq!(rewrite.rows, 2, "one document, one mention");
    assert_eq!(
        rewrite.files.iter().map(|file| (file.table, file.rows)).collect::<Vec<_>>(),
        [(Table::Entities, 2), (Table::Documents, 1)]
    );
    assert_eq!(counts(&store).await, [9, 6, 3, 3], "nothing has happened yet");
    let mut next = commit_of(&store, stamp(4, "run-2"), "2.parquet", 21).await;
    next.replace(rewrite);
    store.commit(&next).await.unwrap();
    assert_snapshot!(documents(&store).await, @"
    +--------+--------------+------------+--------+--------+----------------------+
    | doc_id | content_hash | n_entities | run_id | commit | finished_at          |
    +--------+--------------+------------+--------+--------+----------------------+
    | doc-10 | 0000000a     | 2          | run-1  | 1      | 2023-11-14T22:13:20Z |
    | doc-11 | 0000000b     | 1          | run-1  | 1      | 2023-11-14T22:13:20Z |
    | doc-20 | 00000014     | 2          | run-1  | 2      | 2023-11-14T22:13:20Z |
    | doc-21 | 00000015     | 2          | run-2  | 4      | 2023-11-14T22:13:20Z |
    | doc-22 | 00000016     | 1          | run-2  | 4      | 2023-11-14T22:13:20Z |
    | doc-30 | 0000001e     | 2          | run-1  | 3      | 2023-11-14T22:13:20Z |
    | doc-31 | 0000001f     | 1          | run-1  | 3      | 2023-11-14T22:13:20Z |
    +--------+--------------+------------+--------+--------+----------------------+
    ");
    assert_snapshot!(query(&store, "SELECT doc_id, text, run_id, commit FROM entities WHERE doc_id BETWEEN 'doc-20' AND 'doc-22' ORDER BY doc_id, start_char").await, @"
    +--------+--------+--------+--------+
    | doc_id | text   | run_id | commit |
    +--------+--------+--------+--------+
    | doc-20 | Ada    | run-1  | 2      |
    | doc-20 | London | run-1  | 2      |
    | doc-21 | Ada    | run-2  | 4      |
    | doc-21 | London | run-2  | 4      |
    | doc-22 | É²     | run-2  | 4      |
    +--------+--------+--------+--------+
    ");
}

#[tokio::test]
async fn a_file_without_remaining_rows_is_only_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = three_commits(&folder).await;
    let rewrite = store.rewrite("5ec", &texts(&["doc-30", "doc-31", "doc-30"])).await.unwrap();
    assert_eq!(replaced(&rewrite), BTreeMap::from([("documents", 1), ("entities", 1)]));
    assert_eq!((rewrite.files.len(), rewrite.rows), (0, 5));
}

#[tokio::test]
async fn other_specifications_and_unknown_documents_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = three_commits(&folder).await;
    assert_eq!(store.rewrite("other", &texts(&["doc-21"])).await.unwrap(), Rewrite::default());
    assert_eq!(store.rewrite("5ec", &texts(&[])).await.unwrap(), Rewrite::default());
    // Inside a file's id range, but not in the file.
    assert_eq!(store.rewrite("5ec", &texts(&["doc-205"])).await.unwrap(), Rewrite::default());
    let nulls = StringArray::from(vec![None::<&str>]);
    assert_eq!(store.rewrite("5ec", &nulls).await.unwrap(), Rewrite::default());
}

#[tokio::test]
async fn files_whose_id_range_excludes_the_documents_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = three_commits(&folder).await;
    for table in [Table::Entities, Table::Documents] {
        for file in store.data_files(table).unwrap() {
            if file.bounds("doc_id").unwrap().0 != "doc-20" {
                std::fs::remove_file(folder.path().join("a store").join(table.name()).join(&file.path)).unwrap();
            }
        }
    }
    assert_eq!(store.rewrite("5ec", &texts(&["doc-20"])).await.unwrap().rows, 3);
    let error = store.rewrite("5ec", &texts(&["doc-31"])).await.unwrap_err();
    assert!(error.causes().concat().contains("not found"), "{error:?}");
}

#[tokio::test]
async fn integer_ids_are_found_in_both_widths() {
    for (id_type, ids) in [
        (DataType::Int32, Arc::new(Int32Array::from(vec![-20, 31])) as ArrayRef),
        (DataType::Int64, Arc::new(Int64Array::from(vec![-20, 31])) as ArrayRef),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(location(&folder), id_type).await.unwrap();
        for (number, first) in [(1, -21), (2, 30)] {
            let next = commit_of(&store, stamp(number, "run-1"), "a.parquet", first).await;
            store.commit(&next).await.unwrap();
        }
        let rewrite = store.rewrite("5ec", &ids).await.unwrap();
        assert_eq!(rewrite.rows, 4);
        let last = Commit {
            number: 3,
            run_id: "run-1".to_owned(),
            files: rewrite.files,
            replaced: rewrite.replaced,
            sources: vec![],
        };
        store.commit(&last).await.unwrap();
        let stay = query(&store, "SELECT doc_id FROM documents ORDER BY doc_id").await;
        let stay: Vec<i64> = stay.split(['|', '\n']).filter_map(|cell| cell.trim().parse().ok()).collect();
        assert_eq!(stay, [-21, 30]);
        let error = store.rewrite("5ec", &texts(&["doc-1"])).await.unwrap_err();
        assert!(error.causes().concat().contains("documents have ids of the type Int"), "{error:?}");
    }
}

#[tokio::test]
async fn an_unfinished_rewrite_is_rolled_back_completely() {
    for tables in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let mut store = three_commits(&folder).await;
        let before = documents(&store).await;
        let rewrite = store.rewrite("5ec", &texts(&["doc-11", "doc-30", "doc-31"])).await.unwrap();
        let mut next = commit_of(&store, stamp(4, "run-2"), "2.parquet", 30).await;
        next.replace(rewrite);
        begin(&mut store, &next, tables).await.unwrap();
        let mut store = open(&folder).await;
        store.roll_back_incomplete_commit("run-3").await.unwrap();
        assert_eq!(documents(&store).await, before);
        assert_eq!(counts(&store).await, [9, 6, 3, 3]);
        store.commit(&next).await.unwrap();
        assert_eq!(counts(&store).await, [8, 5, 4, 4]);
    }
}

#[tokio::test]
async fn rejects_of_runs_of_other_jobs_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    for (number, run_id, source) in [(1, "run-1", "a.parquet"), (2, "run-2", "a.parquet"), (3, "run-1", "b.parquet")] {
        let next = commit(&store, number, run_id, source).await;
        store.commit(&next).await.unwrap();
    }
    let (others, paths) = (BTreeSet::from(["run-2".to_owned()]), BTreeSet::from(["a.parquet".to_owned()]));
    assert_eq!(store.forget_rejects("5ec", &BTreeSet::new(), &paths).await.unwrap().rows, 2);
    let rewrite = store.forget_rejects("5ec", &others, &paths).await.unwrap();
    assert_eq!((replaced(&rewrite), rewrite.rows), (BTreeMap::from([("rejects", 1)]), 1));
    let mut next = commit(&store, 4, "run-3", "c.parquet").await;
    next.replace(rewrite);
    store.commit(&next).await.unwrap();
    assert_snapshot!(query(&store, "SELECT source, run_id FROM rejects ORDER BY source").await, @"
    +-----------+--------+
    | source    | run_id |
    +-----------+--------+
    | a.parquet | run-2  |
    | b.parquet | run-1  |
    | c.parquet | run-3  |
    +-----------+--------+
    ");
}

#[tokio::test]
async fn the_last_commit_of_a_replacement_drops_every_other_specification() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = three_commits(&folder).await;
    let other = |number| Stamp { spec_id: "new".to_owned(), ..stamp(number, "run-2") };
    let next = commit_of(&store, other(4), "1.parquet", 10).await;
    store.commit(&next).await.unwrap();
    // Rows of two specifications in one file of `rejects`, as after an optimize.
    let mut writer = TableFiles::new(Table::Rejects, store.location(), "");
    for stamp in [stamp(5, "run-2"), other(5)] {
        let rows = split(&sample::three(store.id_type(), "5.parquet", 50), &stamp).unwrap();
        writer.write(&rows.rejects).await.unwrap();
    }
    let mixed = Commit {
        number: 5,
        run_id: "run-2".to_owned(),
        files: writer.finish().await.unwrap().into_iter().collect(),
        ..Commit::default()
    };
    store.commit(&mixed).await.unwrap();
    let rewrite = store.drop_other_specs("new").await.unwrap();
    assert_eq!(replaced(&rewrite), BTreeMap::from([("documents", 3), ("entities", 3), ("rejects", 4), ("sources", 3)]));
    assert_eq!(rewrite.files.len(), 1, "one row of the mixed file stays");
    assert_eq!(rewrite.rows, 9 + 6 + 3 + 1 + 3);
    let mut last = commit_of(&store, other(6), "2.parquet", 20).await;
    last.replace(rewrite);
    store.commit(&last).await.unwrap();
    assert_eq!(counts(&store).await, [6, 4, 3, 2]);
    for table in ["entities", "documents", "rejects", "sources"] {
        let specs = query(&store, &format!("SELECT DISTINCT spec_id FROM {table}")).await;
        assert!(specs.contains("| new ") && !specs.contains("5ec"), "{table}: {specs}");
    }
    assert_eq!(store.drop_other_specs("new").await.unwrap(), Rewrite::default());
}

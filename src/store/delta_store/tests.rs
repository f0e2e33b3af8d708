//! Opening and reading stores. In: stores with a few commits. Out: id types, refusals, and plans of SQL over them.

mod s3;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use insta::assert_snapshot;

use crate::query::session::register_store;
use crate::store::delta_store::*;
use crate::store::write::commit::Commit;
use crate::store::write::commit::tests::{commit, context, location, open};
use crate::store::write::write_exec::WriteSpec;
use crate::store::write::write_exec::tests::{stamp, written};
use crate::tables::sample;

#[tokio::test]
async fn another_type_of_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).await;
    let error = Store::open(location(&folder), DataType::Int64).await.unwrap_err();
    let shown = error.to_string().replace(&location(&folder).to_string(), "STORE");
    assert_snapshot!(shown, @"the store `STORE` has document ids of the type Utf8, and these documents have Int64");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn reading_creates_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open_existing(location(&folder)).await.unwrap_err();
    assert!(error.to_string().contains("has no table `runs`"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reader_opens_first_what_a_commit_writes_last() {
    for (first, second) in [("documents", "sources"), ("sources", "rejects"), ("rejects", "entities")] {
        let folder = tempfile::tempdir().unwrap();
        open(&folder).await;
        for table in [first, second] {
            std::fs::remove_dir_all(folder.path().join("a store").join(table)).unwrap();
        }
        let error = Store::open_existing(location(&folder)).await.unwrap_err();
        assert!(error.to_string().contains(&format!("has no table `{first}`")), "{error}");
    }
}

#[tokio::test]
async fn filters_skip_files_and_reach_the_parquet_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    for number in [1, 2, 3] {
        let next = commit(&store, number, "run-1", "a.parquet").await;
        store.commit(&next).await.unwrap();
    }
    let context = context(&store).await;
    let explain = async |sql: &str| {
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let mut shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
        while let Some(start) = shown.find("part-") {
            let end = start + shown[start..].find(".zstd").unwrap();
            shown.replace_range(start..end, "FILE");
        }
        let entities = store.location().table_path(Table::Entities).to_string();
        shown.replace(entities.strip_suffix("/entities").unwrap(), "STORE")
    };
    assert_snapshot!(explain("SELECT text FROM entities WHERE doc_id = 'doc-20'").await, @"DataSourceExec: file_groups={1 group: [[STORE/entities/spec_id=5ec/FILE.zstd.parquet]]}, projection=[text], file_type=parquet, predicate=doc_id@0 = doc-20, pruning_predicate=doc_id_null_count@2 != row_count@3 AND doc_id_min@0 <= doc-20 AND doc-20 <= doc_id_max@1, required_guarantees=[doc_id in (doc-20)]");
    assert_snapshot!(explain("SELECT text FROM entities WHERE spec_id = 'other'").await, @"
    FilterExec: spec_id@1 = other, projection=[text@0]
      EmptyExec
    ");
    assert_snapshot!(explain("SELECT max(commit), count(*) FROM documents").await, @"
    ProjectionExec: expr=[3 as max(documents.commit), 6 as count(*)]
      PlaceholderRowExec
    ");
}

#[tokio::test]
async fn integer_ids_stay_integers() {
    for id_type in [DataType::Int32, DataType::Int64] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(location(&folder), id_type.clone()).await.unwrap();
        let spec = WriteSpec::new(store.location(), stamp(1, "run-1"));
        let files = written(spec, vec![vec![sample::three(&id_type, "a.parquet", -7)]]).await;
        let first = Commit { number: 1, run_id: "run-1".to_owned(), files, ..Commit::default() };
        store.commit(&first).await.unwrap();
        let store = Store::open_existing(location(&folder)).await.unwrap();
        assert_eq!(store.id_type(), &id_type);
        let context = context(&store).await;
        let read = context.sql("SELECT doc_id, text FROM entities WHERE doc_id > -7").await.unwrap();
        let read = read.collect().await.unwrap();
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        assert_eq!(read[0].schema().field(0).data_type(), &id_type);
    }
}

#[tokio::test]
async fn every_sql_text_plans_against_the_schemas() {
    for id_type in [DataType::Utf8, DataType::Int32, DataType::Int64] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(location(&folder), id_type).await.unwrap();
        let context = context(&store).await;
        for (name, sql) in crate::query::session::VIEWS {
            context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            context.table(name).await.unwrap().collect().await.unwrap();
        }
        register_store(&context, &store).await.unwrap();
    }
}

//! Tables before and after an optimize. In: stores with more files than the tests' limit. Out: rows, files, statistics.

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use object_store::ObjectStoreExt;
use tempfile::TempDir;

use crate::query::session::{SessionSettings, register_store, session};
use crate::store::maintenance::optimize::*;
use crate::store::write::commit::tests::{begin, commit, commit_of, counts, location, open, query, rows};
use crate::store::write::write_exec::tests::stamp;
use crate::tables::{MetricRow, Stamp, metric_rows};

const COMMITS: i64 = 12;

/// Commits of three documents each, under two specifications.
async fn small_files(folder: &TempDir) -> Store {
    let mut store = open(folder).await;
    for number in 1..=COMMITS {
        let spec_id = if number % 3 == 0 { "new" } else { "5ec" };
        let stamp = Stamp { spec_id: spec_id.to_owned(), ..stamp(number, "run-1") };
        // Ids decrease while commit numbers increase.
        let next = commit_of(&store, stamp, &format!("{number}.parquet"), 100 - number * 2).await;
        store.commit(&next).await.unwrap();
    }
    store
}

#[tokio::test]
async fn an_optimized_table_has_the_same_rows_in_the_order_of_their_commits() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = small_files(&folder).await;
    let before = rows(&store).await;
    for (table, partitions, each) in
        [(Table::Entities, 2, 3), (Table::Documents, 2, 2), (Table::Rejects, 1, 1), (Table::Sources, 1, 1)]
    {
        assert_eq!(store.optimize(table, "run-2").await.unwrap(), None, "so few files are not merged");
        let done = store.optimize_above(table, 11, FILE_BYTES, "run-2").await.unwrap().unwrap();
        let expected = Optimized { merged: 12, written: partitions, rows: (COMMITS * each) as u64 };
        assert_eq!(done, expected, "{}", table.name());
        assert_eq!(store.optimize_above(table, 11, FILE_BYTES, "run-2").await.unwrap(), None);
    }
    let mut store = open(&folder).await;
    assert_eq!(rows(&store).await, before);
    assert_eq!(store.last_commit(), Some(COMMITS));
    // Without ORDER BY, a scan of one file returns the rows in file order.
    let context = session(&SessionSettings { target_partitions: Some(1), ..SessionSettings::default() }).unwrap();
    register_store(&context, &store).await.unwrap();
    let read =
        context.sql("SELECT commit FROM documents WHERE spec_id = '5ec'").await.unwrap().collect().await.unwrap();
    let commits: Vec<i64> = read
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec())
        .collect();
    assert_eq!(commits, [1, 1, 2, 2, 4, 4, 5, 5, 7, 7, 8, 8, 10, 10, 11, 11]);
    let next = commit(&store, COMMITS + 1, "run-2", "z.parquet").await;
    store.commit(&next).await.unwrap();
    assert_eq!(counts(&store).await, [39, 26, 13, 13]);
}

/// Every statistic in the log matches the rows in the file.
#[tokio::test]
async fn statistics_match_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = small_files(&folder).await;
    for table in [Table::Entities, Table::Documents, Table::Rejects, Table::Sources] {
        store.optimize_above(table, 11, FILE_BYTES, "run-2").await.unwrap().unwrap();
        let schema = table.file_schema(store.id_type());
        for file in store.data_files(table).unwrap() {
            let batches: Vec<_> =
                file.read(store.location().objects(), &schema).await.unwrap().try_collect().await.unwrap();
            let all = arrow::compute::concat_batches(&schema, &batches).unwrap();
            assert_eq!(file.rows(), Some(all.num_rows() as u64));
            let mut checked = 0;
            for field in schema.fields() {
                let column = &all[field.name().as_str()];
                if field.data_type() == &DataType::Utf8 {
                    let values = || column.as_string::<i32>().iter().flatten();
                    let Some((least, greatest)) = file.bounds(field.name()) else { continue };
                    assert_eq!(least.as_str(), values().min(), "{}.{}", table.name(), field.name());
                    assert_eq!(greatest.as_str(), values().max());
                } else if field.data_type() == &DataType::Int64 {
                    let values = || column.as_primitive::<arrow::datatypes::Int64Type>().iter().flatten();
                    let bounds = file.bounds(field.name());
                    let bounds = bounds.map(|(least, greatest)| (least.as_i64().unwrap(), greatest.as_i64().unwrap()));
                    // A column of nulls has no bounds.
                    assert_eq!(bounds, values().min().zip(values().max()));
                } else {
                    continue;
                }
                checked += 1;
            }
            assert!(checked >= 5, "{}: {checked}", table.name());
        }
    }
}

#[tokio::test]
async fn large_files_are_kept_and_full_files_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let figures = |from: usize, count: usize| {
        let row = |number: usize| MetricRow {
            run_id: "run-1".to_owned(),
            scope: "all".to_owned(),
            name: "f1".to_owned(),
            value: (number as f64).sin(), // eight bytes that do not compress
            unit: String::new(),
        };
        metric_rows(&(from..from + count).map(row).collect::<Vec<_>>()).unwrap()
    };
    for file in 0..12 {
        store.append(Table::Metrics, &figures(file * 1000, 1000), "run-1").await.unwrap();
    }
    store.append(Table::Metrics, &figures(50_000, 5000), "run-1").await.unwrap();
    let large = |store: &Store| {
        let files = store.data_files(Table::Metrics).unwrap();
        files.into_iter().filter(|file| file.rows() == Some(5000)).map(|file| file.path).collect::<Vec<_>>()
    };
    let before = large(&store);
    let done = store.optimize_above(Table::Metrics, 11, 40_000, "run-2").await.unwrap().unwrap();
    assert_eq!((done.merged, done.rows), (12, 12_000));
    assert!((2..5).contains(&done.written), "{done:?}");
    assert_eq!(large(&store), before);
    let kept = query(&store, "SELECT count(*) AS n, count(DISTINCT value) FROM metrics").await;
    assert!(kept.contains("| 17000 | 17000 "), "{kept}");
}

#[tokio::test]
async fn another_writers_rows_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let metric = |name: &str| MetricRow {
        run_id: "run-1".to_owned(),
        scope: "all".to_owned(),
        name: name.to_owned(),
        value: 1.0,
        unit: String::new(),
    };
    for number in 0..12 {
        let rows = metric_rows(&[metric(&format!("m{number}"))]).unwrap();
        store.append(Table::Metrics, &rows, "run-1").await.unwrap();
    }
    let mut other = Store::open(location(&folder), DataType::Utf8).await.unwrap();
    other.append(Table::Metrics, &metric_rows(&[metric("theirs")]).unwrap(), "run-2").await.unwrap();
    assert_eq!(store.optimize_above(Table::Metrics, 11, FILE_BYTES, "run-1").await.unwrap(), None);
    assert!(query(&store, "SELECT count(DISTINCT name) AS n FROM metrics").await.contains("| 13 "));
    let done = store.optimize_above(Table::Metrics, 11, FILE_BYTES, "run-1").await.unwrap().unwrap();
    assert_eq!(done, Optimized { merged: 13, written: 1, rows: 13 });
    // Also a writer that has not read the optimized table yet.
    other.append(Table::Metrics, &metric_rows(&[metric("late")]).unwrap(), "run-2").await.unwrap();
    assert!(query(&other, "SELECT count(DISTINCT name) AS n, count(*) FROM metrics").await.contains("| 14 | 14 "));
}

#[tokio::test]
async fn nothing_is_optimized_while_a_commit_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = small_files(&folder).await;
    let half = commit(&store, COMMITS + 1, "run-1", "z.parquet").await;
    begin(&mut store, &half, 1).await.unwrap();
    assert_eq!(store.optimize_above(Table::Entities, 11, FILE_BYTES, "run-2").await.unwrap(), None);
    store.roll_back_incomplete_commit("run-2").await.unwrap();
    store.optimize_above(Table::Entities, 11, FILE_BYTES, "run-2").await.unwrap().unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_the_table_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = small_files(&folder).await;
    let file = store.data_files(Table::Rejects).unwrap().remove(0);
    let path = store.location().table_path(Table::Rejects).join(file.path.as_str());
    store.location().objects().put(&path, "PAR1".into()).await.unwrap();
    let version = store.version(Table::Rejects);
    let error = store.optimize_above(Table::Rejects, 11, FILE_BYTES, "run-2").await.unwrap_err();
    assert!(error.causes().concat().contains("Parquet"), "{error:?}");
    store.refresh().await.unwrap();
    assert_eq!(store.version(Table::Rejects), version);
}

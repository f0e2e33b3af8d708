//! The files that `WriteExec` writes. In: sample batches. Out: files in a temporary folder. No log is written here.

use std::sync::Mutex;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream;
use insta::assert_snapshot;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::store::write::commit_batch::commit_batch;
use crate::store::write::write_exec::*;
use crate::tables::sample;

/// A [`WriteExec`] over these partitions of batches.
pub(crate) async fn write_exec(
    context: &SessionContext,
    spec: WriteSpec,
    partitions: Vec<Vec<RecordBatch>>,
) -> Result<Arc<WriteExec>> {
    let table = MemTable::try_new(partitions[0][0].schema(), partitions)?;
    let input = context.read_table(Arc::new(table))?.create_physical_plan().await?;
    Ok(Arc::new(WriteExec::try_new(input, spec)?))
}

pub(crate) fn stamp(commit: i64, run_id: &str) -> Stamp {
    Stamp {
        run_id: run_id.to_owned(),
        commit,
        spec_id: "5ec".to_owned(),
        finished_at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    }
}

/// Writes these partitions and returns the files.
pub(crate) async fn written(spec: WriteSpec, partitions: Vec<Vec<RecordBatch>>) -> Vec<WrittenFile> {
    let context = SessionContext::new();
    let exec = write_exec(&context, spec, partitions).await.unwrap();
    let batches = collect(exec, context.task_ctx()).await.unwrap();
    batches.iter().flat_map(|batch| commit_batch(batch).unwrap().files).collect()
}

fn parquet_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

#[tokio::test]
async fn one_file_per_table_with_its_add_action() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let batches =
        vec![sample::three(&DataType::Int64, "a.parquet", 1), sample::three(&DataType::Int64, "b.parquet", 8)];
    let files = written(WriteSpec::new(&location, stamp(7, "run-1")), vec![batches]).await;
    assert_eq!(files.len(), 3);
    for file in &files {
        let action: Value = serde_json::from_str(&file.action).unwrap();
        let path = action["path"].as_str().unwrap();
        let on_disk = folder.path().join(file.table.name()).join(path);
        assert_eq!(on_disk.metadata().unwrap().len(), file.bytes);
        assert_eq!(action["size"].as_u64(), Some(file.bytes));
        assert_eq!(path.starts_with("spec_id=5ec/part-"), file.table != Table::Rejects, "{path}");
    }
    let action: Value = serde_json::from_str(&files[0].action).unwrap();
    let stats: Value = serde_json::from_str(action["stats"].as_str().unwrap()).unwrap();
    assert_eq!(action["partitionValues"]["spec_id"], "5ec");
    assert_snapshot!(serde_json::to_string_pretty(&stats).unwrap(), @r#"
    {
      "maxValues": {
        "commit": 7,
        "doc_id": 9,
        "end_char": 16,
        "entity_type": "PER",
        "run_id": "run-1",
        "start_char": 10,
        "window": 0
      },
      "minValues": {
        "commit": 7,
        "doc_id": 1,
        "end_char": 3,
        "entity_type": "LOC",
        "run_id": "run-1",
        "start_char": 0,
        "window": 0
      },
      "nullCount": {
        "commit": 0,
        "doc_id": 0,
        "end_char": 0,
        "entity_type": 0,
        "run_id": 0,
        "start_char": 0,
        "window": 0
      },
      "numRecords": 6
    }
    "#);
}

#[tokio::test]
async fn every_partition_writes_its_own_files_and_none_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let none = sample::extracted(&DataType::Utf8, "a.parquet", &[]);
    let one = sample::extracted(&DataType::Utf8, "a.parquet", &[(Some(1), None, vec![])]);
    let files =
        written(WriteSpec::new(&location, stamp(1, "run-1")), vec![vec![none], vec![one.clone()], vec![one]]).await;
    assert_eq!(files.iter().map(|file| file.table).collect::<Vec<_>>(), [Table::Documents, Table::Documents]);
    assert_eq!(parquet_files(folder.path()).len(), 2);
}

#[tokio::test]
async fn a_full_file_is_closed_and_the_next_one_started() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let spec = WriteSpec { file_bytes: 1, ..WriteSpec::new(&location, stamp(1, "run-1")) };
    let batches = (0..4).map(|first| sample::three(&DataType::Utf8, "a.parquet", first * 2)).collect();
    let files = written(spec, vec![batches]).await;
    assert_eq!(files.len(), 12);
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 4 * (3 + 2 + 1));
}

#[tokio::test]
async fn a_commit_batch_ends_between_two_slices() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let context = SessionContext::new();
    let batches = (0..5).map(|first| sample::three(&DataType::Int64, "a.parquet", first * 2)).collect();
    let spec = WriteSpec { cut_rows: 4, ..WriteSpec::new(&location, stamp(7, "run-1")) };
    let exec = write_exec(&context, spec, vec![batches]).await.unwrap();
    let commits: Vec<CommitBatch> =
        collect(exec, context.task_ctx()).await.unwrap().iter().map(|batch| commit_batch(batch).unwrap()).collect();
    let ends: Vec<_> = commits.iter().map(|batch| (batch.commit, batch.files.len(), batch.row, batch.last)).collect();
    assert_eq!(ends, [(7, 3, 3, false), (8, 3, 3, false), (9, 3, 3, true)]);
    assert!(commits.iter().all(|batch| batch.source == "a.parquet"));
    for batch in &commits {
        let action: Value = serde_json::from_str(&batch.files[0].action).unwrap();
        let stats: Value = serde_json::from_str(action["stats"].as_str().unwrap()).unwrap();
        assert_eq!([&stats["minValues"]["commit"], &stats["maxValues"]["commit"]], [batch.commit, batch.commit]);
    }
}

#[tokio::test]
async fn a_commit_batch_ends_in_time_if_slices_come_without_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let context = SessionContext::new();
    let batches = (0..3).map(|first| sample::three(&DataType::Int64, "a.parquet", first * 2)).collect();
    let spec = WriteSpec { cut_seconds: 0, ..WriteSpec::new(&location, stamp(1, "run-1")) };
    let exec = write_exec(&context, spec, vec![batches]).await.unwrap();
    let batches = collect(exec, context.task_ctx()).await.unwrap();
    let commits: Vec<i64> = batches.iter().map(|batch| commit_batch(batch).unwrap().commit).collect();
    assert_eq!(commits, [1, 2, 3]);
}

/// Rows, and then none until the test ends.
#[derive(Debug)]
struct Stalled(RecordBatch);

impl PartitionStream for Stalled {
    fn schema(&self) -> &SchemaRef {
        self.0.schema_ref()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = stream::iter([Ok(self.0.clone())]).chain(stream::pending());
        Box::pin(RecordBatchStreamAdapter::new(self.0.schema(), batches))
    }
}

#[tokio::test]
async fn a_stopped_run_commits_what_is_done_and_waits_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let monitor = Arc::new(Monitor::default());
    let context = SessionContext::new_with_config(SessionConfig::new().with_extension(Arc::clone(&monitor)));
    let batch = sample::three(&DataType::Utf8, "a.parquet", 1);
    let table = StreamingTable::try_new(batch.schema(), vec![Arc::new(Stalled(batch))]).unwrap();
    let input = context.read_table(Arc::new(table)).unwrap().create_physical_plan().await.unwrap();
    let exec = WriteExec::try_new(input, WriteSpec::new(&location, stamp(1, "run-1"))).unwrap();
    let mut commits = Arc::new(exec).execute(0, context.task_ctx()).unwrap();
    let early = timeout(Duration::from_millis(200), commits.next()).await;
    assert!(early.is_err(), "its only commit is not due");
    monitor.stop();
    let commit = timeout(Duration::from_secs(20), commits.next()).await.expect("it waits for rows");
    let commit = commit_batch(&commit.unwrap().unwrap()).unwrap();
    assert_eq!((commit.files.len(), commit.row, commit.last), (3, 3, false));
}

/// Repeats one batch as long as it is read. The reading stream owns `reader`, so dropping the stream closes the channel.
#[derive(Debug)]
struct Endless {
    batch: RecordBatch,
    reader: Mutex<Option<oneshot::Sender<()>>>,
}

impl PartitionStream for Endless {
    fn schema(&self) -> &SchemaRef {
        self.batch.schema_ref()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (batch, reader) = (self.batch.clone(), self.reader.lock().unwrap().take().expect("it is read once"));
        let batches = stream::repeat_with(move || {
            let _held = &reader;
            Ok(batch.clone())
        });
        Box::pin(RecordBatchStreamAdapter::new(self.batch.schema(), batches))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_query_stops_writing() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let context = SessionContext::new();
    let (reader, gone) = oneshot::channel();
    let batch = sample::three(&DataType::Utf8, "a.parquet", 1);
    let (schema, endless) = (batch.schema(), Arc::new(Endless { batch, reader: Mutex::new(Some(reader)) }));
    let table = StreamingTable::try_new(schema, vec![endless]).unwrap();
    let input = context.read_table(Arc::new(table)).unwrap().create_physical_plan().await.unwrap();
    let spec = WriteSpec { cut_rows: 1, ..WriteSpec::new(&location, stamp(1, "run-1")) };
    let exec = Arc::new(WriteExec::try_new(input, spec).unwrap());
    let mut stream = exec.execute(0, context.task_ctx()).unwrap();
    assert_eq!(commit_batch(&stream.next().await.unwrap().unwrap()).unwrap().files.len(), 3);
    drop(stream);
    // The writer must drop its input; otherwise it would write forever.
    let gone = timeout(Duration::from_mins(1), gone).await;
    assert!(gone.expect("the writer continues").is_err());
    // The first batch and what was written ahead of its reader, but no more.
    let files = parquet_files(folder.path()).len();
    assert!((3..100).contains(&files), "{files}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("entities"), "a file").unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let context = SessionContext::new();
    let batch = sample::three(&DataType::Utf8, "a.parquet", 1);
    let exec = write_exec(&context, WriteSpec::new(&location, stamp(1, "run-1")), vec![vec![batch]]).await.unwrap();
    assert!(collect(exec, context.task_ctx()).await.unwrap_err().to_string().contains("entities"));
}

#[tokio::test]
async fn its_plan_and_metrics_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let context = SessionContext::new();
    let spec = WriteSpec::new(&location, stamp(7, "run-1"));
    assert_eq!(serde_json::from_str::<WriteSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    let exec = write_exec(&context, spec, vec![vec![sample::three(&DataType::Utf8, "a.parquet", 1)]]).await.unwrap();
    assert_snapshot!(displayable(exec.as_ref()).indent(true), @"
    WriteExec: tables=[entities, documents, rejects], commit=7, spec_id=5ec
      DataSourceExec: partitions=1, partition_sizes=[1]
    ");
    collect(Arc::clone(&exec) as _, context.task_ctx()).await.unwrap();
    let metrics = exec.metrics().unwrap();
    let sum = |name: &str| metrics.sum_by_name(name).unwrap().as_usize();
    assert_eq!([sum("entities"), sum("documents"), sum("rejects"), sum("files")], [3, 2, 1, 3]);
}

#[tokio::test]
async fn other_schemas_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
    let context = SessionContext::new();
    let batch = sample::three(&DataType::Utf8, "a.parquet", 1);
    let fewer = batch.project(&[0, 1, 2]).unwrap();
    let spec = WriteSpec::new(&location, stamp(1, "run-1"));
    let error = write_exec(&context, spec.clone(), vec![vec![fewer]]).await.unwrap_err().to_string();
    assert!(error.contains("WriteExec takes "), "{error}");
    let mut elsewhere = spec;
    elsewhere.stamp.spec_id = "../x".to_owned();
    let error = write_exec(&context, elsewhere, vec![vec![batch]]).await.unwrap_err().to_string();
    assert!(error.contains("the specification's id `../x` cannot name a folder"), "{error}");
}

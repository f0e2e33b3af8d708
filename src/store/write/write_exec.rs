//! `WriteExec`: writes the store's data files, on the machine where it runs. In: extracted rows (`tables::extracted_schema`). Out:
//! Parquet files in the store, and one row per finished file with its Add action. It must not touch the transaction log.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use chrono::Utc;
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;
use tokio::time::{Duration, Instant, sleep_until};
use tracing::{Instrument as _, trace_span};

use crate::extract::monitor::Monitor;
use crate::extract::skip_known::count_repeated;
use crate::source::location::StoreLocation;
use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};
use crate::store::table_files::{FILE_BYTES, TableFiles, WrittenFile};
use crate::store::write::commit_batch::{CommitBatch, commit_record_batch, written_schema};
use crate::store::write::replaced::{AcceptedRows, Resolved};
use crate::tables;
use crate::tables::{Stamp, Table, Totals};

/// An upper limit for timeouts in seconds: the clock overflows on much longer ones.
const YEAR: u64 = 365 * 24 * 3600;

/// The plan that writes `entities`, `documents` and `rejects`. Each input partition writes its own files, concurrently.
pub type WriteExec = UnaryExec<WriteSpec>;

/// The settings of a [`WriteExec`]. They can be sent to another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSpec {
    /// The store's URL, as [`StoreLocation::url`] gives it. Credentials come from the environment of the machine that writes.
    pub store: String,
    /// The run, commit and specification that every row is stamped with.
    pub stamp: Stamp,
    /// A file is closed and the next one started at about this many bytes.
    pub file_bytes: usize,
    /// A commit batch ends after this many rows,
    pub cut_rows: u64,
    /// or after this many seconds, or when the run is stopped, whichever comes first; always between two slices.
    pub cut_seconds: u64,
}

impl WriteSpec {
    /// Settings to write into `location` with files of [`FILE_BYTES`], in a single commit batch.
    #[must_use]
    pub fn new(location: &StoreLocation, stamp: Stamp) -> Self {
        Self {
            store: location.url().to_string(),
            stamp,
            file_bytes: FILE_BYTES,
            cut_rows: u64::MAX,
            cut_seconds: u64::MAX,
        }
    }
}

impl WriteSpec {
    fn location(&self) -> Result<StoreLocation> {
        StoreLocation::parse(&self.store).map_err(|cause| DataFusionError::External(Box::new(cause)))
    }
}

impl RowOperator for WriteSpec {
    const NAME: &'static str = "WriteExec";

    /// A row per finished file, over [`tables::extracted_schema`] for some id type.
    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let id_type = input.field_with_name("doc_id")?.data_type();
        let expected = tables::extracted_schema(id_type);
        let columns = |schema: &SchemaRef| -> Vec<_> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        if columns(input) != columns(&expected) {
            return plan_err!("WriteExec takes {expected}, not {input}");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.stamp.spec_id.is_empty() || !self.stamp.spec_id.bytes().all(plain) {
            return plan_err!("the specification's id `{}` cannot name a folder", self.stamp.spec_id);
        }
        self.location()?;
        Ok(written_schema())
    }

    fn details(&self) -> String {
        let Stamp { commit, spec_id, .. } = &self.stamp;
        format!("tables=[entities, documents, rejects], commit={commit}, spec_id={spec_id}")
    }

    fn maintains_input_order(&self) -> bool {
        false // its rows are files
    }

    fn run(
        self: Arc<Self>,
        input: SendableRecordBatchStream,
        task: PartitionTask,
    ) -> Result<SendableRecordBatchStream> {
        let location = self.location()?;
        let write = Write {
            files: [Table::Entities, Table::Documents, Table::Rejects]
                .map(|table| TableFiles::new(table, &location, &self.stamp.spec_id).with_file_bytes(self.file_bytes)),
            metrics: WriteMetrics::new(&task.metrics, task.partition),
            commit_batch: CommitBatch { commit: self.stamp.commit, ..CommitBatch::default() },
            accepted: AcceptedRows::default(),
            id_type: input.schema().field_with_name("doc_id")?.data_type().clone(),
            spec: self,
            location,
            partition: (task.metrics, task.partition),
            rows: 0,
        };
        // The stream owns the task: dropping the stream cancels the writing and leaves only files that are in no log.
        let mut stream = RecordBatchReceiverStream::builder(task.schema, 2);
        let finished = stream.tx();
        stream.spawn(write.run(input, finished, Monitor::of(&task.context)));
        Ok(stream.build())
    }
}

/// How long a plan has split, encoded, compressed and uploaded rows.
pub(crate) fn write_time(plan: &Arc<dyn ExecutionPlan>) -> Duration {
    let written = plan.metrics().and_then(|metrics| metrics.sum_by_name("write_time"));
    Duration::from_nanos(written.map_or(0, |nanoseconds| nanoseconds.as_usize() as u64))
}

/// The metrics of one partition.
struct WriteMetrics {
    /// Rows of each table, in the order of [`Write::files`].
    rows: [Count; 3],
    files: Count,
    bytes: Count,
    /// Splitting, encoding, compressing and uploading, without waiting for input.
    write_time: Time,
}

impl WriteMetrics {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        Self {
            rows: ["entities", "documents", "rejects"].map(|name| MetricBuilder::new(metrics).counter(name, partition)),
            files: MetricBuilder::new(metrics).counter("files", partition),
            bytes: MetricBuilder::new(metrics).counter("bytes", partition),
            write_time: MetricBuilder::new(metrics).subset_time("write_time", partition),
        }
    }
}

/// The work of one partition.
struct Write {
    files: [TableFiles; 3],
    spec: Arc<WriteSpec>,
    metrics: WriteMetrics,
    /// The batch that the next slice goes into.
    commit_batch: CommitBatch,
    accepted: AcceptedRows,
    id_type: DataType,
    location: StoreLocation,
    /// The plan's metrics and the partition's number.
    partition: (ExecutionPlanMetricsSet, usize),
    /// How many input rows it has.
    rows: u64,
}

impl Write {
    async fn run(
        mut self,
        mut input: SendableRecordBatchStream,
        finished: Sender<Result<RecordBatch>>,
        monitor: Arc<Monitor>,
    ) -> Result<()> {
        let interval = Duration::from_secs(self.spec.cut_seconds.min(YEAR));
        let mut deadline = Instant::now() + interval;
        let mut stopped = false;
        loop {
            let next = tokio::select! {
                biased;
                next = input.next() => next,
                () = sleep_until(deadline) => {
                    self.finish(&finished).await?;
                    deadline = Instant::now() + interval;
                    continue;
                }
                // What is done is committed at once: the input ends only when the model has answered its last batches.
                () = monitor.stopped(), if !stopped => {
                    stopped = true;
                    self.finish(&finished).await?;
                    continue;
                }
            };
            let Some(batch) = next else { break };
            let time = self.metrics.write_time.clone();
            let timer = time.timer();
            self.write(&batch?).instrument(trace_span!("write")).await?;
            timer.done();
            // Check the clock here too: if slices come without a pause, the wait for them never times out.
            if self.rows >= self.spec.cut_rows || Instant::now() >= deadline {
                self.finish(&finished).await?;
                deadline = Instant::now() + interval;
            }
        }
        self.commit_batch.last = true;
        self.finish(&finished).await
    }

    /// Writes one slice.
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let Resolved { rows, changed, repeated } = self.accepted.resolve(batch, self.commit_batch.commit)?;
        if let Some(source) = repeated {
            count_repeated(&self.partition.0, self.partition.1, &source, 1);
        }
        let split = tables::split(&rows, &self.stamp())?;
        for (index, rows) in [split.entities, split.documents, split.rejects].iter().enumerate() {
            self.metrics.rows[index].add(rows.num_rows());
            let file = self.files[index].write(rows).await?;
            self.closed(file);
        }
        self.commit_batch.totals.add_documents(&rows)?;
        self.commit_batch.changed.extend(changed);
        self.rows += batch.num_rows() as u64;
        let last = batch.num_rows() - 1;
        batch["source"].as_string::<i32>().value(last).clone_into(&mut self.commit_batch.source);
        self.commit_batch.row = batch["row"].as_primitive::<Int64Type>().value(last) + 1;
        Ok(())
    }

    /// Writes the files of the commit batch again without the rows that later rows replace, which become rejects.
    async fn without_replaced(&mut self) -> Result<()> {
        let of = |table: Table| move |file: &mut WrittenFile| file.table == table;
        let files = &mut self.commit_batch.files;
        let entities: Vec<_> = files.extract_if(.., of(Table::Entities)).collect();
        let documents: Vec<_> = files.extract_if(.., of(Table::Documents)).collect();
        let id_type = self.id_type.clone();
        let schemas = [Table::Entities, Table::Documents].map(|table| table.file_schema(&id_type));
        let [mention_writer, document_writer, reject_writer] = &mut self.files;
        let writers = (mention_writer, document_writer);
        let totals = &mut self.commit_batch.totals;
        let rewritten =
            self.accepted.rewrite(&self.location, (entities, documents), writers, (&schemas[0], &schemas[1]), totals);
        let (files, replaced) = rewritten.await?;
        let mut rejects = Vec::new();
        let stamp = Stamp { commit: self.commit_batch.commit, ..self.spec.stamp.clone() };
        for documents in replaced {
            let rows = tables::replaced_rows(&documents, &stamp)?;
            self.metrics.rows[2].add(rows.num_rows());
            rejects.extend(reject_writer.write(&rows).await?);
        }
        for file in files.into_iter().chain(rejects) {
            self.closed(Some(file));
        }
        Ok(())
    }

    /// The stamp of rows that are finished now.
    fn stamp(&self) -> Stamp {
        Stamp { commit: self.commit_batch.commit, finished_at: Utc::now(), ..self.spec.stamp.clone() }
    }

    fn closed(&mut self, file: Option<WrittenFile>) {
        let Some(file) = file else { return };
        self.metrics.files.add(1);
        self.metrics.bytes.add(file.bytes as usize);
        self.commit_batch.files.push(file);
    }

    /// Closes the files and sends the commit batch. The next rows start a new one.
    async fn finish(&mut self, finished: &Sender<Result<RecordBatch>>) -> Result<()> {
        for index in 0..2 {
            let file = self.files[index].finish().await?;
            self.closed(file);
        }
        if self.accepted.has_replaced() {
            self.without_replaced().await?;
        }
        self.accepted.next_batch();
        let file = self.files[2].finish().await?;
        self.closed(file);
        if self.commit_batch.files.is_empty() {
            return Ok(());
        }
        // Sending fails only if the query was cancelled; this task is then cancelled too.
        let _ = finished.send(commit_record_batch(&self.commit_batch)).await;
        self.commit_batch.commit += 1;
        self.commit_batch.files.clear();
        self.commit_batch.changed.clear();
        self.commit_batch.totals = Totals::default();
        self.rows = 0;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;

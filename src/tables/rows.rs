//! Rows of the ledger and of metrics. In: structs of a source file, a metric, a run. Out: record batches of `sources`, `metrics`
//! and `runs`. It must not know where they are written.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};

use crate::tables::{RunOutcome, SourceOutcome, Table};

/// One processed input file: a row of [`Table::Sources`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// The file's URL or path, as in `documents.source`.
    pub path: String,
    /// Its size in bytes.
    pub size: i64,
    /// The object store's tag of this version of the file, if it gives one.
    pub etag: Option<String>,
    /// When the file was last modified, if the store gives it.
    pub modified_at: Option<DateTime<Utc>>,
    /// A hash of the job's `where`, `id` and `text`: the same file with another of these is another source.
    pub input_hash: String,
    /// The number of rows read, rejects included; in an unfinished file, the first rows.
    pub rows: i64,
    /// Whether it was read to its end.
    pub outcome: SourceOutcome,
    /// The commit in which its present state was first read; `None` if no earlier state of it was.
    pub changed_in: Option<i64>,
    /// Whether it has rows that repeat the text of a document in force, which has its row from elsewhere.
    pub repeated: bool,
    /// The run that finished the file.
    pub run_id: String,
    /// The specification it was extracted under.
    pub spec_id: String,
}

/// One metric: a row of [`Table::Metrics`].
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// The run that measured it.
    pub run_id: String,
    /// `all`, the entity type, or the stage, such as `stage:read`.
    pub scope: String,
    /// The metric's name, such as `documents` or `f1`.
    pub name: String,
    /// The metric's value.
    pub value: f64,
    /// Its unit, such as `documents`, `seconds`, `share`.
    pub unit: String,
}

/// One run: a row of [`Table::Runs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The run's id.
    pub run_id: String,
    /// The specification it extracted under.
    pub spec_id: String,
    /// The job as JSON, with the specification of its rows under `spec`.
    pub job: String,
    /// The model directory or its name.
    pub model: String,
    /// SHA-256 of the model's weights.
    pub model_hash: String,
    /// The precision of the graph that ran.
    pub precision: String,
    /// The device that it ran on.
    pub device: String,
    /// Versions of this program and its libraries: a JSON object of strings.
    pub versions: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` if it was killed before it could write this.
    pub finished_at: Option<DateTime<Utc>>,
    /// How it ended, if it has.
    pub outcome: RunOutcome,
    /// The number of documents with each outcome: a JSON object of integers.
    pub counts: String,
}

/// The batch of [`Table::Sources`] that holds `rows`, in their order.
///
/// # Errors
/// An [`ArrowError`] only if the schema and this function disagree.
pub fn source_rows(rows: &[SourceRow]) -> Result<RecordBatch, ArrowError> {
    batch(
        Table::Sources,
        vec![
            strings(rows, |row| &row.path),
            Arc::new(rows.iter().map(|row| Some(row.size)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.etag.as_deref()).collect::<StringArray>()),
            timestamps(rows, |row| row.modified_at),
            strings(rows, |row| &row.input_hash),
            Arc::new(rows.iter().map(|row| Some(row.rows)).collect::<Int64Array>()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.outcome.to_string()))),
            Arc::new(rows.iter().map(|row| row.changed_in).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.repeated)).collect::<BooleanArray>()),
            strings(rows, |row| &row.run_id),
            strings(rows, |row| &row.spec_id),
        ],
    )
}

/// The batch of [`Table::Metrics`] that holds `rows`, in their order.
///
/// # Errors
/// An [`ArrowError`] only if the schema and this function disagree.
pub fn metric_rows(rows: &[MetricRow]) -> Result<RecordBatch, ArrowError> {
    batch(
        Table::Metrics,
        vec![
            strings(rows, |row| &row.run_id),
            strings(rows, |row| &row.scope),
            strings(rows, |row| &row.name),
            Arc::new(rows.iter().map(|row| Some(row.value)).collect::<Float64Array>()),
            strings(rows, |row| &row.unit),
        ],
    )
}

/// The batch of [`Table::Runs`] that holds `rows`, in their order.
///
/// # Errors
/// An [`ArrowError`] only if the schema and this function disagree.
pub fn run_rows(rows: &[RunRow]) -> Result<RecordBatch, ArrowError> {
    batch(
        Table::Runs,
        vec![
            strings(rows, |row| &row.run_id),
            strings(rows, |row| &row.spec_id),
            strings(rows, |row| &row.job),
            strings(rows, |row| &row.model),
            strings(rows, |row| &row.model_hash),
            strings(rows, |row| &row.precision),
            strings(rows, |row| &row.device),
            strings(rows, |row| &row.versions),
            timestamps(rows, |row| Some(row.started_at)),
            timestamps(rows, |row| row.finished_at),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.outcome.to_string()))),
            strings(rows, |row| &row.counts),
        ],
    )
}

fn batch(table: Table, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    // None of these tables has a document id, so its type does not matter.
    RecordBatch::try_new(table.schema(&DataType::Utf8), columns)
}

fn strings<Row>(rows: &[Row], value: impl Fn(&Row) -> &String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

fn timestamps<Row>(rows: &[Row], value: impl Fn(&Row) -> Option<DateTime<Utc>>) -> ArrayRef {
    let micros = rows.iter().map(|row| value(row).map(|time| time.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

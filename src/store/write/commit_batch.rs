//! A commit's data files and the input offset they cover. In: a [`CommitBatch`] of `WriteExec`. Out: a record batch for the
//! driver, and the [`CommitBatch`] again. It must not write files.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;

use crate::store::table_files::WrittenFile;
use crate::tables::Table;

/// The output of `WriteExec`. A row is a finished file: its `table`, `action` (an Add action as JSON), `rows` and `bytes`. The other
/// columns describe its commit batch: the `commit` number of its rows, the offset (`source` and `row`) before which all rows are in it
/// or in an earlier batch, and whether it is the `last`.
#[must_use]
pub fn written_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("table", DataType::Utf8, false),
        Field::new("action", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("commit", DataType::Int64, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("row", DataType::Int64, false),
        Field::new("last", DataType::Boolean, false),
    ]))
}

/// One partition's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitBatch {
    /// The commit number of the rows.
    pub commit: i64,
    /// The files with the rows.
    pub files: Vec<WrittenFile>,
    /// The source of the last slice.
    pub source: String,
    /// The first row of that source after the batch.
    pub row: i64,
    /// Whether it is the last of the input.
    pub last: bool,
}

/// Reads a commit batch from a record batch of [`written_schema`].
///
/// # Errors
/// An internal error if the batch has another schema, no rows, or names an unknown table.
pub fn commit_batch(batch: &RecordBatch) -> Result<CommitBatch> {
    if batch.schema() != written_schema() || batch.num_rows() == 0 {
        return internal_err!("not the output of WriteExec: {}", batch.schema());
    }
    let strings = |column: usize| batch.column(column).as_string::<i32>();
    let counts = |column: usize| batch.column(column).as_primitive::<UInt64Type>();
    let integers = |column: usize| batch.column(column).as_primitive::<Int64Type>();
    let file = |row: usize| {
        let Some(table) = Table::from_name(strings(0).value(row)) else {
            return internal_err!("there is no table `{}`", strings(0).value(row));
        };
        let action = strings(1).value(row).to_owned();
        Ok(WrittenFile { table, action, rows: counts(2).value(row), bytes: counts(3).value(row) })
    };
    Ok(CommitBatch {
        commit: integers(4).value(0),
        files: (0..batch.num_rows()).map(file).collect::<Result<_>>()?,
        source: strings(5).value(0).to_owned(),
        row: integers(6).value(0),
        last: batch.column(7).as_boolean().value(0),
    })
}

/// The commit batch as a record batch of [`written_schema`].
pub(crate) fn commit_record_batch(commit_batch: &CommitBatch) -> Result<RecordBatch> {
    let files = &commit_batch.files;
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(files.iter().map(|file| Some(file.table.name())).collect::<StringArray>()),
        Arc::new(files.iter().map(|file| Some(file.action.as_str())).collect::<StringArray>()),
        Arc::new(files.iter().map(|file| file.rows).collect::<UInt64Array>()),
        Arc::new(files.iter().map(|file| file.bytes).collect::<UInt64Array>()),
        Arc::new(Int64Array::from_value(commit_batch.commit, files.len())),
        Arc::new(StringArray::from(vec![commit_batch.source.as_str(); files.len()])),
        Arc::new(Int64Array::from_value(commit_batch.row, files.len())),
        Arc::new(BooleanArray::from(vec![commit_batch.last; files.len()])),
    ];
    Ok(RecordBatch::try_new(written_schema(), columns)?)
}

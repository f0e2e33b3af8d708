//! What `WriteExec` tells the driver: the files of one commit, and how far into the input they reach. In: a [`CommitBatch`]. Out: a record
//! batch that can come from another machine, and the commit_batch again. It may not write files.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;

use crate::store::table_files::WrittenFile;
use crate::tables::Table;

/// The output of `WriteExec`: for each finished file its `table`, `action` (an Add action as JSON), `rows` and `bytes`, and of
/// the commit_batch that closed it the `commit` its rows are stamped with, the `source` and `row` before which all rows are in it,
/// and whether it is the `last`.
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

/// Everything one commit brings, as far as one partition wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitBatch {
    /// The number stamped on the rows.
    pub commit: i64,
    /// The files that hold them.
    pub files: Vec<WrittenFile>,
    /// The source of the last slice.
    pub source: String,
    /// The first row of that source that is not in the commit_batch.
    pub row: i64,
    /// Whether the input ended with it.
    pub last: bool,
}

/// The commit_batch that a batch of [`written_schema`] tells of.
///
/// # Errors
/// An internal error where the batch has another schema, no rows, or names an unknown table.
pub fn commit_batch(batch: &RecordBatch) -> Result<CommitBatch> {
    if batch.schema() != written_schema() || batch.num_rows() == 0 {
        return internal_err!("not a commit_batch of WriteExec: {}", batch.schema());
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

//! A commit's data files and the input offset they cover. In: a [`CommitBatch`] of `WriteExec`. Out: a record batch for the
//! driver, and the [`CommitBatch`] again. It must not write files.

use std::sync::Arc;

use arrow::array::{
    Array, BooleanArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use crate::store::table_files::WrittenFile;
use crate::tables::Totals;
use crate::tables::result_row::{ColumnError, ResultRow, first_row, result_rows};

/// The output of `WriteExec`. A row is a finished file: its `table`, `action` (an Add action as JSON), `rows` and `bytes`. The other
/// columns describe its commit batch: the `commit` number of its rows, the offset (`source` and `row`) before which all rows are in it
/// or in an earlier batch, whether it is the `last`, the ids as text of the `changed` documents, whose old rows the commit must remove, and
/// the `totals` of its documents as JSON.
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
        Field::new_list("changed", Field::new_list_field(DataType::Utf8, false), false),
        Field::new("totals", DataType::Utf8, false),
    ]))
}

/// One partition's part of a commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// The ids of documents that the store has with another text.
    pub changed: Vec<String>,
    /// The totals of its documents.
    pub totals: Totals,
}

/// Reads a commit batch from a record batch of [`written_schema`].
///
/// # Errors
/// A [`ColumnError`] if the batch has no row, other columns, or the name of an unknown table.
pub fn commit_batch(batch: &RecordBatch) -> Result<CommitBatch> {
    read(batch).map_err(|cause| DataFusionError::External(Box::new(cause)))
}

fn read(batch: &RecordBatch) -> Result<CommitBatch, ColumnError> {
    let file = |row: ResultRow<'_>| {
        Ok(WrittenFile {
            table: row.get("table")?,
            action: row.get("action")?,
            rows: row.get("rows")?,
            bytes: row.get("bytes")?,
        })
    };
    let first = first_row([batch]).ok_or(ColumnError::NoRow)?;
    Ok(CommitBatch {
        commit: first.get("commit")?,
        files: result_rows([batch]).map(file).collect::<Result<_, ColumnError>>()?,
        source: first.get("source")?,
        row: first.get("row")?,
        last: first.get("last")?,
        changed: first.get("changed")?,
        totals: first.get("totals")?,
    })
}

/// The commit batch as a record batch of [`written_schema`].
pub(crate) fn commit_record_batch(commit_batch: &CommitBatch) -> Result<RecordBatch> {
    let files = &commit_batch.files;
    let totals = serde_json::to_string(&commit_batch.totals);
    let totals = totals.map_err(|cause| internal_datafusion_err!("the totals of a commit batch: {cause}"))?;
    // The ids are in the first row; the other rows describe further files.
    let mut changed = ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false));
    for row in 0..files.len() {
        changed.append_value(commit_batch.changed.iter().filter(|_| row == 0).map(Some));
    }
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(files.iter().map(|file| Some(file.table.name())).collect::<StringArray>()),
        Arc::new(files.iter().map(|file| Some(file.action.as_str())).collect::<StringArray>()),
        Arc::new(files.iter().map(|file| file.rows).collect::<UInt64Array>()),
        Arc::new(files.iter().map(|file| file.bytes).collect::<UInt64Array>()),
        Arc::new(Int64Array::from_value(commit_batch.commit, files.len())),
        Arc::new(StringArray::from(vec![commit_batch.source.as_str(); files.len()])),
        Arc::new(Int64Array::from_value(commit_batch.row, files.len())),
        Arc::new(BooleanArray::from(vec![commit_batch.last; files.len()])),
        Arc::new(changed.finish()),
        Arc::new(StringArray::from(vec![totals.as_str(); files.len()])),
    ];
    Ok(RecordBatch::try_new(written_schema(), columns)?)
}

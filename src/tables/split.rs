//! Extracted rows → table rows. In: a batch of `extracted_schema` and the commit's stamp. Out: the rows of `entities`,
//! `documents` and `rejects`. It works on whole columns and must not process values one by one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{filter_record_batch, is_not_null, is_null, take};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::tables::{Table, extracted_schema, mention_fields};
use crate::text::document::{LATER_ROW, RejectReason};

/// The columns that a commit adds to every row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The run that extracted the rows.
    pub run_id: String,
    /// The number of the commit that adds the rows, from 1.
    pub commit: i64,
    /// The specification of the rows.
    pub spec_id: String,
    /// When the documents were finished.
    pub finished_at: DateTime<Utc>,
}

/// The rows of one extracted batch, by table. Schemas are [`Table::file_schema`]; a batch can be empty.
#[derive(Debug, Clone)]
pub struct SplitBatch {
    /// Rows for [`Table::Entities`]: one per mention, in the order of the documents.
    pub entities: RecordBatch,
    /// Rows for [`Table::Documents`]: one per extracted document.
    pub documents: RecordBatch,
    /// Rows for [`Table::Rejects`]: one per rejected document.
    pub rejects: RecordBatch,
}

/// Splits a batch of [`extracted_schema`] into the rows of the three tables.
///
/// # Errors
/// An [`ArrowError`] if a column is missing or of another type, or if an extracted document has a null id or hash.
pub fn split(extracted: &RecordBatch, stamp: &Stamp) -> Result<SplitBatch, ArrowError> {
    let reason = column(extracted, "reason")?;
    let done = filter_record_batch(extracted, &is_null(reason)?)?;
    let refused = filter_record_batch(extracted, &is_not_null(reason)?)?;
    Ok(SplitBatch {
        entities: entity_rows(&done, stamp)?,
        documents: document_rows(&done, stamp)?,
        rejects: reject_rows(&refused, stamp)?,
    })
}

/// Unreadable files, as (path, reason), as rows of [`extracted_schema`]: their row is -1, their id null.
///
/// # Errors
/// An [`ArrowError`] only if the schema and this function disagree.
pub fn refused_files(files: &[(&str, &str)], id_type: &DataType) -> Result<RecordBatch, ArrowError> {
    let schema = extracted_schema(id_type);
    let count = files.len();
    let strings = |values: Vec<Option<&str>>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let zeros = || repeat_integer(0, count);
    let no_entities = ListArray::try_new(
        Arc::new(Field::new_list_field(DataType::Struct(mention_fields()), false)),
        OffsetBuffer::new_zeroed(count),
        new_empty_array(&DataType::Struct(mention_fields())),
        None,
    )?;
    let columns = vec![
        strings(files.iter().map(|(path, _)| Some(*path)).collect()),
        repeat_integer(-1, count),
        new_null_array(id_type, count),
        strings(vec![None; count]),
        zeros(),
        zeros(),
        zeros(),
        strings(vec![Some("unreadable_file"); count]),
        strings(files.iter().map(|(_, reason)| Some(*reason)).collect()),
        Arc::new(no_entities),
        strings(vec![None; count]),
        zeros(),
        zeros(),
        zeros(),
        zeros(),
        zeros(),
        zeros(),
    ];
    RecordBatch::try_new(schema, columns)
}

/// Rows of [`Table::Documents`] that later rows replace, as rows of [`Table::Rejects`].
///
/// # Errors
/// An [`ArrowError`] if a column is missing or of another type.
pub fn replaced_rows(documents: &RecordBatch, stamp: &Stamp) -> Result<RecordBatch, ArrowError> {
    let (doc_id, rows) = (column(documents, "doc_id")?, documents.num_rows());
    let columns = vec![
        Arc::clone(column(documents, "source")?),
        Arc::clone(column(documents, "row")?),
        Arc::clone(doc_id),
        repeat(RejectReason::DuplicateId.as_str(), rows),
        repeat(LATER_ROW, rows),
        repeat(&stamp.run_id, rows),
        repeat_integer(stamp.commit, rows),
        repeat(&stamp.spec_id, rows),
    ];
    RecordBatch::try_new(Table::Rejects.file_schema(doc_id.data_type()), columns)
}

fn entity_rows(done: &RecordBatch, stamp: &Stamp) -> Result<RecordBatch, ArrowError> {
    let lists = entity_lists(done)?;
    // A slice of a list array keeps all values: take only those in the range of its offsets.
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let mentions = lists.values().slice(first, last - first);
    let mentions = mentions
        .as_struct_opt()
        .ok_or_else(|| ArrowError::SchemaError("`entities` is not a list of structs".to_owned()))?;
    let parents: UInt64Array = offsets
        .windows(2)
        .enumerate()
        .flat_map(|(row, pair)| std::iter::repeat_n(row as u64, (pair[1] - pair[0]) as usize))
        .collect();
    let doc_id = column(done, "doc_id")?;
    let mut columns = vec![take(doc_id, &parents, None)?];
    for field in &mention_fields() {
        let column = mentions
            .column_by_name(field.name())
            .ok_or_else(|| ArrowError::SchemaError(format!("`entities` has no field `{}`", field.name())))?;
        columns.push(Arc::clone(column));
    }
    let rows = mentions.len();
    columns.extend([repeat(&stamp.run_id, rows), repeat_integer(stamp.commit, rows)]);
    RecordBatch::try_new(Table::Entities.file_schema(doc_id.data_type()), columns)
}

fn document_rows(done: &RecordBatch, stamp: &Stamp) -> Result<RecordBatch, ArrowError> {
    let doc_id = column(done, "doc_id")?;
    let lists = entity_lists(done)?;
    let n_entities: Int64Array =
        lists.value_offsets().windows(2).map(|pair| i64::from(pair[1]) - i64::from(pair[0])).collect();
    let rows = done.num_rows();
    let finished_at = TimestampMicrosecondArray::from_value(stamp.finished_at.timestamp_micros(), rows);
    let columns = vec![
        Arc::clone(doc_id),
        Arc::clone(column(done, "source")?),
        Arc::clone(column(done, "row")?),
        Arc::clone(column(done, "content_hash")?),
        Arc::clone(column(done, "n_chars")?),
        Arc::clone(column(done, "n_tokens")?),
        Arc::clone(column(done, "n_windows")?),
        Arc::new(n_entities),
        repeat(&stamp.run_id, rows),
        repeat_integer(stamp.commit, rows),
        Arc::new(finished_at.with_timezone("UTC")),
    ];
    RecordBatch::try_new(Table::Documents.file_schema(doc_id.data_type()), columns)
}

fn reject_rows(refused: &RecordBatch, stamp: &Stamp) -> Result<RecordBatch, ArrowError> {
    let doc_id = column(refused, "doc_id")?;
    let rows = refused.num_rows();
    let columns = vec![
        Arc::clone(column(refused, "source")?),
        Arc::clone(column(refused, "row")?),
        Arc::clone(doc_id),
        Arc::clone(column(refused, "reason")?),
        Arc::clone(column(refused, "detail")?),
        repeat(&stamp.run_id, rows),
        repeat_integer(stamp.commit, rows),
        repeat(&stamp.spec_id, rows),
    ];
    RecordBatch::try_new(Table::Rejects.file_schema(doc_id.data_type()), columns)
}

fn entity_lists(done: &RecordBatch) -> Result<&ListArray, ArrowError> {
    let lists = column(done, "entities")?
        .as_list_opt::<i32>()
        .ok_or_else(|| ArrowError::SchemaError("`entities` is not a list".to_owned()))?;
    if lists.null_count() > 0 {
        return Err(ArrowError::SchemaError("`entities` is null for an extracted document".to_owned()));
    }
    Ok(lists)
}

fn column<'batch>(batch: &'batch RecordBatch, name: &str) -> Result<&'batch ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("there is no column `{name}`")))
}

fn repeat(value: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
}

fn repeat_integer(value: i64, rows: usize) -> ArrayRef {
    Arc::new(Int64Array::from_value(value, rows))
}

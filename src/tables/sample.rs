//! Extracted rows for tests. In: documents as tuples. Out: batches with the schema of `ExtractExec`. Only tests must use it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use crate::tables::{extracted_schema, mention_fields};

/// One document: its id, the reason of its reject, and its mentions as type, start, end and text.
pub(crate) type Document<'text> = (Option<i64>, Option<&'text str>, Vec<(&'text str, i64, i64, &'text str)>);

/// The batch of `documents` of one source file; ids have the type `id_type` (as text: `doc-7`).
pub(crate) fn extracted(id_type: &DataType, source: &str, documents: &[Document<'_>]) -> RecordBatch {
    let mentions: Vec<_> = documents.iter().flat_map(|(_, _, mentions)| mentions.iter().copied()).collect();
    let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let strings = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let fields = mention_fields();
    let entities = StructArray::new(
        fields.clone(),
        vec![
            strings(mentions.iter().map(|mention| mention.0).collect()),
            integers(mentions.iter().map(|mention| mention.1).collect()),
            integers(mentions.iter().map(|mention| mention.2).collect()),
            strings(mentions.iter().map(|mention| mention.3).collect()),
            Arc::new(Float32Array::from(vec![0.75; mentions.len()])),
            integers(vec![0; mentions.len()]),
        ],
        None,
    );
    let entities = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Struct(fields), false)),
        OffsetBuffer::from_lengths(documents.iter().map(|(_, _, mentions)| mentions.len())),
        Arc::new(entities),
        None,
    );
    let ids = documents.iter().map(|(id, ..)| *id);
    let doc_id: ArrayRef = match id_type {
        DataType::Utf8 => Arc::new(ids.map(|id| id.map(|id| format!("doc-{id}"))).collect::<StringArray>()),
        DataType::Int32 => Arc::new(ids.map(|id| id.map(|id| id as i32)).collect::<Int32Array>()),
        _ => Arc::new(ids.collect::<Int64Array>()),
    };
    let hashes = documents.iter().map(|(id, ..)| id.map(|id| format!("{id:08x}")));
    let rows = documents.len();
    let columns: Vec<ArrayRef> = vec![
        strings(vec![source; rows]),
        integers((0..rows as i64).collect()),
        doc_id,
        Arc::new(hashes.collect::<StringArray>()),
        integers(vec![40; rows]),
        integers(vec![9; rows]),
        integers(vec![1; rows]),
        Arc::new(documents.iter().map(|(_, reason, _)| *reason).collect::<StringArray>()),
        Arc::new(documents.iter().map(|(_, reason, _)| reason.map(|_| "seen")).collect::<StringArray>()),
        Arc::new(entities),
        arrow::array::new_null_array(&DataType::Utf8, rows),
        integers(vec![4; rows]),
        integers(vec![0; rows]),
        integers(vec![0; rows]),
        integers(vec![0; rows]),
        integers(vec![0; rows]),
        integers(vec![0; rows]),
    ];
    RecordBatch::try_new(extracted_schema(id_type), columns).unwrap()
}

/// Three documents with three mentions; one of the documents is a reject.
pub(crate) fn three(id_type: &DataType, source: &str, first: i64) -> RecordBatch {
    extracted(
        id_type,
        source,
        &[
            (Some(first), None, vec![("PER", 0, 3, "Ada"), ("LOC", 10, 16, "London")]),
            (None, Some("null_id"), vec![]),
            (Some(first + 1), None, vec![("ORG", 4, 6, "É²")]),
        ],
    )
}

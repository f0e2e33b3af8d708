//! A finished slice → rows of [`extracted_schema`](crate::tables::extracted_schema). In: the rows of a slice with the results of its
//! documents. Out: a record batch, one row per document, in order. It must not drop a document.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float32Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::Result;

use crate::extract::known_documents::content_hash;
use crate::extract::pipeline::slice::{Extracted, SliceResult, SliceRows};
use crate::extract::pipeline::slices::Slice;
use crate::tables::mention_fields;
use crate::task::entity_schema::EntityType;

/// A finished slice as rows of [`extracted_schema`](crate::tables::extracted_schema).
pub(crate) fn extracted_rows(
    result: &SliceResult<Slice>,
    types: &[EntityType],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let rows = &result.rows;
    let joined = |column: usize| -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = rows.pieces.iter().map(|piece| piece.column(column).as_ref()).collect();
        Ok(concat(&parts)?)
    };
    let texts: Vec<&str> = (0..rows.count()).map(|row| rows.row(row).text.unwrap_or_default()).collect();
    let documents = &result.documents;
    let integers = |value: &dyn Fn(&Extracted) -> usize| -> ArrayRef {
        Arc::new(documents.iter().map(|document| value(document) as i64).collect::<Int64Array>())
    };
    let rejects = || documents.iter().map(|document| document.outcome.as_ref().err());
    let reasons: StringArray = rejects().map(|reject| reject.map(|reject| reject.reason.as_str())).collect();
    let details: StringArray = rejects().map(|reject| reject.map(|reject| reject.detail.as_str())).collect();
    let hashes: StringArray = texts.iter().map(|text| Some(content_hash(text))).collect();
    let lengths: Int64Array = texts.iter().map(|text| text.chars().count() as i64).collect();
    let columns: Vec<ArrayRef> = vec![
        joined(0)?,
        joined(1)?,
        joined(2)?,
        Arc::new(hashes),
        Arc::new(lengths),
        integers(&|document| document.tokens.tokens),
        integers(&|document| document.windows),
        Arc::new(reasons),
        Arc::new(details),
        entities(result, &texts, types),
        joined(5)?,
        integers(&|document| document.inputs),
        integers(&|document| document.tokens.unknown),
        integers(&|document| document.tokens.words_cut),
        integers(&|document| document.split),
        integers(&|document| document.capped),
        integers(&|document| document.undecided),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn entities(result: &SliceResult<Slice>, texts: &[&str], types: &[EntityType]) -> ArrayRef {
    let fields = mention_fields();
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields.clone(), 0)).with_field(Field::new(
        "item",
        DataType::Struct(fields),
        false,
    ));
    for (document, text) in result.documents.iter().zip(texts) {
        for mention in document.outcome.iter().flatten() {
            let row = list.values();
            let integer = |row: &mut StructBuilder, column: usize, value: usize| {
                if let Some(builder) = row.field_builder::<Int64Builder>(column) {
                    builder.append_value(value as i64);
                }
            };
            let string = |row: &mut StructBuilder, column: usize, value: &str| {
                if let Some(builder) = row.field_builder::<StringBuilder>(column) {
                    builder.append_value(value);
                }
            };
            string(row, 0, &types[mention.entity_type].name);
            integer(row, 1, mention.chars.start);
            integer(row, 2, mention.chars.end);
            string(row, 3, mention.bytes.of(text));
            if let Some(builder) = row.field_builder::<Float32Builder>(4) {
                builder.append_value(mention.score);
            }
            integer(row, 5, mention.window);
            row.append(true);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

//! Columns as a format can take them. In: a result's schema and batches. Out: the same rows with other names or types of columns. It may not
//! write.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The columns with those that CSV has no form for as text.
pub(super) fn as_text(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let plain = !field.data_type().is_nested() && !is_bytes(field.data_type());
        if plain { field.as_ref().clone().with_nullable(true) } else { Field::new(field.name(), DataType::Utf8, true) }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// A batch in the columns of [`as_text`].
pub(super) fn text_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let text = |(column, field): (&ArrayRef, &Arc<Field>)| -> Result<ArrayRef, ArrowError> {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        let options = FormatOptions::new();
        let values = ArrayFormatter::try_new(column, &options)?;
        let value = |row| column.is_valid(row).then(|| values.value(row).try_to_string()).transpose();
        Ok(Arc::new((0..column.len()).map(value).collect::<Result<StringArray, _>>()?))
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(text).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// The columns with names of their own: of two of one name the second gets a number, as JSON and Parquet need it.
pub(super) fn unlike(schema: &SchemaRef) -> SchemaRef {
    let mut names: Vec<String> = Vec::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut number = 1;
        while names.contains(&name) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        names.push(name);
    }
    // Any may be null: what the planner promises of an expression is not always so.
    let nullable = |(field, name): (&Arc<Field>, String)| field.as_ref().clone().with_name(name).with_nullable(true);
    let fields = schema.fields().iter().zip(names).map(nullable);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A batch under the names of [`unlike`].
pub(super) fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
}

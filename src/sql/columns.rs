//! Columns in the types and names that a format supports. In: a result's schema and batches. Out: the same rows with other column names or
//! types. It must not write.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The schema for CSV: nested and binary columns become text.
pub(super) fn text_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let plain = !field.data_type().is_nested() && !is_bytes(field.data_type());
        if plain { field.as_ref().clone().with_nullable(true) } else { Field::new(field.name(), DataType::Utf8, true) }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// A batch in the columns of [`text_schema`].
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

/// The schema with unique column names, as JSON and Parquet need them: a repeated name gets a number.
pub(super) fn unique_names(schema: &SchemaRef) -> SchemaRef {
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
    // Every column is nullable: the planner's nullability of an expression is not always right.
    let nullable = |(field, name): (&Arc<Field>, String)| field.as_ref().clone().with_name(name).with_nullable(true);
    let fields = schema.fields().iter().zip(names).map(nullable);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A batch in the columns of [`unique_names`].
pub(super) fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
}

//! The columns that a condition uses → arrays. In: the records of a batch. Out: an array per column; a record with a value of another type
//! gets a fault, and nulls. It must not evaluate the condition.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;

use crate::source::records::record::Cell;

const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Arrays of JSON values; `lines` has an object per record, none for a record that is faulty already. Returns the faults by record.
pub(super) fn from_json(lines: &[Option<&[u8]>], schema: &SchemaRef) -> Result<(Vec<ArrayRef>, Faults), ArrowError> {
    if let Ok(batch) = decode(lines, schema) {
        return Ok((batch.columns().to_vec(), Vec::new()));
    }
    let (mut rows, mut faults): (Vec<RecordBatch>, Faults) = (Vec::new(), Vec::new());
    for (number, line) in lines.iter().enumerate() {
        rows.push(match decode(&[*line], schema) {
            Ok(row) => row,
            Err(error) => {
                faults.push((number, message(&error)));
                decode(&[None], schema)?
            }
        });
    }
    Ok((concat_batches(schema, &rows)?.columns().to_vec(), faults))
}

/// The record's number in the batch, and what is wrong with it.
pub(super) type Faults = Vec<(usize, String)>;

fn decode(lines: &[Option<&[u8]>], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let builder =
        ReaderBuilder::new(Arc::clone(schema)).with_batch_size(lines.len().max(1)).with_coerce_primitive(true);
    let mut decoder = builder.build_decoder()?;
    for line in lines {
        let mut rest = line.unwrap_or(b"{}");
        while !rest.is_empty() {
            let used = decoder.decode(rest)?;
            if used == 0 {
                break;
            }
            rest = &rest[used..];
        }
    }
    decoder
        .flush()?
        .filter(|batch| batch.num_rows() == lines.len())
        .ok_or_else(|| ArrowError::JsonError("a record is not one object".to_owned()))
}

/// Arrays of CSV fields: `cells` has the cells of each record in the order of the schema's fields, none for a faulty record.
pub(super) fn from_csv(cells: &[Option<&[Cell]>], schema: &SchemaRef) -> Result<(Vec<ArrayRef>, Faults), ArrowError> {
    let (mut arrays, mut faults): (Vec<ArrayRef>, Faults) = (Vec::new(), Vec::new());
    for (place, field) in schema.fields().iter().enumerate() {
        let text = |record: Option<&[Cell]>| match record.and_then(|cells| cells.get(place).cloned()) {
            Some(Cell::Text(text)) => Some(text),
            _ => None,
        };
        let texts: StringArray = cells.iter().copied().map(text).collect();
        if let Ok(array) = cast_with_options(&texts, field.data_type(), &STRICT) {
            arrays.push(array);
            continue;
        }
        let safe = CastOptions { safe: true, ..STRICT };
        let array = cast_with_options(&texts, field.data_type(), &safe)?;
        for (number, text) in texts.iter().enumerate() {
            if let (Some(text), true) = (text, array.is_null(number)) {
                let (name, kind) = (field.name(), field.data_type());
                faults.push((number, format!("column `{name}` is `{text}`, expected {kind}")));
            }
        }
        arrays.push(array);
    }
    Ok((arrays, faults))
}

/// An array of one value for every record.
pub(super) fn constant(value: Option<&str>, data_type: &DataType, records: usize) -> Result<ArrayRef, ArrowError> {
    match value {
        None => Ok(new_null_array(data_type, records)),
        Some(value) => {
            let values = StringArray::from(vec![value; records]);
            cast_with_options(&values, data_type, &STRICT)
        }
    }
}

fn message(error: &ArrowError) -> String {
    let text = error.to_string();
    text.strip_prefix("Json error: ").unwrap_or(&text).lines().next().unwrap_or_default().to_owned()
}

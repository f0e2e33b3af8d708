//! The first records of a text file → its columns. In: the file, the columns that the job names. Out: all its columns, with the types that
//! their first values have, or why nothing of it can be read. It must not read more than the sample.

use std::io::{ErrorKind, Result};

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::error::DataFusionError;
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::source::columns::types::common_type;
use crate::source::listing::{Format, has_tabs};
use crate::source::records::csv::CsvRecords;
use crate::source::records::json_lines::{JsonLines, object as parsed};
pub(crate) use crate::source::records::object_bytes::{Object, read_error};
use crate::source::records::record::{Cell, Record, other_encoding};

/// Columns and types are those of this many records,
const RECORDS: usize = 1000;
/// or of fewer, if these have this many bytes.
const BYTES: usize = 4 << 20;

/// The columns of a file; `names` are those that its header must have for its delimiter to be found. Call it on a thread that may block.
///
/// # Errors
/// A failure to read; [`ErrorKind::InvalidData`] for a file of which no record can be read, with the reason for people.
pub(crate) fn columns(format: Format, object: &Object, names: &[&str], runtime: &Handle) -> Result<Schema> {
    match format {
        Format::Csv => csv_columns(object, names, runtime),
        Format::JsonLines | Format::Parquet => json_columns(object, runtime),
    }
}

/// A failure of [`columns`]: the reason why nothing can be read, or the object store's failure.
pub(crate) fn failure(error: std::io::Error) -> DataFusionError {
    match error.kind() {
        ErrorKind::InvalidData => DataFusionError::External(error.to_string().into()),
        _ => read_error(error),
    }
}

fn unreadable(reason: impl Into<String>) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, reason.into())
}

fn csv_columns(object: &Object, names: &[&str], runtime: &Handle) -> Result<Schema> {
    let open =
        |wanted: &[String]| CsvRecords::new(object.open(runtime)?, names, wanted, has_tabs(object.location.as_ref()));
    let header = open(&[])?.header;
    let mut records = open(&header)?;
    let mut types = vec![DataType::Null; header.len()];
    let (mut bytes, mut count) = (0, 0);
    while count < RECORDS && bytes < BYTES {
        let Some(record) = records.next()? else { break };
        let Ok(cells) = &record.cells else { continue };
        (bytes, count) = (bytes + record.raw.len(), count + 1);
        for (column, cell) in types.iter_mut().zip(cells) {
            if let Cell::Text(text) = cell {
                *column = common_type(column, &type_of(text)).unwrap_or(DataType::Utf8);
            }
        }
    }
    let field = |(name, data_type): (&String, DataType)| {
        Field::new(name, if data_type.is_null() { DataType::Utf8 } else { data_type }, true)
    };
    Ok(Schema::new(header.iter().zip(types).map(field).collect::<Vec<_>>()))
}

/// The type of a field of CSV. Only a number that is written as numbers are printed is one: `007` is a string.
pub(crate) fn type_of(text: &str) -> DataType {
    if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) {
        return DataType::Int64;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.starts_with(|first: char| first.is_ascii_digit())
        && (!digits.starts_with('0') || digits.starts_with("0."))
        && digits.ends_with(|last: char| last.is_ascii_digit());
    match text.parse::<f64>() {
        // An integer of more digits than fit would lose some.
        Ok(number) if plain && number.is_finite() && digits.contains(['.', 'e', 'E']) => DataType::Float64,
        _ if matches!(text, "true" | "false") => DataType::Boolean,
        _ => DataType::Utf8,
    }
}

fn json_columns(object: &Object, runtime: &Handle) -> Result<Schema> {
    let mut lines = JsonLines::new(object.open(runtime)?, Vec::new());
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    let (mut bytes, mut count, mut first): (usize, usize, Option<(Record, String)>) = (0, 0, None);
    while count < RECORDS && bytes < BYTES {
        let Some(record) = lines.next()? else { break };
        bytes += record.raw.len();
        let fault = match (&record.cells, &parsed(record.raw.trim_ascii())) {
            (Ok(_), Ok(values)) => {
                count += 1;
                collect(&mut columns, values.clone());
                continue;
            }
            (Err(fault), _) | (_, Err(fault)) => fault.clone(),
        };
        first.get_or_insert((record, fault));
    }
    match first {
        // A list over several lines, of which a line can be a record by chance.
        Some((record, fault)) if count == 0 || record.raw.trim_ascii() == b"[" => {
            Err(unreadable(nothing(&record, &fault)))
        }
        _ => Ok(Schema::new(columns.iter().map(|(name, values)| json_field(name, values)).collect::<Vec<_>>())),
    }
}

fn collect(columns: &mut Vec<(String, Vec<Value>)>, values: Map<String, Value>) {
    for (name, value) in values {
        match columns.iter_mut().find(|(column, _)| *column == name) {
            Some((_, values)) => values.push(value),
            None => columns.push((name, vec![value])),
        }
    }
}

/// The type that most of a column's values have; structure as `arrow` infers it. Without a value, a string.
fn json_field(name: &str, values: &[Value]) -> Field {
    let kinds = |kind: fn(&Value) -> bool| values.iter().filter(|value| kind(value)).count();
    let (strings, all) = (kinds(Value::is_string), values.len() - kinds(Value::is_null));
    let whole = kinds(Value::is_i64);
    let data_type = if strings * 2 >= all {
        DataType::Utf8
    } else if whole * 2 >= all {
        let numbers = kinds(Value::is_number);
        if whole < numbers && numbers == all { DataType::Float64 } else { DataType::Int64 }
    } else {
        let rows = values.iter().map(|value| Ok(Value::Object(Map::from_iter([(name.to_owned(), value.clone())]))));
        let inferred = arrow::json::reader::infer_json_schema_from_iterator(rows);
        let inferred = inferred.ok().and_then(|schema| schema.fields().first().map(|field| field.data_type().clone()));
        inferred.filter(|data_type| !data_type.is_null()).unwrap_or(DataType::Utf8)
    };
    Field::new(name, data_type, true)
}

/// Why no record of a JSON file can be read.
fn nothing(first: &Record, fault: &str) -> String {
    let start = first.raw.trim_ascii();
    if let Some(reason) = other_encoding(start) {
        return reason.to_owned();
    }
    if start.starts_with(b"[") {
        return "it is one JSON array, expected one object a line: rewrite it with `jq -c '.[]' FILE > FILE.jsonl`"
            .to_owned();
    }
    if matches!(start, b"{") || start.starts_with(b"{") && !start.ends_with(b"}") && fault.contains("EOF") {
        return "its objects span lines, expected one object a line: rewrite it with `jq -c . FILE > FILE.jsonl`"
            .to_owned();
    }
    format!("line {}, {fault}", first.line)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;

    async fn found(name: &str, text: &str) -> std::result::Result<String, String> {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let location = Path::from(name);
        objects.put(&location, text.to_owned().into()).await.unwrap();
        let object = Object { objects, location, size: text.len() as u64 };
        let format = Format::of(name).unwrap();
        let runtime = Handle::current();
        let columns = move || columns(format, &object, &["id", "body"], &runtime);
        let schema = tokio::task::spawn_blocking(columns).await.unwrap().map_err(|error| error.to_string())?;
        Ok(schema
            .fields()
            .iter()
            .map(|one| format!("{} {}", one.name(), one.data_type()))
            .collect::<Vec<_>>()
            .join(", "))
    }

    #[tokio::test]
    async fn columns_have_the_types_of_the_first_records() {
        let csv = "id,body,year,score,ok\n007,a,1999,0.5,true\n123,b,,1,false\nx\n";
        assert_eq!(found("a.csv", csv).await.unwrap(), "id Utf8, body Utf8, year Int64, score Float64, ok Boolean");
        let json = "{\"id\": 1, \"body\": \"a\", \"meta\": {\"n\": 1}}\nbroken\n{\"id\": \"x\", \"meta\": \"none\", \"more\": null}\n{\"id\": 2}\n";
        assert_eq!(found("a.jsonl", json).await.unwrap(), "body Utf8, id Int64, meta Utf8, more Utf8");
    }

    #[tokio::test]
    async fn a_file_without_a_readable_record_says_what_to_do() {
        for (text, expected) in [
            ("[{\"id\": 1}]", "jq -c '.[]' FILE"),
            ("[\n {\"id\": 1}\n]", "jq -c '.[]' FILE"),
            ("{\n \"id\": 1\n}\n", "jq -c . FILE"),
            ("not JSON\n", "line 1, column 2: expected"),
        ] {
            let reason = found("a.json", text).await.unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn only_canonical_numbers_are_numbers() {
        for (text, data_type) in [
            ("0", DataType::Int64),
            ("-12", DataType::Int64),
            ("007", DataType::Utf8),
            ("+7", DataType::Utf8),
            ("99999999999999999999", DataType::Utf8),
            ("0.5", DataType::Float64),
            ("1e5", DataType::Float64),
            ("00.5", DataType::Utf8),
            ("inf", DataType::Utf8),
            ("true", DataType::Boolean),
        ] {
            assert_eq!(type_of(text), data_type, "{text}");
        }
    }
}

//! SQL text → rows, views, tables in memory. In: a query and a session. Out: batches and their values, or a view or table under a name.
//! It must not depend on the subject of a query.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, SessionContext};

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;

/// Registers `sql` as the view `name`, planned over the tables as they are now.
pub async fn register(context: &SessionContext, name: &str, sql: &str) -> Result<()> {
    let view = plan(context, sql).await?.into_view();
    context.deregister_table(name).map_err(failed)?;
    context.register_table(name, view).map_err(failed)?;
    Ok(())
}

/// Runs `sql` and keeps its rows in memory as the table `name`.
pub async fn keep(context: &SessionContext, name: &str, sql: &str) -> Result<()> {
    let table = plan(context, sql).await?.cache().await.map_err(failed)?.into_view();
    context.deregister_table(name).map_err(failed)?;
    context.register_table(name, table).map_err(failed)?;
    Ok(())
}

/// Runs `sql`.
pub async fn query(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    plan(context, sql).await?.collect().await.map_err(failed)
}

/// Runs `sql` over the tables of `store`; errors name the store.
pub async fn query_store(context: &SessionContext, store: &StoreLocation, sql: &str) -> Result<Vec<RecordBatch>> {
    query(context, sql).await.map_err(|error| match error {
        Error::Engine { source, .. } => Error::Store { doing: "read".into(), store: store.to_string(), source },
        other => other,
    })
}

/// Plans `sql`.
pub async fn plan(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    context.sql(sql).await.map_err(failed)
}

/// The counts in the first row, one per column. Empty if there is no row.
///
/// # Errors
/// As for [`count_at`].
pub fn i64_row(batches: &[RecordBatch]) -> Result<Vec<usize>> {
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
    (0..batch.num_columns()).map(|column| count_at(batch, column, 0)).collect()
}

/// The count in a row of an int64 column.
///
/// # Errors
/// [`Error::Engine`] if the column has another type, or if the value is null or negative.
pub fn count_at(batch: &RecordBatch, column: usize, row: usize) -> Result<usize> {
    let Some(values) = batch.column(column).as_primitive_opt::<Int64Type>() else {
        return Err(unexpected(batch, column, "an int64 column"));
    };
    let count = values.is_valid(row).then(|| usize::try_from(values.value(row)).ok()).flatten();
    count.ok_or_else(|| unexpected(batch, column, &format!("a count in row {row}")))
}

/// A column of strings. A null becomes an empty string, which callers take as absent (a source's `etag`, the `other_type` of an error, the
/// parts of a reject).
///
/// # Errors
/// [`Error::Engine`] if the column has another type.
pub fn string_column(batch: &RecordBatch, column: usize) -> Result<Vec<String>> {
    let data_type = match batch.column(column).data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    if !data_type.is_string() && !data_type.is_null() {
        return Err(unexpected(batch, column, "a column of strings"));
    }
    as_strings(batch, column)
}

/// A column of document ids as text. A null becomes an empty string.
///
/// # Errors
/// [`Error::Engine`] if the column has neither strings nor integers.
pub fn id_column(batch: &RecordBatch, column: usize) -> Result<Vec<String>> {
    if batch.column(column).data_type().is_integer() { as_strings(batch, column) } else { string_column(batch, column) }
}

/// A column of numbers as f64.
///
/// # Errors
/// [`Error::Engine`] if the column has another type.
pub fn f64_column(batch: &RecordBatch, column: usize) -> Result<Vec<Option<f64>>> {
    let data_type = batch.column(column).data_type();
    if !data_type.is_numeric() && !data_type.is_null() {
        return Err(unexpected(batch, column, "a column of numbers"));
    }
    let values =
        arrow::compute::cast(batch.column(column), &DataType::Float64).map_err(|error| failed(error.into()))?;
    Ok(values.as_primitive::<Float64Type>().iter().collect())
}

fn as_strings(batch: &RecordBatch, column: usize) -> Result<Vec<String>> {
    let values = arrow::compute::cast(batch.column(column), &DataType::Utf8).map_err(|error| failed(error.into()))?;
    Ok(values.as_string::<i32>().iter().map(|value| value.unwrap_or_default().to_owned()).collect())
}

fn unexpected(batch: &RecordBatch, column: usize, expected: &str) -> Error {
    let schema = batch.schema();
    let field = schema.field(column);
    let found = format!("column {} (`{}`) is {}, expected {expected}", column + 1, field.name(), field.data_type());
    failed(DataFusionError::Execution(found))
}

fn failed(source: DataFusionError) -> Error {
    Error::Engine { doing: "answer a query".into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Int64Array, StringArray};

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("value", column, true)]).unwrap()
    }

    fn cause<T: std::fmt::Debug>(outcome: Result<T>) -> String {
        outcome.unwrap_err().causes().concat()
    }

    #[test]
    fn a_count_is_an_int64_that_is_neither_null_nor_negative() {
        let counts = batch(Arc::new(Int64Array::from(vec![Some(7), None, Some(-1)])));
        assert_eq!(count_at(&counts, 0, 0).unwrap(), 7);
        assert_eq!(i64_row(&[counts.slice(0, 0), counts.clone()]).unwrap(), [7]);
        assert!(i64_row(&[]).unwrap().is_empty());
        for row in [1, 2] {
            assert!(cause(count_at(&counts, 0, row)).contains(&format!("expected a count in row {row}")));
        }
        let text = batch(Arc::new(StringArray::from(vec!["7"])));
        assert!(cause(i64_row(&[text])).contains("column 1 (`value`) is Utf8, expected an int64 column"));
    }

    #[test]
    fn a_column_of_another_type_is_an_error() {
        let texts = batch(Arc::new(StringArray::from(vec![Some("7"), None])));
        let numbers = batch(Arc::new(Float32Array::from(vec![Some(0.5), None])));
        let integers = batch(Arc::new(Int64Array::from(vec![7])));
        assert_eq!(string_column(&texts, 0).unwrap(), ["7", ""]);
        assert_eq!(f64_column(&numbers, 0).unwrap(), [Some(0.5), None]);
        assert_eq!(
            (id_column(&integers, 0).unwrap(), f64_column(&integers, 0).unwrap()),
            (vec!["7".into()], vec![Some(7.0)])
        );
        assert_eq!(id_column(&texts, 0).unwrap(), ["7", ""]);
        assert!(cause(string_column(&integers, 0)).contains("is Int64, expected a column of strings"));
        assert!(cause(id_column(&numbers, 0)).contains("is Float32, expected a column of strings"));
        assert!(cause(f64_column(&texts, 0)).contains("is Utf8, expected a column of numbers"));
    }
}

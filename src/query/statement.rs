//! SQL text → rows, views, tables in memory. In: a query and what the session knows. Out: batches, or a name to go on with. It
//! may not know what the query is about.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, SessionContext};

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;

/// Registers what `sql` selects, planned with the tables as they are now, as the view `name`.
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

/// Runs `sql` over the tables of `store`, which an error names.
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

/// The integers of a single row.
pub fn numbers(batches: &[RecordBatch]) -> Vec<usize> {
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Vec::new() };
    (0..batch.num_columns()).map(|column| whole(batch, column, 0)).collect()
}

/// A count in a column of a batch.
pub fn whole(batch: &RecordBatch, column: usize, row: usize) -> usize {
    let values = batch.column(column).as_primitive_opt::<Int64Type>();
    values.map_or(0, |values| usize::try_from(values.value(row)).unwrap_or(0))
}

/// A string column of a batch, nulls as empty strings.
pub fn words(batch: &RecordBatch, column: usize) -> Result<Vec<String>> {
    let values = arrow::compute::cast(batch.column(column), &DataType::Utf8).map_err(|error| failed(error.into()))?;
    Ok(values.as_string::<i32>().iter().map(|value| value.unwrap_or_default().to_owned()).collect())
}

/// A column of numbers of a batch.
pub fn reals(batch: &RecordBatch, column: usize) -> Result<Vec<Option<f64>>> {
    let values =
        arrow::compute::cast(batch.column(column), &DataType::Float64).map_err(|error| failed(error.into()))?;
    Ok(values.as_primitive::<Float64Type>().iter().collect())
}

fn failed(source: DataFusionError) -> Error {
    Error::Engine { doing: "answer a query".into(), source: source.into() }
}

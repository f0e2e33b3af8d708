//! The job's condition on documents. In: SQL, and the columns of the files. Out: an expression, or an error that names the setting. It
//! must not read rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::prelude::SessionContext;

use crate::error::Error;
use crate::source::plan_error::first_line;

/// The condition over the files' columns. Fails if the expression is not boolean.
pub(crate) fn condition(context: &SessionContext, schema: &SchemaRef, filter: &str) -> Result<Arc<dyn PhysicalExpr>> {
    let columns = DFSchema::try_from(schema.as_ref().clone())?;
    let condition = context.create_physical_expr(context.parse_sql_expr(filter, &columns)?, &columns)?;
    let data_type = condition.data_type(schema)?;
    if data_type == DataType::Boolean {
        return Ok(condition);
    }
    Err(DataFusionError::Plan(format!("`{filter}` is {data_type}, not true or false")))
}

/// The names of the columns that a condition needs.
pub(crate) fn condition_columns(context: &SessionContext, schema: &SchemaRef, filter: &str) -> Result<Vec<String>> {
    let columns = collect_columns(&condition(context, schema, filter)?);
    let mut names: Vec<String> = columns.iter().map(|column| column.name().to_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// An error for a filter that is not a condition, or that names a missing column.
pub(crate) fn bad_filter(error: &DataFusionError) -> Error {
    Error::Setting {
        origin: "job".into(),
        key: "input.where".into(),
        reason: first_line(error),
        hint: "it is a SQL condition on the files' columns, such as where = \"lang = 'en'\"".into(),
    }
}

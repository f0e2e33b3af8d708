//! SQL text → rows, views, tables in memory. In: a query and a session. Out: batches (whose values `tables::result_row` reads), or a view or table under a name.
//! It must not depend on the subject of a query.

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;
use crate::tables::result_row::scalar;

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

/// Runs `sql` over the tables of `store` and returns its rows as a stream; errors name the store.
pub async fn stream_store(
    context: &SessionContext,
    store: &StoreLocation,
    sql: &str,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let store = store.to_string();
    let failed = move |source: DataFusionError| Error::Store {
        doing: "read".into(),
        store: store.clone(),
        source: source.into(),
    };
    let rows = async { context.sql(sql).await?.execute_stream().await };
    Ok(rows.await.map_err(&failed)?.map_err(failed).boxed())
}

/// Plans `sql`, which must be a query.
pub async fn plan(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    context.sql_with_options(sql, only_queries).await.map_err(failed)
}

/// Runs `sql` for a single count.
pub async fn count(context: &SessionContext, sql: &str) -> Result<usize> {
    Ok(scalar(&query(context, sql).await?)?)
}

fn failed(source: DataFusionError) -> Error {
    Error::Engine { doing: "answer a query".into(), source: source.into() }
}

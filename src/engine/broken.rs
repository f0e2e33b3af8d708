//! Files that cannot be read to their end. In: a file that a plan failed on. Out: how many of its rows come before the fault, and
//! what the fault is. It may not take a store that does not answer for a broken file.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use object_store::ObjectStoreExt;

use super::attach::first_line;
use super::chunk::{Chunk, RowRange};
use super::input::Documents;
use super::listing::store_of;
use crate::error::{Error, Result};

impl Documents {
    /// Reads a file from its first row to its last, all that the job looks at. Where a row cannot be read: how many come before
    /// it, and why it cannot. Rows are read in batches, and the rows before it in its batch count as unreadable too.
    ///
    /// # Errors
    /// [`Error::Engine`] where the fault is not in the file: it cannot be reached any more, or has changed.
    pub async fn broken(&self, context: &SessionContext, file: usize) -> Result<Option<(i64, String)>> {
        let source = &self.files[file];
        let chunk = Chunk { ranges: vec![RowRange { file, rows: 0..source.rows.unwrap_or(i64::MAX) }] };
        let mut more = vec![self.text()];
        if self.spec.filter.is_some() {
            more.extend(self.own_columns());
        }
        let plan = self.columns(context, &chunk, more, None).await.map_err(|error| self.planned(error))?;
        let mut batches = execute_stream(plan, context.task_ctx()).map_err(|error| self.planned(error))?;
        let mut rows = 0;
        let error = loop {
            match batches.next().await {
                None => return Ok(None),
                Some(Ok(batch)) => {
                    let numbers = batch["row"].as_primitive::<Int64Type>().values();
                    rows = numbers.last().map_or(rows, |last| last + 1);
                }
                Some(Err(error)) => break error,
            }
        };
        let unreachable =
            |reason: String| Error::Engine { doing: format!("read `{}`", source.path), source: reason.into() };
        let objects = store_of(context, &self.listing.objects).map_err(unreachable)?;
        let found = objects.head(&source.meta.location).await.map_err(|error| unreachable(error.to_string()))?;
        if (found.size, &found.e_tag) != (source.meta.size, &source.meta.e_tag) {
            return Err(unreachable("it has changed since the run began".to_owned()));
        }
        if is_of_the_store(&error) {
            return Err(unreachable(first_line(&error)));
        }
        Ok(Some((rows, first_line(&error))))
    }
}

/// Whether the object store failed, not the file.
fn is_of_the_store(error: &DataFusionError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<object_store::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

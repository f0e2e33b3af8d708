//! Files that cannot be read to their end. In: a file that a plan failed on. Out: how many of its rows come before the fault, and
//! what the fault is. It may not take a store that does not answer for a broken file.

use std::io::ErrorKind;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::error::{Error, Result};
use crate::source::chunk::{Chunk, RowRange};
use crate::source::input::Documents;
use crate::source::listing::{Format, store_of};
use crate::source::plan_error::first_line;

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
        if self.listing.format == Format::Parquet {
            more.extend(self.condition_columns(context).map_err(|error| self.planned(error))?);
        } else if self.spec.filter.is_some() {
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
        // Some stores list a tag without the quotes that they send it with.
        let tag = |meta: &ObjectMeta| meta.e_tag.as_ref().map(|tag| tag.trim_matches('"').to_owned());
        if (found.size, tag(&found)) != (source.meta.size, tag(&source.meta)) {
            return Err(unreachable("it has changed since the run began".to_owned()));
        }
        if is_of_the_store(&error) {
            return Err(unreachable(first_line(&error)));
        }
        Ok(Some((rows, first_line(&error))))
    }
}

/// Whether the object store failed, not the file. That the file is gone, may not be read by this user, is not sent in parts, or ends
/// before what its footer names is said of the file: its store answers.
pub(crate) fn is_of_the_store(error: &DataFusionError) -> bool {
    use object_store::Error::{Generic, NotFound, NotSupported};
    let causes = || std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    let Some(failure) = causes().find_map(|error| error.downcast_ref::<object_store::Error>()) else { return false };
    let forbidden = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    // A read behind the end: the local store's two errors, and HTTP's.
    let beyond = ["Requested range was invalid", "Out of range of file", "status code: 416"];
    if causes().any(|error| beyond.iter().any(|said| error.to_string().contains(said))) {
        return false;
    }
    match failure {
        NotFound { .. } | NotSupported { .. } => false,
        // Elsewhere it is about credentials, which another try may have.
        Generic { store: "LocalFileSystem", .. } => !causes().any(forbidden),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_does_not_answer_is_told_from_a_file_that_cannot_be_read() {
        let of_the_store = |error: object_store::Error| {
            let deep = parquet::errors::ParquetError::External(Box::new(error));
            is_of_the_store(&DataFusionError::from(deep).context("while it is read"))
        };
        let generic = |store, kind: ErrorKind| {
            of_the_store(object_store::Error::Generic { store, source: std::io::Error::from(kind).into() })
        };
        assert!(generic("S3", ErrorKind::TimedOut) && generic("S3", ErrorKind::PermissionDenied));
        assert!(generic("LocalFileSystem", ErrorKind::Other));
        assert!(!generic("LocalFileSystem", ErrorKind::PermissionDenied));
        let (path, source) = ("a".to_owned(), || "it says so".into());
        assert!(of_the_store(object_store::Error::Unauthenticated { path: path.clone(), source: source() }));
        assert!(!of_the_store(object_store::Error::NotFound { path, source: source() }));
        assert!(!of_the_store(object_store::Error::NotSupported { source: source() }));
        let short =
            object_store::Error::Generic { store: "LocalFileSystem", source: "Requested range was invalid".into() };
        assert!(!of_the_store(short));
        assert!(!is_of_the_store(&DataFusionError::Plan("torn".to_owned())));
    }
}

//! Files that cannot be read to their end. In: a file that a plan failed on. Out: how many of its rows precede the fault, and the
//! fault's description. It must not mistake an object store that does not answer for a corrupt file.

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
use crate::source::filter::condition_columns;
use crate::source::input::Documents;
use crate::source::listing::{Format, store_of};
use crate::source::plan_error::first_line;
use crate::source::scan::{ScanSpec, scan_session};

impl Documents {
    /// Reads every column that the job uses, from a file's first row to its last. If a row cannot be read, returns how many rows
    /// precede it and the reason. Rows are read in batches, so earlier rows of the failing batch count as unreadable too.
    ///
    /// # Errors
    /// [`Error::Engine`] if the fault is not in the file: it is no longer reachable, or it has changed.
    pub async fn broken(&self, context: &SessionContext, file: usize) -> Result<Option<(i64, String)>> {
        let source = &self.files[file];
        let chunk = Chunk { ranges: vec![RowRange { file, rows: 0..source.rows.unwrap_or(i64::MAX) }] };
        let more = match &self.spec.filter {
            Some(filter) if self.listing.format == Format::Parquet => {
                condition_columns(context, &self.schema, filter).map_err(|error| self.planned(error))?
            }
            Some(_) => self.schema.fields().iter().map(|field| field.name().clone()).collect(),
            None => Vec::new(),
        };
        let scan = ScanSpec { text: Some(self.spec.text.clone()), more, filter: None, ..self.scan(&chunk) };
        let reading = scan_session(context.state().config(), context.runtime_env());
        let plan = scan.plan(&reading).await.map_err(|error| self.planned(error))?;
        let mut batches = execute_stream(plan, reading.task_ctx()).map_err(|error| self.planned(error))?;
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
        let current = objects.head(&source.meta.location).await.map_err(|error| unreachable(error.to_string()))?;
        // Some stores list an ETag without the quotes that they return it with.
        let tag = |meta: &ObjectMeta| meta.e_tag.as_ref().map(|tag| tag.trim_matches('"').to_owned());
        if (current.size, tag(&current)) != (source.meta.size, tag(&source.meta)) {
            return Err(unreachable("it has changed since the run began".to_owned()));
        }
        if is_of_the_store(&error) {
            return Err(unreachable(first_line(&error)));
        }
        Ok(Some((rows, first_line(&error))))
    }
}

/// Whether the object store failed, not the file. If the store answers, the fault is the file's: it is gone, this user has no
/// permission, the server sends no byte ranges, or it is shorter than its footer says.
pub(crate) fn is_of_the_store(error: &DataFusionError) -> bool {
    use object_store::Error::{Generic, NotFound, NotSupported};
    let causes = || std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    let Some(failure) = causes().find_map(|error| error.downcast_ref::<object_store::Error>()) else { return false };
    let forbidden = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    // A read past the end: the local store's two messages, and HTTP's.
    let beyond = ["Requested range was invalid", "Out of range of file", "status code: 416"];
    if causes().any(|error| beyond.iter().any(|message| error.to_string().contains(message))) {
        return false;
    }
    match failure {
        NotFound { .. } | NotSupported { .. } => false,
        // On other stores a permission error is about credentials, which can be right in a retry.
        Generic { store: "LocalFileSystem", .. } => !causes().any(forbidden),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_store_is_distinguished_from_an_unreadable_file() {
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
        let (path, source) = ("a".to_owned(), || "as it reports".into());
        assert!(of_the_store(object_store::Error::Unauthenticated { path: path.clone(), source: source() }));
        assert!(!of_the_store(object_store::Error::NotFound { path, source: source() }));
        assert!(!of_the_store(object_store::Error::NotSupported { source: source() }));
        let short =
            object_store::Error::Generic { store: "LocalFileSystem", source: "Requested range was invalid".into() };
        assert!(!of_the_store(short));
        assert!(!is_of_the_store(&DataFusionError::Plan("torn".to_owned())));
    }
}

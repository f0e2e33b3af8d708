//! Files that cannot be read to their end. In: a file that a plan failed on. Out: the rows that cannot be read, and the fault's
//! description. It must not mistake an object store that does not answer for a corrupt file.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::{FutureExt, StreamExt};
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::error::{Error, Result};
use crate::machine::panics::{contain_future, contain_stream};
use crate::source::chunk::{Chunk, RowRange};
use crate::source::columns::parquet_metadata;
use crate::source::input::Documents;
use crate::source::listing::{Format, SourceFile, store_of};
use crate::source::plan_error::first_line;
use crate::source::scan::{ScanSpec, scan_session};

/// Rows of a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The rows, in order; the last range ends at [`i64::MAX`] if nothing behind its start can be read. Never empty.
    rows: Vec<Range<i64>>,
    reason: String,
}

impl Documents {
    /// Reads every column that the job uses, from a file's first row to its last, and returns what cannot be read: of Parquet, the rest
    /// of each row group from the first unreadable batch on; of other files, everything from there on. Rows are read in batches, so
    /// earlier rows of the failing batch count as unreadable too.
    ///
    /// # Errors
    /// [`Error::Engine`] if the fault is not in the file: it is no longer reachable, or it has changed.
    pub async fn broken(&self, context: &SessionContext, file: usize) -> Result<Option<Damage>> {
        let source = &self.files[file];
        let unreachable =
            |reason: String| Error::Engine { doing: format!("read `{}`", source.path), source: reason.into() };
        let objects = store_of(context, &self.listing.objects).map_err(unreachable)?;
        let end = source.rows.unwrap_or(i64::MAX);
        let (mut damage, mut start): (Option<Damage>, i64) = (None, 0);
        while start < end {
            let Some((row, error)) = self.first_fault(context, file, start..end).await? else { break };
            let current = objects.head(&source.meta.location).await.map_err(|error| unreachable(error.to_string()))?;
            // Some stores list an ETag without the quotes that they return it with.
            let tag = |meta: &ObjectMeta| meta.e_tag.as_ref().map(|tag| tag.trim_matches('"').to_owned());
            let appended = self.listing.format != Format::Parquet && current.size > source.meta.size;
            if !appended && (current.size, tag(&current)) != (source.meta.size, tag(&source.meta)) {
                return Err(unreachable("it has changed since the run began".to_owned()));
            }
            if is_of_the_store(&error) {
                return Err(unreachable(first_line(&error)));
            }
            let next = self.next_row_group(context, file, row).await.unwrap_or(i64::MAX);
            let damage = damage.get_or_insert_with(|| Damage { rows: Vec::new(), reason: first_line(&error) });
            damage.rows.push(row..if next < end { next } else { i64::MAX });
            start = next;
        }
        Ok(damage)
    }

    /// The first row that cannot be read, and the failure.
    async fn first_fault(
        &self,
        context: &SessionContext,
        file: usize,
        rows: Range<i64>,
    ) -> Result<Option<(i64, DataFusionError)>> {
        let mut first = rows.start;
        let chunk = Chunk { ranges: vec![RowRange { file, rows }] };
        let own = [&self.spec.id, &self.spec.text];
        let more = self.schema.fields().iter().map(|field| field.name()).filter(|name| !own.contains(name));
        let more = if self.listing.format == Format::Parquet { more.cloned().collect() } else { Vec::new() };
        let scan = ScanSpec { texts: true, more, filter: None, ..self.scan(&chunk) };
        let reading = scan_session(context.state().config(), context.runtime_env());
        let plan = match contain_future(scan.plan(&reading).boxed()).await.map_err(DataFusionError::from).flatten() {
            Ok(plan) => plan,
            Err(error) => return Ok(Some((first, error))),
        };
        let batches = execute_stream(plan, reading.task_ctx()).map_err(|error| self.planned(error))?;
        let mut batches = contain_stream(batches, |panic| Err(panic.into()));
        loop {
            match batches.next().await {
                None => return Ok(None),
                Some(Ok(batch)) => {
                    let numbers = batch["row"].as_primitive::<Int64Type>().values();
                    first = numbers.last().map_or(first, |last| last + 1);
                }
                Some(Err(error)) => return Ok(Some((first, error))),
            }
        }
    }

    /// The first row of the row group behind the one of `row`, if the file has row groups.
    async fn next_row_group(&self, context: &SessionContext, file: usize, row: i64) -> Option<i64> {
        if self.listing.format != Format::Parquet {
            return None;
        }
        let objects = store_of(context, &self.listing.objects).ok()?;
        let metadata = parquet_metadata(&context.state(), &objects, &self.files[file].meta).await.ok()?;
        let mut ends = metadata.row_groups().iter().scan(0, |end, group| {
            *end += group.num_rows().max(0);
            Some(*end)
        });
        ends.find(|end| *end > row)
    }

    /// Leaves out the rows of a file that cannot be read. Returns the reason for people, which names the rows.
    pub fn leave_out(&mut self, file: usize, damage: Damage) -> String {
        let Damage { rows, reason } = damage;
        let named: Vec<String> = rows
            .iter()
            .map(|rows| {
                if rows.end == i64::MAX {
                    format!("from row {} on", rows.start)
                } else {
                    format!("rows {} to {}", rows.start, rows.end - 1)
                }
            })
            .collect();
        let reason = if matches!(&rows[..], [all] if *all == (0..i64::MAX)) {
            reason
        } else {
            format!("{}: {reason}", named.join(", "))
        };
        match &rows[..] {
            [rest] if rest.end == i64::MAX => self.files[file].broken = Some((rest.start, reason.clone())),
            _ => drop(self.holes.insert(file, (rows, reason.clone()))),
        }
        self.unreadable.push((self.files[file].clone(), reason.clone()));
        reason
    }

    /// Files of which nothing can be read, and why.
    pub fn unopened(&self) -> impl Iterator<Item = &(SourceFile, String)> {
        let damaged = (0..self.files.len()).filter(|file| self.damage(*file).is_some());
        let damaged: BTreeSet<&str> = damaged.map(|file| self.files[file].path.as_str()).collect();
        self.unreadable.iter().filter(move |(file, _)| !damaged.contains(file.path.as_str()))
    }

    /// Has a damaged file end at the first row that cannot be read: what can be read behind it is done.
    pub fn end_at_damage(&mut self, file: usize) {
        if let Some((rows, reason)) = self.holes.remove(&file)
            && let Some(first) = rows.first()
        {
            self.files[file].broken = Some((first.start, reason));
        }
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

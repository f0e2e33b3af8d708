//! Removes files that are in no log. In: the tables' folders and their logs, read in this order. Out: the folders without
//! the files that killed runs, optimizes and replaced rows left. It must not remove files that are in a log, or recent files.
//!
//! We do not use the vacuum of `deltalake-core`: it reads the log before the folder, so an old file that a run commits in between is
//! removed; it has one age limit for files that are in no log and for removed files; it writes two commits to each log; and it does not
//! see staging files.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use deltalake_core::table::config::TablePropertiesExt;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::Result;
use crate::store::delta_store::Store;
use crate::tables::Table;

/// The result of a vacuum: what it removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// The number of files.
    pub files: usize,
    /// Their total size.
    pub bytes: u64,
}

impl Store {
    /// Removes the Parquet files in the tables' folders that are older than `older_than` and not in the table's log, neither as
    /// part of the table nor as removed within the table's retention (a week). The logs are read again first. `older_than` should be
    /// at least a day, because a live run can still commit a younger file. On a local disk, staging files of interrupted writes
    /// (`….parquet#1`) are removed too; on an object store, its own lifecycle rules remove unfinished multipart uploads. While a
    /// commit is incomplete, nothing is removed.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a folder or a log cannot be read, or a file cannot be removed.
    pub async fn vacuum(&mut self, older_than: Duration) -> Result<Vacuumed> {
        let age = TimeDelta::from_std(older_than).unwrap_or(TimeDelta::MAX);
        let before = Utc::now().checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let mut vacuumed = Vacuumed::default();
        self.refresh().await?;
        if self.incomplete_commit().is_some() {
            tracing::info!("vacuum removes nothing while a commit is incomplete");
            return Ok(vacuumed);
        }
        for table in Table::ALL {
            // List the folder before reading the log, so that a file committed in between is in the log.
            let old = self.old_files(table, before).await?;
            if old.is_empty() {
                continue;
            }
            self.refresh_table(table).await?;
            let known = self.known(table).await?;
            let unknown: Vec<_> = old.into_iter().filter(|(path, _)| !known.contains(path)).collect();
            vacuumed.files += unknown.len();
            vacuumed.bytes += unknown.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let folder = self.location().table_path(table);
            let paths = unknown.into_iter().map(move |(path, _)| Ok(folder.parts().chain(path.parts()).collect()));
            let mut removed = self.location().objects().delete_stream(futures::stream::iter(paths).boxed());
            while let Some(outcome) = removed.next().await {
                match outcome {
                    Ok(path) => tracing::debug!(%path, "removed a file that is in no log"),
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(cause) => return Err(self.failed("vacuum", cause)),
                }
            }
        }
        if let Some(folder) = self.location().folder() {
            for table in Table::ALL {
                let staged = remove_staged(&folder.join(table.name()), before.into());
                let staged = staged.map_err(|cause| self.failed("vacuum", cause))?;
                vacuumed.files += staged.files;
                vacuumed.bytes += staged.bytes;
            }
        }
        Ok(vacuumed)
    }

    /// The Parquet files in the table's folder that were modified before a time, as relative paths with sizes.
    async fn old_files(&self, table: Table, before: DateTime<Utc>) -> Result<Vec<(Path, u64)>> {
        let folder = self.location().table_path(table);
        let mut listed = self.location().objects().list(Some(&folder));
        let mut old = Vec::new();
        while let Some(file) = listed.try_next().await.map_err(|cause| self.failed("list", cause))? {
            let Some(parts) = file.location.prefix_match(&folder) else { continue };
            let path: Path = parts.collect();
            // Like other Delta tools, skip folders whose names begin with an underscore or a dot: above all, the log.
            let hidden = path.parts().any(|part| part.as_ref().starts_with(['_', '.']));
            if file.last_modified < before && path.extension() == Some("parquet") && !hidden {
                old.push((path, file.size));
            }
        }
        Ok(old)
    }

    /// The files in the table's log: those in the table, and those removed within its retention.
    async fn known(&self, table: Table) -> Result<HashSet<Path>> {
        let mut known: HashSet<Path> =
            self.data_files(table)?.iter().map(crate::store::data_files::DataFile::object_path).collect();
        let state = self.tables[table].delta().snapshot().map_err(|cause| self.failed("read", cause))?;
        let retention = state.table_config().deleted_file_retention_duration();
        let expired = Utc::now().timestamp_millis() - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let log = self.log(table);
        let mut tombstones = state.all_tombstones(log.as_ref());
        while let Some(removed) = tombstones.try_next().await.map_err(|cause| self.failed("read", cause))? {
            // 0 means that the writer gave no time.
            if removed.deletion_timestamp().is_none_or(|at| at == 0 || at >= expired) {
                let path = removed.path();
                known.insert(Path::parse(&path).unwrap_or_else(|_| Path::from(path.as_ref())));
            }
        }
        Ok(known)
    }
}

/// Removes the staging files of interrupted writes to a local disk: a local object store writes `name#1`, then renames it,
/// and does not list such names.
fn remove_staged(folder: &FilePath, before: SystemTime) -> std::io::Result<Vacuumed> {
    let mut vacuumed = Vacuumed::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir()? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.file_name();
            let staged = name.to_str().and_then(|name| name.rsplit_once('#')).is_some_and(|(name, number)| {
                matches!(name.rsplit_once('.'), Some((_, "parquet" | "json")))
                    && !number.is_empty()
                    && number.bytes().all(|byte| byte.is_ascii_digit())
            });
            let metadata = entry.metadata()?;
            if staged && metadata.modified()? < before {
                std::fs::remove_file(entry.path())?;
                vacuumed.files += 1;
                vacuumed.bytes += metadata.len();
            }
        }
    }
    Ok(vacuumed)
}

#[cfg(test)]
pub(crate) mod tests;

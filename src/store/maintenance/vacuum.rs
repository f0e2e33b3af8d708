//! Files that no log knows, removed. In: the tables' folders and their logs, read in this order. Out: the folders without
//! what killed runs, compactions and replaced rows have left. It may not remove what a log knows, nor what is young.
//!
//! Not the vacuum of `deltalake-core`: it reads the log before the folder, so an old file that a run commits in between is removed; it has
//! one age for files that no log knows and for those that were removed; it writes two commits to each log; and it does not see staging files.

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

/// What a cleaning has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// How many files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

impl Store {
    /// Removes the Parquet files in the tables' folders that no log knows, as just read again, neither as part of the
    /// table nor as removed within the table's retention (a week), and that are older than `older_than`: a day if in
    /// doubt, for a run that is alive may be about to commit a younger one. On a local disk the staging files of writes
    /// that were cut off (`….parquet#1`) go too; unfinished multipart uploads on an object store are for its own
    /// lifecycle rules. While a commit is half done nothing is removed.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] where a folder or a log cannot be read, or a file cannot be removed.
    pub async fn clean(&mut self, older_than: Duration) -> Result<Cleaned> {
        let age = TimeDelta::from_std(older_than).unwrap_or(TimeDelta::MAX);
        let before = Utc::now().checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let mut cleaned = Cleaned::default();
        self.refresh().await?;
        if self.half_done().is_some() {
            tracing::info!("nothing is cleaned while a commit is half done");
            return Ok(cleaned);
        }
        for table in Table::ALL {
            // The folder first: what is committed between the two readings is known to the log.
            let old = self.old_files(table, before).await?;
            if old.is_empty() {
                continue;
            }
            self.refresh_table(table).await?;
            let known = self.known(table).await?;
            let unknown: Vec<_> = old.into_iter().filter(|(path, _)| !known.contains(path)).collect();
            cleaned.files += unknown.len();
            cleaned.bytes += unknown.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let folder = self.location().table_path(table);
            let paths = unknown.into_iter().map(move |(path, _)| Ok(folder.parts().chain(path.parts()).collect()));
            let mut removed = self.location().objects().delete_stream(futures::stream::iter(paths).boxed());
            while let Some(outcome) = removed.next().await {
                match outcome {
                    Ok(path) => tracing::debug!(%path, "removed, for no log knows it"),
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(cause) => return Err(self.failed("clean", cause)),
                }
            }
        }
        if let Some(folder) = self.location().folder() {
            for table in Table::ALL {
                let staged = remove_staged(&folder.join(table.name()), before.into());
                let staged = staged.map_err(|cause| self.failed("clean", cause))?;
                cleaned.files += staged.files;
                cleaned.bytes += staged.bytes;
            }
        }
        Ok(cleaned)
    }

    /// The table's Parquet files from before that time, below its folder, with their sizes.
    async fn old_files(&self, table: Table, before: DateTime<Utc>) -> Result<Vec<(Path, u64)>> {
        let folder = self.location().table_path(table);
        let mut listed = self.location().objects().list(Some(&folder));
        let mut old = Vec::new();
        while let Some(file) = listed.try_next().await.map_err(|cause| self.failed("list", cause))? {
            let Some(parts) = file.location.prefix_match(&folder) else { continue };
            let path: Path = parts.collect();
            // As readers of Delta tables do, pass over folders whose names begin with an underscore or a point: the log, above all.
            let hidden = path.parts().any(|part| part.as_ref().starts_with(['_', '.']));
            if file.last_modified < before && path.extension() == Some("parquet") && !hidden {
                old.push((path, file.size));
            }
        }
        Ok(old)
    }

    /// What the table's log knows: its files, and those that were removed no longer ago than its retention.
    async fn known(&self, table: Table) -> Result<HashSet<Path>> {
        let mut known: HashSet<Path> =
            self.data_files(table)?.iter().map(crate::store::data_files::DataFile::object_path).collect();
        let state = self.tables[table as usize].snapshot().map_err(|cause| self.failed("read", cause))?;
        let retention = state.table_config().deleted_file_retention_duration();
        let expired = Utc::now().timestamp_millis() - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let log = self.log(table);
        let mut tombstones = state.all_tombstones(log.as_ref());
        while let Some(removed) = tombstones.try_next().await.map_err(|cause| self.failed("read", cause))? {
            // 0 stands for a time that its writer did not give.
            if removed.deletion_timestamp().is_none_or(|at| at == 0 || at >= expired) {
                let path = removed.path();
                known.insert(Path::parse(&path).unwrap_or_else(|_| Path::from(path.as_ref())));
            }
        }
        Ok(known)
    }
}

/// Removes what writes to a local disk that were cut off have left: object stores on a disk write `name#1`, then rename it,
/// and do not list such names themselves.
fn remove_staged(folder: &FilePath, before: SystemTime) -> std::io::Result<Cleaned> {
    let mut cleaned = Cleaned::default();
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
                cleaned.files += 1;
                cleaned.bytes += metadata.len();
            }
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
pub(crate) mod tests;

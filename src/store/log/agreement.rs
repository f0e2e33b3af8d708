//! Whether the tables fit together. In: the open tables. Out: an error if their last commits or their data files are such as no killed run
//! leaves: somebody, or a disk that lost power, took something away. It must not change anything.

use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path as FilePath;

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;
use crate::store::data_files::{DataFile, data_files};
use crate::store::log::log_files::damaged;
use crate::store::log::open_tables::{OpenTables, READING};
use crate::tables::Table;

/// How often the tables are read again to see whether another run is just committing.
const ATTEMPTS: usize = 4;
/// What every Parquet file begins and ends with.
const PARQUET: &[u8; 4] = b"PAR1";
/// The ends of data files are read of those written in the last milliseconds before the table's newest: a disk that loses power loses
/// what was written last. Of older ones only the size is compared.
const NEW: i64 = 10 * 60 * 1000;

impl OpenTables {
    /// Checks that the tables' last commits are such as a run leaves that was killed or is just committing: `documents`, written last, has
    /// commit `n`, and every other table `n` or `n + 1`.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the table that has lost transactions, [`Error::Store`] if a log cannot be read.
    pub(crate) async fn check_commits(&mut self, location: &StoreLocation) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((table, reason)) = self.disagreement() else { return Ok(()) };
            let before = self[Table::Documents].commit();
            for table in READING {
                self[table].refresh().await.map_err(|cause| Error::Store {
                    doing: "read".to_owned(),
                    store: location.to_string(),
                    source: cause.into(),
                })?;
            }
            if self[Table::Documents].commit() == before && self.disagreement().is_some() {
                return Err(damaged(&location.to_string(), table, reason));
            }
        }
        Ok(()) // another run commits faster than we read
    }

    /// The table that has lost transactions, and what shows it.
    fn disagreement(&self) -> Option<(Table, String)> {
        let number = |table: Table| self[table].commit().unwrap_or(0);
        let done = number(Table::Documents);
        [Table::Sources, Table::Rejects, Table::Entities].into_iter().find_map(|table| {
            let own = number(table);
            let lost = |from: i64, to: i64| {
                if from == to { format!("commit {to}") } else { format!("commits {from} to {to}") }
            };
            if own < done {
                let lost = lost(own + 1, done);
                Some((table, format!("the log of `documents` has {lost}, and its own has not")))
            } else if own > done + 1 {
                // The last one can be that of a killed run.
                let lost = lost(done + 1, own - 1);
                Some((Table::Documents, format!("the log of `{}` has {lost}, and its own has not", table.name())))
            } else {
                None
            }
        })
    }

    /// Checks that the data files are there, with the sizes that the logs give. Files of an incomplete commit are not looked at, because a
    /// rollback removes them. Only on a local disk: an object store has an object whole or not at all.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the first file that is gone or not whole, [`Error::Read`] if it cannot be read.
    pub(crate) fn check_files(&self, location: &StoreLocation) -> Result<()> {
        let Some(folder) = location.folder() else { return Ok(()) };
        let done = self[Table::Documents].commit().unwrap_or(0);
        for table in Table::ALL {
            let snapshot = self[table].snapshot().map_err(|cause| Error::Store {
                doing: "read".to_owned(),
                store: location.to_string(),
                source: cause,
            })?;
            let mut files = data_files(location, table, snapshot)?;
            let number = self[table].commit().unwrap_or(0);
            let incomplete = |file: &DataFile| {
                let commit = file.bounds("commit").and_then(|(least, _)| least.as_i64());
                commit.is_some_and(|commit| commit > done) || (commit.is_none() && number > done)
            };
            files.retain(|file| !incomplete(file));
            let newest = files.iter().map(|file| file.modified).max().unwrap_or_default();
            for file in &files {
                let path = folder.join(table.name()).join(file.object_path().as_ref());
                let is_new = file.modified >= newest - NEW;
                if let Some(what) = damage(&path, file.bytes, is_new)? {
                    let reason = format!("its file `{}` {what}", file.path);
                    return Err(damaged(&location.to_string(), table, reason));
                }
            }
        }
        Ok(())
    }
}

/// What of a data file is lost.
fn damage(path: &FilePath, bytes: u64, with_end: bool) -> Result<Option<String>> {
    let unreadable = |cause| Error::Read { path: path.to_owned(), source: Box::new(cause) };
    let found = match std::fs::metadata(path) {
        Ok(file) => file.len(),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Some("is gone".to_owned()));
        }
        Err(cause) => return Err(unreadable(cause)),
    };
    if found != bytes {
        return Ok(Some(format!("has {found} bytes instead of {bytes}")));
    }
    if !with_end || bytes < PARQUET.len() as u64 {
        return Ok(None);
    }
    let end = || {
        let mut file = std::fs::File::open(path)?;
        let mut end = [0; PARQUET.len()];
        file.seek(SeekFrom::End(-(PARQUET.len() as i64)))?;
        file.read_exact(&mut end)?;
        Ok(end)
    };
    let end = end().map_err(unreadable)?;
    Ok((end != *PARQUET).then(|| "has no Parquet footer".to_owned()))
}

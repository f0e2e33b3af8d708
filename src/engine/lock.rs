//! One run at a time in a folder. In: a store's location. Out: a lock that the operating system takes back when the
//! process ends, however it ends. It may not touch the tables; on an object store the transaction logs keep runs apart.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use super::location::StoreLocation;
use crate::error::{Error, Result};

/// The locked file's name in the store's folder; tables are folders, so no reader takes it for one.
const FILE: &str = ".quarry.lock";

/// Held for as long as a run may write to a store.
#[derive(Debug)]
pub struct StoreLock {
    /// `None` where there is nothing to lock: an object store, or a file system without locks.
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    file: Option<File>,
}

impl StoreLock {
    /// Locks the store for `run_id`; returns at once.
    ///
    /// # Errors
    /// [`Error::Conflict`] where another run holds the lock, [`Error::Write`] where the folder cannot be written.
    pub fn acquire(location: &StoreLocation, run_id: &str) -> Result<Self> {
        let Some(folder) = location.folder() else { return Ok(Self { file: None }) };
        let path = folder.join(FILE);
        let unwritable = |cause| Error::Write { path: path.clone(), source: Box::new(cause) };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let other = match file.read_to_string(&mut holder) {
                    Ok(_) if !holder.is_empty() => format!("the run {}", holder.trim_end()),
                    _ => "another run".to_owned(),
                };
                let cause = format!("it holds the lock on `{}`", path.display());
                return Err(Error::Conflict { store: location.to_string(), other, source: cause.into() });
            }
            Err(TryLockError::Error(cause)) if cause.kind() == std::io::ErrorKind::Unsupported => {
                tracing::warn!(path = %path.display(), "this file system has no locks: do not start two runs at once");
                return Ok(Self { file: None });
            }
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        let mut note = || {
            file.rewind()?;
            file.set_len(0)?;
            writeln!(file, "{run_id} (process {})", std::process::id())
        };
        note().map_err(unwritable)?;
        Ok(Self { file: Some(file) })
    }

    /// The run that holds the lock at this moment, as it wrote itself down; none where nobody does, or where there is nothing to
    /// lock. To find out, the lock is shared for an instant.
    pub fn holder(location: &StoreLocation) -> Option<String> {
        let mut file = File::open(location.folder()?.join(FILE)).ok()?;
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut holder = String::new();
        // A holder that has not written its name yet is one all the same.
        let _ = file.read_to_string(&mut holder);
        Some(holder.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_is_refused_and_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().join("store").to_str().unwrap()).unwrap();
        let first = StoreLock::acquire(&location, "run-1").unwrap();
        let error = StoreLock::acquire(&location, "run-2").unwrap_err();
        assert!(error.to_string().contains("by the run run-1 (process"), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(StoreLock::holder(&location).unwrap().starts_with("run-1 (process"));
        drop(first);
        assert_eq!(StoreLock::holder(&location), None);
        StoreLock::acquire(&location, "run-2").unwrap();
    }
}

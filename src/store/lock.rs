//! Allows one run at a time in a local store. In: a store's location. Out: a lock that the operating system releases when the
//! process ends, however it ends. It must not touch the tables; on an object store the transaction logs detect a second run.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;

/// The lock file's name in the store's folder. Tables are folders, so no reader mistakes it for a table.
const FILE: &str = ".quarry.lock";
/// [`StoreLock::holder`] shares the lock for an instant, so a refused attempt is retried for this long.
const RETRY_TIME: Duration = Duration::from_millis(100);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// A run holds it while it can write to the store.
#[derive(Debug)]
pub struct StoreLock {
    /// `None` if there is nothing to lock: on an object store, or on a file system without locks.
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    file: Option<File>,
}

impl StoreLock {
    /// Locks the store for `run_id`. Returns at once, or after a tenth of a second if the lock is held.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another run holds the lock, [`Error::Write`] if the folder cannot be written.
    pub fn acquire(location: &StoreLocation, run_id: &str) -> Result<Self> {
        let began = Instant::now();
        Self::acquire_while(location, run_id, || {
            let retry = began.elapsed() < RETRY_TIME;
            if retry {
                sleep(PAUSE);
            }
            retry
        })
    }

    /// Locks the store; while the lock is held, retries until `retry`, called after each refused attempt, returns false.
    fn acquire_while(location: &StoreLocation, run_id: &str, mut retry: impl FnMut() -> bool) -> Result<Self> {
        let Some(folder) = location.folder() else { return Ok(Self { file: None }) };
        let path = folder.join(FILE);
        let unwritable = |cause| Error::Write { path: path.clone(), source: Box::new(cause) };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(unwritable)?;
        let mut outcome = file.try_lock();
        while matches!(outcome, Err(TryLockError::WouldBlock)) && retry() {
            outcome = file.try_lock();
        }
        match outcome {
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
            Err(TryLockError::Error(cause)) if has_no_locks(&cause) => {
                tracing::warn!(path = %path.display(), "this file system has no locks: do not start two runs at once");
                return Ok(Self { file: None });
            }
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        let mut write_holder = || {
            file.rewind()?;
            file.set_len(0)?;
            writeln!(file, "{run_id} (process {})", std::process::id())
        };
        write_holder().map_err(unwritable)?;
        Ok(Self { file: Some(file) })
    }

    /// The run that holds the lock now, as it wrote its name into the lock file. `None` if no run does, or if there is nothing to
    /// lock. The check shares the lock for an instant.
    pub fn holder(location: &StoreLocation) -> Option<String> {
        let mut file = File::open(location.folder()?.join(FILE)).ok()?;
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut holder = String::new();
        // A holder that has not written its name yet counts too.
        let _ = file.read_to_string(&mut holder);
        Some(holder.trim_end().to_owned())
    }
}

/// Whether the file system has no locks; network file systems without locks have their own error codes.
fn has_no_locks(cause: &std::io::Error) -> bool {
    let codes = [Errno::NOLCK, Errno::OPNOTSUPP];
    cause.kind() == ErrorKind::Unsupported || codes.iter().any(|code| cause.raw_os_error() == Some(code.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_is_refused_and_the_error_names_the_first() {
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

    #[test]
    fn reading_the_holder_does_not_stop_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
        drop(StoreLock::acquire(&location, "run-1").unwrap());
        let reader = File::open(folder.path().join(FILE)).unwrap();
        reader.lock_shared().unwrap();
        // The reader releases the lock between the run's third attempt and its fourth.
        let (mut reader, mut waits) = (Some(reader), 0);
        let lock = StoreLock::acquire_while(&location, "run-2", || {
            waits += 1;
            if waits == 3 {
                reader = None;
            }
            true
        });
        lock.unwrap();
        assert_eq!(waits, 3);
    }

    #[test]
    fn a_run_retries_for_a_limited_time() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
        let _first = StoreLock::acquire(&location, "run-1").unwrap();
        let began = Instant::now();
        StoreLock::acquire(&location, "run-2").unwrap_err();
        assert!(began.elapsed() >= RETRY_TIME, "{:?}", began.elapsed());
        let mut waits = 0;
        let refused = StoreLock::acquire_while(&location, "run-3", || {
            waits += 1;
            waits < 4
        });
        assert_eq!((refused.unwrap_err().exit_code(), waits), (2, 4));
    }

    #[test]
    fn a_share_without_locks_is_distinguished_from_a_failing_disk() {
        let has_none = |code: Errno| has_no_locks(&std::io::Error::from_raw_os_error(code.raw_os_error()));
        assert!(has_none(Errno::NOLCK) && has_none(Errno::OPNOTSUPP));
        assert!(!has_none(Errno::IO) && !has_none(Errno::ACCESS));
    }
}

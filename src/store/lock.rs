//! One run at a time in a folder. In: a store's location. Out: a lock that the operating system takes back when the
//! process ends, however it ends. It may not touch the tables; on an object store the transaction logs keep runs apart.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;

/// The locked file's name in the store's folder; tables are folders, so no reader takes it for one.
const FILE: &str = ".quarry.lock";
/// Who asks for the holder shares the lock for an instant: so long it is tried again, with this pause.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);

/// Held for as long as a run may write to a store.
#[derive(Debug)]
pub struct StoreLock {
    /// `None` where there is nothing to lock: an object store, or a file system without locks.
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    file: Option<File>,
}

impl StoreLock {
    /// Locks the store for `run_id`; returns at once, or after a tenth of a second where the lock is held.
    ///
    /// # Errors
    /// [`Error::Conflict`] where another run holds the lock, [`Error::Write`] where the folder cannot be written.
    pub fn acquire(location: &StoreLocation, run_id: &str) -> Result<Self> {
        let began = Instant::now();
        Self::acquire_while(location, run_id, || {
            let again = began.elapsed() < PATIENCE;
            if again {
                sleep(PAUSE);
            }
            again
        })
    }

    /// The same; where the lock is held it is tried again as long as `wait`, which is called between two tries, says so.
    fn acquire_while(location: &StoreLocation, run_id: &str, mut wait: impl FnMut() -> bool) -> Result<Self> {
        let Some(folder) = location.folder() else { return Ok(Self { file: None }) };
        let path = folder.join(FILE);
        let unwritable = |cause| Error::Write { path: path.clone(), source: Box::new(cause) };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(unwritable)?;
        let mut tried = file.try_lock();
        while matches!(tried, Err(TryLockError::WouldBlock)) && wait() {
            tried = file.try_lock();
        }
        match tried {
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

/// Whether the file system says that it has no locks; a network share whose server keeps none says it in its own way.
fn has_no_locks(cause: &std::io::Error) -> bool {
    let codes = [Errno::NOLCK, Errno::OPNOTSUPP];
    cause.kind() == ErrorKind::Unsupported || codes.iter().any(|code| cause.raw_os_error() == Some(code.raw_os_error()))
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

    #[test]
    fn a_look_at_the_holder_stands_in_no_run_s_way() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
        drop(StoreLock::acquire(&location, "run-1").unwrap());
        let asking = File::open(folder.path().join(FILE)).unwrap();
        asking.lock_shared().unwrap();
        // The look ends while the run waits between its third try and its fourth.
        let (mut asking, mut waits) = (Some(asking), 0);
        let lock = StoreLock::acquire_while(&location, "run-2", || {
            waits += 1;
            if waits == 3 {
                asking = None;
            }
            true
        });
        lock.unwrap();
        assert_eq!(waits, 3);
    }

    #[test]
    fn a_run_waits_for_a_look_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
        let _first = StoreLock::acquire(&location, "run-1").unwrap();
        let began = Instant::now();
        StoreLock::acquire(&location, "run-2").unwrap_err();
        assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
        let mut waits = 0;
        let refused = StoreLock::acquire_while(&location, "run-3", || {
            waits += 1;
            waits < 4
        });
        assert_eq!((refused.unwrap_err().exit_code(), waits), (2, 4));
    }

    #[test]
    fn a_share_without_locks_is_told_from_a_disk_that_fails() {
        let has_none = |code: Errno| has_no_locks(&std::io::Error::from_raw_os_error(code.raw_os_error()));
        assert!(has_none(Errno::NOLCK) && has_none(Errno::OPNOTSUPP));
        assert!(!has_none(Errno::IO) && !has_none(Errno::ACCESS));
    }
}

//! The cache of fetched libraries and derived files. In: the folder of the environment. Out: folders to look in, and one to write to: where
//! the cache cannot be written, a temporary folder of this process. It must not know what is cached.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::error::{Cause, Error, Result};
use crate::machine::environment::cache_folder;

/// The folder of a process that cannot write to the cache.
static TEMPORARY: Mutex<Option<TempDir>> = Mutex::new(None);

/// The folders in which a cached file can be: the cache, if there is one, and this process's own.
pub fn cache_folders() -> Vec<PathBuf> {
    let own = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|folder| folder.path().to_owned());
    cache_folder().ok().into_iter().chain(own).collect()
}

/// A folder that can be written: the cache, else a temporary folder, which [`remove_temporary_cache`] removes. The first use of the
/// latter is logged.
///
/// # Errors
/// [`Error::Write`] if there is no temporary folder either.
pub fn writable_cache() -> Result<PathBuf> {
    let cause = match cache_folder() {
        Ok(folder) => match try_to_write(&folder) {
            Ok(()) => return Ok(folder),
            Err(cause) => format!("the cache `{}` cannot be written ({cause})", folder.display()),
        },
        Err(cause) => cause.to_string(),
    };
    let mut temporary = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = temporary.as_ref() {
        return Ok(folder.path().to_owned());
    }
    let failed = |source: Cause| Error::Write { path: std::env::temp_dir(), source };
    let folder = tempfile::Builder::new().prefix("quarry-cache-").tempdir().map_err(|source| failed(source.into()))?;
    tracing::warn!(
        "{cause}: what it would keep is made again by every run; set QUARRY_CACHE to a folder that can be written"
    );
    Ok(temporary.insert(folder).path().to_owned())
}

/// Removes the temporary folder, if there is one. Call it at the end of the program.
pub fn remove_temporary_cache() {
    drop(TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Creates the folder and a file in it, which is removed again.
fn try_to_write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    tempfile::Builder::new().prefix(".writable.").tempfile_in(folder).map(drop)
}

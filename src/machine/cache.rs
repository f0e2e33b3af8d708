//! The cache of fetched libraries and derived files. In: the folder of the environment. Out: folders to look in, and one to write to: where
//! the cache cannot be written, a temporary folder of this process. It must not know what is cached.
//!
//! Disks damage files: beside a file that is read without a check of its own lies one with its SHA-256.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::error::{Cause, Error, Result};
use crate::machine::environment::cache_folder;
use crate::machine::files::write_whole;
use crate::machine::hash::{hexadecimal, sha256_of};

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

/// Writes a file and beside it its hash.
///
/// # Errors
/// [`Error::Write`].
pub fn write_hashed(path: &Path, bytes: &[u8]) -> Result<()> {
    // In between there is no hash, or an old one, and the file would be written once more.
    write_whole(path, bytes)?;
    write_whole(&hash_path(path), hexadecimal(&Sha256::digest(bytes)).as_bytes())
}

/// Whether a file has the hash that it was written with, or what is wrong.
///
/// # Errors
/// What is wrong, to follow the name of the file.
pub fn verified(path: &Path) -> std::result::Result<(), String> {
    let Ok(written) = std::fs::read_to_string(hash_path(path)) else { return Err("has no hash".to_owned()) };
    match sha256_of(path) {
        Ok(found) if found == written.trim() => Ok(()),
        Ok(found) => Err(format!("is damaged (SHA-256 {found}, written as {})", written.trim())),
        Err(error) => Err(format!("cannot be read ({})", error.causes().join(", "))),
    }
}

/// Removes a file and its hash. If they cannot be removed, they only take disk space.
pub fn remove_hashed(path: &Path) {
    let _ = std::fs::remove_file(hash_path(path));
    let _ = std::fs::remove_file(path);
}

/// The file with a file's hash.
pub(crate) fn hash_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".sha256");
    path.with_file_name(name)
}

/// Creates the folder and a file in it, which is removed again.
fn try_to_write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    tempfile::Builder::new().prefix(".writable.").tempfile_in(folder).map(drop)
}

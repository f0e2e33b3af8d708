//! Atomic file writes. In: a path and bytes. Out: a file that is complete or absent. It must not know what the bytes mean.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes a file under a temporary name, syncs it and renames it, so that no reader sees a partial file, even after a power
/// failure.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = unfinished(path)?;
        file.as_file_mut().write_all(bytes)?;
        // Without the sync, the rename can reach the disk before the bytes.
        file.as_file().sync_all()?;
        Ok(file.persist(path)?)
    };
    let written: std::io::Result<File> = write();
    written.map(drop).map_err(|source| Error::Write { path: path.to_owned(), source: source.into() })
}

/// A temporary file beside `path`. [`NamedTempFile::persist`] renames it to `path`; if it is dropped before, it is removed.
pub fn unfinished(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new(""));
    // Hidden, so that programs that list the folder skip it.
    let name = format!(".{}.", path.file_name().unwrap_or_default().display());
    // The default permissions of new files: by default, only the owner can read a temporary file.
    let create = |path: &Path| File::options().write(true).create_new(true).open(path);
    tempfile::Builder::new().prefix(&name).suffix(".partial").make_in(folder, create)
}

/// Removes leftovers of interrupted downloads from a folder: entries whose name passes `left_behind` and that were not modified
/// for longer than `untouched`.
pub(crate) fn sweep(folder: &Path, left_behind: impl Fn(&str) -> bool, untouched: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > untouched) && left_behind(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            // A leftover that cannot be removed only takes disk space.
            let _ = if metadata.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_file_is_complete_or_unchanged_and_has_default_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whole.json");
        write_whole(&path, b"first").unwrap();
        let mut interrupted = unfinished(&path).unwrap();
        interrupted.as_file_mut().write_all(b"sec").unwrap();
        assert!(interrupted.path().to_string_lossy().ends_with(".partial"));
        drop(interrupted);
        let names = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!((std::fs::read(&path).unwrap(), names().count()), (b"first".to_vec(), 1));
        write_whole(&path, b"second").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names().count()), (b"second".to_vec(), 1));
        let plain = folder.path().join("plain");
        File::create(&plain).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
        let error = write_whole(&folder.path().join("none/whole.json"), b"").unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn old_leftovers_of_downloads_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_hours(1);
        for (name, age) in [("old.partial", 2 * hour), ("new.partial", Duration::ZERO), ("old.json", 2 * hour)] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        sweep(folder.path(), |name| name.ends_with(".partial"), hour);
        let exists = |name: &str| folder.path().join(name).exists();
        assert!(!exists("old.partial") && exists("new.partial") && exists("old.json"));
        sweep(&folder.path().join("none"), |_| true, hour);
    }
}

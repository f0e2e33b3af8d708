//! Files that others read. In: a path and bytes. Out: a file that is whole or not there. It may not know what the bytes mean.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes a file under a temporary name and renames it, so that nobody ever reads half of it, also after a power
/// failure.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = unfinished(path)?;
        file.as_file_mut().write_all(bytes)?;
        // Without this the name may reach the disk before the bytes.
        file.as_file().sync_all()?;
        Ok(file.persist(path)?)
    };
    let written: std::io::Result<File> = write();
    written.map(drop).map_err(|source| Error::Write { path: path.to_owned(), source: source.into() })
}

/// A file beside `path` that takes its name once it is whole ([`NamedTempFile::persist`]); dropped before, it is removed.
pub fn unfinished(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new(""));
    // Hidden, so that nobody takes it for a file of the folder.
    let name = format!(".{}.", path.file_name().unwrap_or_default().display());
    // Whoever may read other new files may read this one, where a temporary file is its owner's otherwise.
    let create = |path: &Path| File::options().write(true).create_new(true).open(path);
    tempfile::Builder::new().prefix(&name).suffix(".partial").make_in(folder, create)
}

/// Removes what downloads that broke off left in a folder: entries that are known by their names and have lain
/// untouched for so long.
pub(crate) fn sweep(folder: &Path, left_behind: impl Fn(&str) -> bool, untouched: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(there) = entry.metadata() else { continue };
        let age = there.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > untouched) && left_behind(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            // What cannot be removed is only clutter.
            let _ = if there.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_file_is_whole_or_what_it_was_and_may_be_read_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whole.json");
        write_whole(&path, b"first").unwrap();
        let mut broken_off = unfinished(&path).unwrap();
        broken_off.as_file_mut().write_all(b"sec").unwrap();
        assert!(broken_off.path().to_string_lossy().ends_with(".partial"));
        drop(broken_off);
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
    fn what_a_broken_download_left_is_swept_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_hours(1);
        for (name, age) in [("old.partial", 2 * hour), ("new.partial", Duration::ZERO), ("old.json", 2 * hour)] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        sweep(folder.path(), |name| name.ends_with(".partial"), hour);
        let there = |name: &str| folder.path().join(name).exists();
        assert!(!there("old.partial") && there("new.partial") && there("old.json"));
        sweep(&folder.path().join("none"), |_| true, hour);
    }
}

//! Files that others read. In: a path and bytes. Out: a file that is whole or not there. It may not know what the bytes mean.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};

/// Writes a file under a temporary name and renames it, so that nobody ever reads half of it, also after a power
/// failure.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}-{}.partial", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        // Without this the name may reach the disk before the bytes.
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source: std::io::Error| {
        let _ = std::fs::remove_file(&temporary);
        Error::Write { path: path.to_owned(), source: source.into() }
    })
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
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_broken_download_left_is_swept_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_hours(1);
        for (name, age) in [("old.partial", 2 * hour), ("new.partial", Duration::ZERO), ("old.json", 2 * hour)] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        sweep(folder.path(), |name| name.ends_with(".partial"), hour);
        let there = |name: &str| folder.path().join(name).exists();
        assert!(!there("old.partial") && there("new.partial") && there("old.json"));
        sweep(&folder.path().join("none"), |_| true, hour);
    }
}

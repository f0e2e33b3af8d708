//! Disk space. In: the folders of the store and the cache, which need not exist yet. Out: the free space, and whether the folders are
//! writable. It must not create a folder.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use crate::console::bytes;
use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::machine::environment::cache_folder;
use crate::source::location::StoreLocation;

/// Bytes of free space for a store: below the first a warning; below the second one commit can fill the disk.
const STORE: (u64, u64) = (10 << 30, 1 << 30);
/// Bytes of free space for a cache: for ONNX Runtime with CUDA and a few graphs; at least for its CPU build.
const CACHE: (u64, u64) = (2 << 30, 256 << 20);

pub(super) fn check(subject: &Subject, report: &mut Report) {
    let store = subject.store.as_deref().and_then(|store| StoreLocation::parse(store).ok()?.folder());
    if let Some(store) = store {
        free_space("store disk", &store, STORE, report);
    }
    match cache_folder() {
        Ok(cache) => free_space("cache disk", &cache, CACHE, report),
        Err(error) => report.error("cache disk", &error),
    }
}

fn free_space(name: &'static str, folder: &Path, (comfortable, minimum): (u64, u64), report: &mut Report) {
    let existing = nearest_existing(folder);
    if let Err(error) = access(&existing, Access::WRITE_OK | Access::EXEC_OK) {
        return report.fix(
            name,
            format!("`{}` is not writable: {}", existing.display(), std::io::Error::from(error)),
            "give this user write permission, or name another folder",
        );
    }
    let free = match statvfs(&existing) {
        Ok(system) => system.f_bavail * system.f_frsize,
        Err(error) => {
            let text =
                format!("cannot read the free space of `{}`: {}", existing.display(), std::io::Error::from(error));
            return report.warning(name, text, "check the file system's mount");
        }
    };
    let text = format!("{} free at `{}`", bytes(free), folder.display());
    if free < minimum {
        report.fix(name, text, format!("free at least {}", bytes(minimum)));
    } else if free < comfortable {
        report.warning(name, text, "free some space: on a full disk a run stops; what it has committed is safe");
    } else {
        report.ok(name, text);
    }
}

/// The folder itself, or its nearest parent that exists.
fn nearest_existing(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

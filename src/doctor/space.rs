//! Room on the disks. In: where the store and the cache are, or will be. Out: how much is free there, and whether it may be written.
//! It may not make a folder.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use crate::console::bytes;
use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::machine::environment::cache_folder;
use crate::source::location::StoreLocation;

/// A store with less room than this may fill the disk in one commit.
const STORE: (u64, u64) = (10 << 30, 1 << 30);
/// A cache needs this for ONNX Runtime with CUDA and a few graphs; or at least for the CPU's.
const CACHE: (u64, u64) = (2 << 30, 256 << 20);

pub(super) fn look(subject: &Subject, report: &mut Report) {
    let store = subject.store.as_deref().and_then(|store| StoreLocation::parse(store).ok()?.folder());
    if let Some(store) = store {
        room("store disk", &store, STORE, report);
    }
    match cache_folder() {
        Ok(cache) => room("cache disk", &cache, CACHE, report),
        Err(error) => report.error("cache disk", &error),
    }
}

fn room(name: &'static str, folder: &Path, (usual, least): (u64, u64), report: &mut Report) {
    let near = nearest(folder);
    if let Err(error) = access(&near, Access::WRITE_OK | Access::EXEC_OK) {
        return report.fix(
            name,
            format!("`{}` cannot be written: {}", near.display(), std::io::Error::from(error)),
            "give this user the right to write there, or name another folder",
        );
    }
    let free = match statvfs(&near) {
        Ok(system) => system.f_bavail * system.f_frsize,
        Err(error) => {
            let text =
                format!("`{}` does not say how much room it has: {}", near.display(), std::io::Error::from(error));
            return report.warning(name, text, "look at the file system's mount");
        }
    };
    let text = format!("{} free at `{}`", bytes(free), folder.display());
    if free < least {
        report.fix(name, text, format!("make room: {} at the least", bytes(least)));
    } else if free < usual {
        report.warning(name, text, "watch it: a run that meets a full disk loses nothing, but does not go on");
    } else {
        report.ok(name, text);
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

//! A disk that is full.

use std::path::PathBuf;
use std::process::Command;

use super::{corpus, job, rows};
use crate::support::{Dir, Random};

/// A small file system for one test, unmounted at its end.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it; `None` if this user may not.
    pub(crate) fn mount(path: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }

    pub(crate) fn resize(&self, size: &str) {
        let options = format!("remount,{size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If unmounting fails, the system must clean up: a test cannot do more.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let dir = Dir::new();
    let Some(disk) = SmallDisk::mount(dir.path("full"), "size=200k") else {
        eprintln!("skipped: this user may not mount a tmpfs");
        return;
    };
    corpus(&dir, "docs.parquet", 0, 4000, &mut Random(12));
    let model = dir.small_model().display().to_string();
    let full = job(&dir, "docs.parquet", "full", &model, "");
    for _ in 0..2 {
        let error = dir.quarry(&["run", &full]).ended(2).error();
        assert!(error.contains("No space left on device"), "{error}");
    }
    disk.resize("size=50m");
    dir.quarry(&["run", &full]).ended(0);
    let undisturbed = job(&dir, "docs.parquet", "undisturbed", &model, "");
    dir.quarry(&["run", &undisturbed]).ended(0);
    assert!(rows(&dir, "full") == rows(&dir, "undisturbed"));
}

//! Power failures at every moment of a job. In: what the disk was told to keep, in order. Out: stores as a disk can leave them; a rerun
//! makes the rows of an undisturbed job of each. None of them is damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::damage::{LAST, copied, files_below, on_disk, rerun};
use super::*;
use crate::machine::synced_files::{Step, journal};

/// The disk after a power failure: which files have a name, and which of them have no contents.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Disk {
    files: BTreeSet<PathBuf>,
    empty: BTreeSet<PathBuf>,
}

/// What becomes of names that were given but not synced.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    Lost,
    Kept,
    /// Only the last one is kept: names reach the disk in any order.
    LastKept,
}

/// The disk if the power fails after these steps.
fn disk(steps: &[(Step, PathBuf)], root: &Path, unsynced: Unsynced) -> Disk {
    let synced = |folder: &Path, after: usize| {
        steps.iter().skip(after + 1).any(|(step, path)| *step == Step::Folder && path == folder)
    };
    // A folder was there before the first step inside it.
    let first = |folder: &Path| steps.iter().position(|(_, path)| path.starts_with(folder)).unwrap_or_default();
    let (mut kept, mut pending) = (BTreeSet::new(), Vec::new());
    for (place, (_, path)) in steps.iter().enumerate().filter(|(_, (step, _))| *step == Step::Name) {
        let mut folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root) && *folder != root);
        let there = synced(path.parent().unwrap(), place)
            && folders.all(|folder| {
                let first = first(folder);
                let parent = folder.parent().unwrap();
                steps.iter().skip(first).any(|(step, path)| *step == Step::Folder && path == parent)
            });
        if there {
            kept.insert(path.clone());
        } else {
            pending.push(path.clone());
        }
    }
    match unsynced {
        Unsynced::Lost => {}
        Unsynced::Kept => kept.extend(pending),
        Unsynced::LastKept => kept.extend(pending.pop()),
    }
    let contents: BTreeSet<&PathBuf> =
        steps.iter().filter(|(step, _)| *step == Step::Contents).map(|(_, path)| path).collect();
    let empty = kept.iter().filter(|path| !contents.contains(path)).cloned().collect();
    Disk { files: kept, empty }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_leaves_what_a_killed_run_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let location = on_disk(&root);
    let mut store = Store::open(location.clone(), DataType::Utf8).await.unwrap();
    for number in 1..=LAST {
        let next = prepared(&store, number, "run-1").await.unwrap();
        store.commit(&next).await.unwrap();
    }
    let steps = journal::steps(&root);
    let expected = rerun(&location).await.unwrap();
    let all: BTreeSet<PathBuf> = files_below(&root).into_iter().map(|file| root.join(file)).collect();
    let named: BTreeSet<PathBuf> =
        steps.iter().filter(|(step, _)| *step == Step::Name).map(|(_, path)| path.clone()).collect();
    assert_eq!(named, all, "every file of the store is written through the synced disk");
    let mut disks = BTreeSet::new();
    for end in 0..=steps.len() {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::LastKept] {
            disks.insert(disk(&steps[..end], &root, unsynced));
        }
    }
    assert!(disks.len() > 30, "{} states", disks.len());
    assert_eq!(disk(&steps, &root, Unsynced::Lost).files, all, "what is committed stays");
    for disk in disks {
        let files: Vec<PathBuf> = disk.files.iter().map(|path| path.strip_prefix(&root).unwrap().to_owned()).collect();
        let copy = copied(&root, &files);
        for path in &disk.empty {
            std::fs::write(copy.path().join(path.strip_prefix(&root).unwrap()), "").unwrap();
        }
        let rows = rerun(&on_disk(copy.path())).await;
        assert_eq!(rows.as_deref().ok(), Some(expected.as_str()), "{files:?}: {rows:?}");
    }
}

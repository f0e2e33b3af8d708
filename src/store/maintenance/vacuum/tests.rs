//! The files that a vacuum removes and keeps. In: stores with leftover files, on disk and in memory. Out: the remaining files.

use std::sync::Arc;

use arrow::datatypes::DataType;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use url::Url;

use crate::source::location::StoreLocation;
use crate::store::maintenance::vacuum::*;
use crate::store::write::commit::tests::{begin, commit, counts, open};

/// How old a file must be before a run removes it.
pub(crate) const AGE: Duration = Duration::from_hours(24);
const DAYS: [Duration; 2] = [AGE, Duration::from_hours(48)];

fn age(path: &FilePath, age: Duration) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// Waits until the clock has advanced: later files then have a later modification time than earlier ones.
pub(crate) async fn tick() {
    let now = Utc::now();
    while Utc::now() <= now {
        tokio::task::yield_now().await;
    }
}

/// Sets the age of every file in a folder.
fn age_all(folder: &FilePath, by: Duration) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { age_all(&path, by) } else { age(&path, by) }
    }
}

#[tokio::test]
async fn orphans_are_removed_and_files_in_a_log_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let first = commit(&store, 1, "run-1", "a.parquet").await;
    store.commit(&first).await.unwrap();
    // The second commit replaces a file: it is removed from the table, but within the retention.
    let mut second = commit(&store, 2, "run-1", "b.parquet").await;
    second.replaced = vec![(Table::Rejects, store.data_files(Table::Rejects).unwrap().remove(0).path)];
    store.commit(&second).await.unwrap();
    let removed = folder.path().join("a store/rejects").join(&second.replaced[0].1);
    // The files of a run that was killed before its commit.
    let orphans = commit(&store, 3, "run-1", "c.parquet").await;
    let root = folder.path().join("a store");
    let staged = [
        "entities/spec_id=5ec/part-1.zstd.parquet#1",
        "documents/part-2.zstd.parquet#12",
        "documents/_delta_log/00000000000000000007.json#1",
    ];
    let others =
        ["entities/notes.txt", "entities/_delta_log/left.parquet", "entities/part#1b.txt", ".quarry.lock", "x.parquet"];
    for name in staged.iter().chain(&others) {
        std::fs::write(root.join(name), "left").unwrap();
    }
    assert_eq!(store.vacuum(AGE).await.unwrap(), Vacuumed::default(), "nothing is old");
    age_all(&root, DAYS[1]);
    let vacuumed = store.vacuum(AGE).await.unwrap();
    assert_eq!(vacuumed.files, orphans.files.len() + staged.len());
    assert_eq!(vacuumed.bytes, orphans.files.iter().map(|file| file.bytes).sum::<u64>() + 4 * 3);
    for name in staged {
        assert!(!root.join(name).exists(), "{name}");
    }
    for name in others {
        assert!(root.join(name).exists(), "{name}");
    }
    assert!(removed.exists(), "within the retention");
    let store = open(&folder).await;
    assert_eq!(counts(&store).await, [6, 4, 1, 2]);
}

#[tokio::test]
async fn files_that_another_writer_committed_since_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (open(&folder).await, open(&folder).await);
    let theirs = commit(&other, 1, "run-2", "a.parquet").await;
    other.commit(&theirs).await.unwrap();
    age_all(&folder.path().join("a store"), DAYS[1]);
    // `one` has not read the logs since then, but vacuum reads them before it removes anything.
    assert_eq!(one.vacuum(AGE).await.unwrap(), Vacuumed::default());
    assert_eq!(counts(&open(&folder).await).await, [3, 2, 1, 1]);
}

#[tokio::test]
async fn a_incomplete_commit_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder).await;
    let first = commit(&store, 1, "run-1", "a.parquet").await;
    begin(&mut store, &first, 2).await.unwrap();
    age_all(&folder.path().join("a store"), DAYS[1]);
    assert_eq!(store.vacuum(AGE).await.unwrap(), Vacuumed::default());
    store.commit(&first).await.unwrap();
    assert_eq!(counts(&store).await, [3, 2, 1, 1]);
}

#[tokio::test]
async fn a_store_in_memory_is_vacuumed_too() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let location = StoreLocation::within(Arc::clone(&objects), Url::parse("memory:///lake/store").unwrap());
    let mut store = Store::open(location.clone(), DataType::Utf8).await.unwrap();
    let first = commit(&store, 1, "run-1", "a.parquet").await;
    store.commit(&first).await.unwrap();
    let orphans = commit(&store, 2, "run-1", "b.parquet").await;
    let beside = Path::from("lake/store-2/entities/part-1.parquet");
    objects.put(&beside, "another store's".into()).await.unwrap();
    assert_eq!(store.vacuum(AGE).await.unwrap(), Vacuumed::default(), "nothing is old");
    tick().await;
    let vacuumed = store.vacuum(Duration::ZERO).await.unwrap();
    assert_eq!(vacuumed.files, orphans.files.len());
    objects.head(&beside).await.unwrap();
    let store = Store::open(location, DataType::Utf8).await.unwrap();
    assert_eq!(counts(&store).await, [3, 2, 1, 1]);
}

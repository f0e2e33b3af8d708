//! Stores whose files are gone, empty or not whole, as a disk leaves them that loses power and does not keep what it was told to. In: a
//! finished job, and one damaged file at a time. Out: after a rerun the same rows, or an error that names the table and the way out.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// The job has so many commits; the last one replaces documents.
pub(super) const LAST: i64 = CHANGED;

pub(super) fn on_disk(folder: &Path) -> StoreLocation {
    StoreLocation::parse(folder.join("store").to_str().unwrap()).unwrap()
}

/// What a rerun does: it opens the store, rolls back an incomplete commit and makes the missing ones. Returns all rows of commits.
pub(super) async fn rerun(location: &StoreLocation) -> Result<String> {
    let mut store = Store::open(location.clone(), DataType::Utf8).await?;
    store.roll_back_incomplete_commit("rerun").await?;
    while store.last_commit().unwrap_or(0) < LAST {
        let next = prepared(&store, store.last_commit().unwrap_or(0) + 1, "rerun").await?;
        store.commit(&next).await?;
    }
    let mut rows = String::new();
    for sql in ROWS {
        rows += &query(&store, sql).await;
    }
    Ok(rows)
}

/// A finished job. With `checkpoint`, each log has one before its last commit.
async fn finished(folder: &TempDir, checkpoint: bool) -> String {
    let location = on_disk(folder.path());
    let mut store = Store::open(location.clone(), DataType::Utf8).await.unwrap();
    store.begin_run(&run("run-1", RunOutcome::Running)).await.unwrap();
    let row = MetricRow {
        run_id: "run-1".to_owned(),
        scope: "all".to_owned(),
        name: "documents".to_owned(),
        value: 1.0,
        unit: String::new(),
    };
    store.append(Table::Metrics, &metric_rows(&[row]).unwrap(), "run-1").await.unwrap();
    for number in 1..=LAST {
        if checkpoint && number == LAST {
            for table in Table::ALL {
                let version = store.version(table);
                store.tables[table].written(version, None, true);
            }
            store.write_checkpoints(&Table::ALL).await;
        }
        let next = prepared(&store, number, "run-1").await.unwrap();
        store.commit(&next).await.unwrap();
    }
    rerun(&location).await.unwrap()
}

/// The files below a folder, relative to it.
pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// Copies these files, relative to `from`.
pub(super) fn copied<'path>(from: &Path, files: impl IntoIterator<Item = &'path PathBuf>) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files {
        let to = copy.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from.join(file), to).unwrap();
    }
    copy
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Gone,
    Empty,
    Half,
    Zeros,
    /// A log entry without its last action.
    LineLost,
}

impl Damage {
    const ALL: [Self; 5] = [Self::Gone, Self::Empty, Self::Half, Self::Zeros, Self::LineLost];

    /// Returns whether there was such a thing to damage.
    fn inflict(self, path: &Path) -> bool {
        let bytes = std::fs::read(path).unwrap();
        let left = match self {
            Self::Gone => {
                std::fs::remove_file(path).unwrap();
                return true;
            }
            Self::Empty => vec![],
            Self::Half => bytes[..bytes.len() / 2].to_vec(),
            Self::Zeros => vec![0; bytes.len()],
            Self::LineLost => match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) if path.extension().is_some_and(|end| end == "json") => bytes[..end].to_vec(),
                _ => return false,
            },
        };
        std::fs::write(path, left).unwrap();
        true
    }
}

/// Damages every file in turn. Returns, for each file and damage, the error if there was one.
async fn every_damage(
    folder: &TempDir,
    expected: &str,
    of: impl Fn(&str) -> bool,
) -> Vec<(String, Damage, Option<String>)> {
    let files = files_below(folder.path());
    let checkpoint = files.iter().any(|file| file.to_str().unwrap().contains("checkpoint"));
    let mut outcomes = Vec::new();
    for file in &files {
        let name = file.to_str().unwrap().strip_prefix("store/").unwrap().to_owned();
        for damage in Damage::ALL {
            let copy = copied(folder.path(), &files);
            // What a checkpoint replaces is not read, whatever its damage.
            let replaced = checkpoint && (0..3).any(|version| name.ends_with(&format!("{version:020}.json")));
            if (replaced && damage != Damage::Gone) || !of(&name) || !damage.inflict(&copy.path().join(file)) {
                continue;
            }
            let outcome = rerun(&on_disk(copy.path())).await;
            let table = name.split('/').next().unwrap();
            match &outcome {
                Ok(rows) => assert_eq!(rows, expected, "{name} {damage:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(matches!(error, Error::Damaged { .. }), "{name} {damage:?}: {error:?}");
                    assert!(error.exit_code() == 1 && error.hint().is_some(), "{name} {damage:?}: {error:?}");
                    assert!(text.contains(&format!("`{table}`")), "{name} {damage:?}: {text}");
                }
            }
            outcomes.push((name.clone(), damage, outcome.err().map(|error| error.to_string())));
        }
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_an_error_that_names_it_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let expected = finished(&folder, true).await;
    let outcomes = every_damage(&folder, &expected, |_| true).await;
    let said = |of: &str, damage: Damage| -> Vec<Option<&str>> {
        let same = outcomes.iter().filter(|(name, by, _)| name.contains(of) && *by == damage);
        same.map(|(.., said)| said.as_deref()).collect()
    };
    for damage in Damage::ALL {
        // What a checkpoint replaces is not needed, and a checkpoint is not while there are the entries.
        for needless in ["00000000000000000001.json", "checkpoint"] {
            assert!(said(needless, damage).iter().all(Option::is_none), "{needless} {damage:?}: {outcomes:?}");
        }
    }
    let last = |table: &str| format!("{table}/_delta_log/{LAST:020}.json");
    for table in ["entities", "rejects", "sources", "documents"] {
        for damage in [Damage::Empty, Damage::Half, Damage::Zeros, Damage::LineLost] {
            let said = said(&last(table), damage)[0].unwrap();
            assert!(said.contains(&format!("{LAST:020}.json` is ")), "{said}");
        }
        let files =
            [said(&format!("{table}/part-"), Damage::Half), said(&format!("{table}/spec_id=5ec/part-"), Damage::Half)]
                .concat();
        assert!(
            files.iter().filter(|said| said.is_some_and(|said| said.contains(" bytes instead of "))).count() >= 3,
            "{table}: {files:?}"
        );
    }
    // `documents` is written last: without its last entry the commit is one that a killed run left, and the rerun makes it again.
    assert_eq!(said(&last("documents"), Damage::Gone), [None]);
    for table in ["entities", "rejects", "sources"] {
        let said = said(&last(table), Damage::Gone)[0].unwrap();
        assert!(said.ends_with("the log of `documents` has commit 4, and its own has not"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_checkpoint_every_log_entry_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let expected = finished(&folder, false).await;
    let outcomes = every_damage(&folder, &expected, |name| name.contains("_delta_log")).await;
    let unnoticed: Vec<_> =
        outcomes.iter().filter(|(.., said)| said.is_none()).map(|(name, by, _)| format!("{name} {by:?}")).collect();
    // A run that is killed before it has measured anything leaves no row in `metrics`, and none in `runs` before it has begun.
    let expected = [
        format!("documents/_delta_log/{LAST:020}.json Gone"),
        format!("metrics/_delta_log/{:020}.json Gone", 1),
        format!("runs/_delta_log/{:020}.json Gone", 1),
    ];
    assert_eq!(unnoticed, expected);
}

#[tokio::test]
async fn a_missing_table_is_not_created_again() {
    for table in Table::ALL {
        for whole in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            finished(&folder, false).await;
            let gone = folder.path().join("store").join(table.name());
            std::fs::remove_dir_all(if whole { gone } else { gone.join("_delta_log") }).unwrap();
            let location = on_disk(folder.path());
            let errors = [
                Store::open(location.clone(), DataType::Utf8).await.err(),
                Store::open_existing(location.clone()).await.err(),
                Store::id_type_at(&location).await.err(),
            ];
            for (place, error) in errors.into_iter().enumerate() {
                // The type of the ids is that of `documents`, and nothing else is read for it.
                let Some(error) = error else {
                    assert!(place == 2 && table != Table::Documents);
                    continue;
                };
                assert!(error.to_string().contains(&format!("the table `{}` of", table.name())), "{error}");
                assert!(error.to_string().ends_with("is damaged: its log is gone"), "{error}");
                assert_eq!(error.exit_code(), 1);
            }
        }
    }
    // Without any log it would be a new store, but for the data files.
    let folder = tempfile::tempdir().unwrap();
    finished(&folder, false).await;
    for table in Table::ALL {
        std::fs::remove_dir_all(folder.path().join("store").join(table.name()).join("_delta_log")).unwrap();
    }
    let error = Store::open(on_disk(folder.path()), DataType::Utf8).await.unwrap_err();
    assert!(error.to_string().contains("has files, such as `part-") && error.exit_code() == 1, "{error}");
}

#[tokio::test]
async fn a_store_whose_creation_was_killed_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let location = on_disk(folder.path());
    Store::open(location.clone(), DataType::Utf8).await.unwrap();
    for table in [Table::Documents, Table::Entities] {
        std::fs::remove_dir_all(folder.path().join("store").join(table.name())).unwrap();
    }
    assert_eq!(Store::id_type_at(&location).await.unwrap(), None);
    Store::open(location, DataType::Utf8).await.unwrap();
}

#[tokio::test]
async fn a_run_replaces_a_checkpoint_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let expected = finished(&folder, true).await;
    let log = folder.path().join("store/entities/_delta_log");
    let checkpoint = log.join("00000000000000000003.checkpoint.parquet");
    std::fs::write(&checkpoint, "").unwrap();
    let location = on_disk(folder.path());
    let store = Store::open_existing(location.clone()).await.unwrap();
    assert_eq!(std::fs::metadata(&checkpoint).unwrap().len(), 0, "readers write nothing");
    drop(store);
    assert_eq!(rerun(&location).await.unwrap(), expected);
    assert!(log.join("00000000000000000004.checkpoint.parquet").exists());
    // Other tools, too, can now read the table.
    let mut table = deltalake_core::DeltaTable::new(store_log(&location));
    table.load().await.unwrap();
    assert_eq!(table.version(), Some(4));
}

/// The log of `entities`, as another tool reads it.
fn store_log(location: &StoreLocation) -> deltalake_core::logstore::LogStoreRef {
    let folder =
        object_store::prefix::PrefixStore::new(location.objects().clone(), location.table_path(Table::Entities));
    deltalake_core::logstore::default_logstore(
        Arc::new(folder),
        location.objects().clone(),
        &location.table_url(Table::Entities),
        &deltalake_core::logstore::StorageConfig::default(),
    )
}

//! Stores on an object store that fails. In: commits, rewritings, appends, runs, compactions, cleanings, kills. Out: the
//! rows that an undisturbed store has.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::StringArray;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;

use super::store::FaultyStore;
use crate::engine::clean::tests::tick;
use crate::engine::commit::Commit;
use crate::engine::commit::tests::{begin, files, query};
use crate::engine::files::FILE_BYTES;
use crate::engine::location::StoreLocation;
use crate::engine::runs::tests::run;
use crate::engine::store::Store;
use crate::engine::write::tests::stamp;
use crate::error::{Error, Result};
use crate::tables::{MetricRow, SourceRow, Table, metric_rows};

const COMMITS: i64 = 8;
/// Every so many commits one brings changed documents instead of new ones.
const CHANGED: i64 = 4;
/// More attempts than this, and a test hangs.
const PATIENCE: usize = 100;

fn location(objects: Arc<dyn ObjectStore>) -> StoreLocation {
    StoreLocation::within(objects, Url::parse("memory:///lake/store").unwrap())
}

/// The documents of commit `number`; every [`CHANGED`]th brings those of the commit before again.
async fn prepared(store: &Store, number: i64, run_id: &str) -> Result<Commit> {
    let failed =
        |cause: datafusion::error::DataFusionError| Error::Engine { doing: "write".into(), source: cause.into() };
    let changed = number % CHANGED == 0;
    let first = if changed { (number - 1) * 10 } else { number * 10 };
    let stamp = stamp(number, run_id);
    let source = format!("{number}.parquet");
    let mut commit = Commit {
        number,
        run_id: run_id.to_owned(),
        files: files(store, &stamp, &source, first).await.map_err(failed)?,
        replaced: vec![],
        sources: vec![SourceRow {
            path: source,
            size: 1,
            etag: None,
            modified_at: None,
            input_hash: "77".to_owned(),
            rows: 3,
            outcome: "done".to_owned(),
            run_id: run_id.to_owned(),
            spec_id: stamp.spec_id,
        }],
    };
    if changed {
        let ids = StringArray::from(vec![format!("doc-{first}"), format!("doc-{}", first + 1)]);
        commit.replace(store.rewrite("5ec", &ids).await?);
    }
    Ok(commit)
}

/// A job that runs on a store, is killed, starts again, until every commit is done.
struct Job {
    location: StoreLocation,
    /// The same store without faults.
    sound: StoreLocation,
    disturbed: bool,
    opened: usize,
    kills: usize,
    /// Tables that were compacted, and files that were cleaned away.
    compacted: usize,
    cleaned: usize,
}

impl Job {
    async fn open(&mut self) -> Store {
        let mut last = None;
        for _ in 0..PATIENCE {
            self.opened += 1;
            let opened = async {
                let mut store = Store::open(self.location.clone(), DataType::Utf8).await?;
                store.remove_half_done(&self.run_id()).await?;
                Ok::<_, Error>(store)
            };
            match opened.await {
                Ok(store) => return store,
                Err(error) => last = Some(error),
            }
        }
        panic!("the store does not open: {last:?}");
    }

    fn run_id(&self) -> String {
        format!("run-{}", self.opened)
    }

    async fn commit(&mut self, number: i64) {
        let mut store = self.open().await;
        for attempt in 0..PATIENCE {
            if store.last_commit() == Some(number) {
                return;
            }
            assert_eq!(store.last_commit().unwrap_or(0), number - 1, "no commit is left out");
            let Ok(commit) = prepared(&store, number, &self.run_id()).await else { continue };
            let killed_after = (number as usize + attempt) % 9;
            if self.disturbed && (1..4).contains(&killed_after) {
                let _ = begin(&mut store, &commit, killed_after).await;
                self.kills += 1;
                store = self.open().await;
                continue;
            }
            for _ in 0..3 {
                match store.commit(&commit).await {
                    Ok(()) => return,
                    Err(error @ Error::Conflict { .. }) => panic!("nobody else writes: {error:?}"),
                    Err(_) => {}
                }
            }
            store = self.open().await;
        }
        panic!("commit {number} is not done");
    }

    /// A row outside of commits; after an error that leaves it open, the table says whether it is there.
    async fn append(&mut self, name: &str) {
        let row = MetricRow {
            run_id: "run".to_owned(),
            scope: "all".to_owned(),
            name: name.to_owned(),
            value: 1.0,
            unit: String::new(),
        };
        let rows = metric_rows(&[row]).unwrap();
        for _ in 0..PATIENCE {
            let mut store = self.open().await;
            if store.append(Table::Metrics, &rows, "run").await.is_ok() {
                return;
            }
            let store = Store::open_existing(self.sound.clone()).await.unwrap();
            if query(&store, &format!("SELECT name FROM metrics WHERE name = '{name}'")).await.contains(name) {
                return;
            }
        }
        panic!("`{name}` is not appended");
    }

    async fn run_ends(&mut self, id: &str) {
        let mut store = self.open().await;
        let _ = store.begin_run(&run(id, "")).await;
        for _ in 0..PATIENCE {
            if store.end_run(&run(id, "done")).await.is_ok() {
                return;
            }
            store = self.open().await;
        }
        panic!("{id} has not ended");
    }

    async fn upkeep(&mut self) {
        let mut store = self.open().await;
        for table in Table::ALL {
            let compacted = store.compact_above(table, 3, FILE_BYTES, "upkeep").await;
            assert!(self.disturbed || compacted.is_ok(), "{compacted:?}");
            self.compacted += usize::from(matches!(compacted, Ok(Some(_))));
        }
        tick().await;
        let before = self.objects().await;
        for _ in 0..PATIENCE {
            let mut store = self.open().await;
            if store.clean(Duration::ZERO).await.is_ok() {
                self.cleaned += before - self.objects().await;
                return;
            }
            assert!(self.disturbed, "a cleaning fails without a fault");
        }
        panic!("no cleaning comes to its end");
    }

    /// How many data files there are, known to a log or not.
    async fn objects(&self) -> usize {
        let all: Vec<_> = self.sound.objects().list(None).try_collect().await.unwrap();
        all.iter().filter(|object| object.location.extension() == Some("parquet")).count()
    }
}

/// All rows of the store but for run, commit and times.
async fn rows(location: &StoreLocation) -> String {
    let store = Store::open_existing(location.clone()).await.unwrap();
    assert_eq!(store.half_done(), None);
    assert_eq!(store.last_commit(), Some(COMMITS));
    let mut rows = String::new();
    for sql in [
        "SELECT * EXCEPT (run_id) FROM entities ORDER BY doc_id, start_char",
        "SELECT * EXCEPT (run_id, finished_at) FROM documents ORDER BY doc_id",
        "SELECT * EXCEPT (run_id) FROM rejects ORDER BY source",
        "SELECT * EXCEPT (run_id) FROM sources ORDER BY path",
        "SELECT * FROM metrics ORDER BY name",
        "SELECT * FROM runs ORDER BY run_id",
    ] {
        rows += &query(&store, sql).await;
    }
    rows
}

/// Everything a store goes through, on `objects` as disturbed by `disturb`.
async fn everything(seed: Option<u64>) -> (String, u64, usize) {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let sound = location(Arc::clone(&memory));
    let faulty = seed.map(|seed| FaultyStore::new(memory, seed, 12));
    let location = faulty.clone().map_or_else(|| sound.clone(), |faulty| location(Arc::new(faulty)));
    let mut job = Job {
        location,
        sound: sound.clone(),
        disturbed: seed.is_some(),
        opened: 0,
        kills: 0,
        compacted: 0,
        cleaned: 0,
    };
    for number in 1..=COMMITS {
        job.commit(number).await;
        job.append(&format!("m{number:02}")).await;
        if number % 3 == 0 {
            job.upkeep().await;
        }
    }
    for id in ["run-a", "run-b"] {
        job.run_ends(id).await;
    }
    job.upkeep().await;
    assert!(job.compacted > 0, "nothing was compacted");
    assert!(!job.disturbed || job.cleaned > 0, "nothing was cleaned");
    (rows(&sound).await, faulty.map_or(0, |faulty| faulty.faults()), job.kills)
}

#[tokio::test]
async fn rows_are_there_exactly_once_whatever_fails() {
    let (expected, ..) = everything(None).await;
    assert_eq!(expected.matches("doc-10 ").count(), 2 + 1, "two mentions and the document");
    for seed in [1, 2] {
        // In a task of its own: what a run does to a store can be sent between threads.
        let (found, faults, kills) = tokio::spawn(everything(Some(seed))).await.unwrap();
        assert!(faults > 20 && kills > 2, "seed {seed}: {faults} faults, {kills} kills");
        assert_eq!(found, expected, "seed {seed}: {faults} faults, {kills} kills");
    }
}

/// What [`inside_a_process_that_ends`] works on.
const STORE: &str = "QUARRY_FAULT_STORE";

#[test]
#[cfg_attr(not(debug_assertions), ignore = "there are no fault points without debug assertions")]
fn the_process_ends_where_the_variable_says() {
    for (place, half_done, last_commit) in [
        ("before:entities:2", None, 1),
        ("after:entities:2", Some(2), 1),
        ("before:rejects:2", Some(2), 1),
        ("after:rejects:2", Some(2), 1),
        ("after:sources:2", Some(2), 1),
        ("before:documents:2", Some(2), 1),
        ("after:documents:2", None, 2),
        ("after:documents:7", None, 3),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{}::inside_a_process_that_ends", module_path!().split_once("::").unwrap().1);
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--ignored"])
            .env(STORE, folder.path())
            .env(super::VARIABLE, place)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.success(), last_commit == 3, "{place}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
            let mut store = Store::open(location, DataType::Utf8).await.unwrap();
            assert_eq!((store.half_done(), store.last_commit()), (half_done, Some(last_commit)), "{place}");
            store.remove_half_done("run-2").await.unwrap();
            let next = prepared(&store, last_commit + 1, "run-2").await.unwrap();
            store.commit(&next).await.unwrap();
            let whole = query(&store, "SELECT count(*) AS n FROM current_entities").await;
            assert!(whole.contains(&format!("| {} ", 3 * (last_commit + 1).min(3))), "{place}: {whole}");
        });
    }
}

#[tokio::test]
#[ignore = "the_process_ends_where_the_variable_says runs it, in a process of its own"]
async fn inside_a_process_that_ends() {
    let location = StoreLocation::parse(&std::env::var(STORE).unwrap()).unwrap();
    let mut store = Store::open(location, DataType::Utf8).await.unwrap();
    for number in 1..=3 {
        let next = prepared(&store, number, "run-1").await.unwrap();
        store.commit(&next).await.unwrap();
    }
}

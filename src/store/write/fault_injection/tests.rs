//! Stores on an object store that fails. In: commits, rewrites, appends, runs, optimizes, vacuums, kills. Out: the
//! rows that an undisturbed store has.

mod damage;
mod power_loss;
mod store;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::StringArray;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::maintenance::vacuum::tests::tick;
use crate::store::runs::tests::run;
use crate::store::table_files::FILE_BYTES;
use crate::store::write::commit::Commit;
use crate::store::write::commit::tests::{begin, files, query};
use crate::store::write::fault_injection::tests::store::FaultyStore;
use crate::store::write::write_exec::tests::stamp;
use crate::tables::{MetricRow, RunOutcome, SourceOutcome, SourceRow, Table, metric_rows};

const COMMITS: i64 = 8;
/// One of this many commits has changed documents instead of new ones.
const CHANGED: i64 = 4;
/// After this many attempts a test counts as hanging.
const MAX_ATTEMPTS: usize = 100;

fn location(objects: Arc<dyn ObjectStore>) -> StoreLocation {
    StoreLocation::within(objects, Url::parse("memory:///lake/store").unwrap())
}

/// The documents of commit `number`; every [`CHANGED`]th commit has those of the previous commit again.
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
            outcome: SourceOutcome::Done,
            changed_in: None,
            repeated: false,
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

/// A job on a store that is killed and restarted until every commit is done.
struct Job {
    location: StoreLocation,
    /// The same store without faults.
    sound: StoreLocation,
    disturbed: bool,
    opened: usize,
    kills: usize,
    /// How many tables were optimized.
    optimized: usize,
    /// How many files were vacuumed.
    vacuumed: usize,
}

impl Job {
    async fn open(&mut self) -> Store {
        let mut last = None;
        for _ in 0..MAX_ATTEMPTS {
            self.opened += 1;
            let opened = async {
                let mut store = Store::open(self.location.clone(), DataType::Utf8).await?;
                store.roll_back_incomplete_commit(&self.run_id()).await?;
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
        for attempt in 0..MAX_ATTEMPTS {
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

    /// Appends a row outside commits. After an error, checks the table whether the row was added.
    async fn append(&mut self, name: &str) {
        let row = MetricRow {
            run_id: "run".to_owned(),
            scope: "all".to_owned(),
            name: name.to_owned(),
            value: 1.0,
            unit: String::new(),
        };
        let rows = metric_rows(&[row]).unwrap();
        for _ in 0..MAX_ATTEMPTS {
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
        let _ = store.begin_run(&run(id, RunOutcome::Running)).await;
        for _ in 0..MAX_ATTEMPTS {
            if store.end_run(&run(id, RunOutcome::Done)).await.is_ok() {
                return;
            }
            store = self.open().await;
        }
        panic!("{id} has not ended");
    }

    async fn maintain(&mut self) {
        let mut store = self.open().await;
        for table in Table::ALL {
            let optimized = store.optimize_above(table, 3, FILE_BYTES, "maintenance").await;
            assert!(self.disturbed || optimized.is_ok(), "{optimized:?}");
            self.optimized += usize::from(matches!(optimized, Ok(Some(_))));
        }
        tick().await;
        let before = self.objects().await;
        for _ in 0..MAX_ATTEMPTS {
            let mut store = self.open().await;
            if store.vacuum(Duration::ZERO).await.is_ok() {
                self.vacuumed += before - self.objects().await;
                return;
            }
            assert!(self.disturbed, "a vacuum fails without a fault");
        }
        panic!("no vacuum succeeds");
    }

    /// How many data files there are, known to a log or not.
    async fn objects(&self) -> usize {
        let all: Vec<_> = self.sound.objects().list(None).try_collect().await.unwrap();
        all.iter().filter(|object| object.location.extension() == Some("parquet")).count()
    }
}

/// The rows of all commits, except run and times.
const ROWS: [&str; 4] = [
    "SELECT * EXCEPT (run_id) FROM entities ORDER BY doc_id, start_char",
    "SELECT * EXCEPT (run_id, finished_at) FROM documents ORDER BY doc_id",
    "SELECT * EXCEPT (run_id) FROM rejects ORDER BY source",
    "SELECT * EXCEPT (run_id) FROM sources ORDER BY path",
];

/// All rows of the store, except run and times.
async fn rows(location: &StoreLocation) -> String {
    let store = Store::open_existing(location.clone()).await.unwrap();
    assert_eq!(store.incomplete_commit(), None);
    assert_eq!(store.last_commit(), Some(COMMITS));
    let mut rows = String::new();
    for sql in ROWS.into_iter().chain(["SELECT * FROM metrics ORDER BY name", "SELECT * FROM runs ORDER BY run_id"]) {
        rows += &query(&store, sql).await;
    }
    rows
}

/// Runs every operation on a store in memory, with random faults if there is a seed. Returns the rows, faults and kills.
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
        optimized: 0,
        vacuumed: 0,
    };
    for number in 1..=COMMITS {
        job.commit(number).await;
        job.append(&format!("m{number:02}")).await;
        if number % 3 == 0 {
            job.maintain().await;
        }
    }
    for id in ["run-a", "run-b"] {
        job.run_ends(id).await;
    }
    job.maintain().await;
    assert!(job.optimized > 0, "nothing was optimized");
    assert!(!job.disturbed || job.vacuumed > 0, "nothing was vacuumed");
    (rows(&sound).await, faulty.map_or(0, |faulty| faulty.faults()), job.kills)
}

#[tokio::test]
async fn rows_are_there_exactly_once_whatever_fails() {
    let (expected, ..) = everything(None).await;
    assert_eq!(expected.matches("doc-10 ").count(), 2 + 1, "two mentions and the document");
    for seed in [1, 2] {
        // Spawned, which checks that the futures of store operations are `Send`.
        let (found, faults, kills) = tokio::spawn(everything(Some(seed))).await.unwrap();
        assert!(faults > 20 && kills > 2, "seed {seed}: {faults} faults, {kills} kills");
        assert_eq!(found, expected, "seed {seed}: {faults} faults, {kills} kills");
    }
}

/// The store of [`inside_a_process_that_ends`].
const STORE: &str = "QUARRY_FAULT_STORE";

#[test]
#[cfg_attr(not(debug_assertions), ignore = "there are no fault points without debug assertions")]
fn the_process_ends_where_the_variable_says() {
    for (place, incomplete, last_commit) in [
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
            .env(crate::machine::fault::VARIABLE, place)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.success(), last_commit == 3, "{place}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
            let mut store = Store::open(location, DataType::Utf8).await.unwrap();
            assert_eq!((store.incomplete_commit(), store.last_commit()), (incomplete, Some(last_commit)), "{place}");
            store.roll_back_incomplete_commit("run-2").await.unwrap();
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

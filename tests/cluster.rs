//! Jobs on a cluster: real processes on the loopback interface. Whatever is killed, the tables are those of a local run, row for row.

mod faults;
mod many;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::promises::{documents_to_lose, job, rows};
use crate::support::{Dir, Random, terminate, until};

/// A scheduler and its executors, which end with the test.
struct Cluster<'test> {
    dir: &'test Dir,
    /// Variables of the drivers and executors.
    environment: Vec<(&'static str, String)>,
    port: u16,
    scheduler: Child,
    executors: Vec<Child>,
    /// Where each executor says what it has done.
    metrics: Vec<String>,
}

/// What is special about an executor.
#[derive(Default)]
struct Special<'a> {
    /// The fault of its process, such as a document that ends it.
    fault: Option<&'a str>,
    device: Option<&'a str>,
    /// The port at which it reaches the scheduler, if another than the scheduler's.
    through: Option<u16>,
    /// Where it keeps what the driver fetches.
    folder: Option<&'a Path>,
}

/// A port that nobody uses, no other test is given, and no connection takes: it lies below those that the system hands out.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    let ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    ports.take(100).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// The status and text of a page; `None` if nobody answers.
fn page(url: &str) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(url).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    })
}

/// Starts a process whose messages go to a file of this name in the test's folder.
fn start(dir: &Dir, name: &str, mut command: Command) -> Child {
    let messages = File::options().create(true).append(true).open(dir.path(name)).unwrap();
    command.stdout(Stdio::null()).stderr(messages).spawn().unwrap()
}

fn scheduler(dir: &Dir, port: u16) -> Child {
    let port = port.to_string();
    // An executor that works reports every five seconds.
    let options = ["--executor-timeout-seconds", "12", "--expire-dead-executor-interval-seconds", "1"];
    let place = ["scheduler", "--", "--bind-host", "127.0.0.1", "--bind-port", &port];
    start(dir, "scheduler.log", dir.command(&[&place[..], &options].concat()))
}

impl<'test> Cluster<'test> {
    fn new(dir: &'test Dir, executors: usize) -> Self {
        let port = free_port();
        let mut cluster = Self {
            dir,
            environment: Vec::new(),
            port,
            scheduler: scheduler(dir, port),
            executors: Vec::new(),
            metrics: Vec::new(),
        };
        for _ in 0..executors {
            cluster.add(&Special::default());
        }
        cluster.wait_for(executors);
        cluster
    }

    fn wait_for(&self, executors: usize) {
        until("the executors are registered", || self.registered() == executors);
    }

    fn address(&self) -> String {
        format!("df://127.0.0.1:{}", self.port)
    }

    /// Starts one more executor.
    fn add(&mut self, special: &Special<'_>) {
        let (flight, grpc, health) = (free_port().to_string(), free_port().to_string(), free_port().to_string());
        let host = ["--bind-host", "127.0.0.1", "--external-host", "127.0.0.1"];
        let ports = ["--bind-port", &flight, "--bind-grpc-port", &grpc, "--bind-health-port", &health];
        let address = format!("df://127.0.0.1:{}", special.through.unwrap_or(self.port));
        let metrics = format!("127.0.0.1:{}", free_port());
        let executor = ["executor", &address, "--slots", "1", "--metrics", &metrics];
        let device = special.device.map_or(Vec::new(), |device| vec!["--device", device]);
        let folder = special.folder.map(|folder| folder.display().to_string());
        let folder = folder.as_deref().map_or(Vec::new(), |folder| vec!["--work-dir", folder]);
        let mut command = self.dir.command(&[&executor[..], &device, &["--"], &host, &ports, &folder].concat());
        command.envs(self.environment.clone()).envs(special.fault.map(|fault| ("QUARRY_FAULT", fault)));
        let log = format!("executor-{}.log", self.metrics.len());
        self.executors.push(start(self.dir, &log, command));
        self.metrics.push(metrics);
    }

    /// Kills the scheduler, and starts another in its place.
    fn restart(&mut self) {
        self.scheduler.kill().unwrap();
        self.scheduler.wait().unwrap();
        self.scheduler = scheduler(self.dir, self.port);
    }

    /// Kills an executor.
    fn lose(&mut self, executor: usize) {
        let mut lost = self.executors.remove(executor);
        lost.kill().unwrap();
        lost.wait().unwrap();
    }

    /// Stops an executor, and waits until `left` are registered.
    fn stop(&mut self, executor: usize, left: usize) {
        let mut stopped = self.executors.remove(executor);
        terminate(stopped.id());
        stopped.wait().unwrap();
        self.wait_for(left);
    }

    /// What the scheduler answers on a page.
    fn page(&self, path: &str) -> Option<(u16, String)> {
        page(&format!("http://127.0.0.1:{}{path}", self.port))
    }

    fn registered(&self) -> usize {
        let executors = self.page("/executors").and_then(|(_, text)| serde_json::from_str(&text).ok());
        executors.map_or(0, |executors: Vec<serde_json::Value>| executors.len())
    }

    /// Waits for a driver, which must end with this exit code.
    #[track_caller]
    fn ended(&self, mut driver: Child, code: i32) {
        let found = driver.wait().unwrap().code();
        let said = || fs::read_to_string(self.dir.path("driver.log")).unwrap();
        assert_eq!(found, Some(code), "{}", said());
    }

    /// Starts a job here.
    fn run(&self, job: &str) -> Child {
        let mut command = self.dir.command(&["run", job, "--cluster", &self.address()]);
        command.envs(self.environment.clone());
        start(self.dir, "driver.log", command)
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for process in self.executors.iter_mut().chain([&mut self.scheduler]) {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Fails unless the tables have these rows.
#[track_caller]
fn assert_rows(expected: &[Vec<String>], found: &[Vec<String>], store: &str) {
    for (expected, found) in expected.iter().zip(found) {
        let without = |rows: &[String], others: &[String]| -> Vec<String> {
            rows.iter().filter(|row| !others.contains(row)).take(5).cloned().collect()
        };
        let (lacks, has) = (without(expected, found), without(found, expected));
        assert!(expected == found, "{store} lacks {lacks:#?} and has {has:#?}");
    }
}

#[test]
fn a_cluster_writes_what_one_machine_writes_whoever_is_killed() {
    let dir = Dir::new();
    let mut random = Random(21);
    documents_to_lose(&dir, &mut random);
    let model = dir.small_model().display().to_string();
    let job = |store: &str| job(&dir, "docs", store, &model, "");
    dir.quarry(&["run", &job("local")]).ended(3);
    let expected = rows(&dir, "local");
    assert!(expected[0].len() > 300 && expected[2].len() > 50, "{} mentions", expected[0].len());
    let same = |store: &str| assert_rows(&expected, &rows(&dir, store), store);
    let commits = |store: &str| dir.path(store).join("documents/_delta_log/00000000000000000002.json").exists();

    let mut cluster = Cluster::new(&dir, 2);
    assert_eq!(cluster.page("/healthz").unwrap(), (200, "ok".to_owned()));
    assert_eq!(cluster.page("/readyz").unwrap().0, 200);
    cluster.ended(cluster.run(&job("undisturbed")), 3);
    same("undisturbed");
    for (number, executor) in cluster.executors.iter_mut().enumerate() {
        let log = || fs::read_to_string(dir.path(&format!("executor-{number}.log"))).unwrap();
        let ended = executor.try_wait().unwrap();
        assert!(ended.is_none(), "executor {number} has ended with {ended:?}:\n{}", log());
    }
    let metrics = cluster.metrics.iter().map(|at| page(&format!("http://{at}/metrics")).unwrap().1);
    let counted = |text: String, name: &str| -> u64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let documents: u64 = metrics.map(|text| counted(text, "quarry_executor_documents_total")).sum();
    assert!(documents >= expected[1].len() as u64, "{documents}");
    let slots = counted(cluster.page("/metrics").unwrap().1, "quarry_scheduler_slots");
    assert_eq!(slots, 2);

    // The driver, twice.
    for _ in 0..2 {
        let mut driver = cluster.run(&job("driver"));
        std::thread::sleep(Duration::from_secs_f64(1.0 + 3.0 * random.unit()));
        driver.kill().unwrap();
        driver.wait().unwrap();
    }
    cluster.ended(cluster.run(&job("driver")), 3);
    same("driver");

    // An executor, at work.
    let driver = cluster.run(&job("executor"));
    until("two commits are done", || commits("executor"));
    cluster.lose(0);
    cluster.ended(driver, 3);
    same("executor");

    // The scheduler, which forgets its jobs. The executors report to the new one.
    cluster.add(&Special::default());
    cluster.wait_for(2);
    let driver = cluster.run(&job("scheduler"));
    until("two commits are done", || commits("scheduler"));
    cluster.restart();
    cluster.ended(driver, 3);
    same("scheduler");
}

#[test]
fn a_document_that_ends_its_executor_is_rejected_and_the_job_goes_on() {
    let dir = Dir::new();
    let ids: Vec<String> = (0..700).map(|id| id.to_string()).collect();
    let rows: Vec<_> = ids.iter().map(|id| (Some(id.as_str()), Some("Ada met Mr. Babbage in London"))).collect();
    dir.documents("docs.parquet", &rows);
    let model = dir.small_model().display().to_string();
    let mut cluster = Cluster::new(&dir, 0);
    for _ in 0..2 {
        cluster.add(&Special { fault: Some("document:411"), ..Special::default() });
    }
    cluster.wait_for(2);
    cluster.ended(cluster.run(&job(&dir, "docs.parquet", "store", &model, "")), 0);
    assert_eq!(dir.rows("store", "documents", "count(*)", ""), ["699"]);
    assert_eq!(dir.rows("store", "rejects", "doc_id, reason", ""), ["411|kills_executor"]);
    let ended = cluster.executors.iter_mut().filter_map(|executor| executor.try_wait().unwrap()).count();
    assert_eq!(ended, 1, "one executor is lost, whose task the other extracts in a process of its own");
}

#[test]
fn a_trial_needs_no_other_process() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada Lovelace met Mr. Babbage in London .")), (Some("b"), None)]);
    let model = format!("[model]\npath = '{}'\ndevice = 'cpu'\n", dir.small_model().display());
    let here = dir.job("docs.parquet", "here", &model).display().to_string();
    dir.quarry(&["run", &here]).ended(0);
    let there = dir.job("docs.parquet", "there", &model).display().to_string();
    let ran = dir.quarry(&["run", &there, "--cluster", "standalone", "--json"]).ended(0);
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!((&summary["documents"], &summary["rejects"]), (&1.into(), &1.into()), "{summary}");
    assert!(rows(&dir, "here") == rows(&dir, "there"));
    // What the executor has counted is in the metrics.
    let counted = |store: &str| dir.rows(store, "metrics", "name, value", "WHERE name IN ('real_tokens', 'queries')");
    assert_eq!(counted("here"), counted("there"));
    assert!(counted("there").len() == 2);
}

#[test]
fn what_ends_a_run_ends_it_from_an_executor_too() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met paris")); 1]);
    let model =
        format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n", dir.unanswering_model().display());
    let here = dir.job("docs.parquet", "here", &model).display().to_string();
    let here = dir.quarry(&["run", &here]);
    let there = dir.job("docs.parquet", "there", &model).display().to_string();
    let there = dir.quarry(&["run", &there, "--cluster", "standalone"]);
    assert_eq!(there.code(), here.code(), "{}", there.stderr());
    let wrong = dir.quarry(&["run", "here.toml", "--cluster", "http://localhost"]).ended(1);
    assert!(wrong.stderr().contains("neither `df://HOST:PORT` nor `standalone`"), "{}", wrong.stderr());
    let wrong = dir.quarry(&["executor", "standalone"]).ended(1);
    assert!(wrong.stderr().contains("an executor joins a scheduler"), "{}", wrong.stderr());
    let wrong = dir.quarry(&["scheduler", "--", "--no-such-option"]).ended(1);
    assert!(wrong.stderr().contains("--no-such-option"), "{}", wrong.stderr());
}

//! Runs chunks in an executor. In: a task. Out: its outcome. The model stays open between tasks and jobs. It must not commit.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::error::Result;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use sysinfo::{ProcessesToUpdate, Signal, System, get_current_pid};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tracing::{Instrument as _, info_span};

use crate::cluster::exchange::{ChunkOutcome, Failure, Task, io_error, is_transient};
use crate::console::continue_trace;
use crate::error::Error;
use crate::extract::extract_exec::{Extract, ExtractExec};
use crate::extract::extractor::Extractor;
use crate::extract::monitor::Monitor;
use crate::extract::settings::RuntimeSettings;
use crate::extract::skip_known::repeated_sources;
use crate::job::plan::decode_on;
use crate::machine::environment::cache_folder;
use crate::machine::fault;
use crate::model::runtime::device::DeviceChoice;
use crate::query::session::extraction_session;
use crate::source::operator::read_counts::ReadCounts;
use crate::source::operator::scan_exec::all_metrics;
use crate::source::plan_error::own_error;
use crate::store::write::commit_batch::commit_batch;
use crate::store::write::write_exec::{WriteExec, write_time};
use crate::tables::Totals;

/// The hidden command by which an executor starts itself for one chunk.
pub const CHUNK_COMMAND: &str = "extract-chunk";

/// How many models stay open.
const OPEN_MODELS: usize = 2;

/// Bytes for which a disk must have room before a chunk is taken, and after it: more than its outcome has.
const ROOM: usize = 64 << 10;

/// What runs chunks in this process. A driver and a scheduler have one that is never asked to.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// How logs and errors name the executor.
    pub(crate) name: String,
    /// The device of the models, if not that of the job.
    pub(crate) device: Option<DeviceChoice>,
    /// Where Ballista keeps outcomes until the driver has fetched them.
    folder: Option<PathBuf>,
    /// Why they cannot be kept there.
    no_room: Mutex<Option<Error>>,
    /// The models used last, the newest first.
    open: Mutex<VecDeque<Arc<Extractor>>>,
    tally: Mutex<Tally>,
}

/// What an executor has done since it started.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    running: u64,
    chunks: u64,
    failed: u64,
    documents: u64,
    rejects: u64,
    mentions: u64,
    tokens: u64,
    spent: Duration,
}

impl Worker {
    pub(crate) fn new(name: String, device: Option<DeviceChoice>) -> Self {
        Self { name, device, ..Self::default() }
    }

    /// The worker of an executor that keeps outcomes in this folder.
    pub(crate) fn of_executor(name: String, device: Option<DeviceChoice>, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::new(name, device) }
    }

    /// Runs a task. A process that cannot keep its outcome is told to end, else it would take task after task and fail.
    ///
    /// # Errors
    /// An I/O error, if the task may succeed elsewhere or later. Any other error is part of the outcome.
    pub(crate) async fn run(&self, task: &Task) -> Result<ChunkOutcome> {
        self.find_room()?;
        let outcome = self.run_in_span(task).await?;
        self.find_room()?;
        Ok(outcome)
    }

    /// Why the process was told to end.
    pub(crate) fn no_room(&self) -> Option<Error> {
        self.no_room.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn find_room(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let Err(cause) = NamedTempFile::new_in(folder).and_then(|mut file| file.write_all(&vec![0; ROOM])) else {
            return Ok(());
        };
        let error = Error::Write { path: folder.clone(), source: cause.into() };
        let to_ballista = io_error(&error);
        tracing::error!("the executor ends, because it cannot keep what it has done: {}", error.report());
        *self.no_room.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        terminate();
        Err(to_ballista)
    }

    async fn run_in_span(&self, task: &Task) -> Result<ChunkOutcome> {
        let span = info_span!("chunk", quarry.chunk = task.name, quarry.executor = self.name);
        continue_trace(&span, &task.trace);
        let outcome = async { if task.careful { self.run_apart(task).await } else { self.try_run(task).await } };
        self.tally(|tally| tally.running += 1);
        let outcome = outcome.instrument(span).await;
        self.tally(|tally| {
            tally.running -= 1;
            match &outcome {
                Ok(ChunkOutcome { batch, counts, spent, failure: None, .. }) => {
                    let totals = batch.as_ref().map(|batch| &batch.totals);
                    tally.chunks += 1;
                    tally.documents += totals.map_or(0, |totals| totals.documents);
                    tally.rejects += totals.map_or(0, Totals::rejected);
                    tally.mentions += totals.map_or(0, Totals::mentions);
                    tally.tokens += counts.scorer.real_tokens;
                    tally.spent += *spent;
                }
                _ => tally.failed += 1,
            }
        });
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(error) if is_transient(&error) => Err(io_error(&error)),
            Err(error) => {
                tracing::warn!("{}: {}", task.name, error.report());
                let failure = Some(Failure::of(&error));
                Ok(ChunkOutcome { executor: self.name.clone(), failure, ..ChunkOutcome::default() })
            }
        }
    }

    fn tally(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was done so far, in Prometheus' text format 0.0.4.
    pub(crate) fn metrics(&self) -> String {
        let mut now = Tally::default();
        self.tally(|tally| now = *tally);
        let Tally { running, chunks, failed, documents, rejects, mentions, tokens, spent } = now;
        let counters = [
            ("chunks", "Chunks extracted.", chunks as f64),
            ("failed_chunks", "Chunks that failed here.", failed as f64),
            ("documents", "Documents extracted.", documents as f64),
            ("rejects", "Documents rejected.", rejects as f64),
            ("mentions", "Mentions found.", mentions as f64),
            ("tokens", "Tokens computed, without padding.", tokens as f64),
            ("chunk_seconds", "Time spent in chunks, without opening models.", spent.as_secs_f64()),
        ];
        let counters = counters.map(|(name, help, value)| {
            format!("# HELP quarry_executor_{name}_total {help}\n# TYPE quarry_executor_{name}_total counter\nquarry_executor_{name}_total {value}\n")
        });
        gauge("executor_running_chunks", "Chunks that run now.", running as f64) + &counters.concat()
    }

    /// Runs a task in a process of its own, and survives its end.
    async fn run_apart(&self, task: &Task) -> crate::error::Result<ChunkOutcome> {
        let failed = |source: std::io::Error| Error::Engine {
            doing: "start a process for a chunk".into(),
            source: source.into(),
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg(CHUNK_COMMAND).arg(&self.name).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(device) = &self.device {
            command.args(["--device", &device.to_string()]);
        }
        if let Ok(cache) = cache_folder() {
            command.env("QUARRY_CACHE", cache);
        }
        tracing::warn!("{} is extracted in a process of its own: the one that had it before is lost", task.name);
        let mut child = command.spawn().map_err(failed)?;
        let text = serde_json::to_vec(&Task { careful: false, ..task.clone() }).unwrap_or_default();
        if let Some(mut stdin) = child.stdin.take() {
            // If it has ended already, its status says so.
            let _ = stdin.write_all(&text).await;
        }
        let ended = child.wait_with_output().await.map_err(failed)?;
        if let Ok(outcome) = serde_json::from_slice(&ended.stdout) {
            return Ok(outcome);
        }
        let failure = Some(Failure::killed(&ended.status.to_string()));
        Ok(ChunkOutcome { executor: self.name.clone(), failure, ..ChunkOutcome::default() })
    }

    async fn try_run(&self, task: &Task) -> crate::error::Result<ChunkOutcome> {
        let failed = |error| own_error(error, "extract the documents");
        let monitor = Arc::new(Monitor::default());
        let context = extraction_session(&monitor)?;
        let plan = decode_on(task.plan.as_bytes(), |runtime| self.adapt(runtime)).map_err(failed)?;
        let extract = extract_of(&plan).ok_or_else(|| Error::Engine {
            doing: "extract the documents".into(),
            source: "the plan of the chunk extracts nothing".into(),
        })?;
        let extractor = self.extractor(extract).await?;
        let started = Instant::now();
        let mut rows = execute_stream(Arc::clone(&plan), context.task_ctx()).map_err(failed)?;
        let mut batch = None;
        let writes = plan.downcast_ref::<WriteExec>().is_some();
        while let Some(rows) = rows.next().await {
            let rows = rows.map_err(failed)?;
            if writes {
                batch = Some(commit_batch(&rows).map_err(failed)?);
            }
        }
        if let Some(seconds) = fault::of("slow").and_then(|seconds| seconds.parse().ok()) {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
        let mut counts = monitor.counts();
        counts.write += write_time(&plan);
        counts.scorer = extractor.scorer().counters().take();
        Ok(ChunkOutcome {
            executor: self.name.clone(),
            batch,
            read: ReadCounts::of(&plan),
            repeated: repeated_sources(&all_metrics(&plan)).collect(),
            counts,
            spent: started.elapsed(),
            device: extractor.selection().devices.to_string(),
            precision: extractor.selection().precision.to_string(),
            failure: None,
        })
    }

    fn adapt(&self, runtime: &mut RuntimeSettings) {
        if let Some(device) = &self.device {
            runtime.device = device.clone();
        }
    }

    /// The model of an extraction, which the operators of its plan then find open.
    async fn extractor(&self, extract: Extract) -> crate::error::Result<Arc<Extractor>> {
        let open = move || Extractor::shared(&extract.spec, &extract.runtime);
        let opened = tokio::task::spawn_blocking(open).await;
        let opened =
            opened.map_err(|panic| Error::Engine { doing: "load the model".into(), source: panic.into() })??;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|one| !Arc::ptr_eq(one, &opened));
        open.push_front(Arc::clone(&opened));
        open.truncate(OPEN_MODELS);
        Ok(opened)
    }
}

fn extract_of(plan: &Arc<dyn ExecutionPlan>) -> Option<Extract> {
    match plan.downcast_ref::<ExtractExec>() {
        Some(extract) => Some(extract.operator().clone()),
        None => plan.children().into_iter().find_map(extract_of),
    }
}

/// Sends SIGTERM to this process: Ballista then tells the scheduler that it ends. If that cannot be, the next task is refused as this one is.
fn terminate() {
    let mut system = System::new();
    let Ok(own) = get_current_pid() else { return };
    system.refresh_processes(ProcessesToUpdate::Some(&[own]), false);
    let _ = system.process(own).map(|process| process.kill_with(Signal::Term));
}

/// A gauge in Prometheus' text format.
pub(crate) fn gauge(name: &str, help: &str, value: f64) -> String {
    format!("# HELP quarry_{name} {help}\n# TYPE quarry_{name} gauge\nquarry_{name} {value}\n")
}

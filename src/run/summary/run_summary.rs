//! The run summary, for programs. In: what is known of a run when it ends, however it ends. Out: one JSON object, the attributes of a
//! trace span, and metrics in Prometheus' text format. It must not change how the run ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::console;
use crate::error::{Error, Result};
use crate::extract::extractor::Extractor;
use crate::extract::monitor::Monitor;
use crate::run::exit_code::Ended;
use crate::run::summary::prometheus::PrometheusText;
use crate::source::input::Documents;
use crate::tables::{RunOutcome, Totals};
use crate::text::document::RejectReason;

/// A run as its observers see it: the signal handler, and programs that read its result.
#[derive(Debug)]
pub(crate) struct RunSummary {
    pub(crate) run_id: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) started: Instant,
    /// The store's location, as the job file has it.
    pub(crate) store: OnceLock<String>,
    /// Number of unreadable files found so far.
    unreadable_files: AtomicUsize,
    /// The loaded model, once there is one.
    extractor: OnceLock<Arc<Extractor>>,
    /// Live counters, and the flag that stops the extraction.
    pub(crate) monitor: Arc<Monitor>,
    /// The totals of what is committed.
    totals: Mutex<Totals>,
    /// The devices of executors, and their precisions.
    elsewhere: Mutex<(BTreeSet<String>, BTreeSet<String>)>,
}

/// How a run ended, for the program that started it.
pub(crate) struct RunEnd<'a> {
    pub(crate) outcome: RunOutcome,
    pub(crate) exit_code: u8,
    pub(crate) error: Option<&'a Error>,
}

impl<'a> RunEnd<'a> {
    pub(crate) fn of(ended: &'a Result<Ended>) -> Self {
        match ended {
            Ok(Ended::Done(exit_code)) => Self { outcome: RunOutcome::Done, exit_code: *exit_code, error: None },
            Ok(Ended::Limited(exit_code)) => Self { outcome: RunOutcome::Limited, exit_code: *exit_code, error: None },
            Ok(Ended::Stopped) => Self { outcome: RunOutcome::Stopped, exit_code: 2, error: None },
            Err(error) => {
                let outcome = match error {
                    Error::Stopped { .. } => RunOutcome::Stopped,
                    _ => RunOutcome::Failed(error.to_string().lines().next().unwrap_or_default().to_owned()),
                };
                Self { outcome, exit_code: error.exit_code(), error: Some(error) }
            }
        }
    }
}

impl RunSummary {
    pub(crate) fn new() -> Self {
        Self {
            run_id: uuid::Uuid::now_v7().to_string(),
            started_at: Utc::now(),
            started: Instant::now(),
            store: OnceLock::new(),
            unreadable_files: AtomicUsize::new(0),
            extractor: OnceLock::new(),
            monitor: Arc::default(),
            totals: Mutex::default(),
            elsewhere: Mutex::default(),
        }
    }

    /// The run as a trace span, below the caller's span if there is one.
    pub(crate) fn span(&self, job: &Path) -> Span {
        let span = info_span!(
            "run",
            quarry.run_id = self.run_id,
            quarry.job = %job.display(),
            quarry.store = Empty,
            quarry.spec_id = Empty,
            quarry.device = Empty,
            quarry.precision = Empty,
            quarry.documents = Empty,
            quarry.mentions = Empty,
            quarry.rejects = Empty,
            quarry.tokens = Empty,
            quarry.outcome = Empty,
            process.exit.code = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        console::continue_caller(&span);
        span
    }

    /// Records the outcome in the run's span.
    pub(crate) fn record(&self, span: &Span, end: &RunEnd<'_>) {
        span.record("quarry.store", self.store.get());
        if let Some(extractor) = self.extractor() {
            let (totals, (device, precision)) = (self.totals(), self.device(extractor));
            span.record("quarry.spec_id", extractor.spec_id())
                .record("quarry.device", device)
                .record("quarry.precision", precision)
                .record("quarry.documents", totals.documents)
                .record("quarry.mentions", totals.mentions())
                .record("quarry.rejects", totals.rejected())
                .record("quarry.tokens", self.tokens());
        }
        span.record("quarry.outcome", end.outcome.word()).record("process.exit.code", end.exit_code);
        if let Some(error) = end.error {
            span.record("otel.status_code", "ERROR").record("otel.status_description", error.to_string());
        }
    }

    /// Records the loaded model. From here on, a signal stops the run only after finished documents are committed.
    pub(crate) fn begin(&self, extractor: &Arc<Extractor>) {
        self.monitor.start.add(self.started.elapsed());
        // Set once: a run starts once.
        let _ = self.extractor.set(Arc::clone(extractor));
    }

    /// Records the devices of an executor, and their precision.
    #[cfg(feature = "cluster")]
    pub(crate) fn ran_on(&self, devices: String, precision: String) {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.0.insert(devices);
        elsewhere.1.insert(precision);
    }

    /// The devices that extracted, and their precision: those of executors if any did, which may differ, else this process's.
    pub(crate) fn device(&self, extractor: &Extractor) -> (String, String) {
        let (here, elsewhere) = (extractor.selection(), self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner));
        if elsewhere.0.is_empty() {
            return (here.devices.to_string(), here.precision.to_string());
        }
        let all = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        (all(&elsewhere.0), all(&elsewhere.1))
    }

    /// Adds the totals of a commit.
    pub(crate) fn commit(&self, totals: &Totals) {
        self.locked().add(totals);
    }

    /// Subtracts rows of `documents`, and their mentions, that a later commit of this run has replaced.
    pub(crate) fn take(&self, documents: &[RecordBatch], mentions: &[RecordBatch]) -> Result<(), ArrowError> {
        let mut totals = self.locked();
        documents.iter().try_for_each(|rows| totals.take_documents(rows))?;
        mentions.iter().try_for_each(|rows| totals.take_mentions(rows))
    }

    /// Subtracts totals that were added before.
    pub(crate) fn take_totals(&self, totals: &Totals) {
        self.locked().take(totals);
    }

    /// The totals of what is committed.
    pub(crate) fn totals(&self) -> Totals {
        self.locked().clone()
    }

    /// Sets the live counters back to what is committed: the rows after it are read again.
    pub(crate) fn roll_back(&self) {
        let totals = self.locked();
        self.monitor.reset(totals.documents + totals.rejected(), totals.queries, totals.mentions());
    }

    fn locked(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the number of unreadable files known so far: reading can find more corrupt files.
    pub(crate) fn unreadable(&self, documents: &Documents) {
        self.unreadable_files.store(documents.unreadable.len(), Ordering::Relaxed);
    }

    fn unreadable_files(&self) -> u64 {
        self.unreadable_files.load(Ordering::Relaxed) as u64
    }

    /// The extractor that a signal stops; none before extraction starts.
    pub(crate) fn extractor(&self) -> Option<&Arc<Extractor>> {
        self.extractor.get()
    }

    fn tokens(&self) -> u64 {
        self.extractor().map_or(0, |extractor| Monitor::get(&extractor.scorer().counters().real_tokens))
    }

    fn mentions_by_type(&self) -> Vec<(&str, u64)> {
        let Some(extractor) = self.extractor() else { return Vec::new() };
        let (types, totals) = (&extractor.spec().schema.types, self.locked());
        let count = |name: &str| totals.by_type.get(name).map_or(0, |of| of.mentions);
        types.iter().map(|one| (one.name.as_str(), count(&one.name))).collect()
    }

    /// Rejects by reason, unreadable files included.
    fn rejects_by_reason(&self) -> Vec<(&'static str, u64)> {
        let totals = self.locked();
        let count = |reason: RejectReason| match reason {
            RejectReason::UnreadableFile => self.unreadable_files(),
            _ => totals.rejects.get(reason.as_str()).copied().unwrap_or(0),
        };
        RejectReason::ALL.into_iter().map(|reason| (reason.as_str(), count(reason))).collect()
    }

    /// The object that `--json` prints; every key is always present.
    pub(crate) fn json(&self, end: &RunEnd<'_>, dry_run: bool) -> Value {
        let seconds = self.started.elapsed().as_secs_f64();
        let totals = self.totals();
        let (documents, rejects, mentions) = (totals.documents, totals.rejected(), totals.mentions());
        let extractor = self.extractor();
        let (device, precision) = extractor.map(|extractor| self.device(extractor)).unzip();
        let rate = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        json!({
            "outcome": end.outcome.word(),
            "exit_code": end.exit_code,
            "error": end.error.map(error),
            "dry_run": dry_run,
            "run_id": self.run_id,
            "store": self.store.get(),
            "spec_id": extractor.map(|extractor| extractor.spec_id()),
            "device": device,
            "precision": precision,
            "started_at": self.started_at,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "documents": documents,
            "mentions": mentions,
            "mentions_by_type": object(self.mentions_by_type()),
            "rejects": rejects,
            "rejects_by_reason": object(self.rejects_by_reason()),
            "unreadable_files": self.unreadable_files(),
            "prompts_split": totals.split,
            "documents_per_second": rate(documents),
            "tokens_per_second": rate(self.tokens()),
        })
    }

    /// Writes the run's metrics as gauges, atomically. A failed run keeps the time of the last success.
    pub(crate) fn write_metrics(&self, path: &Path, end: &RunEnd<'_>) -> Result<()> {
        let mut text = PrometheusText::of(self.store.get().map(String::as_str));
        let now = Utc::now().timestamp();
        let succeeded = matches!(end.outcome, RunOutcome::Done | RunOutcome::Limited) && matches!(end.exit_code, 0 | 3);
        let documents = self.totals().documents;
        let tokens = self.tokens();
        let seconds = self.started.elapsed().as_secs_f64();
        text.one("exit_code", "Exit code of the last run.", end.exit_code);
        let start = self.started_at.timestamp();
        text.one("start_time_seconds", "Start time of the last run, in seconds since 1970.", start);
        text.one("end_time_seconds", "End time of the last run, in seconds since 1970.", now);
        let help = "End time of the last run with exit code 0 or 3, in seconds since 1970.";
        let name = "last_success_time_seconds";
        if succeeded {
            text.one(name, help, now);
        } else {
            // If the job cannot be read, its store is unknown: then every store's last success is kept.
            text.copy_earlier(name, help, path);
        }
        text.one("duration_seconds", "Duration of the last run.", seconds);
        text.one("documents", "Documents extracted by the last run.", documents);
        let help = "Documents and files rejected by the last run, by reason.";
        text.many("rejects", help, "reason", &self.rejects_by_reason());
        text.many("mentions", "Mentions found by the last run, by entity type.", "type", &self.mentions_by_type());
        let help = "Windows whose prompt the last run split, because it would have pushed the text out.";
        text.one("prompts_split", help, self.totals().split);
        text.one("tokens", "Tokens processed by the last run's model, without padding.", tokens);
        if let Some(extractor) = self.extractor() {
            let help = "Time the last run spent in a stage, summed over all threads.";
            text.many("stage_seconds", help, "stage", &extractor.stages(&self.monitor));
        }
        text.write(path)
    }
}

/// An error as JSON: message, causes, hint.
fn error(error: &Error) -> Value {
    json!({ "message": error.to_string(), "causes": error.causes(), "hint": error.hint() })
}

fn object(pairs: Vec<(&str, u64)>) -> Value {
    pairs
        .into_iter()
        .map(|(name, count)| (name.to_owned(), Value::from(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_time_of_the_last_success() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarry.prom");
        let summary = RunSummary::new();
        summary.store.set("a \"store\"\\".into()).unwrap();
        let value = |name: &str| -> Option<f64> {
            let text = std::fs::read_to_string(&path).unwrap();
            let begin = format!("quarry_run_{name}{{store=\"a \\\"store\\\"\\\\\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok())
        };
        let failed = RunEnd { outcome: RunOutcome::Failed(String::new()), exit_code: 2, error: None };
        summary.write_metrics(&path, &failed).unwrap();
        assert_eq!((value("exit_code"), value("last_success_time_seconds")), (Some(2.0), None));
        summary.write_metrics(&path, &RunEnd { outcome: RunOutcome::Done, exit_code: 0, error: None }).unwrap();
        let success = value("last_success_time_seconds").unwrap();
        summary.write_metrics(&path, &failed).unwrap();
        assert_eq!((value("exit_code"), value("last_success_time_seconds")), (Some(2.0), Some(success)));
        // A run whose store is unknown keeps it, too. A run on another store does not take it over.
        RunSummary::new().write_metrics(&path, &failed).unwrap();
        assert_eq!((value("exit_code"), value("last_success_time_seconds")), (None, Some(success)));
        let elsewhere = RunSummary::new();
        elsewhere.store.set("elsewhere".into()).unwrap();
        elsewhere.write_metrics(&path, &failed).unwrap();
        assert_eq!(value("last_success_time_seconds"), None);
        // Every metric is declared before its value.
        let text = std::fs::read_to_string(&path).unwrap();
        let figures = text.lines().filter(|line| !line.starts_with('#'));
        for name in figures.filter_map(|line| line.split('{').next()) {
            assert!(text.contains(&format!("# TYPE {name} gauge\n")), "{name}");
        }
    }

    #[test]
    fn the_object_has_every_key_before_extraction_starts() {
        let ended = Err(Error::Stopped { signal: "SIGTERM", exit_code: 143 });
        let object = RunSummary::new().json(&RunEnd::of(&ended), false);
        assert_eq!((object["outcome"].as_str(), object["exit_code"].as_u64()), (Some("stopped"), Some(143)));
        assert_eq!(object["error"]["message"], "stopped by SIGTERM");
        assert_eq!(object["rejects_by_reason"].as_object().unwrap().len(), RejectReason::ALL.len());
        assert!(object["store"].is_null() && object["spec_id"].is_null() && object["documents"] == 0);
    }
}

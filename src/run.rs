//! `quarry run`: extracts a job's documents into its store. In: a job file. Out: new rows in the store's tables, a run summary, an exit
//! code. It must not leave partial results: rows outside a commit are invisible.

#[cfg(feature = "cluster")]
mod cluster;
mod commit;
mod exit_code;
mod extract;
mod failure;
mod known;
mod preflight;
mod preview;
mod settings;
mod signals;
mod state;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tracing::{Instrument as _, info_span};

use crate::console;
use crate::console::Style;
use crate::error::{Error, Result};
use crate::sanitize::without_secrets;
use crate::tables;
use crate::tables::{RunOutcome, Table};

use crate::run::exit_code::{Ended, announce, ended};
use crate::run::known::rejects;
use crate::run::preflight::Preflight;
use crate::run::preview::dry_run;
use crate::run::preview::explain::explain;
use crate::run::settings::RunSettings;

pub use crate::run::settings::{Mode, Settings};
use crate::run::state::Run;
use crate::run::summary::prometheus::check_folder;
use crate::run::summary::run_summary::{RunEnd, RunSummary};

/// Files that no Delta log refers to can belong to a writer that is still active until they are this old.
const ABANDONED: Duration = Duration::from_hours(24);

/// Runs a job and reports its outcome.
pub fn run(settings: &Settings, style: Style, runtime: Runtime) -> Result<u8> {
    let summary = Arc::new(RunSummary::new());
    let span = summary.span(&settings.job);
    let ended = span.in_scope(|| start(settings, style, runtime, &summary));
    let end = RunEnd::of(&ended);
    summary.record(&span, &end);
    drop(span);
    if settings.json && settings.mode != Mode::Explain {
        console::print_json(&format!("{:#}", summary.json(&end, settings.mode == Mode::DryRun)));
    }
    if let Some(path) = settings.metrics_file.as_deref().filter(|_| settings.mode == Mode::Run)
        && check_folder(path).is_ok()
        && let Err(error) = summary.write_metrics(path, &end)
    {
        // A missing metrics file does not change the outcome of the run.
        tracing::warn!("{}", error.report());
    }
    match ended? {
        Ended::Done(code) | Ended::Limited(code) => Ok(code),
        Ended::Stopped => {
            Err(Error::Engine { doing: "finish the run".into(), source: "it was stopped without a signal".into() })
        }
    }
}

fn start(settings: &Settings, style: Style, runtime: Runtime, summary: &Arc<RunSummary>) -> Result<Ended> {
    let run = settings.read_job()?;
    // The store is set once: a summary belongs to one job.
    let _ = summary.store.set(without_secrets(&run.job.file.store.path).into_owned());
    settings.metrics_file.as_deref().map_or(Ok(()), check_folder)?;
    // Its own task, so that signals are handled while it loads a model or waits for a download.
    let work = runtime.spawn(work(run, style, Arc::clone(summary)).in_current_span());
    let ended = runtime.block_on(signals::end(work, summary));
    // Do not wait for threads that are blocked on a session.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

async fn work(settings: RunSettings, style: Style, summary: Arc<RunSummary>) -> Result<Ended> {
    let preflight = Preflight::new(&settings, &summary).await?;
    match settings.mode {
        Mode::Explain => explain(preflight, &settings).await.map(|()| Ended::Done(0)),
        Mode::DryRun => dry_run::run(preflight, &settings, style, &summary).await,
        Mode::Run => run_job(preflight, settings, style, summary).await,
    }
}

async fn run_job(preflight: Preflight, settings: RunSettings, style: Style, summary: Arc<RunSummary>) -> Result<Ended> {
    let Preflight { context, store, lock, extractor, ledger, documents, files_done, replaces, .. } = preflight;
    let store = store.ok_or_else(|| failure::failed("open the store", "the preflight of a run opens it"))?;
    // Held until the run has ended.
    let _lock = lock;
    let mut run = Run { context, documents, extractor, store, ledger, replaces, settings, summary };
    let interrupted = run.store.mark_interrupted(&run.summary.run_id).await?;
    if interrupted > 0 {
        tracing::info!("{interrupted} earlier run(s) did not finish; this run resumes after their last commit");
    }
    let started = run.row(RunOutcome::Running)?;
    run.store.begin_run(&started).await?;
    let result = run.execute(style, files_done).await;
    let recorded = match run.row(RunEnd::of(&result).outcome) {
        Ok(row) => run.store.end_run(&row).await,
        Err(error) => Err(error),
    };
    // The failure of the run takes precedence over the failure to record it.
    let ended = result?;
    recorded?;
    Ok(ended)
}

impl Run {
    /// Extracts and commits new documents, writes metrics, optimizes the tables.
    async fn execute(&mut self, style: Style, skipped: usize) -> Result<Ended> {
        // Before the first message: a user or supervisor that reads it can already stop the run.
        self.summary.begin(&self.extractor);
        announce(&self.settings, &self.extractor, &self.documents, skipped);
        self.summary.unreadable(&self.documents);
        let before = self.store.last_commit();
        let reached = self.extract(style).instrument(info_span!("extract")).await?;
        let committed = self.store.last_commit() != before;
        self.store.catch_up(&Table::ALL).await?;
        let (figures, scored) = self.figures().instrument(info_span!("gather figures")).await;
        if committed {
            let rows = tables::metric_rows(&figures.rows(self.id()));
            let rows =
                rows.map_err(|source| Error::Engine { doing: "write the metrics".into(), source: source.into() })?;
            self.store.append(Table::Metrics, &rows, &self.summary.run_id).await?;
        }
        if reached == extract::Reached::Stop {
            return Ok(Ended::Stopped);
        }
        if committed {
            self.maintain().instrument(info_span!("optimize and vacuum")).await;
        }
        if !self.settings.json {
            console::print(&figures.summary(&self.store.location().to_string()));
        }
        if self.settings.profile && !self.settings.json {
            console::print(&figures.profile(&self.extractor, &self.summary.monitor));
        }
        // The extracted rows are committed: only the scores are missing.
        scored?;
        let (limit, spec_id) = (self.settings.job.max_rejects, self.extractor.spec_id());
        let rejected = rejects::exceed(&self.context, &self.store, &mut self.ledger, spec_id, limit).await?;
        Ok(ended(&self.documents, rejected, reached == extract::Reached::Limit))
    }

    /// Optimizes tables of many small files and vacuums files that killed runs left. All rows are committed already, so a failure is
    /// only a warning.
    async fn maintain(&mut self) {
        for table in Table::ALL {
            if let Err(error) = self.store.optimize(table, &self.summary.run_id).await {
                tracing::warn!("{}", error.report());
            }
        }
        if let Err(error) = self.store.vacuum(ABANDONED).await {
            tracing::warn!("{}", error.report());
        }
    }
}

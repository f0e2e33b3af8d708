//! `quarry run`: extracts a job's documents into its store. In: a job file. Out: new rows in the store's tables, a run summary, an exit
//! code. It must not leave partial results: rows outside a commit are invisible.

mod commit;
mod extract;
mod failure;
mod known;
mod outcome;
mod preview;
mod signals;
mod state;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument as _, info_span};

use crate::cli::RunArgs;
use crate::console;
use crate::console::Style;
use crate::error::{Error, Result};
use crate::extract::marks::Marks;
use crate::job::Job;
use crate::query::session::{SessionSettings, register_store, session};
use crate::source::input::Documents;
use crate::source::listing::Listing;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::lock::StoreLock;
use crate::tables;
use crate::tables::Table;

use crate::run::known::ledger::Ledger;
use crate::run::known::specification;
use crate::run::outcome::{Ended, announce, ended};
use crate::run::preview::dry_run;
use crate::run::preview::explain::explain;
use crate::run::preview::preflight::{Preflight, load};
use crate::run::state::Run;
use crate::run::summary::prometheus::check_folder;
use crate::run::summary::run_summary::{Loaded, RunOutcome, RunSummary};

/// Rows per batch of the scan: few, because texts can be long.
const SCAN_ROWS: usize = 256;
/// Memory limit in bytes of sorts and joins over ids before they spill to disk.
const QUERY_BYTES: usize = 256 << 20;
/// Files that no Delta log refers to can belong to a writer that is still active until they are this old.
const ABANDONED: Duration = Duration::from_hours(24);

/// Runs a job and reports its outcome.
pub fn run(arguments: &RunArgs, style: Style) -> Result<u8> {
    let summary = Arc::new(RunSummary::new());
    let span = summary.span(arguments);
    let ended = span.in_scope(|| start(arguments, style, &summary));
    let outcome = RunOutcome::of(&ended);
    summary.record(&span, &outcome);
    drop(span);
    if arguments.json && !arguments.explain {
        console::print(&format!("{:#}", summary.json(&outcome, arguments.dry_run)));
    }
    if let Some(path) = arguments.metrics_file.as_deref().filter(|_| !arguments.explain && !arguments.dry_run)
        && check_folder(path).is_ok()
        && let Err(error) = summary.write_metrics(path, &outcome)
    {
        // A missing metrics file does not change the outcome of the run.
        console::warn(&console::render(&error));
    }
    match ended? {
        Ended::Done(code) | Ended::Limited(code) => Ok(code),
        Ended::Stopped => {
            Err(Error::Engine { doing: "finish the run".into(), source: "it was stopped without a signal".into() })
        }
    }
}

fn start(arguments: &RunArgs, style: Style, summary: &Arc<RunSummary>) -> Result<Ended> {
    let job = Job::read(&arguments.job, &arguments.set)?;
    // The store is set once: a summary belongs to one job.
    let _ = summary.store.set(job.file.store.path.clone());
    arguments.metrics_file.as_deref().map_or(Ok(()), check_folder)?;
    let failed = |source: std::io::Error| Error::Engine { doing: "start the runtime".into(), source: source.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    // Its own task, so that signals are handled while it loads a model or waits for a download.
    let work = runtime.spawn(work(job, arguments.clone(), style, Arc::clone(summary)).in_current_span());
    let ended = runtime.block_on(signals::end(work, summary));
    // Do not wait for threads that are blocked on a session.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

async fn work(job: Job, arguments: RunArgs, style: Style, summary: Arc<RunSummary>) -> Result<Ended> {
    let (id, started_at, started) = (summary.run_id.clone(), summary.started_at, summary.started);
    let settings =
        SessionSettings { batch_rows: Some(SCAN_ROWS), memory_bytes: Some(QUERY_BYTES), ..SessionSettings::default() };
    let context = session(&settings)?;
    let listing = Listing::find(&context, &job.input.documents).instrument(info_span!("list the input")).await?;
    let location = StoreLocation::parse(&job.file.store.path)?;
    if arguments.explain || arguments.dry_run {
        let preflight = Preflight::new(context, &job, listing, location, &id, &arguments).await?;
        return if arguments.explain {
            explain(preflight, &job, arguments.json).await.map(|()| Ended::Done(0))
        } else {
            dry_run::run(preflight, &job, style, &summary, &arguments).await
        };
    }
    // Errors in the input of a new store are reported before the store is created.
    let (id_type, inspected) = if let Some(id_type) = Store::id_type_at(&location).await? {
        (id_type, None)
    } else {
        let documents = Documents::inspect(&context, job.input.clone(), listing.clone(), 0).await?;
        (documents.id_type.clone(), Some(documents))
    };
    // An existing store refuses a second run immediately. A new store is created only for a job that can run.
    let lock = if inspected.is_none() { Some(StoreLock::acquire(&location, &id)?) } else { None };
    job.check_gold(&context).await?;
    let ready = load(&job)?;
    let _lock = match lock {
        Some(lock) => lock,
        None => StoreLock::acquire(&location, &id)?,
    };
    let mut store = Store::open(location, id_type).instrument(info_span!("open the store")).await?;
    if let Some(number) = store.incomplete_commit() {
        console::warn(&format!("a killed run left commit {number} incomplete; removing it"));
        store.roll_back_incomplete_commit(&id).await?;
    }
    register_store(&context, &store).await?;
    let mut ledger = Ledger::read(&context, &store, &id, &ready.spec_id, &job.input).await?;
    let replaces = specification::check(&context, &store, &ready, arguments.replace).await?;
    let (listing, done) = ledger.skip_done(listing);
    let documents = match inspected {
        Some(documents) if done == 0 => documents,
        _ => Documents::inspect(&context, job.input.clone(), listing, done).await?,
    };
    if !documents.files.is_empty() {
        store.expect_ids(&documents.id_type)?;
    }
    let marks = Arc::new(Marks::new(&ready.extractor.counters));
    let mut run = Run { id, started_at, started, context, documents, ready, marks, store, ledger, replaces, arguments };
    let interrupted = run.store.mark_interrupted(&run.id).await?;
    if interrupted > 0 {
        console::note(&format!(
            "{interrupted} earlier run(s) did not finish; this run resumes after their last commit"
        ));
    }
    let started = run.row(&job, "running")?;
    run.store.begin_run(&started).await?;
    let result = run.execute(&job, style, done, &summary).await;
    let outcome = match &result {
        Ok(Ended::Done(_)) => "done".to_owned(),
        Ok(Ended::Limited(_)) => "limited".to_owned(),
        Ok(Ended::Stopped) => "stopped".to_owned(),
        Err(error) => format!("failed: {}", error.to_string().lines().next().unwrap_or_default()),
    };
    let recorded = match run.row(&job, &outcome) {
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
    async fn execute(&mut self, job: &Job, style: Style, skipped: usize, summary: &RunSummary) -> Result<Ended> {
        // Before the first message: a user or supervisor that reads it can already stop the run.
        summary.begin(Loaded::of(&self.ready));
        announce(job, &self.ready, &self.documents, skipped);
        summary.unreadable(&self.documents);
        let before = self.store.last_commit();
        let reached = self.extract(job, style, summary).instrument(info_span!("extract")).await?;
        let committed = self.store.last_commit() != before;
        self.store.catch_up(&Table::ALL).await?;
        let (figures, scored) = self.figures(job).instrument(info_span!("gather figures")).await;
        if committed {
            let rows = tables::metric_rows(&figures.rows(&self.id));
            let rows =
                rows.map_err(|source| Error::Engine { doing: "write the metrics".into(), source: source.into() })?;
            self.store.append(Table::Metrics, &rows, &self.id).await?;
        }
        if reached == extract::Reached::Stop {
            return Ok(Ended::Stopped);
        }
        if committed {
            self.maintain().instrument(info_span!("optimize and vacuum")).await;
        }
        if !self.arguments.json {
            console::print(&figures.summary(&self.store.location().to_string(), &self.ready));
        }
        if self.arguments.profile.is_some() && !self.arguments.json {
            console::print(&figures.profile(&self.ready));
        }
        // The extracted rows are committed: only the scores are missing.
        scored?;
        Ok(ended(job, &self.ready, &self.documents, reached == extract::Reached::Limit))
    }

    /// Optimizes tables of many small files and vacuums files that killed runs left. All rows are committed already, so a failure is
    /// only a warning.
    async fn maintain(&mut self) {
        for table in Table::ALL {
            if let Err(error) = self.store.optimize(table, &self.id).await {
                console::warn(&console::render(&error));
            }
        }
        if let Err(error) = self.store.vacuum(ABANDONED).await {
            console::warn(&console::render(&error));
        }
    }
}

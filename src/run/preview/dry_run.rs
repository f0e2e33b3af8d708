//! `--dry-run`: a run that writes nothing. In: the preflight of a run. Out: counted mentions, and the run summary. It must not write to
//! the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::cli::RunArgs;
use crate::console;
use crate::console::{ProgressDisplay, Style};
use crate::error::Result;
use crate::extract::known_documents::KnownDocuments;
use crate::extract::marks::Marks;
use crate::job::Job;
use crate::run::commit::Position;
use crate::run::extract::{chunks, progress, reading_plan};
use crate::run::failure::run_error;
use crate::run::known::documents::known;
use crate::run::outcome::{Ended, announce, ended};
use crate::run::preview::preflight::Preflight;
use crate::run::summary::figures::Figures;
use crate::run::summary::run_summary::{Loaded, RunSummary};
use crate::source::chunk::Chunk;

/// Extracts the documents that a run would extract, and discards the rows.
pub(crate) async fn run(
    mut preflight: Preflight,
    job: &Job,
    style: Style,
    summary: &RunSummary,
    arguments: &RunArgs,
) -> Result<Ended> {
    if let Some(refusal) = preflight.refusal.take() {
        return Err(refusal);
    }
    if let Some(commit) = preflight.incomplete_commit() {
        console::warn(&format!("{commit}; a run would remove it first"));
    }
    announce(job, &preflight.ready, &preflight.documents, preflight.files_done);
    if job.file.input.gold.is_some() {
        console::note("a dry run computes no scores: they are computed from the store's tables");
    }
    summary.begin(Loaded::of(&preflight.ready));
    summary.unreadable(&preflight.documents);
    let mut display = ProgressDisplay::new(style, None);
    let commit_documents = job.file.store.commit_documents;
    let from = |preflight: &Preflight, reached: Position| {
        chunks(
            &preflight.documents,
            &preflight.ready,
            preflight.finished_rows(),
            commit_documents,
            preflight.limit,
            reached,
        )
    };
    let mut remaining = from(&preflight, Position::default());
    while let Some(chunk) = remaining.next() {
        let before = Marks::new(&preflight.ready.extractor.counters);
        let extracted = extract(&preflight, &chunk, &mut display, summary).await;
        if preflight.ready.extractor.stop.load(Ordering::Relaxed) {
            display.finish();
            return extracted.map(|()| Ended::Stopped);
        }
        if let Err(error) = extracted {
            // Rows that are read again are counted again.
            before.roll_back(&preflight.ready.extractor.counters);
            preflight.exclude_corrupt(error, &chunk).await?;
            summary.unreadable(&preflight.documents);
            let first = chunk.ranges.first().map(|range| Position { file: range.file, row: range.rows.start });
            remaining = from(&preflight, first.unwrap_or_default());
        }
    }
    display.finish();
    let figures = Figures::gather(&preflight.ready, preflight.documents.unreadable.len(), summary.started.elapsed());
    if !arguments.json {
        console::print(&figures.summary("none: nothing was written", &preflight.ready));
    }
    if arguments.profile.is_some() && !arguments.json {
        console::print(&figures.profile(&preflight.ready));
    }
    Ok(ended(job, &preflight.ready, &preflight.documents, preflight.limit.is_some()))
}

async fn extract(
    preflight: &Preflight,
    chunk: &Chunk,
    display: &mut ProgressDisplay,
    summary: &RunSummary,
) -> Result<()> {
    let Preflight { context, documents, ready, ledger, .. } = preflight;
    let known = match &preflight.store {
        Some(store) if ledger.has_documents() => known(context, documents, chunk, store, &ready.spec_id).await?,
        _ => HashMap::new(),
    };
    let known_documents = Arc::new(KnownDocuments::new(known, Arc::clone(&preflight.replaced)));
    let plan = reading_plan(context, documents, ready, chunk, known_documents, None).await?;
    let mut rows = execute_stream(plan, context.task_ctx()).map_err(run_error)?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            next = rows.next() => match next {
                // The operators have counted it.
                Some(batch) => drop(batch.map_err(run_error)?),
                None => return Ok(()),
            },
            _ = tick.tick() => display.show(&progress(ready, None, summary.started.elapsed())),
        }
    }
}

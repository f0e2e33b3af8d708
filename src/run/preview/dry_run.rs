//! `--dry-run`: a run that writes nothing. In: what a run would find. Out: mentions that are counted and forgotten,
//! and the closing table. It may not touch the store but to read what is done.

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
use crate::extract::extract_exec::Marks;
use crate::extract::ledger_hashes::Admission;
use crate::job::Job;
use crate::run::commit::Position;
use crate::run::extract::{chunks, progress, reading_plan};
use crate::run::failure::run_error;
use crate::run::known::documents::known;
use crate::run::outcome::{Ended, announce, ended};
use crate::run::preview::preflight::Outlook;
use crate::run::summary::figures::Figures;
use crate::run::summary::run_summary::{Account, Loaded};
use crate::source::chunk::Chunk;

/// Extracts what a run would extract.
pub(crate) async fn run(
    mut outlook: Outlook,
    job: &Job,
    style: Style,
    account: &Account,
    arguments: &RunArgs,
) -> Result<Ended> {
    if let Some(refusal) = outlook.refusal.take() {
        return Err(refusal);
    }
    if let Some(commit) = outlook.half_done() {
        console::warn(&format!("{commit}; a run would remove it first"));
    }
    announce(job, &outlook.ready, &outlook.documents, outlook.files_done);
    if job.file.input.gold.is_some() {
        console::note("scores are left out: they are taken from the store, and nothing is written there");
    }
    account.begin(Loaded::of(&outlook.ready));
    account.unreadable(&outlook.documents);
    let mut display = ProgressDisplay::new(style, None);
    let commit_documents = job.file.store.commit_documents;
    let from = |outlook: &Outlook, reached: Position| {
        chunks(&outlook.documents, &outlook.ready, outlook.begun(), commit_documents, outlook.limit, reached)
    };
    let mut left = from(&outlook, Position::default());
    while let Some(chunk) = left.next() {
        let before = Marks::new(&outlook.ready.extractor.counters);
        let extracted = extract(&outlook, &chunk, &mut display, account).await;
        if outlook.ready.extractor.stop.load(Ordering::Relaxed) {
            display.finish();
            return extracted.map(|()| Ended::Stopped);
        }
        if let Err(error) = extracted {
            // What is read again is counted again.
            before.take_back(&outlook.ready.extractor.counters);
            outlook.without_broken(error, &chunk).await?;
            account.unreadable(&outlook.documents);
            let first = chunk.ranges.first().map(|range| Position { file: range.file, row: range.rows.start });
            left = from(&outlook, first.unwrap_or_default());
        }
    }
    display.finish();
    let figures = Figures::gather(&outlook.ready, outlook.documents.unreadable.len(), account.started.elapsed());
    if !arguments.json {
        console::print(&figures.summary("none: nothing was written", &outlook.ready));
    }
    if arguments.profile.is_some() && !arguments.json {
        console::print(&figures.profile(&outlook.ready));
    }
    Ok(ended(job, &outlook.ready, &outlook.documents, outlook.limit.is_some()))
}

async fn extract(outlook: &Outlook, chunk: &Chunk, display: &mut ProgressDisplay, account: &Account) -> Result<()> {
    let Outlook { context, documents, ready, ledger, .. } = outlook;
    let known = match &outlook.store {
        Some(store) if ledger.has_documents() => known(context, documents, chunk, store, &ready.spec_id).await?,
        _ => HashMap::new(),
    };
    let admission = Arc::new(Admission::new(known, Arc::clone(&outlook.replaced)));
    let plan = reading_plan(context, documents, ready, chunk, admission, None).await?;
    let mut rows = execute_stream(plan, context.task_ctx()).map_err(run_error)?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            next = rows.next() => match next {
                // The counters have seen it.
                Some(batch) => drop(batch.map_err(run_error)?),
                None => return Ok(()),
            },
            _ = tick.tick() => display.show(&progress(ready, None, account.started.elapsed())),
        }
    }
}

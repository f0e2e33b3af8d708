//! `--dry-run`: a run that writes nothing. In: the preflight of a run. Out: counted mentions, and the run summary. It must not write to
//! the store.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::console;
use crate::console::{ProgressDisplay, Style};
use crate::error::{Error, Result};
use crate::extract::extract_exec::Extract;
use crate::extract::known_documents::LedgerHashes;
use crate::job::plan::reading_plan;
use crate::run::commit::Position;
use crate::run::exit_code::{Ended, announce, ended};
use crate::run::extract::{chunks, progress};
use crate::run::failure::run_error;
use crate::run::known::documents::known;
use crate::run::preflight::{Preflight, Preview};
use crate::run::settings::RunSettings;
use crate::run::summary::figures::Figures;
use crate::run::summary::run_summary::RunSummary;
use crate::source::chunk::Chunk;
use crate::tables::Totals;

/// Extracts the documents that a run would extract, and discards the rows.
pub(crate) async fn run(
    mut preflight: Preflight,
    settings: &RunSettings,
    style: Style,
    summary: &RunSummary,
) -> Result<Ended> {
    if let Some(refusal) = preflight.refusal.take() {
        return Err(refusal);
    }
    let mut preview = preflight.look_ahead(settings.limit).await?;
    if let Some(commit) = preview.incomplete_commit() {
        tracing::warn!("{commit}; a run would remove it first");
    }
    let extractor = Arc::clone(&preview.preflight.extractor);
    announce(&settings.job, &extractor, &preview.preflight.documents, preview.preflight.files_done);
    if settings.job.file.input.gold.is_some() {
        tracing::info!("a dry run computes no scores: they are computed from the store's tables");
    }
    summary.begin(&extractor);
    summary.unreadable(&preview.preflight.documents);
    let mut display = ProgressDisplay::new(style, None);
    let commit_documents = settings.job.file.store.commit_documents;
    let from = |preview: &Preview, reached: Position| {
        let documents = &preview.preflight.documents;
        chunks(documents, &extractor, preview.finished_rows(), commit_documents, preview.limit, reached)
    };
    let mut remaining = from(&preview, Position::default());
    while let Some(chunk) = remaining.next() {
        let extracted = extract(&preview, settings, &chunk, &mut display, summary).await;
        if let Ok(totals) = &extracted {
            summary.commit(totals);
        }
        if summary.monitor.is_stopped() {
            display.finish();
            return extracted.map(|_| Ended::Stopped);
        }
        match extracted {
            Ok(_) => {}
            Err(error) => {
                // Rows that are read again are counted again.
                summary.roll_back();
                preview.exclude_corrupt(error, &chunk).await?;
                summary.unreadable(&preview.preflight.documents);
                let first = chunk.ranges.first().map(|range| Position { file: range.file, row: range.rows.start });
                remaining = from(&preview, first.unwrap_or_default());
            }
        }
    }
    display.finish();
    let documents = &preview.preflight.documents;
    let figures = Figures::gather(&extractor, summary, documents.unreadable.len());
    if !settings.json {
        console::print(&figures.summary("none: nothing was written", &extractor));
    }
    if settings.profile && !settings.json {
        console::print(&figures.profile(&extractor, &summary.monitor));
    }
    Ok(ended(&settings.job, &summary.totals(), documents, preview.limit.is_some()))
}

/// Extracts a chunk and returns its totals.
async fn extract(
    preview: &Preview,
    settings: &RunSettings,
    chunk: &Chunk,
    display: &mut ProgressDisplay,
    summary: &RunSummary,
) -> Result<Totals> {
    let Preflight { context, documents, extractor, ledger, store, .. } = &preview.preflight;
    let known = match store {
        Some(store) if ledger.has_documents() => known(context, documents, chunk, store, extractor.spec_id()).await?,
        _ => LedgerHashes::new(),
    };
    let extract = Extract { spec: extractor.spec().clone(), runtime: settings.job.runtime.clone() };
    let plan = reading_plan(documents, chunk, known, &preview.replaced, extract).map_err(run_error)?;
    let mut rows = execute_stream(plan, context.task_ctx()).map_err(run_error)?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut totals = Totals::default();
    let miscounted =
        |source: arrow::error::ArrowError| Error::Engine { doing: "count the documents".into(), source: source.into() };
    loop {
        tokio::select! {
            next = rows.next() => match next {
                Some(batch) => totals.add_documents(&batch.map_err(run_error)?).map_err(miscounted)?,
                None => return Ok(totals),
            },
            _ = tick.tick() => {
                display.show(&progress(extractor, &summary.monitor, None, summary.started.elapsed()));
            }
        }
    }
}

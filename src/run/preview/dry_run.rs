//! `--dry-run`: a run that writes nothing. In: the preflight of a run. Out: counted mentions, and the run summary. It must not write to
//! the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::console;
use crate::console::{ProgressDisplay, Style};
use crate::error::{Error, Result};
use crate::extract::extract_exec::Extract;
use crate::extract::known_documents::{KnownDocuments, digest, digest_of};
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
use crate::source::operator::read_counts::ReadCounts;
use crate::tables::Totals;
use crate::text::document::RejectReason;

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
    announce(settings, &extractor, &preview.preflight.documents, preview.preflight.files_done);
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
    let mut accepted = Accepted::default();
    while let Some(chunk) = remaining.next() {
        let extracted = extract(&preview, settings, &chunk, &mut display, summary, &accepted).await;
        let ended = extracted.as_ref().is_ok_and(|(_, _, ended)| *ended);
        let extracted = extracted.map(|(totals, newest, _)| {
            summary.commit(&totals.added);
            summary.take_totals(&totals.taken);
            accepted.extend(newest);
        });
        if summary.monitor.is_stopped() {
            display.finish();
            return extracted.map(|()| Ended::Stopped);
        }
        match extracted {
            // Only a read file of unknown length shows whether it has rows after the chunk.
            Ok(()) if chunk.is_part_of_unknown(&preview.preflight.documents.files) => {
                let last = chunk.ranges.last().map(|range| (range.file, range.rows.end)).unwrap_or_default();
                let next = if ended { (last.0 + 1, 0) } else { last };
                remaining = from(&preview, Position { file: next.0, row: next.1 });
            }
            Ok(()) => {}
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
        console::print(&figures.summary("none: nothing was written"));
    }
    if settings.profile && !settings.json {
        console::print(&figures.profile(&extractor, &summary.monitor));
    }
    let totals = summary.totals();
    let rejected = settings.job.max_rejects.exceeded(totals.rejected(), totals.rejected() + totals.documents);
    Ok(ended(documents, rejected, preview.limit.is_some()))
}

/// The text and the totals of the newest accepted row of each repeated id, by the digest of the id.
type Accepted = HashMap<u128, (u128, Totals)>;

/// What a chunk adds to the totals, and what its rows take from them, because they replace earlier rows.
#[derive(Debug, Default)]
struct Change {
    added: Totals,
    taken: Totals,
}

/// Extracts a chunk. Returns its totals, its newest accepted rows, and whether a file of unknown length ended in it.
async fn extract(
    preview: &Preview,
    settings: &RunSettings,
    chunk: &Chunk,
    display: &mut ProgressDisplay,
    summary: &RunSummary,
    accepted: &Accepted,
) -> Result<(Change, Accepted, bool)> {
    let Preflight { context, documents, extractor, ledger, store, .. } = &preview.preflight;
    let known = match store {
        Some(store) => known(context, documents, chunk, store, extractor.spec_id(), ledger).await?,
        None => KnownDocuments::default(),
    };
    let extract = Extract { spec: extractor.spec().clone(), runtime: settings.job.runtime.clone() };
    let plan = reading_plan(documents, chunk, known, extract).map_err(run_error)?;
    let mut rows = execute_stream(Arc::clone(&plan), context.task_ctx()).map_err(run_error)?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let (mut change, mut newest) = (Change::default(), Accepted::new());
    let miscounted =
        |source: arrow::error::ArrowError| Error::Engine { doing: "count the documents".into(), source: source.into() };
    loop {
        tokio::select! {
            next = rows.next() => match next {
                Some(batch) => {
                    let batch = batch.map_err(run_error)?;
                    count(&batch, &preview.repeated, accepted, &mut newest, &mut change).map_err(miscounted)?;
                }
                None => break,
            },
            _ = tick.tick() => {
                display.show(&progress(extractor, &summary.monitor, None, summary.started.elapsed()));
            }
        }
    }
    let last = chunk.ranges.last().filter(|_| chunk.is_part_of_unknown(&documents.files));
    let read = ReadCounts::of(&plan).rows;
    let ended = last.is_some_and(|last| {
        let location = documents.files[last.file].meta.location.as_ref();
        read.get(location).copied().unwrap_or(0) < last.rows.end
    });
    Ok((change, newest, ended))
}

/// Counts the rows of a batch as a run would: a row replaces an earlier one with its id and another text, and is done if it has the same.
fn count(
    batch: &RecordBatch,
    repeated: &HashSet<u128>,
    accepted: &Accepted,
    newest: &mut Accepted,
    change: &mut Change,
) -> Result<(), ArrowError> {
    let ids: ArrayRef = cast(&batch["doc_id"], &DataType::Utf8)?;
    let (ids, reasons) = (ids.as_string::<i32>(), batch["reason"].as_string::<i32>());
    let (hashes, in_force) = (batch["content_hash"].as_string::<i32>(), batch["in_force"].as_string::<i32>());
    let mut counted = vec![true; batch.num_rows()];
    for (row, counted) in counted.iter_mut().enumerate() {
        if reasons.is_valid(row) || ids.is_null(row) {
            continue;
        }
        let (id, text) = (digest(ids.value(row)), digest_of(hashes.value(row)));
        if !repeated.contains(&id) {
            continue;
        }
        let earlier = newest.get(&id).or_else(|| accepted.get(&id));
        let known = in_force.is_valid(row).then(|| digest_of(in_force.value(row)));
        if earlier.map(|(text, _)| *text).or(known) == Some(text) {
            *counted = false;
            continue;
        }
        if let Some((_, totals)) = earlier {
            change.taken.add(totals);
            change.added.reject(RejectReason::DuplicateId, 1);
        }
        let mut totals = Totals::default();
        totals.add_documents(&batch.slice(row, 1))?;
        newest.insert(id, (text, totals));
    }
    change.added.add_documents(&filter_record_batch(batch, &counted.into())?)
}

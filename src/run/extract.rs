//! Extraction, chunk by chunk. In: the documents still to be extracted. Out: commits of whole slices in file order, so that one row of
//! one file describes how far the store is. It must not commit out of order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::console::{Progress, ProgressDisplay, Style};
use crate::error::Result;
use crate::extract::counters::Counters;
use crate::extract::extract_exec::ExtractExec;
use crate::extract::known_documents::{KnownDocuments, LedgerHashes, Replaced};
use crate::extract::marks::Marks;
use crate::extract::skip_known::SkipKnownExec;
use crate::extract::spare::SpareExec;
use crate::job::{Job, Ready};
use crate::run::commit::Position;
use crate::run::failure::{failed, run_error};
use crate::run::known::documents;
use crate::run::known::documents::{find_corrupt, known};
use crate::run::state::Run;
use crate::run::summary::run_summary::RunSummary;
use crate::source::chunk::{Chunk, Chunks};
use crate::source::input::Documents;
use crate::store::write::commit_batch::commit_batch;
use crate::store::write::write_exec::{WriteExec, WriteSpec};
use crate::tables::Table;

/// Maximum seconds between two commits: a killed run loses no more work than this.
const COMMIT_SECONDS: u64 = 120;

/// Why extraction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The end of the input.
    End,
    /// The limit of `--limit`.
    Limit,
    /// A signal stopped it.
    Stop,
}

/// The first half of the plan: scan, skip known documents, extract. `marks` records the counters at each slice.
pub(crate) async fn reading_plan(
    context: &SessionContext,
    documents: &Documents,
    ready: &Ready,
    chunk: &Chunk,
    known_documents: Arc<KnownDocuments>,
    marks: Option<Arc<Marks>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = documents.plan(context, chunk).await?;
    let new_documents = Arc::new(SkipKnownExec::new(scan, known_documents));
    let extract = ExtractExec::try_new(new_documents, ready.spec.clone(), Arc::clone(&ready.extractor));
    Ok(Arc::new(extract.map_err(|source| failed("plan the extraction", source))?.with_marks(marks)))
}

/// The whole plan: scan, skip known documents, extract, keep the old rows of refused documents, write.
pub(crate) async fn plan(
    context: &SessionContext,
    documents: &Documents,
    ready: &Ready,
    chunk: &Chunk,
    known_documents: Arc<KnownDocuments>,
    marks: Option<Arc<Marks>>,
    write: WriteSpec,
) -> Result<Arc<dyn ExecutionPlan>> {
    let extract = reading_plan(context, documents, ready, chunk, Arc::clone(&known_documents), marks).await?;
    let spare = Arc::new(SpareExec::new(extract, known_documents));
    Ok(Arc::new(WriteExec::try_new(spare, write).map_err(|source| failed("plan the extraction", source))?))
}

/// The chunks of a run, up to the offset of `--limit`.
pub(crate) fn chunks(
    documents: &Documents,
    ready: &Ready,
    finished_rows: &BTreeMap<String, i64>,
    commit_documents: u64,
    limit: Option<(usize, i64)>,
    from: Position,
) -> impl Iterator<Item = Chunk> + use<> {
    let border = ready.extractor.slices.border;
    let chunks = Chunks::new(&documents.files, finished_rows, commit_documents, border).from(from.file, from.row);
    chunks.map_while(move |chunk| match limit {
        Some((file, row)) => chunk.before(file, row),
        None => Some(chunk),
    })
}

impl Run {
    /// Extracts and commits chunk after chunk, and returns why it ended.
    pub(crate) async fn extract(&mut self, job: &Job, style: Style, summary: &RunSummary) -> Result<Reached> {
        self.refuse_files().await?;
        let finished_rows = self.ledger.finished_rows().clone();
        let mut replaced = documents::replaced(&self.context, &mut self.documents, &finished_rows).await?;
        summary.unreadable(&self.documents);
        let total = self.documents.spec().filter.is_none().then(|| self.documents.rows()).flatten();
        let total = total.map(|rows| rows.saturating_sub(finished_rows.values().sum()).unsigned_abs());
        let limit = match self.arguments.limit {
            Some(count) => {
                let all_rows = self.documents.whole(|path| finished_rows.get(path).copied().unwrap_or(0));
                self.documents.place_behind(&self.context, &all_rows, count).await?
            }
            None => None,
        };
        let total = if limit.is_some() { self.arguments.limit } else { total };
        let mut display = ProgressDisplay::new(style, total);
        let mut reached = Position::default();
        let commit_documents = job.file.store.commit_documents;
        let from = |run: &Self, reached: &Position| {
            chunks(&run.documents, &run.ready, &finished_rows, commit_documents, limit, *reached)
        };
        let mut remaining = from(self, &reached);
        while let Some(chunk) = remaining.next() {
            match self.chunk(&chunk, &replaced, commit_documents, &mut reached, &mut display, total).await {
                Ok(false) => {}
                Ok(true) => {
                    display.finish();
                    return Ok(Reached::Stop);
                }
                Err(error) => {
                    // Rows that are read again are counted again.
                    self.marks.roll_back(&self.ready.extractor.counters);
                    find_corrupt(&self.context, &mut self.documents, error, &chunk).await?;
                    // Unreadable rows replace no others.
                    replaced = documents::replaced(&self.context, &mut self.documents, &finished_rows).await?;
                    summary.unreadable(&self.documents);
                    remaining = from(self, &reached);
                }
            }
        }
        display.finish();
        if limit.is_some() {
            return Ok(Reached::Limit);
        }
        if self.replaces {
            self.drop_others().await?;
        }
        Ok(Reached::End)
    }

    fn stopped(&self) -> bool {
        self.ready.extractor.stop.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Runs one plan over one chunk; true if a signal stopped it.
    async fn chunk(
        &mut self,
        chunk: &Chunk,
        replaced: &Arc<Replaced>,
        commit_documents: u64,
        reached: &mut Position,
        display: &mut ProgressDisplay,
        total: Option<u64>,
    ) -> Result<bool> {
        let known = if self.ledger.has_documents() {
            self.store.catch_up(&[Table::Documents]).await?;
            known(&self.context, &self.documents, chunk, &self.store, &self.ready.spec_id).await?
        } else {
            LedgerHashes::new()
        };
        let known_documents = Arc::new(KnownDocuments::new(known, Arc::clone(replaced)));
        let stamp = self.stamp(self.next_commit());
        let write = WriteSpec {
            cut_rows: commit_documents,
            cut_seconds: COMMIT_SECONDS,
            ..WriteSpec::new(self.store.location(), stamp)
        };
        let (known, marks) = (Arc::clone(&known_documents), Some(Arc::clone(&self.marks)));
        let plan = plan(&self.context, &self.documents, &self.ready, chunk, known, marks, write).await?;
        let mut commit_batches = execute_stream(Arc::clone(&plan), self.context.task_ctx()).map_err(run_error)?;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut last = None;
        loop {
            let next = tokio::select! {
                next = commit_batches.next() => next,
                _ = tick.tick() => {
                    display.show(&self.progress(total));
                    continue;
                }
            };
            let Some(batch) = next else { break };
            let batch = commit_batch(&batch.map_err(run_error)?).map_err(run_error)?;
            if batch.last {
                last = Some(batch);
            } else {
                let position = self.position(&batch, chunk);
                self.commit(&known_documents, Some(batch), reached, position).await?;
            }
        }
        let written = plan.metrics().and_then(|metrics| metrics.sum_by_name("write_time"));
        let written = written.map_or(0, |nanoseconds| nanoseconds.as_usize() as u64);
        self.ready.extractor.counters.write.add(Duration::from_nanos(written));
        let stopped = self.stopped();
        let position = match (&last, stopped) {
            (Some(batch), true) => self.position(batch, chunk),
            (None, true) => return Ok(true),
            // The whole chunk is done, including rows that were skipped.
            (_, false) => self.end(chunk),
        };
        self.commit(&known_documents, last, reached, position).await?;
        Ok(stopped)
    }

    fn progress(&self, total: Option<u64>) -> Progress {
        progress(&self.ready, total, self.started.elapsed())
    }
}

/// The progress of a run.
pub(crate) fn progress(ready: &Ready, total: Option<u64>, elapsed: Duration) -> Progress {
    let counters = &ready.extractor.counters;
    Progress {
        documents: counters.documents_done(),
        total,
        mentions: counters.mentions(),
        tokens: Counters::get(&ready.extractor.pool.counters().real_tokens),
        elapsed,
    }
}

//! Extraction, chunk by chunk. In: the documents still to be extracted. Out: commits of whole slices in file order, so that one row of
//! one file describes how far the store is. It must not commit out of order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use crate::console::{Progress, ProgressDisplay, Style};
use crate::error::Result;
use crate::extract::extract_exec::Extract;
use crate::extract::extractor::Extractor;
use crate::extract::known_documents::KnownDocuments;
use crate::extract::monitor::Monitor;
use crate::extract::skip_known::repeated_sources;
use crate::job::plan::{reading_plan, writing_plan};
use crate::run::commit::Position;
use crate::run::failure::run_error;
use crate::run::known::documents::{find_corrupt, known};
use crate::run::state::Run;
use crate::source::chunk::{Chunk, Chunks};
use crate::source::input::Documents;
use crate::source::operator::read_counts::ReadCounts;
use crate::source::operator::scan_exec::all_metrics;
use crate::store::write::commit_batch::commit_batch;
use crate::store::write::write_exec::{WriteSpec, write_time};
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

/// The chunks of a run, up to the offset of `--limit`.
pub(crate) fn chunks(
    documents: &Documents,
    extractor: &Extractor,
    finished_rows: &BTreeMap<String, i64>,
    commit_documents: u64,
    limit: Option<(usize, i64)>,
    from: Position,
) -> impl Iterator<Item = Chunk> + use<> {
    let border = extractor.slices().border;
    let chunks = Chunks::new(&documents.files, finished_rows, commit_documents, border).from(from.file, from.row);
    chunks.map_while(move |chunk| match limit {
        Some((file, row)) => chunk.before(file, row),
        None => Some(chunk),
    })
}

impl Run {
    /// Extracts and commits chunk after chunk, and returns why it ended.
    pub(crate) async fn extract(&mut self, style: Style) -> Result<Reached> {
        self.refuse_files().await?;
        let finished_rows = self.ledger.finished_rows().clone();
        let total = self.documents.spec().filter.is_none().then(|| self.documents.rows()).flatten();
        let total = total.map(|rows| rows.saturating_sub(finished_rows.values().sum()).unsigned_abs());
        let limit = match self.settings.limit {
            Some(count) => {
                let all_rows = self.documents.whole(|path| finished_rows.get(path).copied().unwrap_or(0));
                self.documents.place_behind(&self.context, &all_rows, count).await?
            }
            None => None,
        };
        let total = if limit.is_some() { self.settings.limit } else { total };
        let mut display = ProgressDisplay::new(style, total);
        #[cfg(feature = "cluster")]
        if let Some(address) = self.settings.cluster.clone() {
            let cluster = Self::cluster(&address).await?;
            let reached = self.extract_on(&cluster, &finished_rows, limit, &mut display, total).await?;
            display.finish();
            return self.ended(reached, limit.is_some()).await;
        }
        let mut reached = Position::default();
        let commit_documents = self.settings.job.file.store.commit_documents;
        let from = |run: &Self, reached: &Position| {
            chunks(&run.documents, &run.extractor, &finished_rows, commit_documents, limit, *reached)
        };
        let mut remaining = from(self, &reached);
        while let Some(chunk) = remaining.next() {
            match self.chunk(&chunk, commit_documents, &mut reached, &mut display, total).await {
                // Only a read file of unknown length shows whether it has rows after the chunk.
                Ok(false) if chunk.is_part_of_unknown(&self.documents.files) => remaining = from(self, &reached),
                Ok(false) => {}
                Ok(true) => {
                    display.finish();
                    return self.ended(Reached::Stop, limit.is_some()).await;
                }
                Err(error) => {
                    // Rows that are read again are counted again.
                    self.summary.roll_back();
                    find_corrupt(&self.context, &mut self.documents, error, &chunk).await?;
                    self.summary.unreadable(&self.documents);
                    remaining = from(self, &reached);
                }
            }
        }
        display.finish();
        self.ended(Reached::End, limit.is_some()).await
    }

    /// What is left to do once all chunks are committed, and why the run ended.
    async fn ended(&mut self, reached: Reached, limited: bool) -> Result<Reached> {
        match reached {
            Reached::Stop => return Ok(Reached::Stop),
            _ if limited => return Ok(Reached::Limit),
            _ if self.replaces => self.drop_others().await?,
            _ => {}
        }
        Ok(Reached::End)
    }

    /// The chunk's documents that the store has.
    pub(crate) async fn known_of(&mut self, chunk: &Chunk) -> Result<KnownDocuments> {
        if self.ledger.has_documents() {
            self.store.catch_up(&[Table::Documents]).await?;
        }
        let spec_id = self.extractor.spec_id();
        known(&self.context, &self.documents, chunk, &self.store, spec_id, &self.ledger).await
    }

    /// Runs one plan over one chunk; true if a signal stopped it.
    async fn chunk(
        &mut self,
        chunk: &Chunk,
        commit_documents: u64,
        reached: &mut Position,
        display: &mut ProgressDisplay,
        total: Option<u64>,
    ) -> Result<bool> {
        let known = self.known_of(chunk).await?;
        let stamp = self.stamp(self.next_commit());
        let write = WriteSpec {
            cut_rows: commit_documents,
            cut_seconds: COMMIT_SECONDS,
            ..WriteSpec::new(self.store.location(), stamp)
        };
        let extract = Extract { spec: self.extractor.spec().clone(), runtime: self.settings.job.runtime.clone() };
        let plan = reading_plan(&self.documents, chunk, known, extract);
        let plan = plan.and_then(|plan| writing_plan(plan, write)).map_err(run_error)?;
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
            self.count(&plan);
            if batch.last {
                last = Some(batch);
            } else {
                let position = self.position(&batch, chunk)?;
                self.commit(Some(batch), reached, position).await?;
            }
        }
        // Nothing is committed yet: the condition is at fault, and not these rows.
        if *reached == Position::default() && !self.summary.monitor.is_stopped() {
            self.documents.check_filter(&ReadCounts::of(&plan))?;
        }
        self.summary.monitor.write.add(write_time(&plan));
        self.count(&plan);
        let stopped = self.summary.monitor.is_stopped();
        let position = match (&last, stopped) {
            (Some(batch), true) => self.position(batch, chunk)?,
            (None, true) => return Ok(true),
            // The whole chunk is done, including rows that were skipped.
            (_, false) => self.read_end(chunk),
        };
        self.commit(last, reached, position).await?;
        Ok(stopped)
    }

    /// Records what a plan has read so far: rows of text files, and files that repeat documents of others.
    fn count(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        self.documents.count_rows(ReadCounts::of(plan));
        self.ledger.repeated(repeated_sources(&all_metrics(plan)));
    }

    pub(crate) fn progress(&self, total: Option<u64>) -> Progress {
        progress(&self.extractor, &self.summary.monitor, total, self.summary.started.elapsed())
    }
}

/// The progress of a run.
pub(crate) fn progress(extractor: &Extractor, monitor: &Monitor, total: Option<u64>, elapsed: Duration) -> Progress {
    Progress {
        documents: monitor.documents_done(),
        total,
        mentions: Monitor::get(&monitor.mentions),
        tokens: Monitor::get(&extractor.scorer().counters().real_tokens),
        elapsed,
    }
}

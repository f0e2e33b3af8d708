//! Chunk by chunk, commit by commit. In: the documents that are still to be done. Out: commits, each of whole slices in file
//! order, so that how far the store is can be said as one row of one file. It may not commit out of that order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::cast;
use chrono::Utc;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::Run;
use super::known::{Replaced, known, replaced};
use crate::console::{Progress, ProgressDisplay, Style};
use crate::engine::admit::{Admission, AdmitExec, Changed};
use crate::engine::chunk::{Chunk, Chunks};
use crate::engine::commit::Commit;
use crate::engine::counters::Counters;
use crate::engine::cut::{Cut, cut};
use crate::engine::extract::ExtractExec;
use crate::engine::files::{TableFiles, WrittenFile};
use crate::engine::input::Documents;
use crate::engine::write::{WriteExec, WriteSpec};
use crate::error::{Cause, Error, Result};
use crate::job::{Job, Ready};
use crate::tables::{self, SourceRow, Stamp, Table};

/// Seconds after which a commit is made, however little it brings: no more than this is lost with a killed run.
const COMMIT_SECONDS: u64 = 120;

/// Everything before a row of a file is done: the place where a commit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The files before this one are done.
    file: usize,
    /// And of this one the rows before this.
    row: i64,
}

/// How far extraction came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// The end of the input.
    End,
    /// The limit.
    Limit,
    /// The place where it was stopped.
    Stop,
}

/// The first half of the plan: scan, leave out what is done, extract.
pub(super) async fn reading_plan(
    context: &SessionContext,
    documents: &Documents,
    ready: &Ready,
    chunk: &Chunk,
    admission: Arc<Admission>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = documents.plan(context, chunk).await?;
    let admit = Arc::new(AdmitExec::new(scan, admission));
    let extract = ExtractExec::try_new(admit, ready.spec.clone(), Arc::clone(&ready.extractor));
    Ok(Arc::new(extract.map_err(|source| failed("plan the extraction", source))?))
}

/// The whole plan: scan, leave out what is done, extract, write.
pub(super) async fn plan(
    context: &SessionContext,
    documents: &Documents,
    ready: &Ready,
    chunk: &Chunk,
    admission: Arc<Admission>,
    write: WriteSpec,
) -> Result<Arc<dyn ExecutionPlan>> {
    let extract = reading_plan(context, documents, ready, chunk, admission).await?;
    Ok(Arc::new(WriteExec::try_new(extract, write).map_err(|source| failed("plan the extraction", source))?))
}

/// The chunks of a run, which end before the place that `--limit` gives.
pub(super) fn chunks(
    documents: &Documents,
    begun: &BTreeMap<String, i64>,
    commit_documents: u64,
    limit: Option<(usize, i64)>,
) -> impl Iterator<Item = Chunk> {
    let chunks = Chunks::new(&documents.files, begun, commit_documents);
    chunks.map_while(move |chunk| match limit {
        Some((file, row)) => chunk.before(file, row),
        None => Some(chunk),
    })
}

impl Run {
    /// Extracts and commits chunk after chunk, and says how far it came.
    pub(super) async fn extract(&mut self, job: &Job, style: Style) -> Result<Reached> {
        self.refuse_files().await?;
        let begun = self.ledger.begun().clone();
        let whole = self.documents.whole(|path| begun.get(path).copied().unwrap_or(0));
        let replaced = replaced(&self.context, &self.documents, &whole, self.store.location()).await?;
        let total = self.documents.spec().filter.is_none().then(|| self.documents.rows()).flatten();
        let total = total.map(|rows| rows.saturating_sub(begun.values().sum()).unsigned_abs());
        let limit = match self.limit {
            Some(count) => self.documents.place_behind(&self.context, &whole, count).await?,
            None => None,
        };
        let total = if limit.is_some() { self.limit } else { total };
        let mut display = ProgressDisplay::new(style, total);
        let mut reached = Position { file: 0, row: 0 };
        let commit_documents = job.file.store.commit_documents;
        let chunks: Vec<Chunk> = chunks(&self.documents, &begun, commit_documents, limit).collect();
        for chunk in chunks {
            if self.chunk(&chunk, &replaced, commit_documents, &mut reached, &mut display, total).await? {
                display.finish();
                return Ok(Reached::Stop);
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

    fn next_commit(&self) -> i64 {
        self.store.last_commit().unwrap_or(0) + 1
    }

    /// One plan over one chunk; true where it was stopped.
    async fn chunk(
        &mut self,
        chunk: &Chunk,
        replaced: &Replaced,
        commit_documents: u64,
        reached: &mut Position,
        display: &mut ProgressDisplay,
        total: Option<u64>,
    ) -> Result<bool> {
        let known = if self.ledger.has_documents() {
            known(&self.context, &self.documents, chunk, &self.store, &self.ready.spec_id).await?
        } else {
            HashMap::new()
        };
        let admission = Arc::new(Admission::new(known, Arc::clone(replaced)));
        let stamp = Stamp {
            run_id: self.id.clone(),
            commit: self.next_commit(),
            spec_id: self.ready.spec_id.clone(),
            finished_at: Utc::now(),
        };
        let write = WriteSpec {
            cut_rows: commit_documents,
            cut_seconds: COMMIT_SECONDS,
            ..WriteSpec::new(self.store.location(), stamp)
        };
        let plan = plan(&self.context, &self.documents, &self.ready, chunk, Arc::clone(&admission), write).await?;
        let mut cuts = execute_stream(plan, self.context.task_ctx()).map_err(run_error)?;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut last = None;
        loop {
            let next = tokio::select! {
                next = cuts.next() => next,
                _ = tick.tick() => {
                    display.show(&self.progress(total));
                    continue;
                }
            };
            let Some(batch) = next else { break };
            let cut = cut(&batch.map_err(run_error)?).map_err(run_error)?;
            if cut.last {
                last = Some(cut);
            } else {
                let position = self.position(&cut, chunk);
                self.commit(&admission, Some(cut), reached, position).await?;
            }
        }
        let stopped = self.stopped();
        let position = match (&last, stopped) {
            (Some(cut), true) => self.position(cut, chunk),
            (None, true) => return Ok(true),
            // With the last row of the chunk everything to its end is done, also rows that were left out.
            (_, false) => self.end(chunk),
        };
        self.commit(&admission, last, reached, position).await?;
        Ok(stopped)
    }

    /// Where a cut of a chunk ends: at a slice's border, or with the chunk in the midst of a slice.
    fn position(&self, cut: &Cut, chunk: &Chunk) -> Position {
        let file = self.documents.files.iter().position(|file| file.path == cut.source).unwrap_or(0);
        let whole = self.documents.files[file].rows.is_some_and(|rows| cut.row >= rows);
        let position = if whole { Position { file: file + 1, row: 0 } } else { Position { file, row: cut.row } };
        position.min(self.end(chunk))
    }

    /// Where a chunk ends.
    fn end(&self, chunk: &Chunk) -> Position {
        let Some(last) = chunk.ranges.last() else { return Position { file: 0, row: 0 } };
        let rows = self.documents.files[last.file].rows.unwrap_or(i64::MAX);
        if last.rows.end >= rows {
            Position { file: last.file + 1, row: 0 }
        } else {
            Position { file: last.file, row: last.rows.end }
        }
    }

    /// Commits a cut, and with it all files before `position`.
    async fn commit(
        &mut self,
        admission: &Admission,
        cut: Option<Cut>,
        reached: &mut Position,
        position: Position,
    ) -> Result<()> {
        let files = &self.documents.files;
        let mut sources: Vec<SourceRow> = files[reached.file..position.file]
            .iter()
            .map(|file| self.ledger.done(file, self.documents.rows_of(file)))
            .collect();
        let (number, cut_files) = match cut {
            Some(cut) => (cut.commit, cut.files),
            // Nothing was new up to here; without a finished file there is nothing to say either.
            // But where the limit is, the next run must not look at the same documents again.
            None if sources.is_empty() && self.limit.is_none() => return Ok(()),
            None => (self.next_commit(), Vec::new()),
        };
        if position.row > 0 {
            sources.push(self.ledger.partial(&files[position.file], position.row));
        }
        let before = |changed: &Changed| {
            let file = files.iter().position(|file| file.path == changed.source).unwrap_or(usize::MAX);
            Position { file, row: changed.row } < position
        };
        let changed = admission.take_changed(before);
        let started = Instant::now();
        let mut commit = Commit { number, run_id: self.id.clone(), files: cut_files, sources, ..Commit::default() };
        if !changed.is_empty() {
            let ids: ArrayRef = Arc::new(changed.iter().map(|one| Some(one.id.as_str())).collect::<StringArray>());
            let ids = cast(&ids, self.store.id_type()).map_err(|source| failed("look up changed documents", source))?;
            commit.replace(self.store.rewrite(&self.ready.spec_id, &ids).await?);
        }
        self.bring(commit).await?;
        self.committing += started.elapsed();
        *reached = position;
        Ok(())
    }

    /// Commits, taking out the rows that earlier visits to the same files left in `sources`.
    async fn bring(&mut self, mut commit: Commit) -> Result<()> {
        let stale = self.ledger.stale(&commit.sources);
        if !stale.is_empty() {
            commit.replace(self.store.forget_sources(&self.ready.spec_id, self.ledger.input_hash(), &stale).await?);
        }
        self.store.commit(&commit).await?;
        self.ledger.remember(&commit.sources);
        Ok(())
    }

    /// Commits rows of `rejects` for files that cannot be read and are not on record as such.
    async fn refuse_files(&mut self) -> Result<()> {
        let new = self.ledger.new_unreadable(&self.documents.unreadable);
        if new.is_empty() {
            return Ok(());
        }
        let stamp = Stamp {
            run_id: self.id.clone(),
            commit: self.next_commit(),
            spec_id: self.ready.spec_id.clone(),
            finished_at: Utc::now(),
        };
        let files: Vec<(&str, &str)> = new.iter().map(|(file, reason)| (file.path.as_str(), reason.as_str())).collect();
        let rows = tables::refused_files(&files, self.store.id_type()).and_then(|batch| tables::split(&batch, &stamp));
        let rows = rows.map_err(|source| failed("write the rejects", source))?.rejects;
        let mut writer = TableFiles::new(Table::Rejects, self.store.location(), &stamp.spec_id);
        let mut written: Vec<WrittenFile> = Vec::new();
        written.extend(writer.write(&rows).await.map_err(|source| failed("write the rejects", source))?);
        written.extend(writer.finish().await.map_err(|source| failed("write the rejects", source))?);
        let sources = new.iter().map(|(file, reason)| self.ledger.refused(file, reason)).collect();
        let commit =
            Commit { number: stamp.commit, run_id: self.id.clone(), files: written, sources, ..Commit::default() };
        self.bring(commit).await
    }

    /// The last commit of a replacement: rows of other specifications go.
    async fn drop_others(&mut self) -> Result<()> {
        let dropped = self.store.drop_other_specs(&self.ready.spec_id).await?;
        if dropped.replaced.is_empty() {
            return Ok(());
        }
        let mut commit = Commit { number: self.next_commit(), run_id: self.id.clone(), ..Commit::default() };
        commit.replace(dropped);
        self.store.commit(&commit).await
    }

    fn progress(&self, total: Option<u64>) -> Progress {
        progress(&self.ready, total, self.started.elapsed())
    }
}

/// Where a run stands.
pub(super) fn progress(ready: &Ready, total: Option<u64>, elapsed: Duration) -> Progress {
    let counters = &ready.extractor.counters;
    Progress {
        documents: counters.documents_done(),
        total,
        mentions: counters.mentions(),
        tokens: Counters::get(&ready.extractor.pool.counters().real_tokens),
        elapsed,
    }
}

fn failed(doing: &str, source: impl Into<Cause>) -> Error {
    Error::Engine { doing: doing.into(), source: source.into() }
}

/// Our own error where DataFusion carries one.
pub(super) fn run_error(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => failed("extract the documents", source),
        },
        DataFusionError::Context(_, error) => run_error(*error),
        error => failed("extract the documents", error),
    }
}

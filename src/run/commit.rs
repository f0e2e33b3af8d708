//! Commits of a run. In: commit batches of the extraction, in file order, and unreadable files. Out: one commit after the other, each
//! with the rows of `sources` that record the input offset it covers. It must not read documents.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use chrono::Utc;
use tracing::{Instrument as _, info_span};

use crate::console;
use crate::error::Result;
use crate::run::failure::failed;
use crate::run::known::replaced::replaced_rows;
use crate::run::known::replacement::waiting;
use crate::run::state::Run;
use crate::source::chunk::Chunk;
use crate::store::table_files::{TableFiles, WrittenFile};
use crate::store::write::commit::Commit;
use crate::store::write::commit_batch::CommitBatch;
use crate::tables;
use crate::tables::result_row::{ColumnError, result_rows};
use crate::tables::{SourceRow, Stamp, Table};
use crate::text::document::RejectReason;

/// An input offset: every row before it is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The files before this one are done.
    pub(crate) file: usize,
    /// The rows of this file before this one are done.
    pub(crate) row: i64,
}

impl Run {
    pub(crate) fn next_commit(&self) -> i64 {
        self.store.last_commit().unwrap_or(0) + 1
    }

    /// The input offset at which a commit batch of a chunk ends: the end of a slice, or the end of the chunk within a slice.
    pub(crate) fn position(&self, commit_batch: &CommitBatch, chunk: &Chunk) -> Result<Position> {
        let file = self.documents.files.iter().position(|file| file.path == commit_batch.source);
        let unknown = || failed("place a commit", format!("`{}` is not a file of the input", commit_batch.source));
        let file = file.ok_or_else(unknown)?;
        let complete = self.documents.files[file].readable().is_some_and(|rows| commit_batch.row >= rows);
        let position =
            if complete { Position { file: file + 1, row: 0 } } else { Position { file, row: commit_batch.row } };
        Ok(position.min(self.end(chunk)))
    }

    /// The input offset at which a chunk ends.
    pub(crate) fn end(&self, chunk: &Chunk) -> Position {
        let Some(last) = chunk.ranges.last() else { return Position { file: 0, row: 0 } };
        let rows = self.documents.files[last.file].readable().unwrap_or(i64::MAX);
        if last.rows.end >= rows {
            Position { file: last.file + 1, row: 0 }
        } else {
            Position { file: last.file, row: last.rows.end }
        }
    }

    /// The input offset at which a chunk ends that was read to its end: behind its last file, if that has no more rows.
    pub(crate) fn read_end(&self, chunk: &Chunk) -> Position {
        let end = self.end(chunk);
        let last = chunk.ranges.last().filter(|_| chunk.is_part_of_unknown(&self.documents.files));
        let ended = last.filter(|last| self.documents.rows_of(&self.documents.files[last.file]) < last.rows.end);
        ended.map_or(end, |last| Position { file: last.file + 1, row: 0 })
    }

    /// Commits a commit batch, and with it all files before `position`.
    pub(crate) async fn commit(
        &mut self,
        commit_batch: Option<CommitBatch>,
        reached: &mut Position,
        position: Position,
    ) -> Result<()> {
        // A batch has the number of the next commit.
        let number = self.next_commit();
        let files = &self.documents.files;
        let (mut sources, mut broken): (Vec<SourceRow>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
        for (index, file) in files.iter().enumerate().take(position.file).skip(reached.file) {
            let Some((rows, reason)) = self.documents.damage(index) else {
                sources.push(self.ledger.done(file, self.documents.rows_of(file), number));
                continue;
            };
            let row = self.ledger.refused(file, rows, reason, number);
            // Every run retries a refused file: record only what has changed.
            if !self.ledger.has(&row) {
                broken.push((file.path.as_str(), reason));
                sources.push(row);
            }
        }
        let CommitBatch { commit: number, files: mut written, changed, mut totals, .. } = match commit_batch {
            Some(batch) => batch,
            // No document was new and no file is finished, so there is nothing to commit. With `--limit` commit anyway, so that the
            // next run does not read the same documents again.
            None if sources.is_empty() && self.settings.limit.is_none() => return Ok(()),
            None => CommitBatch { commit: number, ..CommitBatch::default() },
        };
        if position.row > 0 {
            let file = &files[position.file];
            let passed = self.documents.damage(position.file).filter(|(row, _)| *row < position.row);
            let reason = passed.map(|(_, reason)| reason);
            broken.extend(reason.map(|reason| (file.path.as_str(), reason)));
            sources.push(self.ledger.partial(file, position.row, reason, number));
        }
        broken.retain(|(path, reason)| !self.ledger.has_damage(path, reason));
        written.extend(self.refusals(&broken, number).await?);
        let started = Instant::now();
        let mut taken = (Vec::new(), Vec::new());
        let mut commit = Commit { number, run_id: self.id().to_owned(), files: written, sources, ..Commit::default() };
        if !changed.is_empty() {
            let ids: ArrayRef = Arc::new(changed.iter().map(Some).collect::<StringArray>());
            let ids = cast(&ids, self.store.id_type()).map_err(|source| failed("look up changed documents", source))?;
            self.store.catch_up(&[Table::Entities, Table::Documents]).await?;
            let rewrite = self.store.rewrite(self.extractor.spec_id(), &ids).await?;
            let (context, documents, store) = (&self.context, &self.documents, &self.store);
            let removed = &rewrite.documents;
            let replaced = replaced_rows(context, documents, store, &self.ledger, removed, &commit.files).await?;
            let stamp = self.stamp(number);
            let rejects =
                replaced.iter().map(|rows| tables::replaced_rows(rows, &stamp)).collect::<Result<Vec<_>, _>>();
            let rejects = rejects.map_err(|source| failed("write the rejects", source))?;
            commit.files.extend(self.write_rejects(&rejects, &stamp).await?);
            taken = (of_run(&replaced, self.id())?, of_run(&rewrite.mentions, self.id())?);
            // Rows of earlier runs are not counted: a run counts each row that it reads once.
            totals.reject(RejectReason::DuplicateId, taken.0.iter().map(RecordBatch::num_rows).sum::<usize>() as u64);
            commit.replace(rewrite);
        }
        self.commit_sources(commit).await?;
        self.summary.commit(&totals);
        self.summary.take(&taken.0, &taken.1).map_err(|source| failed("count replaced documents", source))?;
        self.summary.monitor.commit.add(started.elapsed());
        *reached = position;
        Ok(())
    }

    /// Commits, and removes the rows of earlier visits to the same files from `sources` and `rejects`.
    async fn commit_sources(&mut self, mut commit: Commit) -> Result<()> {
        let stale = self.ledger.stale(&commit.sources);
        if !stale.is_empty() {
            self.store.catch_up(&[Table::Sources]).await?;
            commit
                .replace(self.store.forget_sources(self.extractor.spec_id(), self.ledger.input_hash(), &stale).await?);
        }
        let changed = self.ledger.changed(&commit.sources);
        if !changed.is_empty() {
            self.store.catch_up(&[Table::Rejects]).await?;
            let others = self.ledger.other_runs(&self.context, &self.store).await?;
            commit.replace(self.store.forget_rejects(self.extractor.spec_id(), others, &changed).await?);
        }
        let span = info_span!("commit", quarry.commit = commit.number, quarry.files = commit.files.len());
        self.store.commit_ahead(&commit).instrument(span).await?;
        self.ledger.remember(&commit.sources);
        Ok(())
    }

    /// Commits rows of `rejects` for files that cannot be opened, if no earlier run has recorded them.
    pub(crate) async fn refuse_files(&mut self) -> Result<()> {
        let new = self.ledger.new_unreadable(self.documents.unopened());
        if new.is_empty() {
            return Ok(());
        }
        let number = self.next_commit();
        let refused: Vec<(&str, &str)> =
            new.iter().map(|(file, reason)| (file.path.as_str(), reason.as_str())).collect();
        let files = self.refusals(&refused, number).await?;
        let sources = new.iter().map(|(file, reason)| self.ledger.refused(file, 0, reason, number)).collect();
        self.commit_sources(Commit { number, run_id: self.id().to_owned(), files, sources, ..Commit::default() }).await
    }

    /// Writes rows of `rejects` for unreadable files, given as (path, reason).
    async fn refusals(&self, files: &[(&str, &str)], commit: i64) -> Result<Vec<WrittenFile>> {
        let stamp = self.stamp(commit);
        let rows = tables::refused_files(files, self.store.id_type()).and_then(|batch| tables::split(&batch, &stamp));
        let rows = rows.map_err(|source| failed("write the rejects", source))?.rejects;
        self.write_rejects(&[rows], &stamp).await
    }

    async fn write_rejects(&self, batches: &[RecordBatch], stamp: &Stamp) -> Result<Vec<WrittenFile>> {
        let mut writer = TableFiles::new(Table::Rejects, self.store.location(), &stamp.spec_id);
        let mut written: Vec<WrittenFile> = Vec::new();
        for rows in batches {
            written.extend(writer.write(rows).await.map_err(|source| failed("write the rejects", source))?);
        }
        written.extend(writer.finish().await.map_err(|source| failed("write the rejects", source))?);
        Ok(written)
    }

    pub(crate) fn stamp(&self, commit: i64) -> Stamp {
        Stamp {
            run_id: self.id().to_owned(),
            commit,
            spec_id: self.extractor.spec_id().to_owned(),
            finished_at: Utc::now(),
        }
    }

    /// The last commit of a replacement: drops the rows of other specifications.
    pub(crate) async fn drop_others(&mut self) -> Result<()> {
        self.store.catch_up(&Table::ALL).await?;
        if !self.settings.drop_missing
            && let Some(waiting) = waiting(&self.context, &self.store, self.extractor.spec_id()).await?
        {
            tracing::warn!(
                "the old rows stay current: {} document(s) of {} file(s), such as `{}` of `{}`, are not extracted again yet; run the job \
                 over them too, or use --drop-missing to drop them",
                console::thousands(waiting.documents),
                console::thousands(waiting.files),
                waiting.document,
                waiting.file
            );
            return Ok(());
        }
        let dropped = self.store.drop_other_specs(self.extractor.spec_id()).await?;
        if dropped.replaced.is_empty() {
            return Ok(());
        }
        let mut commit = Commit { number: self.next_commit(), run_id: self.id().to_owned(), ..Commit::default() };
        commit.replace(dropped);
        self.store.commit(&commit).await
    }
}

/// The rows that the run `run_id` has written.
fn of_run(rows: &[RecordBatch], run_id: &str) -> Result<Vec<RecordBatch>> {
    let own = |rows: &RecordBatch| -> Result<RecordBatch> {
        let own: Result<BooleanArray, ColumnError> =
            result_rows([rows]).map(|row| Ok(Some(row.get::<&str>("run_id")? == run_id))).collect();
        filter_record_batch(rows, &own?).map_err(|source| failed("count replaced documents", source))
    };
    rows.iter().map(own).collect()
}

//! Commits of a run. In: cuts of the extraction, in file order, and files that cannot be read. Out: one commit after the other,
//! each with the rows of `sources` that say how far it comes. It may not read documents.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::cast;
use chrono::Utc;
use tracing::{Instrument as _, info_span};

use crate::console;
use crate::error::Result;
use crate::extract::ledger_hashes::{Changed, KnownDocuments};
use crate::run::failure::failed;
use crate::run::known::documents;
use crate::run::state::Run;
use crate::source::chunk::Chunk;
use crate::store::table_files::{TableFiles, WrittenFile};
use crate::store::write::commit::Commit;
use crate::store::write::commit_batch::CommitBatch;
use crate::tables;
use crate::tables::{SourceRow, Stamp, Table};

/// Everything before a row of a file is done: the place where a commit ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The files before this one are done.
    pub(crate) file: usize,
    /// And of this one the rows before this.
    pub(crate) row: i64,
}

impl Run {
    pub(crate) fn next_commit(&self) -> i64 {
        self.store.last_commit().unwrap_or(0) + 1
    }

    /// Where a cut of a chunk ends: at a slice's border, or with the chunk in the midst of a slice.
    pub(crate) fn position(&self, cut: &CommitBatch, chunk: &Chunk) -> Position {
        let file = self.documents.files.iter().position(|file| file.path == cut.source).unwrap_or(0);
        let whole = self.documents.files[file].readable().is_some_and(|rows| cut.row >= rows);
        let position = if whole { Position { file: file + 1, row: 0 } } else { Position { file, row: cut.row } };
        position.min(self.end(chunk))
    }

    /// Where a chunk ends.
    pub(crate) fn end(&self, chunk: &Chunk) -> Position {
        let Some(last) = chunk.ranges.last() else { return Position { file: 0, row: 0 } };
        let rows = self.documents.files[last.file].readable().unwrap_or(i64::MAX);
        if last.rows.end >= rows {
            Position { file: last.file + 1, row: 0 }
        } else {
            Position { file: last.file, row: last.rows.end }
        }
    }

    /// Commits a cut, and with it all files before `position`.
    pub(crate) async fn commit(
        &mut self,
        known_documents: &KnownDocuments,
        cut: Option<CommitBatch>,
        reached: &mut Position,
        position: Position,
    ) -> Result<()> {
        let files = &self.documents.files;
        let (mut sources, mut broken): (Vec<SourceRow>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
        for file in &files[reached.file..position.file] {
            let Some((rows, reason)) = &file.broken else {
                sources.push(self.ledger.done(file, self.documents.rows_of(file)));
                continue;
            };
            let row = self.ledger.refused(file, *rows, reason);
            // A file that was refused is tried again by every run: only what is new is said.
            if !self.ledger.has(&row, file) {
                broken.push((file.path.as_str(), reason.as_str()));
                sources.push(row);
            }
        }
        let end = cut.as_ref().map(|cut| (cut.source.clone(), cut.row));
        let (number, mut cut_files) = match cut {
            Some(cut) => (cut.commit, cut.files),
            // Nothing was new up to here; without a finished file there is nothing to say either.
            // But where the limit is, the next run must not look at the same documents again.
            None if sources.is_empty() && self.arguments.limit.is_none() => return Ok(()),
            None => (self.next_commit(), Vec::new()),
        };
        cut_files.extend(self.refusals(&broken, number).await?);
        if position.row > 0 {
            sources.push(self.ledger.partial(&files[position.file], position.row));
        }
        let before = |changed: &Changed| {
            let file = files.iter().position(|file| file.path == changed.source).unwrap_or(usize::MAX);
            Position { file, row: changed.row } < position
        };
        let changed = known_documents.take_changed(before);
        let started = Instant::now();
        let mut commit = Commit { number, run_id: self.id.clone(), files: cut_files, sources, ..Commit::default() };
        if !changed.is_empty() {
            let ids: ArrayRef = Arc::new(changed.iter().map(|one| Some(one.id.as_str())).collect::<StringArray>());
            let ids = cast(&ids, self.store.id_type()).map_err(|source| failed("look up changed documents", source))?;
            self.store.catch_up(&[Table::Entities, Table::Documents]).await?;
            commit.replace(self.store.rewrite(&self.ready.spec_id, &ids).await?);
        }
        self.bring(commit).await?;
        if let Some((source, row)) = end {
            self.marks.committed(&source, row);
        }
        self.ready.extractor.counters.commit.add(started.elapsed());
        *reached = position;
        Ok(())
    }

    /// Commits, taking out the rows that earlier visits to the same files left in `sources`.
    async fn bring(&mut self, mut commit: Commit) -> Result<()> {
        let stale = self.ledger.stale(&commit.sources);
        if !stale.is_empty() {
            self.store.catch_up(&[Table::Sources]).await?;
            commit.replace(self.store.forget_sources(&self.ready.spec_id, self.ledger.input_hash(), &stale).await?);
        }
        let changed = self.ledger.changed(&commit.sources);
        if !changed.is_empty() {
            self.store.catch_up(&[Table::Rejects]).await?;
            let others = self.ledger.other_runs(&self.context, &self.store).await?;
            commit.replace(self.store.forget_rejects(&self.ready.spec_id, others, &changed).await?);
        }
        let span = info_span!("commit", quarry.commit = commit.number, quarry.files = commit.files.len());
        self.store.commit_ahead(&commit).instrument(span).await?;
        self.ledger.remember(&commit.sources);
        Ok(())
    }

    /// Commits rows of `rejects` for files that cannot be read and are not on record as such.
    pub(crate) async fn refuse_files(&mut self) -> Result<()> {
        let new = self.ledger.new_unreadable(&self.documents.unreadable);
        if new.is_empty() {
            return Ok(());
        }
        let number = self.next_commit();
        let refused: Vec<(&str, &str)> =
            new.iter().map(|(file, reason)| (file.path.as_str(), reason.as_str())).collect();
        let files = self.refusals(&refused, number).await?;
        let sources = new.iter().map(|(file, reason)| self.ledger.refused(file, 0, reason)).collect();
        self.bring(Commit { number, run_id: self.id.clone(), files, sources, ..Commit::default() }).await
    }

    /// Writes rows of `rejects` for files that cannot be read, as (path, reason).
    async fn refusals(&self, files: &[(&str, &str)], commit: i64) -> Result<Vec<WrittenFile>> {
        let stamp = self.stamp(commit);
        let rows = tables::refused_files(files, self.store.id_type()).and_then(|batch| tables::split(&batch, &stamp));
        let rows = rows.map_err(|source| failed("write the rejects", source))?.rejects;
        let mut writer = TableFiles::new(Table::Rejects, self.store.location(), &stamp.spec_id);
        let mut written: Vec<WrittenFile> = Vec::new();
        written.extend(writer.write(&rows).await.map_err(|source| failed("write the rejects", source))?);
        written.extend(writer.finish().await.map_err(|source| failed("write the rejects", source))?);
        Ok(written)
    }

    pub(crate) fn stamp(&self, commit: i64) -> Stamp {
        Stamp { run_id: self.id.clone(), commit, spec_id: self.ready.spec_id.clone(), finished_at: Utc::now() }
    }

    /// The last commit of a replacement: rows of other specifications go.
    pub(crate) async fn drop_others(&mut self) -> Result<()> {
        self.store.catch_up(&Table::ALL).await?;
        if !self.arguments.drop_missing
            && let Some((documents, files, example)) =
                documents::not_read_again(&self.context, &self.store, &self.ready.spec_id).await?
        {
            console::warn(&format!(
                "the old rows stay, and stay in force: {} document(s) of {} file(s), such as `{example}`, are not read anew yet; run the job over \
                 them too, or say --drop-missing to let them go",
                console::thousands(documents),
                console::thousands(files)
            ));
            return Ok(());
        }
        let dropped = self.store.drop_other_specs(&self.ready.spec_id).await?;
        if dropped.replaced.is_empty() {
            return Ok(());
        }
        let mut commit = Commit { number: self.next_commit(), run_id: self.id.clone(), ..Commit::default() };
        commit.replace(dropped);
        self.store.commit(&commit).await
    }
}

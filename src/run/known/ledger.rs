//! The ledger of input files. In: the `sources` and `documents` tables. Out: which input files are done, the row at which others resume,
//! and the rows of `sources` for the files that this run reads. It must not hold rows of documents: files are few, documents are many.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};

use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use serde_json::Value;

use crate::error::Result;
use crate::machine::hash::short_hash;
use crate::query::statement::{query_store, stream_store};
use crate::run::known::visit::{FileState, Visit, hash, modified};
use crate::source::input::InputSpec;
use crate::source::listing::{Listing, SourceFile};
use crate::store::delta_store::Store;
use crate::tables::result_row::result_rows;
use crate::tables::{SourceOutcome, SourceRow};

/// The hash of a job's `where`, `id` and `text`.
fn input_hash(filter: Option<&str>, id: &str, text: &str) -> String {
    short_hash([filter.unwrap_or_default(), id, text].join("\u{1f}").as_bytes(), 8)
}

/// The input hash of a job as `runs` records it; none if the record lacks a part.
fn recorded_input_hash(job: &str) -> Option<String> {
    let job: Value = serde_json::from_str(job).ok()?;
    let input = job.get("input")?;
    let filter = input.get("where").and_then(Value::as_str);
    Some(input_hash(filter, input.get("id")?.as_str()?, input.get("text")?.as_str()?))
}

/// The files that earlier runs of this specification visited. A file takes about 110 bytes, however long its path is.
pub(crate) struct Ledger {
    run_id: String,
    spec_id: String,
    input_hash: String,
    /// By the [`hash`] of the path.
    visits: HashMap<u64, Visit>,
    /// The [`hash`]es of the listed paths.
    listed: HashSet<u64>,
    /// The number of finished rows of each file that is done in part.
    finished_rows: BTreeMap<String, i64>,
    /// Listed files with rows that could not be read.
    damaged: BTreeSet<String>,
    /// Listed files that have rows whose document is done with its row in another file.
    repeated: BTreeSet<String>,
    /// Whether the store can have documents of this specification.
    has_documents: bool,
    /// Earlier runs of another input, once they have been looked up.
    others: Option<BTreeSet<String>>,
}

impl Ledger {
    /// The ledger of a store that does not exist yet.
    pub(crate) fn empty(run_id: &str, spec_id: &str, input: &InputSpec) -> Self {
        Self {
            run_id: run_id.to_owned(),
            spec_id: spec_id.to_owned(),
            input_hash: input_hash(input.filter.as_deref(), &input.id, &input.text),
            visits: HashMap::new(),
            listed: HashSet::new(),
            finished_rows: BTreeMap::new(),
            damaged: BTreeSet::new(),
            repeated: BTreeSet::new(),
            has_documents: false,
            others: None,
        }
    }

    /// Reads the store's rows under `spec_id`.
    pub(crate) async fn read(
        context: &SessionContext,
        store: &Store,
        run_id: &str,
        spec_id: &str,
        input: &InputSpec,
    ) -> Result<Self> {
        let mut ledger = Self::empty(run_id, spec_id, input);
        let input_hash = &ledger.input_hash;
        let sql = format!(
            "SELECT path, etag, outcome, size, rows, modified_at, changed_in, repeated FROM sources
             WHERE input_hash = '{input_hash}' AND spec_id = '{spec_id}'"
        );
        let mut batches = stream_store(context, store.location(), &sql).await?;
        while let Some(batch) = batches.try_next().await? {
            for row in result_rows([&batch]) {
                let outcome: SourceOutcome = row.get::<&str>("outcome")?.into();
                let path: &str = row.get("path")?;
                let visit = Visit {
                    state: FileState::new(row.get("size")?, row.get("etag")?, row.get("modified_at")?),
                    rows: row.get("rows")?,
                    changed_in: row.get::<Option<i64>>("changed_in")?.unwrap_or(0),
                    done: outcome == SourceOutcome::Done,
                    refused: matches!(outcome, SourceOutcome::Refused(_)),
                    reason: outcome.reason().map(hash),
                    listed: false,
                };
                ledger.visits.insert(hash(path), visit);
                if row.get("repeated")? {
                    ledger.repeated.insert(path.to_owned());
                }
            }
        }
        ledger.has_documents = store.specs()?.contains(&ledger.spec_id);
        Ok(ledger)
    }

    /// Records the files of the input.
    pub(crate) fn list<'files>(&mut self, files: impl Iterator<Item = &'files SourceFile>) {
        self.listed = files.map(|file| hash(&file.path)).collect();
    }

    /// Removes the finished files from the listing, returns their number, and records how far other files are done. A file that has
    /// changed since is read again; its documents are then compared one by one.
    pub(crate) fn skip_done(&mut self, mut listing: Listing) -> (Listing, usize) {
        let before = listing.files.len();
        self.list(listing.files.iter());
        listing.files.retain(|file| {
            let Some(visit) = self.visits.get_mut(&hash(&file.path)) else { return true };
            visit.listed = visit.state.is_still(FileState::of(file));
            if visit.listed && !visit.done {
                self.finished_rows.insert(file.path.clone(), visit.rows);
                if visit.reason.is_some() {
                    self.damaged.insert(file.path.clone());
                }
            }
            !(visit.listed && visit.done)
        });
        listing.files.shrink_to_fit();
        let visits = &self.visits;
        self.repeated.retain(|path| visits.get(&hash(path)).is_some_and(|visit| visit.listed));
        let done = before - listing.files.len();
        (listing, done)
    }

    /// Files that an earlier run found damaged, in the state in which they are listed.
    pub(crate) const fn damaged(&self) -> &BTreeSet<String> {
        &self.damaged
    }

    /// Whether an earlier commit has recorded this damage of a file in its present state.
    pub(crate) fn has_damage(&self, path: &str, reason: &str) -> bool {
        let visit = self.visits.get(&hash(path)).filter(|visit| visit.listed);
        visit.is_some_and(|visit| visit.reason == Some(hash(reason)))
    }

    /// Whether an earlier run has read a file as far as it can be, and not to its end.
    pub(crate) fn is_refused(&self, path: &str) -> bool {
        self.visits.get(&hash(path)).is_some_and(|visit| visit.listed && visit.refused)
    }

    /// Has a file read again from its first row, as if it had changed.
    pub(crate) fn read_again(&mut self, path: &str) {
        if let Some(visit) = self.visits.get_mut(&hash(path)) {
            visit.listed = false;
        }
        self.finished_rows.remove(path);
        self.repeated.remove(path);
    }

    /// The row at which each file that is done in part resumes.
    pub(crate) fn finished_rows(&self) -> &BTreeMap<String, i64> {
        &self.finished_rows
    }

    /// Whether the store can have documents of this specification.
    pub(crate) fn has_documents(&self) -> bool {
        self.has_documents
    }

    /// The hash of the job's `where`, `id` and `text`.
    pub(crate) fn input_hash(&self) -> &str {
        &self.input_hash
    }

    /// Whether a file is part of the input.
    pub(crate) fn is_listed(&self, path: &str) -> bool {
        self.listed.contains(&hash(path))
    }

    /// Whether a document that `commit` added from a file is certainly still in it: it was read from the file's present state.
    pub(crate) fn is_current(&self, path: &str, commit: i64) -> bool {
        let visit = self.visits.get(&hash(path));
        visit.is_some_and(|visit| visit.listed && visit.was_read() && commit >= visit.changed_in)
    }

    /// Listed files after `path` that have rows whose document is done with its row in another file.
    pub(crate) fn repeated_after(&self, path: &str) -> impl Iterator<Item = &String> {
        self.repeated.range::<str, _>((Excluded(path), Unbounded))
    }

    /// Records files that have rows whose document is done with its row in another file.
    pub(crate) fn repeated(&mut self, paths: impl Iterator<Item = String>) {
        self.repeated.extend(paths);
    }

    /// The earlier runs of another input, according to `runs`: their rejects of a file belong to their own job and are kept. A run whose
    /// input is not recorded counts as one of this input.
    pub(crate) async fn other_runs(&mut self, context: &SessionContext, store: &Store) -> Result<&BTreeSet<String>> {
        if self.others.is_none() {
            let sql = format!("SELECT run_id, job FROM runs WHERE spec_id = '{}'", self.spec_id);
            let mut others = BTreeSet::new();
            for run in result_rows(&query_store(context, store.location(), &sql).await?) {
                if recorded_input_hash(run.get("job")?).is_some_and(|hash| hash != self.input_hash) {
                    others.insert(run.get("run_id")?);
                }
            }
            self.others = Some(others);
        }
        Ok(self.others.get_or_insert_default())
    }

    /// The files, with reasons, that no earlier run has recorded in their present state.
    pub(crate) fn new_unreadable<'files>(
        &self,
        unreadable: impl Iterator<Item = &'files (SourceFile, String)>,
    ) -> Vec<(SourceFile, String)> {
        let known = |file: &SourceFile| self.visits.get(&hash(&file.path)).is_some_and(|visit| visit.listed);
        unreadable.filter(|(file, _)| !known(file)).cloned().collect()
    }

    /// The row of a file that was read to its end.
    pub(crate) fn done(&self, file: &SourceFile, rows: i64, commit: i64) -> SourceRow {
        self.row(file, rows, SourceOutcome::Done, commit)
    }

    /// The row of a file of which the first `rows` rows are done, except for those that the reason names.
    pub(crate) fn partial(&self, file: &SourceFile, rows: i64, reason: Option<&str>, commit: i64) -> SourceRow {
        let damaged = |reason: &str| SourceOutcome::DamagedPartial(reason.to_owned());
        self.row(file, rows, reason.map_or(SourceOutcome::Partial, damaged), commit)
    }

    /// The row of a file that cannot be read, or cannot be read from row `rows` on.
    pub(crate) fn refused(&self, file: &SourceFile, rows: i64, reason: &str, commit: i64) -> SourceRow {
        self.row(file, rows, SourceOutcome::Refused(reason.to_owned()), commit)
    }

    /// Whether `sources` already has a row equal to this one.
    pub(crate) fn has(&self, row: &SourceRow) -> bool {
        let visit = self.visits.get(&hash(&row.path)).filter(|visit| visit.listed);
        let recorded = |visit: Visit| (visit.rows, visit.done, visit.refused, visit.reason);
        visit.is_some_and(|visit| recorded(*visit) == recorded(Visit::new(row, true)))
    }

    /// The row of a file, which `commit` records.
    fn row(&self, file: &SourceFile, rows: i64, outcome: SourceOutcome, commit: i64) -> SourceRow {
        let changed_in = self.visits.get(&hash(&file.path)).map_or(0, |visit| match visit {
            Visit { listed: true, changed_in, .. } => *changed_in,
            // Nothing was read of an unreadable file.
            visit if !visit.was_read() => visit.changed_in,
            _ => commit,
        });
        SourceRow {
            path: file.path.clone(),
            size: file.meta.size as i64,
            etag: file.meta.e_tag.clone(),
            modified_at: modified(file),
            input_hash: self.input_hash.clone(),
            rows,
            outcome,
            changed_in: Some(changed_in).filter(|commit| *commit > 0),
            repeated: self.repeated.contains(&file.path),
            run_id: self.run_id.clone(),
            spec_id: self.spec_id.clone(),
        }
    }

    /// The files among `rows` with earlier rows, which these rows replace.
    pub(crate) fn stale(&self, rows: &[SourceRow]) -> BTreeSet<String> {
        rows.iter().map(|row| &row.path).filter(|path| self.visits.contains_key(&hash(path))).cloned().collect()
    }

    /// The files among `rows` that have changed since an earlier visit, or could not be read then: their earlier rejects no longer
    /// apply.
    pub(crate) fn changed(&self, rows: &[SourceRow]) -> BTreeSet<String> {
        let changed = |row: &&SourceRow| {
            let visit = self.visits.get(&hash(&row.path));
            visit.is_some_and(|visit| !(visit.listed && visit.was_read()))
        };
        rows.iter().filter(changed).map(|row| row.path.clone()).collect()
    }

    /// Records committed rows.
    pub(crate) fn remember(&mut self, rows: &[SourceRow]) {
        self.visits.extend(rows.iter().map(|row| (hash(&row.path), Visit::new(row, true))));
        // The commit can have added documents.
        self.has_documents = true;
    }
}

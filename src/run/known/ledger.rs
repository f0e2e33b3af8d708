//! The ledger of input files. In: the `sources` and `documents` tables. Out: which input files are done, the row at which others resume,
//! and the rows of `sources` for the files that this run reads. It must not hold rows of documents: files are few, documents are many.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use serde_json::Value;

use crate::error::Result;
use crate::machine::hash::short_hash;
use crate::query::statement::query_store;
use crate::source::input::InputSpec;
use crate::source::listing::{Listing, SourceFile};
use crate::store::delta_store::Store;
use crate::tables::result_row::result_rows;
use crate::tables::{SourceOutcome, SourceRow};

/// An earlier visit to a file.
#[derive(Debug)]
struct Visit {
    size: i64,
    etag: Option<String>,
    modified: Option<DateTime<Utc>>,
    rows: i64,
    outcome: SourceOutcome,
}

impl Visit {
    fn new(row: &SourceRow) -> Self {
        Self {
            size: row.size,
            etag: row.etag.clone(),
            modified: row.modified_at,
            rows: row.rows,
            outcome: row.outcome.clone(),
        }
    }

    /// Whether the file is unchanged since the visit.
    fn is_of(&self, file: &SourceFile) -> bool {
        self.matches(file.meta.size as i64, file.meta.e_tag.as_deref(), modified(file))
    }

    /// Whether the row describes the file as it was at the visit.
    fn matches_row(&self, row: &SourceRow) -> bool {
        self.matches(row.size, row.etag.as_deref(), row.modified_at)
    }

    fn matches(&self, size: i64, etag: Option<&str>, modified: Option<DateTime<Utc>>) -> bool {
        let same_tag = match (&self.etag, etag) {
            (Some(before), Some(now)) => before == now,
            // A server that sends neither tag nor time can have changed the file.
            _ => self.modified.is_some() || modified.is_some(),
        };
        let micros = |time: DateTime<Utc>| time.timestamp_micros();
        self.size == size && same_tag && self.modified.is_none_or(|known| Some(micros(known)) == modified.map(micros))
    }

    /// Whether rows of the file were read.
    fn was_read(&self) -> bool {
        !matches!(self.outcome, SourceOutcome::Refused(_)) || self.rows > 0
    }
}

/// The time of a file's last change, if known: a web server need not send it.
fn modified(file: &SourceFile) -> Option<DateTime<Utc>> {
    Some(file.meta.last_modified).filter(|time| *time != DateTime::UNIX_EPOCH)
}

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

/// The files that earlier runs of this specification visited.
pub(crate) struct Ledger {
    run_id: String,
    spec_id: String,
    input_hash: String,
    visits: BTreeMap<String, Vec<Visit>>,
    /// The number of finished rows of each file that is done in part.
    finished_rows: BTreeMap<String, i64>,
    /// Specifications of the store's documents.
    specs: Vec<String>,
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
            visits: BTreeMap::new(),
            finished_rows: BTreeMap::new(),
            specs: Vec::new(),
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
        let empty = Self::empty(run_id, spec_id, input);
        let input_hash = &empty.input_hash;
        let sql = format!(
            "SELECT path, etag, outcome, size, rows, modified_at FROM sources
             WHERE input_hash = '{input_hash}' AND spec_id = '{spec_id}'"
        );
        let mut visits: BTreeMap<String, Vec<Visit>> = BTreeMap::new();
        for row in result_rows(&query_store(context, store.location(), &sql).await?) {
            visits.entry(row.get("path")?).or_default().push(Visit {
                size: row.get("size")?,
                etag: row.get::<Option<String>>("etag")?.filter(|tag| !tag.is_empty()),
                modified: row.get("modified_at")?,
                rows: row.get("rows")?,
                outcome: row.get::<&str>("outcome")?.into(),
            });
        }
        Ok(Self { visits, specs: store.specs()?, ..empty })
    }

    /// Removes the finished files from the listing, returns their number, and records how far other files are done. A file that has
    /// changed since is read again; its documents are then compared one by one.
    pub(crate) fn skip_done(&mut self, mut listing: Listing) -> (Listing, usize) {
        let before = listing.files.len();
        let visit = |file: &SourceFile, done: bool| {
            let visits = self.visits.get(&file.path)?;
            visits.iter().find(|visit| (visit.outcome == SourceOutcome::Done) == done && visit.is_of(file))
        };
        listing.files.retain(|file| visit(file, true).is_none());
        let finished_rows = |file: &SourceFile| visit(file, false).map(|visit| (file.path.clone(), visit.rows));
        self.finished_rows = listing.files.iter().filter_map(finished_rows).collect();
        let done = before - listing.files.len();
        (listing, done)
    }

    /// The row at which each file that is done in part resumes.
    pub(crate) fn finished_rows(&self) -> &BTreeMap<String, i64> {
        &self.finished_rows
    }

    /// Whether the store can have documents of this specification.
    pub(crate) fn has_documents(&self) -> bool {
        self.specs.contains(&self.spec_id)
    }

    /// The hash of the job's `where`, `id` and `text`.
    pub(crate) fn input_hash(&self) -> &str {
        &self.input_hash
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

    /// Unreadable files, with reasons, that no earlier run has recorded in their present state.
    pub(crate) fn new_unreadable(&self, unreadable: &[(SourceFile, String)]) -> Vec<(SourceFile, String)> {
        let known = |file: &SourceFile| {
            self.visits.get(&file.path).is_some_and(|visits| visits.iter().any(|visit| visit.is_of(file)))
        };
        unreadable.iter().filter(|(file, _)| !known(file)).cloned().collect()
    }

    /// The row of a file that was read to its end.
    pub(crate) fn done(&self, file: &SourceFile, rows: i64) -> SourceRow {
        self.row(file, rows, SourceOutcome::Done)
    }

    /// The row of a file of which the first `rows` rows are done.
    pub(crate) fn partial(&self, file: &SourceFile, rows: i64) -> SourceRow {
        self.row(file, rows, SourceOutcome::Partial)
    }

    /// The row of a file that cannot be read, or cannot be read from row `rows` on.
    pub(crate) fn refused(&self, file: &SourceFile, rows: i64, reason: &str) -> SourceRow {
        self.row(file, rows, SourceOutcome::Refused(reason.to_owned()))
    }

    /// Whether `sources` already has a row equal to this one.
    pub(crate) fn has(&self, row: &SourceRow, file: &SourceFile) -> bool {
        let visits = self.visits.get(&row.path).into_iter().flatten();
        visits.filter(|visit| visit.is_of(file)).any(|visit| visit.rows == row.rows && visit.outcome == row.outcome)
    }

    fn row(&self, file: &SourceFile, rows: i64, outcome: SourceOutcome) -> SourceRow {
        SourceRow {
            path: file.path.clone(),
            size: file.meta.size as i64,
            etag: file.meta.e_tag.clone(),
            modified_at: modified(file),
            input_hash: self.input_hash.clone(),
            rows,
            outcome,
            run_id: self.run_id.clone(),
            spec_id: self.spec_id.clone(),
        }
    }

    /// The files among `rows` with earlier rows, which these rows replace.
    pub(crate) fn stale(&self, rows: &[SourceRow]) -> BTreeSet<String> {
        rows.iter().map(|row| &row.path).filter(|path| self.visits.contains_key(*path)).cloned().collect()
    }

    /// The files among `rows` that have changed since an earlier visit, or could not be read then: their earlier rejects no longer
    /// apply.
    pub(crate) fn changed(&self, rows: &[SourceRow]) -> BTreeSet<String> {
        let changed = |row: &&SourceRow| {
            let visits = self.visits.get(&row.path);
            visits.is_some_and(|visits| !visits.iter().any(|visit| visit.matches_row(row) && visit.was_read()))
        };
        rows.iter().filter(changed).map(|row| row.path.clone()).collect()
    }

    /// Records committed rows.
    pub(crate) fn remember(&mut self, rows: &[SourceRow]) {
        for row in rows {
            self.visits.insert(row.path.clone(), vec![Visit::new(row)]);
        }
    }
}

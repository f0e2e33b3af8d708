//! Commits. In: data files that `WriteExec` has written, and rows for `sources`. Out: a transaction in each table, in an order that shows
//! where a killed run stopped. It must not write document rows itself.

use std::collections::BTreeMap;

use deltalake_core::kernel::{Action, CommitInfo};
use futures::TryStreamExt;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::store::data_files::DataFile;
use crate::store::delta_store::Store;
use crate::store::log::log_files::{NUMBER, RUN_ID};
use crate::store::table_files::WrittenFile;
use crate::store::write::fault_injection;
use crate::store::write::transaction::Change;
use crate::tables::{SourceRow, Table, source_rows};

/// The order of a commit. A document in `documents` counts as done, so `documents` is written last, and everything before it can be
/// rolled back. `sources` is written just before it: a refused document is recorded only by its file's row there.
pub(super) const ORDER: [Table; 4] = [Table::Entities, Table::Rejects, Table::Sources, Table::Documents];

/// The contents of one commit: finished slices.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The commit's number: one more than [`Store::last_commit`], from 1.
    pub number: i64,
    /// The run that commits.
    pub run_id: String,
    /// The data files that `WriteExec` wrote for it.
    pub files: Vec<WrittenFile>,
    /// Files that the commit removes from the store, as table and path relative to the table's folder.
    pub replaced: Vec<(Table, String)>,
    /// The input files that are done with this commit.
    pub sources: Vec<SourceRow>,
}

impl Store {
    /// Commits to `entities`, `rejects`, `sources`, then `documents`, each with the application transaction (`quarry`,
    /// n). Tables that already have this commit are skipped, so a caller can retry after any error except a conflict.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another run has written to one of these tables since this store was opened,
    /// [`Error::Store`] if a log cannot be read or written.
    pub async fn commit(&mut self, commit: &Commit) -> Result<()> {
        self.commit_ahead(commit).await?;
        self.catch_up(&ORDER).await
    }

    /// Like [`Store::commit`], for a run of many commits: the tables are readable again only after [`Store::catch_up`], whose time
    /// grows with their number of files.
    ///
    /// # Errors
    /// As for [`Store::commit`].
    pub async fn commit_ahead(&mut self, commit: &Commit) -> Result<()> {
        for table in ORDER {
            if self.table_commit(table).is_some_and(|number| number >= commit.number) {
                // Another run can have rolled it back since.
                self.read_again(table).await?;
                self.expect_ours(table, commit, "the commit's number is taken".into()).await?;
                continue;
            }
            let actions = self.actions(table, commit).await?;
            let change = Change { actions, run_id: &commit.run_id, number: Some(commit.number), compaction: false };
            fault_injection::point("before", table, commit.number);
            let before = self.version(table);
            if let Err(cause) = self.write_log(table, change).await {
                // The log decides: the commit can have succeeded although its answer was lost.
                self.read_again(table).await?;
                if self.version(table) == before {
                    return Err(self.failed("commit to", cause)); // the log is unchanged, so the commit failed
                }
                self.expect_ours(table, commit, Box::new(cause)).await?;
            }
            fault_injection::point("after", table, commit.number);
        }
        // Checkpoints take long, and between two tables they would leave the commit incomplete for that time.
        self.write_checkpoints(&ORDER).await;
        Ok(())
    }

    /// The number of a commit that a killed run left incomplete: tables before `documents` have it, `documents` does not.
    #[must_use]
    pub fn incomplete_commit(&self) -> Option<i64> {
        let furthest = ORDER.into_iter().filter_map(|table| self.table_commit(table)).max();
        furthest.filter(|_| furthest > self.last_commit())
    }

    /// The Add and Remove actions of a commit for one table.
    async fn actions(&self, table: Table, commit: &Commit) -> Result<Vec<Action>> {
        let mut actions = Vec::new();
        let replaced: Vec<_> = commit.replaced.iter().filter(|(of, _)| *of == table).collect();
        if !replaced.is_empty() {
            let files = by_path(self.data_files(table)?);
            for (_, path) in replaced {
                let Some(file) = files.get(path) else {
                    return Err(self.failed("commit to", format!("`{}` has no file `{path}` to replace", table.name())));
                };
                actions.push(file.remove(true));
            }
        }
        for file in commit.files.iter().filter(|file| file.table == table) {
            actions.push(Action::Add(self.parse(file)?));
        }
        if table == Table::Sources {
            let rows = source_rows(&commit.sources).map_err(|cause| self.failed("commit to", cause))?;
            if let Some(file) = self.write_rows(table, &rows).await? {
                actions.push(Action::Add(self.parse(&file)?));
            }
        }
        Ok(actions)
    }

    /// Checks that the log, as last read, has this commit. If not, fails with the writer that committed instead, or else with `cause`.
    async fn expect_ours(&mut self, table: Table, commit: &Commit, cause: crate::error::Cause) -> Result<()> {
        self.catch_up(&[table]).await?;
        let newest: Vec<CommitInfo> = self.tables[table]
            .delta()
            .history(Some(16))
            .try_collect()
            .await
            .map_err(|cause| self.failed("read", cause))?;
        let text = |info: &CommitInfo, key: &str| info.info.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |info: &CommitInfo| info.info.get(NUMBER).and_then(Value::as_i64);
        let ours = |info: &CommitInfo| text(info, RUN_ID).as_deref() == Some(commit.run_id.as_str());
        let done = self.table_commit(table);
        if done == Some(commit.number) && newest.iter().any(|info| ours(info) && number(info) == done) {
            return Ok(());
        }
        let Some(foreign) = newest.first().filter(|info| !ours(info)) else {
            return Err(self.failed("commit to", cause));
        };
        let other = match (text(foreign, RUN_ID), &foreign.engine_info, &foreign.operation) {
            (Some(run_id), ..) => format!("the run {run_id}"),
            (None, Some(engine), operation) => format!("{engine} ({})", operation.as_deref().unwrap_or("?")),
            (None, None, operation) => operation.clone().unwrap_or_else(|| "an unknown writer".to_owned()),
        };
        let cause = format!("version {} of `{}` is its transaction, not ours", self.version(table), table.name());
        Err(Error::Conflict { store: self.location().to_string(), other, source: cause.into() })
    }
}

pub(super) fn by_path(files: Vec<DataFile>) -> BTreeMap<String, DataFile> {
    files.into_iter().map(|file| (file.path.clone(), file)).collect()
}

#[cfg(test)]
pub(crate) mod tests;

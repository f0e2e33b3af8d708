//! Commits, and the rollback of incomplete ones. In: data files that `WriteExec` has written, and rows for `sources`.
//! Out: a transaction in each table, in an order that shows where a killed run stopped. It must not write document rows
//! itself.

use std::collections::BTreeMap;

use deltalake_core::kernel::{Action, CommitInfo, Version};
use futures::TryStreamExt;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::store::data_files::{DataFile, data_files};
use crate::store::delta_store::Store;
use crate::store::open_table::APPLICATION;
use crate::store::table_files::WrittenFile;
use crate::store::write::fault_injection;
use crate::store::write::transaction::{ATTEMPTS, Change, NUMBER, RUN_ID};
use crate::tables::{SourceRow, Table, source_rows};

/// The order of a commit. A document in `documents` counts as done, so `documents` is written last, and everything before it can be
/// rolled back. `sources` is written just before it: a refused document is recorded only by its file's row there.
const ORDER: [Table; 4] = [Table::Entities, Table::Rejects, Table::Sources, Table::Documents];
/// The action in errors about a commit that cannot be rolled back.
const ROLL_BACK: &str = "roll back an incomplete commit in";

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

    /// Rolls back an incomplete commit: removes its files, adds the files that it replaced, and sets each table's application
    /// transaction to that of `documents`. Does nothing if there is none, or if it has been completed. A run that is killed here
    /// does no harm: the next one continues.
    ///
    /// On an object store, the run that began the commit can still be alive and continue it. Therefore every table is read again,
    /// `documents` last, and then `documents` gets the first transaction: from then on, no run can complete the commit as it was
    /// read.
    ///
    /// # Errors
    /// [`Error::Store`] if a log cannot be read or written, or has transactions after the incomplete one.
    pub async fn roll_back_incomplete_commit(&mut self, run_id: &str) -> Result<()> {
        if self.incomplete_commit().is_none() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            for table in ORDER {
                self.read_again(table).await?;
            }
            if self.incomplete_commit().is_none() || self.roll_back(ORDER.into_iter().rev(), run_id).await? {
                return Ok(());
            }
        }
        Err(self.failed(ROLL_BACK, format!("other runs committed to it during {ATTEMPTS} attempts")))
    }

    /// Gives each table one transaction that restores the state of the last complete commit: the inverse of the incomplete
    /// transaction, or else an empty one, which stops a run that continues the commit. Returns false if another writer
    /// committed in between: the tables have then changed since they were read, and the rollback must start over.
    async fn roll_back(&mut self, tables: impl Iterator<Item = Table>, run_id: &str) -> Result<bool> {
        for table in tables {
            let (version, last) = (self.version(table), self.last_commit());
            let actions = match self.table_commit(table).filter(|number| Some(*number) > last) {
                Some(number) => self.inverse(table, version, number).await?,
                None => Vec::new(),
            };
            let change = Change { actions, run_id, number: Some(last.unwrap_or(0)), compaction: false };
            if let Err(cause) = self.transact(table, change).await {
                self.read_again(table).await?;
                if self.version(table) == version {
                    return Err(self.failed(ROLL_BACK, cause));
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The inverse of a table's newest transaction, which must belong to the commit `number`.
    async fn inverse(&self, table: Table, version: Version, number: i64) -> Result<Vec<Action>> {
        let actions = self.transaction(table, version).await?;
        let is_commit =
            |action: &Action| matches!(action, Action::Txn(txn) if txn.app_id == APPLICATION && txn.version == number);
        if !actions.iter().any(is_commit) {
            let cause = format!("`{}` was changed after the incomplete commit {number}", table.name());
            return Err(self.failed(ROLL_BACK, cause));
        }
        let current = by_path(self.data_files(table)?);
        let mut previous = BTreeMap::new();
        if actions.iter().any(|action| matches!(action, Action::Remove(_))) {
            let mut before = deltalake_core::DeltaTable::new(self.log(table));
            before.load_version(version - 1).await.map_err(|cause| self.failed("read", cause))?;
            let before = before.snapshot().map_err(|cause| self.failed("read", cause))?;
            previous = by_path(data_files(self.location(), table, before.snapshot()));
        }
        let mut inverse = Vec::new();
        for action in actions {
            match action {
                Action::Add(add) => inverse.extend(current.get(&add.path).map(|file| file.remove(true))),
                Action::Remove(remove) => {
                    let Some(file) = previous.get(&remove.path) else { continue };
                    let exists = file.is_there(self.location().objects().as_ref()).await;
                    if !exists.map_err(|cause| self.failed("read", cause))? {
                        let cause = format!("the file `{}` of `{}` that it replaced is gone", file.path, table.name());
                        return Err(self.failed(ROLL_BACK, cause));
                    }
                    inverse.push(file.add());
                }
                _ => {}
            }
        }
        Ok(inverse)
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

fn by_path(files: Vec<DataFile>) -> BTreeMap<String, DataFile> {
    files.into_iter().map(|file| (file.path.clone(), file)).collect()
}

#[cfg(test)]
pub(crate) mod tests;

//! Commits, and how a half-done one is taken back. In: data files that `WriteExec` has written, rows of the ledger.
//! Out: a transaction in each table, in an order that a killed run can be recognised by. It may not write document rows
//! itself.

use std::collections::BTreeMap;

use deltalake_core::kernel::{Action, CommitInfo, Version};
use futures::TryStreamExt;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::store::data_files::{DataFile, data_files};
use crate::store::delta_store::{APPLICATION, Store};
use crate::store::table_files::WrittenFile;
use crate::store::write::fault_injection;
use crate::store::write::transaction::{ATTEMPTS, Change, NUMBER, RUN_ID};
use crate::tables::{SourceRow, Table, source_rows};

/// The order of a commit: what stands in `documents` is done, so it comes last, and everything before it can be undone.
/// `sources` comes before it, for a document that was refused is in no other ledger than its file's row there.
const ORDER: [Table; 4] = [Table::Entities, Table::Rejects, Table::Sources, Table::Documents];
/// What cannot be done where a half-done commit stays.
const TAKING_BACK: &str = "take a half-done commit out of";

/// Whole slices, done: what one commit brings.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The commit's number: one more than [`Store::last_commit`], from 1.
    pub number: i64,
    /// The run that commits.
    pub run_id: String,
    /// The files that `WriteExec` wrote for it.
    pub files: Vec<WrittenFile>,
    /// Files in the store, as table and path below the table's folder, whose rows the commit replaces.
    pub replaced: Vec<(Table, String)>,
    /// The input files that it finishes.
    pub sources: Vec<SourceRow>,
}

impl Store {
    /// Commits: `entities`, `rejects`, `sources`, then `documents`, each with the application transaction (`quarry`,
    /// n). Tables that have this very commit already are passed over, so it may be called again after any error but a
    /// conflict.
    ///
    /// # Errors
    /// [`Error::Conflict`] where another run has written to one of these tables since this store was opened,
    /// [`Error::Store`] where a log cannot be read or written.
    pub async fn commit(&mut self, commit: &Commit) -> Result<()> {
        self.commit_ahead(commit).await?;
        self.catch_up(&ORDER).await
    }

    /// The same for a run of many commits: the tables cannot be read before [`Store::catch_up`], whose time grows with the files
    /// in them.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn commit_ahead(&mut self, commit: &Commit) -> Result<()> {
        for table in ORDER {
            if self.table_commit(table).is_some_and(|number| number >= commit.number) {
                // Another run may have taken it back since.
                self.read_again(table).await?;
                self.expect_ours(table, commit, "the commit's number is taken".into()).await?;
                continue;
            }
            let actions = self.actions(table, commit).await?;
            let change = Change { actions, run_id: &commit.run_id, number: Some(commit.number), compaction: false };
            fault_injection::point("before", table, commit.number);
            let before = self.version(table);
            if let Err(cause) = self.write_log(table, change).await {
                // The log decides: a lost answer is no failed commit.
                self.read_again(table).await?;
                if self.version(table) == before {
                    return Err(self.failed("commit to", cause)); // nobody has written, and neither have we
                }
                self.expect_ours(table, commit, Box::new(cause)).await?;
            }
            fault_injection::point("after", table, commit.number);
        }
        // They take long: between two tables they would leave the commit half done for as long.
        self.write_checkpoints(&ORDER).await;
        Ok(())
    }

    /// The number of a commit that a killed run left half done: tables before `documents` have it, `documents` does not.
    #[must_use]
    pub fn half_done(&self) -> Option<i64> {
        let furthest = ORDER.into_iter().filter_map(|table| self.table_commit(table)).max();
        furthest.filter(|_| furthest > self.last_commit())
    }

    /// Takes a half-done commit back: its files leave the tables, those that it replaced come back, and the tables'
    /// transaction is again that of `documents`. Without one, or where it has become whole, nothing happens. To be
    /// killed in it does no harm.
    ///
    /// On an object store the run that began the commit may live, and go on with it. So every table is read again,
    /// `documents` last, and then `documents` gets a transaction first: from there on no run can make whole what was
    /// read before.
    ///
    /// # Errors
    /// [`Error::Store`] where a log cannot be read or written, or holds transactions after the half-done one.
    pub async fn remove_half_done(&mut self, run_id: &str) -> Result<()> {
        if self.half_done().is_none() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            for table in ORDER {
                self.read_again(table).await?;
            }
            if self.half_done().is_none() || self.take_back(ORDER.into_iter().rev(), run_id).await? {
                return Ok(());
            }
        }
        Err(self.failed(TAKING_BACK, format!("other runs wrote to it {ATTEMPTS} times meanwhile")))
    }

    /// Gives each table one transaction after which it is as the last whole commit left it: what undoes a half-done
    /// one, or else an empty one, which stops a run that goes on with that commit. False where another writer came
    /// between: then what was read before `documents` had its transaction is no longer what is there, and all begins
    /// anew.
    async fn take_back(&mut self, tables: impl Iterator<Item = Table>, run_id: &str) -> Result<bool> {
        for table in tables {
            let (version, whole) = (self.version(table), self.last_commit());
            let actions = match self.table_commit(table).filter(|number| Some(*number) > whole) {
                Some(number) => self.inverse(table, version, number).await?,
                None => Vec::new(),
            };
            let change = Change { actions, run_id, number: Some(whole.unwrap_or(0)), compaction: false };
            if let Err(cause) = self.transact(table, change).await {
                self.read_again(table).await?;
                if self.version(table) == version {
                    return Err(self.failed(TAKING_BACK, cause));
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What undoes the newest transaction of a table, which must be that of the commit `number`.
    async fn inverse(&self, table: Table, version: Version, number: i64) -> Result<Vec<Action>> {
        let actions = self.transaction(table, version).await?;
        let is_it =
            |action: &Action| matches!(action, Action::Txn(txn) if txn.app_id == APPLICATION && txn.version == number);
        if !actions.iter().any(is_it) {
            let cause = format!("`{}` was changed after the half-done commit {number}", table.name());
            return Err(self.failed(TAKING_BACK, cause));
        }
        let now = by_path(self.data_files(table)?);
        let mut then = BTreeMap::new();
        if actions.iter().any(|action| matches!(action, Action::Remove(_))) {
            let mut before = deltalake_core::DeltaTable::new(self.log(table));
            before.load_version(version - 1).await.map_err(|cause| self.failed("read", cause))?;
            let before = before.snapshot().map_err(|cause| self.failed("read", cause))?;
            then = by_path(data_files(self.location(), table, before.snapshot()));
        }
        let mut inverse = Vec::new();
        for action in actions {
            match action {
                Action::Add(add) => inverse.extend(now.get(&add.path).map(|file| file.remove(true))),
                Action::Remove(remove) => {
                    let Some(file) = then.get(&remove.path) else { continue };
                    let there = file.is_there(self.location().objects().as_ref()).await;
                    if !there.map_err(|cause| self.failed("read", cause))? {
                        let cause = format!("the file `{}` of `{}` that it replaced is gone", file.path, table.name());
                        return Err(self.failed(TAKING_BACK, cause));
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

    /// Whether the log, as last read, has this very commit; if not, who wrote instead, or else what went wrong.
    async fn expect_ours(&mut self, table: Table, commit: &Commit, cause: crate::error::Cause) -> Result<()> {
        self.catch_up(&[table]).await?;
        let newest: Vec<CommitInfo> = self.tables[table as usize]
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
        let cause = format!("version {} of `{}` is its transaction, and not ours", self.version(table), table.name());
        Err(Error::Conflict { store: self.location().to_string(), other, source: cause.into() })
    }
}

fn by_path(files: Vec<DataFile>) -> BTreeMap<String, DataFile> {
    files.into_iter().map(|file| (file.path.clone(), file)).collect()
}

#[cfg(test)]
pub(crate) mod tests;

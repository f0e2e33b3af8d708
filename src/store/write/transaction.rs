//! Transactions: how a table's log is written, and what is known after an error. In: actions for one table. Out: the
//! table's next version, or who was faster. It may not know what the actions mean.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use deltalake_core::kernel::transaction::{CommitData, PROTOCOL};
use deltalake_core::kernel::{Action, Add, Transaction, Version};
use deltalake_core::logstore::{CommitOrBytes, get_actions};
use deltalake_core::protocol::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::{DeltaTable, DeltaTableError};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Result;
use crate::store::delta_store::{APPLICATION, Store};
use crate::store::table_files::{FILE_BYTES, TableFiles, WrittenFile};
use crate::tables::{SPEC_ID, Table};

/// The fields of `commitInfo` that say whose a transaction is.
pub(crate) const RUN_ID: &str = "quarryRun";
pub(crate) const NUMBER: &str = "quarryCommit";
/// So often a change that other writers may come between is tried.
pub(crate) const ATTEMPTS: usize = 16;
/// After so many transactions a table is loaded anew.
const RELOAD: u64 = 20;
/// After an error the log is read again: so often, with this pause before each reading but the first.
const READINGS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What one transaction does to one table.
pub(crate) struct Change<'run> {
    pub(crate) actions: Vec<Action>,
    /// The run that makes it.
    pub(crate) run_id: &'run str,
    /// The number of the commit that it is part of.
    pub(crate) number: Option<i64>,
    /// Whether the rows stay what they are.
    pub(crate) compaction: bool,
}

impl Store {
    /// Adds rows to a table outside any commit: to `runs` and `metrics`. Other runs may do the same at the same time.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] where the file or the log cannot be written.
    pub async fn append(&mut self, table: Table, rows: &RecordBatch, run_id: &str) -> Result<()> {
        let Some(file) = self.write_rows(table, rows).await? else { return Ok(()) };
        let add = self.parse(&file)?;
        for _ in 0..ATTEMPTS {
            let actions = vec![Action::Add(add.clone())];
            if self.attempt(table, Change { actions, run_id, number: None, compaction: false }).await? {
                return Ok(());
            }
        }
        Err(self.overtaken(table))
    }

    /// Tries a change that other writers may come between and that adds at least one file. False: another writer was
    /// faster, the log has been read again, and the change must be made anew.
    pub(crate) async fn attempt(&mut self, table: Table, change: Change<'_>) -> Result<bool> {
        let before = self.version(table);
        let added = change.actions.iter().find_map(|action| match action {
            Action::Add(add) => Some(add.path.clone()),
            _ => None,
        });
        let Err(cause) = self.transact(table, change).await else { return Ok(true) };
        self.read_again(table).await?;
        let after = self.version(table);
        if self.was_added(table, before + 1..=after, added.as_deref()).await? {
            return Ok(true);
        }
        if after == before {
            return Err(self.failed("commit to", cause));
        }
        tracing::debug!(%cause, table = table.name(), "another writer was faster");
        Ok(false)
    }

    /// What to say when [`Store::attempt`] was in vain [`ATTEMPTS`] times.
    pub(crate) fn overtaken(&self, table: Table) -> crate::error::Error {
        self.failed("commit to", format!("other writers of `{}` were faster {ATTEMPTS} times", table.name()))
    }

    /// Whether one of these transactions added the file: a lost answer is no failed commit.
    async fn was_added(
        &self,
        table: Table,
        versions: std::ops::RangeInclusive<Version>,
        path: Option<&str>,
    ) -> Result<bool> {
        let Some(path) = path else { return Ok(false) };
        for version in versions {
            let actions = self.transaction(table, version).await?;
            if actions.iter().any(|action| matches!(action, Action::Add(add) if add.path == path)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The actions of one version of a table's log.
    pub(crate) async fn transaction(&self, table: Table, version: Version) -> Result<Vec<Action>> {
        let entry = self.log(table).read_commit_entry(version).await.map_err(|cause| self.failed("read", cause))?;
        get_actions(version, &entry.unwrap_or_default()).map_err(|cause| self.failed("read", cause))
    }

    /// Reads a table's log after an error, more than once if need be: what is not known now may be done twice.
    pub(crate) async fn read_again(&mut self, table: Table) -> Result<()> {
        for reading in 1..READINGS {
            match self.refresh_table(table).await {
                Ok(()) => return Ok(()),
                Err(cause) => tracing::debug!(%cause, table = table.name(), "cannot read the log yet"),
            }
            tokio::time::sleep(PAUSE * reading).await;
        }
        self.refresh_table(table).await
    }

    /// One transaction in one table's log, on top of the version last known; no other writer may have come between. The table is
    /// then as it is after it.
    pub(crate) async fn transact(&mut self, table: Table, change: Change<'_>) -> Result<(), DeltaTableError> {
        self.write_log(table, change).await?;
        self.write_checkpoints(&[table]).await;
        self.load_behind(table).await
    }

    /// The same, but the table is not read again: for that, all its files are gone through, as many as there are. A
    /// checkpoint that is due stays due, for the same reason: [`Store::write_checkpoints`].
    pub(crate) async fn write_log(&mut self, table: Table, change: Change<'_>) -> Result<(), DeltaTableError> {
        let Change { actions, run_id, number, compaction } = change;
        let mut info = HashMap::from([(RUN_ID.to_owned(), Value::from(run_id))]);
        info.extend(number.map(|number| (NUMBER.to_owned(), Value::from(number))));
        let operation = if compaction {
            DeltaOperation::Optimize { predicate: None, target_size: FILE_BYTES as i64 }
        } else {
            DeltaOperation::Write {
                mode: SaveMode::Append,
                partition_by: table.partition_column().map(|_| vec![SPEC_ID.to_owned()]),
                predicate: None,
            }
        };
        let state = self.tables[table as usize].snapshot()?;
        let interval = state.table_config().checkpoint_interval().get();
        PROTOCOL.can_commit(state, &actions, &operation)?;
        let transaction = number.map(|number| Transaction::new(APPLICATION, number));
        let entry = CommitData::new(actions, operation, info, transaction.into_iter().collect()).get_bytes()?;
        let version = self.versions[table as usize] + 1;
        self.log(table).write_commit_entry(version, CommitOrBytes::LogBytes(entry), Uuid::new_v4()).await?;
        self.versions[table as usize] = version;
        if number.is_some() {
            self.commits[table as usize] = number;
        }
        self.due[table as usize] |= (version + 1).is_multiple_of(interval);
        Ok(())
    }

    /// Writes the checkpoints of these tables that are due.
    pub(crate) async fn write_checkpoints(&mut self, tables: &[Table]) {
        for &table in tables {
            if std::mem::take(&mut self.due[table as usize])
                && let Err(cause) = self.write_checkpoint(table).await
            {
                // A log can be read without; the next one makes up for it.
                tracing::debug!(%cause, table = table.name(), "no checkpoint is written");
            }
        }
    }

    /// Writes a checkpoint of a table, and removes log entries of more than a month ago where the table has it so.
    async fn write_checkpoint(&mut self, table: Table) -> Result<(), DeltaTableError> {
        self.load_behind(table).await?;
        let loaded = &self.tables[table as usize];
        create_checkpoint(loaded, None).await?;
        if loaded.snapshot()?.table_config().enable_expired_log_cleanup() {
            cleanup_metadata(loaded, None).await?;
        }
        self.load_anew(table).await
    }

    /// Reads what commits have added to the logs of these tables since they were last read.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] where a log cannot be read.
    pub async fn catch_up(&mut self, tables: &[Table]) -> Result<()> {
        for table in tables {
            if self.load_behind(*table).await.is_err() {
                self.read_again(*table).await?;
            }
        }
        Ok(())
    }

    /// Brings a table to the version last known. What follows a loaded version is kept transaction by transaction, each of which
    /// the next reading goes through again, so now and then it is loaded anew.
    async fn load_behind(&mut self, table: Table) -> Result<(), DeltaTableError> {
        let (known, loaded) = (self.versions[table as usize], self.loaded[table as usize]);
        if self.tables[table as usize].version() == Some(known) {
            return Ok(());
        }
        if known >= loaded + RELOAD {
            return self.load_anew(table).await;
        }
        self.tables[table as usize].update_incremental(Some(known)).await
    }

    async fn load_anew(&mut self, table: Table) -> Result<(), DeltaTableError> {
        let known = self.versions[table as usize];
        let mut loaded = DeltaTable::new(self.log(table));
        loaded.load_version(known).await?;
        self.tables[table as usize] = loaded;
        self.loaded[table as usize] = known;
        Ok(())
    }

    /// One file with these rows, of a table without partitions; none without rows.
    pub(crate) async fn write_rows(&self, table: Table, rows: &RecordBatch) -> Result<Option<WrittenFile>> {
        let mut files = TableFiles::new(table, self.location(), "").with_file_bytes(usize::MAX);
        let written = async {
            files.write(rows).await?;
            files.finish().await
        };
        written.await.map_err(|cause| self.failed("write to", cause))
    }

    /// The Add action of a written file.
    pub(crate) fn parse(&self, file: &WrittenFile) -> Result<Add> {
        serde_json::from_str(&file.action).map_err(|cause| self.failed("commit to", cause))
    }
}

#[cfg(test)]
mod tests;

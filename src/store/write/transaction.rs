//! Delta transactions: writes one version of a table's log, and finds out the outcome after an error. In: actions for one
//! table. Out: the table's next version, or the writer that was faster. It must not interpret the actions.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitData, PROTOCOL};
use deltalake_core::kernel::{Action, Add, Transaction, Version};
use deltalake_core::logstore::{CommitOrBytes, get_actions};
use deltalake_core::protocol::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::config::TablePropertiesExt;
use serde_json::Value;
use uuid::Uuid;

use crate::error::Result;
use crate::store::delta_store::Store;
use crate::store::log::log_files::{APPLICATION, FILES, NUMBER, RUN_ID};
use crate::store::log::open_table::OpenTable;
use crate::store::table_files::{FILE_BYTES, TableFiles, WrittenFile};
use crate::tables::{SPEC_ID, Table};

/// How often a change is attempted that can conflict with other writers.
pub(crate) const ATTEMPTS: usize = 16;
/// After an error the log is read up to this many times,
const READ_ATTEMPTS: u32 = 4;
/// with a pause after each failed attempt that grows by this much.
const PAUSE: Duration = Duration::from_millis(100);

/// One transaction on one table.
pub(crate) struct Change<'run> {
    pub(crate) actions: Vec<Action>,
    /// The run that commits it.
    pub(crate) run_id: &'run str,
    /// The number of the commit it is part of, if any.
    pub(crate) number: Option<i64>,
    /// Whether it changes only files, not rows.
    pub(crate) compaction: bool,
}

impl Store {
    /// Adds rows to a table outside any commit: to `runs` or `metrics`. Other runs can do the same concurrently.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the file or the log cannot be written.
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

    /// Attempts a change that adds at least one file and can conflict with other writers. Returns false if another writer was
    /// faster: the log has been read again, and the caller must build the change again.
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

    /// The error after [`ATTEMPTS`] conflicts in [`Store::attempt`].
    pub(crate) fn overtaken(&self, table: Table) -> crate::error::Error {
        self.failed("commit to", format!("other writers of `{}` were faster {ATTEMPTS} times", table.name()))
    }

    /// Whether one of these transactions added the file: the commit can have succeeded although its answer was lost.
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

    /// Reads a table's log after an error, with retries: without the log's current state a change could be committed twice.
    pub(crate) async fn read_again(&mut self, table: Table) -> Result<()> {
        for attempt in 1..READ_ATTEMPTS {
            match self.refresh_table(table).await {
                Ok(()) => return Ok(()),
                Err(cause) => tracing::debug!(%cause, table = table.name(), "cannot read the log yet"),
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        self.refresh_table(table).await
    }

    /// Writes one transaction to a table's log, on top of the newest known version, and reads the table. Fails if another writer
    /// has committed that version.
    pub(crate) async fn transact(&mut self, table: Table, change: Change<'_>) -> Result<(), DeltaTableError> {
        self.write_log(table, change).await?;
        self.write_checkpoints(&[table]).await;
        self.tables[table].load_known().await
    }

    /// Like [`Store::transact`], without reading the table, which takes time in proportion to its number of files. For the same
    /// reason a due checkpoint is only noted, for [`Store::write_checkpoints`].
    pub(crate) async fn write_log(&mut self, table: Table, change: Change<'_>) -> Result<(), DeltaTableError> {
        self.tables[table].write_log(change).await
    }

    /// Writes the due checkpoints of these tables.
    pub(crate) async fn write_checkpoints(&mut self, tables: &[Table]) {
        for &table in tables {
            if self.tables[table].take_checkpoint_due()
                && let Err(cause) = self.tables[table].write_checkpoint().await
            {
                // The log is readable without it, and the next checkpoint covers it.
                tracing::debug!(%cause, table = table.name(), "cannot write a checkpoint");
            }
        }
    }

    /// Reads the commits of these tables that were written since the tables were last read.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a log cannot be read.
    pub async fn catch_up(&mut self, tables: &[Table]) -> Result<()> {
        for table in tables {
            if self.tables[*table].load_known().await.is_err() {
                self.read_again(*table).await?;
            }
        }
        Ok(())
    }

    /// Writes these rows to one file of an unpartitioned table. `None` if there are no rows.
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

impl OpenTable {
    async fn write_log(&mut self, change: Change<'_>) -> Result<(), DeltaTableError> {
        let Change { actions, run_id, number, compaction } = change;
        let mut info =
            HashMap::from([(RUN_ID.to_owned(), Value::from(run_id)), (FILES.to_owned(), Value::from(actions.len()))]);
        info.extend(number.map(|number| (NUMBER.to_owned(), Value::from(number))));
        let operation = if compaction {
            DeltaOperation::Optimize { predicate: None, target_size: FILE_BYTES as i64 }
        } else {
            DeltaOperation::Write {
                mode: SaveMode::Append,
                partition_by: self.table().partition_column().map(|_| vec![SPEC_ID.to_owned()]),
                predicate: None,
            }
        };
        let state = self.delta().snapshot()?;
        let interval = state.table_config().checkpoint_interval().get();
        PROTOCOL.can_commit(state, &actions, &operation)?;
        let transaction = number.map(|number| Transaction::new(APPLICATION, number));
        let entry = CommitData::new(actions, operation, info, transaction.into_iter().collect()).get_bytes()?;
        let version = self.version() + 1;
        self.log().write_commit_entry(version, CommitOrBytes::LogBytes(entry), Uuid::new_v4()).await?;
        self.written(version, number, (version + 1).is_multiple_of(interval));
        Ok(())
    }

    /// Writes a checkpoint, and removes expired log entries if the table's settings say so.
    async fn write_checkpoint(&mut self) -> Result<(), DeltaTableError> {
        self.load_known().await?;
        create_checkpoint(self.delta(), None).await?;
        if self.delta().snapshot()?.table_config().enable_expired_log_cleanup() {
            cleanup_metadata(self.delta(), None).await?;
        }
        self.reload().await
    }
}

#[cfg(test)]
mod tests;

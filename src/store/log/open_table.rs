//! An open Delta table of a store. In: a location. Out: the table's newest known version, the last commit in it, and its snapshot. It must
//! not know the other tables.

use std::sync::Arc;

use arrow::datatypes::DataType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{EagerSnapshot, StructType, Version};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaTable, DeltaTableError};

use crate::error::{Cause, Error, Result};
use crate::source::location::StoreLocation;
use crate::store::log::features;
use crate::store::log::hidden_files::HiddenFiles;
use crate::store::log::log_files::{APPLICATION, LogFiles};
use crate::store::log::log_store::log_store;
use crate::tables::Table;

/// After this many transactions a table is loaded from scratch.
const RELOAD: u64 = 20;

/// A Delta table of the store, with what is known of its log.
pub(crate) struct OpenTable {
    table: Table,
    delta: DeltaTable,
    /// The object store as the log is read through it: without the checkpoints that cannot be read.
    files: Arc<HiddenFiles>,
    /// The newest known version. After a commit, `delta` can be older.
    version: Version,
    /// The version at which `delta` was last loaded from scratch.
    loaded: Version,
    /// The number of our application transaction, cached: reading it from the log costs as much as a commit.
    commit: Option<i64>,
    /// Whether a checkpoint is due and not written yet.
    checkpoint_due: bool,
}

impl OpenTable {
    /// The table, not read yet.
    pub(crate) fn new(location: &StoreLocation, table: Table) -> Self {
        let files = Arc::new(HiddenFiles::new(Arc::clone(location.objects())));
        let delta = DeltaTable::new(log_store(location, table, Arc::clone(&files) as _));
        Self { table, delta, files, version: 0, loaded: 0, commit: None, checkpoint_due: false }
    }

    /// Reads the table, whose log is `log`. A checkpoint that cannot be read is left out, as long as there are log entries to read
    /// instead; a run then writes a new one.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a log entry is gone or not whole, [`Error::Unsupported`] if the table asks something that we do not honour,
    /// [`Error::Store`] if it cannot be read.
    pub(crate) async fn open(&mut self, location: &StoreLocation, log: &LogFiles) -> Result<()> {
        let store = location.to_string();
        let mut first = None;
        while let Err(cause) = self.load().await {
            let cause = first.get_or_insert(cause);
            if let Some(error) = features::explain(&store, self.table, &log.protocols(self.files.as_ref()).await) {
                return Err(error);
            }
            let Some(name) = log.hide_checkpoint(&self.files) else {
                log.check(&self.files, true).await?;
                // Every entry is whole, so this is no damage of ours.
                return Err(failed(location, "open", cause.to_string()));
            };
            tracing::warn!(
                "cannot read `{name}` of the table `{}`: reading its log entries instead",
                self.table.name()
            );
            self.delta = DeltaTable::new(log_store(location, self.table, Arc::clone(&self.files) as _));
            self.checkpoint_due = true;
        }
        // On an object store an object is there whole or not at all.
        log.check(&self.files, location.folder().is_some()).await?;
        features::check(&store, self.table, self.snapshot().map_err(|cause| failed(location, "open", cause))?)?;
        self.read_commit().await.map_err(|cause| failed(location, "read", cause))
    }

    pub(crate) async fn create(&mut self, location: &StoreLocation, id_type: &DataType) -> Result<()> {
        match create_table(self.log(), self.table, id_type).await {
            Ok(created) => {
                self.delta = created;
                self.version = self.delta.version().unwrap_or_default();
                self.loaded = self.version;
                Ok(())
            }
            // Another process was faster. Its table will do; if not, loading it fails with the reason.
            Err(cause) if self.exists().await.unwrap_or(false) => {
                tracing::debug!(%cause, table = self.table.name(), "another process created the table");
                let read = async {
                    self.load().await?;
                    self.read_commit().await
                };
                read.await.map_err(|cause| failed(location, "open", cause))
            }
            Err(cause) => Err(failed(location, "create a table of", cause)),
        }
    }

    /// Whether the table is there.
    async fn exists(&self) -> Result<bool, DeltaTableError> {
        self.log().is_delta_table_location().await
    }

    /// Reads the newest version from scratch.
    pub(crate) async fn load(&mut self) -> Result<(), DeltaTableError> {
        self.delta.load().await?;
        self.version = self.delta.version().unwrap_or_default();
        self.loaded = self.version;
        Ok(())
    }

    /// Reads what was committed since the last read.
    pub(crate) async fn refresh(&mut self) -> Result<(), DeltaTableError> {
        self.delta.update_state().await?;
        self.version = self.delta.version().unwrap_or_default();
        self.read_commit().await
    }

    async fn read_commit(&mut self) -> Result<(), DeltaTableError> {
        let log = self.log();
        self.commit = self.delta.snapshot()?.snapshot().transaction_version(log.as_ref(), APPLICATION).await?;
        Ok(())
    }

    /// Reads the newest known version. Incremental updates keep each transaction, and every later update goes through all of them, so
    /// after [`RELOAD`] transactions the table is loaded from scratch.
    pub(crate) async fn load_known(&mut self) -> Result<(), DeltaTableError> {
        if self.delta.version() == Some(self.version) {
            return Ok(());
        }
        if self.version >= self.loaded + RELOAD {
            return self.reload().await;
        }
        self.delta.update_incremental(Some(self.version)).await
    }

    /// Reads the newest known version from scratch.
    pub(crate) async fn reload(&mut self) -> Result<(), DeltaTableError> {
        let mut loaded = DeltaTable::new(self.log());
        loaded.load_version(self.version).await?;
        self.delta = loaded;
        self.loaded = self.version;
        Ok(())
    }

    /// Notes a version that this process has written, and the number of the commit that it belongs to.
    pub(crate) fn written(&mut self, version: Version, commit: Option<i64>, checkpoint_due: bool) {
        self.version = version;
        self.commit = commit.or(self.commit);
        self.checkpoint_due |= checkpoint_due;
    }

    /// Whether a checkpoint is due; it counts as written from now on.
    pub(crate) fn take_checkpoint_due(&mut self) -> bool {
        std::mem::take(&mut self.checkpoint_due)
    }

    /// Which table it is.
    pub(crate) fn table(&self) -> Table {
        self.table
    }

    /// The table as last read.
    pub(crate) fn delta(&self) -> &DeltaTable {
        &self.delta
    }

    pub(crate) fn log(&self) -> LogStoreRef {
        self.delta.log_store()
    }

    /// The newest known version: the number of transactions in the log, minus one.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The number of the last commit in the table; `None` before the first.
    pub(crate) fn commit(&self) -> Option<i64> {
        // A first commit that was rolled back leaves 0: a log cannot forget a transaction, only overwrite its number.
        self.commit.filter(|number| *number > 0)
    }

    /// The snapshot at the newest known version. Fails if that version was not read yet.
    pub(crate) fn snapshot(&self) -> Result<&EagerSnapshot, Cause> {
        let state = self.delta.snapshot()?;
        if state.version() == self.version {
            return Ok(state.snapshot());
        }
        // Never return an older snapshot than the newest version: existing rows would seem absent.
        Err(format!("`{}` was committed to and not read again", self.table.name()).into())
    }

    /// The type of the column `doc_id`, if the table has one.
    pub(crate) fn id_type(&self) -> Result<Option<DataType>, DeltaTableError> {
        let columns = self.delta.snapshot()?.snapshot().arrow_schema();
        Ok(columns.field_with_name("doc_id").ok().map(|field| field.data_type().clone()))
    }
}

async fn create_table(log: LogStoreRef, table: Table, id_type: &DataType) -> Result<DeltaTable, DeltaTableError> {
    let schema: StructType = table
        .schema(id_type)
        .as_ref()
        .try_into_kernel()
        .map_err(|cause: arrow::error::ArrowError| DeltaTableError::GenericError { source: Box::new(cause) })?;
    CreateBuilder::new()
        .with_log_store(log)
        .with_table_name(table.name())
        .with_columns(schema.fields().cloned())
        .with_partition_columns(table.partition_column())
        .await
}

/// The error for `doing` something with the store at `location`, such as `read`.
pub(crate) fn failed(location: &StoreLocation, doing: &str, cause: impl Into<Cause>) -> Error {
    Error::Store { doing: doing.to_owned(), store: location.to_string(), source: cause.into() }
}

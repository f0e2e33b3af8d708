//! The open Delta tables of a store. In: a location. Out: for each table its newest known version, the last commit in it, and its
//! snapshot. A table must not know the other tables.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use arrow::datatypes::DataType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{EagerSnapshot, StructType, Version};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::prefix::PrefixStore;

use crate::error::{Cause, Error, Result};
use crate::source::location::StoreLocation;
use crate::tables::Table;

/// Our application id in the tables' transactions (Delta protocol, "Transaction Identifiers").
pub(crate) const APPLICATION: &str = "quarry";
/// After this many transactions a table is loaded from scratch.
const RELOAD: u64 = 20;

/// A Delta table of the store, with what is known of its log.
pub(crate) struct OpenTable {
    table: Table,
    delta: DeltaTable,
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
        let delta = DeltaTable::new(log_store(location, table));
        Self { table, delta, version: 0, loaded: 0, commit: None, checkpoint_due: false }
    }

    /// Reads the table. If it is absent and `id_type` is given, creates it.
    async fn open(&mut self, location: &StoreLocation, id_type: Option<&DataType>) -> Result<()> {
        let exists = self.exists().await.map_err(|cause| failed(location, "open", cause))?;
        match (exists, id_type) {
            (true, _) => self.load().await.map_err(|cause| failed(location, "open", cause))?,
            (false, Some(id_type)) => self.create(location, id_type).await?,
            (false, None) => {
                return Err(Error::Refused {
                    store: location.to_string(),
                    reason: format!("has no table `{}`", self.table.name()),
                    hint: "check the path; `quarry run` makes a store where there is none".to_owned(),
                });
            }
        }
        self.read_commit().await.map_err(|cause| failed(location, "read", cause))
    }

    async fn create(&mut self, location: &StoreLocation, id_type: &DataType) -> Result<()> {
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
                self.load().await.map_err(|cause| failed(location, "open", cause))
            }
            Err(cause) => Err(failed(location, "create a table of", cause)),
        }
    }

    /// Whether the table is there.
    pub(crate) async fn exists(&self) -> Result<bool, DeltaTableError> {
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

/// The six tables of a store, by [`Table`].
pub(crate) struct OpenTables([OpenTable; Table::ALL.len()]);

impl OpenTables {
    /// Opens the tables in this order. If `id_type` is given, absent ones are created.
    ///
    /// # Errors
    /// [`Error::Refused`] if a table is absent and not created, [`Error::Store`] if one cannot be read or created.
    pub(crate) async fn open(
        location: &StoreLocation,
        order: [Table; Table::ALL.len()],
        id_type: Option<&DataType>,
    ) -> Result<Self> {
        let mut tables = Self(Table::ALL.map(|table| OpenTable::new(location, table)));
        for table in order {
            tables[table].open(location, id_type).await?;
        }
        Ok(tables)
    }
}

impl Index<Table> for OpenTables {
    type Output = OpenTable;

    fn index(&self, table: Table) -> &OpenTable {
        &self.0[table as usize]
    }
}

impl IndexMut<Table> for OpenTables {
    fn index_mut(&mut self, table: Table) -> &mut OpenTable {
        &mut self.0[table as usize]
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

/// The log is written with conditional puts (`If-None-Match`, on a local disk a hard link): if two writers write the same version,
/// one of them fails.
fn log_store(location: &StoreLocation, table: Table) -> LogStoreRef {
    let root = location.objects().clone();
    let folder = Arc::new(PrefixStore::new(root.clone(), location.table_path(table)));
    default_logstore(folder, root, &location.table_url(table), &StorageConfig::default())
}

/// The error for `doing` something with the store at `location`, such as `read`.
pub(crate) fn failed(location: &StoreLocation, doing: &str, cause: impl Into<Cause>) -> Error {
    Error::Store { doing: doing.to_owned(), store: location.to_string(), source: cause.into() }
}

//! The open Delta tables of a store. In: a location. Out: for each table its newest known version, the last commit in it, and its
//! snapshot. A table must not know the other tables.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use arrow::datatypes::DataType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{EagerSnapshot, StructType, Version};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use object_store::path::Path;

use crate::error::{Cause, Error, Result};
use crate::source::location::StoreLocation;
use crate::store::log::features;
use crate::store::log::hidden_files::HiddenFiles;
use crate::store::log::log_files::{APPLICATION, LogFiles, damaged};
use crate::store::log::log_store::log_store;
use crate::tables::Table;

/// The order of reading, the reverse of the order in which a commit writes: rows that one table shows as done are then in the tables
/// read after it.
pub(crate) const READING: [Table; 6] =
    [Table::Runs, Table::Metrics, Table::Documents, Table::Sources, Table::Rejects, Table::Entities];
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

/// The six tables of a store, by [`Table`].
pub(crate) struct OpenTables([OpenTable; Table::ALL.len()]);

impl OpenTables {
    /// Opens the tables. If `id_type` is given and there is no store yet, they are created; a run that was killed meanwhile leaves some
    /// of them, without transactions.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no store and none is created; [`Error::Damaged`] if a table is gone or has lost something;
    /// [`Error::Unsupported`] if a table asks something that we do not honour; [`Error::Store`] if one cannot be read or created.
    pub(crate) async fn open(location: &StoreLocation, id_type: Option<&DataType>) -> Result<Self> {
        let mut tables = Self(Table::ALL.map(|table| OpenTable::new(location, table)));
        let logs = TableLogs::list(location).await?;
        for table in READING {
            let log = &logs.0[table as usize];
            if log.exists() {
                tables[table].open(location, log).await?;
            } else if let Some(id_type) = id_type.filter(|_| !logs.were_used()) {
                expect_no_files(location, table).await?;
                tables[table].create(location, id_type).await?;
            } else {
                return Err(logs.absent(location, table));
            }
        }
        tables.check_commits(location).await?;
        tables.check_files(location)?;
        Ok(tables)
    }
}

/// The logs of the six tables, by [`Table`].
pub(crate) struct TableLogs([LogFiles; Table::ALL.len()]);

impl TableLogs {
    /// Lists them.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be listed.
    pub(crate) async fn list(location: &StoreLocation) -> Result<Self> {
        let listing = Table::ALL.map(|table| LogFiles::list(location, table));
        let logs = try_join_all(listing).await.map_err(|cause| failed(location, "open", cause))?;
        logs.try_into().map(Self).map_err(|_| failed(location, "open", "it does not have six tables"))
    }

    /// The log of a table.
    ///
    /// # Errors
    /// As [`OpenTables::open`] if it is absent from a store that has others.
    pub(crate) fn of(&self, location: &StoreLocation, table: Table) -> Result<Option<&LogFiles>> {
        let log = &self.0[table as usize];
        if log.exists() {
            Ok(Some(log))
        } else if self.were_used() {
            Err(self.absent(location, table))
        } else {
            Ok(None)
        }
    }

    /// Whether there is a transaction in one of the tables after its creation: all six tables have then been there.
    fn were_used(&self) -> bool {
        self.0.iter().any(LogFiles::was_used)
    }

    fn absent(&self, location: &StoreLocation, table: Table) -> Error {
        if self.were_used() {
            return damaged(&location.to_string(), table, "its log is gone".to_owned());
        }
        Error::Refused {
            store: location.to_string(),
            reason: format!("has no table `{}`", table.name()),
            hint: "check the path; `quarry run` makes a store where there is none".to_owned(),
        }
    }
}

/// Checks that a table which is to be created has no data files yet: they would be those of a log that is gone.
async fn expect_no_files(location: &StoreLocation, table: Table) -> Result<()> {
    let folder = location.table_path(table);
    let mut listed = location.objects().list(Some(&folder));
    loop {
        match listed.try_next().await {
            Ok(Some(file)) if file.location.extension() == Some("parquet") => {
                let log = LogFiles::list(location, table).await.map_err(|cause| failed(location, "open", cause))?;
                if log.exists() {
                    return Ok(()); // another process has just created the table
                }
                let path: Path = file.location.prefix_match(&folder).into_iter().flatten().collect();
                let reason = format!("it has files, such as `{path}`, but no log");
                return Err(damaged(&location.to_string(), table, reason));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(cause) => return Err(failed(location, "open", cause)),
        }
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

/// The error for `doing` something with the store at `location`, such as `read`.
pub(crate) fn failed(location: &StoreLocation, doing: &str, cause: impl Into<Cause>) -> Error {
    Error::Store { doing: doing.to_owned(), store: location.to_string(), source: cause.into() }
}

//! A store: six Delta tables in one location. In: a location. Out: the tables, created if absent, their versions, and a provider to
//! read each. It must not run extraction or hold rows; `write` changes the tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{EagerSnapshot, StructType, Version};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::prefix::PrefixStore;

use crate::error::{Cause, Error, Result};
use crate::source::location::StoreLocation;
use crate::store::provider::StoreTable;
use crate::tables::Table;

/// Our application id in the tables' transactions (Delta protocol, "Transaction Identifiers").
pub const APPLICATION: &str = "quarry";

/// The order of reading, the reverse of the order in which a commit writes: rows that one table shows as done are then in the tables
/// read after it.
const READING: [Table; 6] =
    [Table::Runs, Table::Metrics, Table::Documents, Table::Sources, Table::Rejects, Table::Entities];

/// A store at the versions at which it was opened, refreshed or last committed to.
pub struct Store {
    location: StoreLocation,
    id_type: DataType,
    /// In the order of [`Table::ALL`].
    pub(crate) tables: Vec<DeltaTable>,
    /// The newest known version of each table, in the same order. After a commit, the loaded table can be older.
    pub(crate) versions: Vec<Version>,
    /// The version at which each table was last loaded from scratch.
    pub(crate) loaded: Vec<Version>,
    /// The application transaction of each table, cached: reading it from the log costs as much as a commit.
    pub(crate) commits: Vec<Option<i64>>,
    /// Whether a checkpoint of each table is due and not written yet.
    pub(crate) due: Vec<bool>,
}

impl Store {
    /// Opens the store at `location` and creates absent tables. `id_type` is the type of `doc_id`, as
    /// [`crate::tables::id_type`] returns it.
    ///
    /// # Errors
    /// [`Error::Refused`] if a table exists with other columns, [`Error::Store`] if one cannot be read or created.
    pub async fn open(location: StoreLocation, id_type: DataType) -> Result<Self> {
        if let Some(folder) = location.folder() {
            std::fs::create_dir_all(&folder).map_err(|cause| Error::Write { path: folder, source: Box::new(cause) })?;
        }
        let mut tables = Vec::new();
        for table in Table::ALL {
            tables.push(open_table(&location, table, Some(&id_type)).await?);
        }
        Self::checked(location, id_type, tables).await
    }

    /// Opens an existing store for reading. Nothing is created; the type of `doc_id` is the store's.
    ///
    /// # Errors
    /// [`Error::Refused`] if a table is absent or has other columns, [`Error::Store`] if one cannot be read.
    pub async fn open_existing(location: StoreLocation) -> Result<Self> {
        let mut opened = Vec::new();
        for table in READING {
            opened.push((table, open_table(&location, table, None).await?));
        }
        opened.sort_by_key(|(table, _)| *table);
        let tables: Vec<DeltaTable> = opened.into_iter().map(|(_, table)| table).collect();
        let state = tables[Table::Documents as usize].snapshot();
        let columns = state.map_err(|cause| failed(&location, "open", cause))?.snapshot().arrow_schema();
        let id_type = columns.field_with_name("doc_id").map_or(DataType::Utf8, |field| field.data_type().clone());
        Self::checked(location, id_type, tables).await
    }

    async fn checked(location: StoreLocation, id_type: DataType, tables: Vec<DeltaTable>) -> Result<Self> {
        let versions: Vec<Version> = tables.iter().map(|table| table.version().unwrap_or_default()).collect();
        let (commits, due) = (vec![None; Table::ALL.len()], vec![false; Table::ALL.len()]);
        let mut store = Self { location, id_type, tables, loaded: versions.clone(), versions, commits, due };
        store.check_columns()?;
        for table in Table::ALL {
            store.read_commit(table).await?;
        }
        Ok(store)
    }

    /// The type of `doc_id` in the store at `location`; `None` if there is no store yet.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read.
    pub async fn id_type_at(location: &StoreLocation) -> Result<Option<DataType>> {
        let log = log_store(location, Table::Documents);
        if !log.is_delta_table_location().await.map_err(|cause| failed(location, "open", cause))? {
            return Ok(None);
        }
        let documents = open_table(location, Table::Documents, None).await?;
        let state = documents.snapshot().map_err(|cause| failed(location, "open", cause))?;
        let columns = state.snapshot().arrow_schema();
        Ok(columns.field_with_name("doc_id").ok().map(|field| field.data_type().clone()))
    }

    /// Reads what other writers have committed since the last read.
    ///
    /// # Errors
    /// [`Error::Store`] if a log cannot be read.
    pub async fn refresh(&mut self) -> Result<()> {
        for table in READING {
            self.refresh_table(table).await?;
        }
        Ok(())
    }

    pub(crate) async fn refresh_table(&mut self, table: Table) -> Result<()> {
        let outcome = self.tables[table as usize].update_state().await;
        outcome.map_err(|cause| self.failed("read", cause))?;
        self.versions[table as usize] = self.tables[table as usize].version().unwrap_or_default();
        self.read_commit(table).await
    }

    async fn read_commit(&mut self, table: Table) -> Result<()> {
        let log = self.log(table);
        let number = self.snapshot(table)?.transaction_version(log.as_ref(), APPLICATION).await;
        self.commits[table as usize] = number.map_err(|cause| self.failed("read", cause))?;
        Ok(())
    }

    /// The store's location.
    #[must_use]
    pub fn location(&self) -> &StoreLocation {
        &self.location
    }

    /// The type of `doc_id` in this store.
    #[must_use]
    pub fn id_type(&self) -> &DataType {
        &self.id_type
    }

    /// Checks that documents have ids of the store's type; with another type, lookups would find none of them.
    ///
    /// # Errors
    /// [`Error::Refused`] if they have another type.
    pub fn expect_ids(&self, id_type: &DataType) -> Result<()> {
        if id_type == &self.id_type { Ok(()) } else { Err(other_ids(&self.location, &self.id_type, id_type)) }
    }

    /// The table's columns in this store, the partition column included.
    #[must_use]
    pub fn schema(&self, table: Table) -> SchemaRef {
        table.schema(&self.id_type)
    }

    /// The newest known version of a table: the number of transactions in its log, minus one.
    #[must_use]
    pub fn version(&self, table: Table) -> Version {
        self.versions[table as usize]
    }

    /// The number of the last commit in a table; `None` before the first.
    #[must_use]
    pub fn table_commit(&self, table: Table) -> Option<i64> {
        // A first commit that was rolled back leaves 0: a log cannot forget a transaction, only overwrite its number.
        self.commits[table as usize].filter(|number| *number > 0)
    }

    /// The number of the last complete commit; `None` before the first. `documents` is written last, so it decides.
    #[must_use]
    pub fn last_commit(&self) -> Option<i64> {
        self.table_commit(Table::Documents)
    }

    /// A table at [`Store::version`], for SQL.
    ///
    /// # Errors
    /// [`Error::Store`] if the log has an invalid entry for a file.
    pub fn provider(&self, table: Table) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(StoreTable::try_new(&self.location, table, &self.id_type, self.snapshot(table)?)?))
    }

    /// The snapshot of a table at [`Store::version`].
    pub(crate) fn snapshot(&self, table: Table) -> Result<&EagerSnapshot> {
        let state = self.tables[table as usize].snapshot().map_err(|cause| self.failed("read", cause))?;
        if state.version() == self.version(table) {
            return Ok(state.snapshot());
        }
        // Never return an older snapshot than the newest version: existing rows would seem absent.
        Err(self.failed("read", format!("`{}` was committed to and not read again", table.name())))
    }

    pub(crate) fn log(&self, table: Table) -> LogStoreRef {
        self.tables[table as usize].log_store()
    }

    pub(crate) fn failed(&self, doing: &str, cause: impl Into<Cause>) -> Error {
        failed(&self.location, doing, cause)
    }

    fn check_columns(&self) -> Result<()> {
        for table in Table::ALL {
            let (found, expected) = (self.snapshot(table)?.arrow_schema(), table.schema(&self.id_type));
            let same_ids = match (found.field_with_name("doc_id"), expected.field_with_name("doc_id")) {
                (Ok(found), Ok(expected)) if found.data_type() != expected.data_type() => {
                    return Err(other_ids(&self.location, found.data_type(), expected.data_type()));
                }
                (found, expected) => found.is_ok() == expected.is_ok(),
            };
            let columns = |schema: &SchemaRef| {
                let fields = schema.fields().iter();
                fields.map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
            };
            if !same_ids || columns(&found) != columns(&expected) {
                return Err(Error::Refused {
                    store: self.location.to_string(),
                    reason: format!("has a table `{}` whose columns are not those of this version", table.name()),
                    hint: "name a new store, or use the version of quarry that made this one".to_owned(),
                });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("location", &self.location.url().as_str()).finish_non_exhaustive()
    }
}

/// Loads a table. If it is absent and `id_type` is given, creates it.
async fn open_table(location: &StoreLocation, table: Table, id_type: Option<&DataType>) -> Result<DeltaTable> {
    let log = log_store(location, table);
    let exists = log.is_delta_table_location().await.map_err(|cause| failed(location, "open", cause))?;
    if !exists {
        let Some(id_type) = id_type else {
            return Err(Error::Refused {
                store: location.to_string(),
                reason: format!("has no table `{}`", table.name()),
                hint: "check the path; `quarry run` makes a store where there is none".to_owned(),
            });
        };
        match create_table(log.clone(), table, id_type).await {
            Ok(table) => return Ok(table),
            // Another process was faster. Its table will do; if not, loading it fails with the reason.
            Err(cause) if log.is_delta_table_location().await.unwrap_or(false) => {
                tracing::debug!(%cause, table = table.name(), "another process created the table");
            }
            Err(cause) => return Err(failed(location, "create a table of", cause)),
        }
    }
    let mut loaded = DeltaTable::new(log);
    loaded.load().await.map_err(|cause| failed(location, "open", cause))?;
    Ok(loaded)
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

fn other_ids(location: &StoreLocation, own: &DataType, documents: &DataType) -> Error {
    Error::Refused {
        store: location.to_string(),
        reason: format!("has document ids of the type {own}, and these documents have {documents}"),
        hint: "name another id column, or a new store".to_owned(),
    }
}

fn failed(location: &StoreLocation, doing: &str, cause: impl Into<Cause>) -> Error {
    Error::Store { doing: doing.to_owned(), store: location.to_string(), source: cause.into() }
}

#[cfg(test)]
mod tests;

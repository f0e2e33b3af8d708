//! A store: six Delta tables in one location. In: a location. Out: the tables, created if absent, their versions, and a provider to
//! read each. It must not run extraction or hold rows; `write` changes the tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::{EagerSnapshot, Version};
use deltalake_core::logstore::LogStoreRef;

use crate::error::{Cause, Error, Result};
use crate::source::location::StoreLocation;
use crate::store::log::conditional_puts;
use crate::store::log::features;
use crate::store::log::open_table::{OpenTable, failed};
use crate::store::log::open_tables::{OpenTables, READING, TableLogs};
use crate::store::provider::StoreTable;
use crate::tables::Table;

/// A store at the versions at which it was opened, refreshed or last committed to.
pub struct Store {
    location: StoreLocation,
    id_type: DataType,
    pub(crate) tables: OpenTables,
}

impl Store {
    /// Opens the store at `location` and creates absent tables. `id_type` is the type of `doc_id`, as
    /// [`crate::tables::id_type`] returns it.
    ///
    /// # Errors
    /// [`Error::Refused`] if a table exists with other columns, [`Error::Damaged`] if a table has lost something,
    /// [`Error::Unsupported`] if one asks something that we do not honour, [`Error::UnsafeStore`] if the object store has no conditional
    /// puts, [`Error::Store`] if a table cannot be read or created.
    pub async fn open(location: StoreLocation, id_type: DataType) -> Result<Self> {
        if let Some(folder) = location.folder() {
            std::fs::create_dir_all(&folder).map_err(|cause| Error::Write { path: folder, source: Box::new(cause) })?;
        }
        conditional_puts::check(&location).await?;
        let tables = OpenTables::open(&location, Some(&id_type)).await?;
        let mut store = Self::checked(location, id_type, tables)?;
        // Those that replace checkpoints which cannot be read: other tools need them.
        store.write_checkpoints(&Table::ALL).await;
        Ok(store)
    }

    /// Opens an existing store for reading. Nothing is created; the type of `doc_id` is the store's.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no store or a table has other columns, [`Error::Damaged`] if a table has lost something,
    /// [`Error::Unsupported`] if one asks something that we do not honour, [`Error::Store`] if one cannot be read.
    pub async fn open_existing(location: StoreLocation) -> Result<Self> {
        let tables = OpenTables::open(&location, None).await?;
        let id_type = tables[Table::Documents].id_type().map_err(|cause| failed(&location, "open", cause))?;
        Self::checked(location, id_type.unwrap_or(DataType::Utf8), tables)
    }

    fn checked(location: StoreLocation, id_type: DataType, tables: OpenTables) -> Result<Self> {
        let store = Self { location, id_type, tables };
        store.check_columns()?;
        Ok(store)
    }

    /// The type of `doc_id` in the store at `location`; `None` if there is no store yet.
    ///
    /// # Errors
    /// As for [`Store::open_existing`].
    pub async fn id_type_at(location: &StoreLocation) -> Result<Option<DataType>> {
        let logs = TableLogs::list(location).await?;
        let Some(log) = logs.of(location, Table::Documents)? else { return Ok(None) };
        let mut documents = OpenTable::new(location, Table::Documents);
        documents.open(location, log).await?;
        documents.id_type().map_err(|cause| failed(location, "open", cause))
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
        let outcome = self.tables[table].refresh().await;
        outcome.map_err(|cause| self.failed("read", cause))?;
        // Another tool can have changed more than files.
        features::check(&self.location.to_string(), table, self.snapshot(table)?)
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
        self.tables[table].version()
    }

    /// The number of the last commit in a table; `None` before the first.
    #[must_use]
    pub fn table_commit(&self, table: Table) -> Option<i64> {
        self.tables[table].commit()
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
        self.tables[table].snapshot().map_err(|cause| self.failed("read", cause))
    }

    pub(crate) fn log(&self, table: Table) -> LogStoreRef {
        self.tables[table].log()
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

fn other_ids(location: &StoreLocation, own: &DataType, documents: &DataType) -> Error {
    Error::Refused {
        store: location.to_string(),
        reason: format!("has document ids of the type {own}, and these documents have {documents}"),
        hint: "name another id column, or a new store".to_owned(),
    }
}

#[cfg(test)]
mod tests;

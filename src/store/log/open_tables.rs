//! The six open tables of a store. In: a location. Out: the tables, created if there is no store yet, or an error if one of them is gone. It
//! must not read what a log says.

use std::ops::{Index, IndexMut};

use arrow::datatypes::DataType;
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use object_store::ObjectStore as _;
use object_store::path::Path;

use crate::error::{Error, Result};
use crate::source::location::StoreLocation;
use crate::store::log::log_files::{LogFiles, damaged};
use crate::store::log::open_table::{OpenTable, failed};
use crate::tables::Table;

/// The order of reading, the reverse of the order in which a commit writes: rows that one table shows as done are then in the tables
/// read after it.
pub(crate) const READING: [Table; 6] =
    [Table::Runs, Table::Metrics, Table::Documents, Table::Sources, Table::Rejects, Table::Entities];
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

//! The rollback of an incomplete commit. In: a store that a killed run left. Out: a transaction in each table that restores the last complete
//! commit, also where another tool has merged the commit's files since. It must not touch complete commits.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::{Action, Version};
use futures::TryStreamExt;

use crate::error::{Error, Result};
use crate::store::data_files::{DataFile, data_files};
use crate::store::delta_store::Store;
use crate::store::log::log_files::{APPLICATION, damaged};
use crate::store::table_files::TableFiles;
use crate::store::write::commit::{ORDER, by_path};
use crate::store::write::transaction::{ATTEMPTS, Change};
use crate::tables::Table;

/// The action in errors about a commit that cannot be rolled back.
const ROLL_BACK: &str = "roll back an incomplete commit in";

impl Store {
    /// Rolls back an incomplete commit: removes its files, adds the files that it replaced, and sets each table's application
    /// transaction back to the last complete commit, so that the next commit gets the same number. Each log keeps both transactions.
    /// Where another tool has merged the commit's files into others since, those are rewritten without the commit's rows.
    /// Another writer can commit at the same time: if it completes the commit, the commit stays; otherwise its later transactions fail.
    /// Does nothing if there is no incomplete commit.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a file that the commit wrote or replaced is gone, [`Error::Store`] if a log cannot be read or written.
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
    pub(super) async fn roll_back(&mut self, tables: impl Iterator<Item = Table>, run_id: &str) -> Result<bool> {
        for table in tables {
            let (version, last) = (self.version(table), self.last_commit());
            let actions = match self.table_commit(table).filter(|number| Some(*number) > last) {
                Some(number) => self.inverse(table, number).await?,
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

    /// The inverse of a table's transaction of the commit `number`.
    async fn inverse(&self, table: Table, number: i64) -> Result<Vec<Action>> {
        let (version, actions) = self.transaction_of(table, number).await?;
        let mut current = by_path(self.data_files(table)?);
        let mut previous = BTreeMap::new();
        if actions.iter().any(|action| matches!(action, Action::Remove(_))) {
            previous = self.files_at(table, version - 1).await?;
        }
        let (mut inverse, mut merged) = (Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Add(add) => match current.remove(&add.path) {
                    Some(file) => inverse.push(file.remove(true)),
                    None => merged.push(add.path),
                },
                Action::Remove(remove) => {
                    let Some(file) = previous.get(&remove.path) else { continue };
                    self.expect_there(table, file, "that it replaced").await?;
                    inverse.push(file.add());
                }
                _ => {}
            }
        }
        if !merged.is_empty() {
            let mut written = self.files_at(table, version).await?;
            let merged: Vec<DataFile> = merged.iter().filter_map(|path| written.remove(path)).collect();
            for file in &merged {
                self.expect_there(table, file, "that it wrote").await?;
            }
            current.retain(|path, _| !written.contains_key(path));
            inverse.extend(self.without_rows(table, merged, current.into_values().collect()).await?);
        }
        Ok(inverse)
    }

    /// The newest transaction of the commit `number` in a table's log, and its version. Later ones are those of other tools.
    async fn transaction_of(&self, table: Table, number: i64) -> Result<(Version, Vec<Action>)> {
        let is_commit =
            |action: &Action| matches!(action, Action::Txn(txn) if txn.app_id == APPLICATION && txn.version == number);
        for version in (0..=self.version(table)).rev() {
            let actions = self.transaction(table, version).await?;
            if actions.iter().any(is_commit) {
                return Ok((version, actions));
            }
            if actions.is_empty() {
                break; // the log does not reach back to it
            }
        }
        Err(self.lost(table, format!("its log no longer has the entry of the incomplete commit {number}")))
    }

    /// The files of a table at an earlier version.
    async fn files_at(&self, table: Table, version: Version) -> Result<BTreeMap<String, DataFile>> {
        let mut earlier = DeltaTable::new(self.log(table));
        earlier.load_version(version).await.map_err(|cause| self.failed("read", cause))?;
        let earlier = earlier.snapshot().map_err(|cause| self.failed("read", cause))?;
        Ok(by_path(data_files(self.location(), table, earlier.snapshot())?))
    }

    async fn expect_there(&self, table: Table, file: &DataFile, which: &str) -> Result<()> {
        let exists = file.is_there(self.location().objects().as_ref()).await;
        if exists.map_err(|cause| self.failed("read", cause))? {
            return Ok(());
        }
        Err(self.lost(
            table,
            format!("an incomplete commit cannot be rolled back: the file `{}` {which} is gone", file.path),
        ))
    }

    /// Removes the rows of the files `merged`, which are no longer in the table, from the files `others`, into which another tool has
    /// written them. Memory holds the rows of `merged`: a part of one commit.
    async fn without_rows(&self, table: Table, merged: Vec<DataFile>, others: Vec<DataFile>) -> Result<Vec<Action>> {
        let failed = |cause: DataFusionError| self.failed(ROLL_BACK, cause);
        let mut rows = Rows::new(table.file_schema(self.id_type())).map_err(failed)?;
        for file in &merged {
            self.each_batch(file, &rows.schema.clone(), |batch| rows.add(file, batch)).await.map_err(failed)?;
        }
        let mut actions = Vec::new();
        for file in others {
            let mut writer = TableFiles::new(table, self.location(), file.partition.as_deref().unwrap_or_default());
            writer = writer.with_file_bytes(usize::MAX);
            let before = rows.count;
            let rewritten = async {
                let mut batches = file.read(self.location().objects(), &rows.schema).await?;
                while let Some(batch) = batches.try_next().await? {
                    let kept = rows.take(&file, &batch)?;
                    writer.write(&filter_record_batch(&batch, &kept)?).await?;
                }
                // Without a hit the new file stays outside the log, and a vacuum removes it.
                writer.finish().await
            };
            let rewritten = rewritten.await.map_err(failed)?;
            if rows.count == before {
                continue;
            }
            actions.push(file.remove(true));
            if let Some(file) = rewritten {
                actions.push(Action::Add(self.parse(&file)?));
            }
        }
        if rows.count > 0 {
            let reason = format!(
                "an incomplete commit cannot be rolled back: another tool has changed or deleted {} of its rows since",
                rows.count
            );
            return Err(self.lost(table, reason));
        }
        Ok(actions)
    }

    async fn each_batch(
        &self,
        file: &DataFile,
        schema: &SchemaRef,
        mut work: impl FnMut(&RecordBatch) -> DataFusionResult<()>,
    ) -> DataFusionResult<()> {
        let mut batches = file.read(self.location().objects(), schema).await?;
        while let Some(batch) = batches.try_next().await? {
            work(&batch)?;
        }
        Ok(())
    }

    fn lost(&self, table: Table, reason: String) -> Error {
        damaged(&self.location().to_string(), table, reason)
    }
}

/// Rows to find again, each as often as it was added, by partition.
struct Rows {
    schema: SchemaRef,
    converter: RowConverter,
    partitions: HashMap<Option<String>, HashMap<OwnedRow, usize>>,
    /// How many are not found yet.
    count: usize,
}

impl Rows {
    fn new(schema: SchemaRef) -> DataFusionResult<Self> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Self { schema, converter: RowConverter::new(fields)?, partitions: HashMap::new(), count: 0 })
    }

    fn add(&mut self, file: &DataFile, batch: &RecordBatch) -> DataFusionResult<()> {
        let rows = self.partitions.entry(file.partition.clone()).or_default();
        for row in &self.converter.convert_columns(batch.columns())? {
            *rows.entry(row.owned()).or_default() += 1;
            self.count += 1;
        }
        Ok(())
    }

    /// Which rows of a batch are none of these. Those found count as found.
    fn take(&mut self, file: &DataFile, batch: &RecordBatch) -> DataFusionResult<BooleanArray> {
        let Some(rows) = self.partitions.get_mut(&file.partition) else {
            return Ok(BooleanArray::from(vec![true; batch.num_rows()]));
        };
        let converted = self.converter.convert_columns(batch.columns())?;
        let kept = converted.iter().map(|row| match rows.get_mut(&row.owned()).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                self.count -= 1;
                Some(false)
            }
            None => Some(true),
        });
        Ok(kept.collect())
    }
}

#[cfg(test)]
mod tests;

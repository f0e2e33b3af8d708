//! Many small files → few large ones. In: a table of more than a thousand files. Out: the same rows in the same order, in
//! files of about `FILE_BYTES`. It must not change a row or block another writer.
//!
//! We do not use the optimize of `deltalake-core`: it packs a partition's newest files first and reads them in parallel, so rows change
//! their order. It also merges the files of an incomplete commit, which the next run must still be able to roll back.

use std::collections::BTreeMap;

use deltalake_core::kernel::Action;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use crate::error::Result;
use crate::store::data_files::DataFile;
use crate::store::delta_store::Store;
use crate::store::table_files::{FILE_BYTES, TableFiles};
use crate::store::write::transaction::Change;
use crate::tables::Table;

/// A table with more files than this is optimized.
pub const MANY_FILES: usize = 1000;
/// At least one of this many files must be small, or optimizing is not worth a transaction.
const ONE_SMALL_OF: usize = 10;
/// How many files are opened ahead of the one that is read.
const AHEAD: usize = 4;

/// The result of an optimize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Optimized {
    /// How many files were merged.
    pub merged: usize,
    /// How many files were written.
    pub written: usize,
    /// How many rows they have.
    pub rows: u64,
}

impl Store {
    /// Merges the small files of a table that has more than [`MANY_FILES`] files, partition by partition and in commit
    /// order, in one transaction that changes no data. Memory holds one row group read and one row group written. Returns
    /// `None` if there was nothing to do, a commit is incomplete, or another writer was faster; the table is then unchanged, and the
    /// next run can retry.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a file or the log cannot be read or written, or if the files do not have as many
    /// rows as the log says.
    pub async fn optimize(&mut self, table: Table, run_id: &str) -> Result<Option<Optimized>> {
        self.optimize_above(table, MANY_FILES, FILE_BYTES, run_id).await
    }

    /// Like [`Store::optimize`], with other limits.
    pub(crate) async fn optimize_above(
        &mut self,
        table: Table,
        many: usize,
        file_bytes: usize,
        run_id: &str,
    ) -> Result<Option<Optimized>> {
        let mut files = self.data_files(table)?;
        let all = files.len();
        files.retain(|file| (file.bytes as usize) < file_bytes / 2);
        if all <= many || files.len() * ONE_SMALL_OF < all || self.incomplete_commit().is_some() {
            return Ok(None);
        }
        let mut partitions: BTreeMap<Option<String>, Vec<DataFile>> = BTreeMap::new();
        for file in files {
            partitions.entry(file.partition.clone()).or_default().push(file);
        }
        partitions.retain(|_, files| files.len() > 1);
        let (mut actions, mut done) = (Vec::new(), Optimized { merged: 0, written: 0, rows: 0 });
        for (partition, mut files) in partitions {
            files.sort_by_cached_key(|file| (first_commit(file), file.modified, file.path.clone()));
            actions.extend(files.iter().map(|file| file.remove(false)));
            done.merged += files.len();
            let (added, rows) = self.merge(table, partition.as_deref().unwrap_or_default(), &files, file_bytes).await?;
            done.written += added.len();
            done.rows += rows;
            actions.extend(added);
        }
        if done.merged <= done.written {
            return Ok(None);
        }
        if self.attempt(table, Change { actions, run_id, number: None, compaction: true }).await? {
            tracing::info!(table = table.name(), done.merged, done.written, "merged small files");
            return Ok(Some(done));
        }
        tracing::info!(table = table.name(), "did not merge small files: another writer committed first");
        Ok(None)
    }

    /// Writes the rows of `files` to new files. Returns their Add actions and the number of rows.
    async fn merge(
        &self,
        table: Table,
        partition: &str,
        files: &[DataFile],
        file_bytes: usize,
    ) -> Result<(Vec<Action>, u64)> {
        let schema = table.file_schema(self.id_type());
        let objects = self.location().objects();
        let mut writer = TableFiles::new(table, self.location(), partition).with_file_bytes(file_bytes);
        let merged = async {
            let mut written = Vec::new();
            let opening: Vec<_> = files.iter().map(|file| file.read(objects, &schema)).collect();
            let opened = futures::stream::iter(opening).buffered(AHEAD);
            let mut batches = opened.try_flatten();
            while let Some(batch) = batches.try_next().await? {
                written.extend(writer.write(&batch).await?);
            }
            written.extend(writer.finish().await?);
            Ok::<_, datafusion::error::DataFusionError>(written)
        };
        let written = merged.await.map_err(|cause| self.failed("merge the files of", cause))?;
        let rows = written.iter().map(|file| file.rows).sum();
        let expected = files.iter().map(DataFile::rows).sum::<Option<u64>>();
        if expected.is_some_and(|expected| expected != rows) {
            let cause =
                format!("{} files of `{}` should have {expected:?} rows, not {rows}", files.len(), table.name());
            return Err(self.failed("merge the files of", cause));
        }
        let mut actions = Vec::new();
        for file in &written {
            let mut add = self.parse(file)?;
            add.data_change = false;
            actions.push(Action::Add(add));
        }
        Ok((actions, rows))
    }
}

/// The lowest commit number in a file; 0 if the table's rows have none.
fn first_commit(file: &DataFile) -> i64 {
    file.bounds("commit").and_then(|(least, _)| Value::as_i64(least)).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Many small files → few large ones. In: a table of more than a thousand files. Out: the same rows in the same order, in
//! files of about `FILE_BYTES`. It may not change a row, nor stand in another writer's way.
//!
//! Not the optimize of `deltalake-core`: it packs a partition's newest files first and reads them in parallel, so rows change their order;
//! and it also merges the files of a commit that is half done, which a killed run's successor must still be able to undo.

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

/// A table with more files than this is compacted.
pub const MANY_FILES: usize = 1000;
/// Of this many files, one must be small for a compaction to be worth its transaction.
const ONE_SMALL_OF: usize = 10;
/// How many files are opened ahead of the one that is read.
const AHEAD: usize = 4;

/// What a compaction has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// How many files it has merged.
    pub merged: usize,
    /// Into how many.
    pub written: usize,
    /// The rows in them.
    pub rows: u64,
}

impl Store {
    /// Merges the small files of a table that has more than [`MANY_FILES`], partition by partition and in the order of
    /// their commits, in one transaction that changes no data. A row group of one file and one of the new file are in
    /// memory. `None`: there was nothing to do, a commit is half done, or another writer was faster; then the table is as
    /// that writer left it, and the next run may try again.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] where a file or the log cannot be read or written, or where a file has not as many
    /// rows as the log says.
    pub async fn compact(&mut self, table: Table, run_id: &str) -> Result<Option<Compacted>> {
        self.compact_above(table, MANY_FILES, FILE_BYTES, run_id).await
    }

    /// The same with other limits.
    pub(crate) async fn compact_above(
        &mut self,
        table: Table,
        many: usize,
        file_bytes: usize,
        run_id: &str,
    ) -> Result<Option<Compacted>> {
        let mut files = self.data_files(table)?;
        let all = files.len();
        files.retain(|file| (file.bytes as usize) < file_bytes / 2);
        if all <= many || files.len() * ONE_SMALL_OF < all || self.half_done().is_some() {
            return Ok(None);
        }
        let mut partitions: BTreeMap<Option<String>, Vec<DataFile>> = BTreeMap::new();
        for file in files {
            partitions.entry(file.partition.clone()).or_default().push(file);
        }
        partitions.retain(|_, files| files.len() > 1);
        let (mut actions, mut done) = (Vec::new(), Compacted { merged: 0, written: 0, rows: 0 });
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
            tracing::info!(table = table.name(), done.merged, done.written, "small files are merged");
            return Ok(Some(done));
        }
        tracing::info!(table = table.name(), "small files are not merged: another writer came between");
        Ok(None)
    }

    /// Writes the rows of `files` anew; the Add actions and the number of rows.
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

/// The least commit in a file; 0 in a table whose rows have none.
fn first_commit(file: &DataFile) -> i64 {
    file.bounds("commit").and_then(|(least, _)| Value::as_i64(least)).unwrap_or_default()
}

#[cfg(test)]
mod tests;

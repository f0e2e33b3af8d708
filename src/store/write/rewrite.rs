//! Removes rows that others replace. In: ids of changed documents, or the specification that stays. Out: the files
//! that a commit replaces, and new files with their remaining rows. It must not touch the transaction log.

use std::collections::BTreeSet;
use std::ops::Bound::Included;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use futures::{StreamExt, TryStreamExt};

use crate::error::Result;
use crate::store::data_files::DataFile;
use crate::store::delta_store::Store;
use crate::store::ids::Ids;
use crate::store::table_files::{TableFiles, WrittenFile};
use crate::store::write::commit::Commit;
use crate::tables::{SPEC_ID, Table};

/// How many files are read concurrently: on an object store, latency dominates.
const PROBES: usize = 4;

/// Rows to remove from a store. [`Commit::replace`] makes it part of a commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rewrite {
    /// The files to remove, as table and path relative to the table's folder.
    pub replaced: Vec<(Table, String)>,
    /// The files to add instead, with the rows that stay. Every row keeps its run, commit and time.
    pub files: Vec<WrittenFile>,
    /// How many rows are removed.
    pub rows: u64,
    /// The removed rows of `documents`, if [`Store::rewrite`] removed them.
    pub documents: Vec<RecordBatch>,
    /// The removed rows of `entities` (`doc_id`, `entity_type`, `score`, `run_id`), if [`Store::rewrite`] removed them.
    pub mentions: Vec<RecordBatch>,
}

impl Commit {
    /// Removes the rows in this commit, in the same transactions that add the commit's own rows.
    pub fn replace(&mut self, rewrite: Rewrite) {
        self.replaced.extend(rewrite.replaced);
        self.files.extend(rewrite.files);
    }
}

impl Store {
    /// Removes the rows of the documents `ids` (of the type [`Store::id_type`]; nulls are skipped) under `spec_id` from
    /// `entities` and `documents`. Files whose id range in the log excludes all of them are not opened. Of the others the
    /// ids are read, and only files with matches are rewritten, one for one, so that their id ranges stay narrow. Memory
    /// holds `ids`, the removed rows without texts, and a row group of one file. The store does not change until the commit.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a file cannot be read or written, or `ids` have another type.
    pub async fn rewrite(&self, spec_id: &str, ids: &dyn Array) -> Result<Rewrite> {
        let ids = Ids::try_new([ids], self.id_type()).map_err(|cause| self.failed("look documents up in", cause))?;
        let ids = Arc::new(ids);
        let mut rewrite = Rewrite::default();
        for table in [Table::Entities, Table::Documents] {
            let mut files = self.data_files(table)?;
            files
                .retain(|file| file.partition.as_deref() == Some(spec_id) && ids.may_be_between(file.bounds("doc_id")));
            let removed =
                self.removed(table, &files, &ids).await.map_err(|cause| self.failed("look rows up in", cause))?;
            if table == Table::Documents {
                rewrite.documents = removed;
            } else {
                rewrite.mentions = removed;
            }
            self.without(table, files, &["doc_id"], |columns| ids.among(columns.column(0)), &mut rewrite).await?;
        }
        Ok(rewrite)
    }

    /// The rows of the documents `ids` in files of `entities` or `documents`; of mentions only the columns that counts need.
    async fn removed(&self, table: Table, files: &[DataFile], ids: &Arc<Ids>) -> DataFusionResult<Vec<RecordBatch>> {
        let columns = match table {
            Table::Entities => self.columns(table, &["doc_id", "entity_type", "score", "run_id"])?,
            _ => table.file_schema(self.id_type()),
        };
        let mut removed = Vec::new();
        for file in files {
            let batches = file.read_only(self.location().objects(), &columns, ids).await?;
            removed.extend(batches.try_collect::<Vec<_>>().await?);
        }
        Ok(removed)
    }

    /// Removes the rows of every specification except `spec_id` from `entities`, `documents`, `rejects` and `sources`: for the
    /// last commit of a replacement.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a file cannot be read or written.
    pub async fn drop_other_specs(&self, spec_id: &str) -> Result<Rewrite> {
        let mut rewrite = Rewrite::default();
        for table in [Table::Entities, Table::Documents, Table::Rejects, Table::Sources] {
            let mut files = self.data_files(table)?;
            if table.partition_column().is_some() {
                files.retain(|file| file.partition.as_deref() != Some(spec_id));
                rewrite.rows += files.iter().filter_map(DataFile::rows).sum::<u64>();
                rewrite.replaced.extend(files.into_iter().map(|file| (table, file.path)));
                continue;
            }
            files.retain(|file| {
                file.bounds(SPEC_ID).is_none_or(|(least, greatest)| least != spec_id || greatest != spec_id)
            });
            let other = |columns: &RecordBatch| {
                let specs = columns.column(0).as_string::<i32>();
                specs.iter().map(|spec| Some(spec != Some(spec_id))).collect()
            };
            self.without(table, files, &[SPEC_ID], other, &mut rewrite).await?;
        }
        Ok(rewrite)
    }

    /// Removes the rows of the input files `paths` under `spec_id` and `input_hash` from `sources`, because newer rows replace them.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a file cannot be read or written.
    pub async fn forget_sources(&self, spec_id: &str, input_hash: &str, paths: &BTreeSet<String>) -> Result<Rewrite> {
        let removed = |columns: &RecordBatch| {
            let strings =
                |column: usize| columns.column(column).as_string::<i32>().iter().map(Option::unwrap_or_default);
            let keys = strings(0).zip(strings(1)).zip(strings(2));
            keys.map(|((path, spec), hash)| Some(spec == spec_id && hash == input_hash && paths.contains(path)))
                .collect()
        };
        let files = self.files_about(Table::Sources, "path", paths)?;
        let mut rewrite = Rewrite::default();
        self.without(Table::Sources, files, &["path", SPEC_ID, "input_hash"], removed, &mut rewrite).await?;
        Ok(rewrite)
    }

    /// Removes the rows of the input files `paths` under `spec_id` from `rejects`: the files have changed since, and reading them
    /// again adds their current rejects. The rows of the runs `others` stay, because those jobs had other input settings.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if a file cannot be read or written.
    pub async fn forget_rejects(
        &self,
        spec_id: &str,
        others: &BTreeSet<String>,
        paths: &BTreeSet<String>,
    ) -> Result<Rewrite> {
        let removed = |columns: &RecordBatch| {
            let strings =
                |column: usize| columns.column(column).as_string::<i32>().iter().map(Option::unwrap_or_default);
            let keys = strings(0).zip(strings(1)).zip(strings(2));
            keys.map(|((source, spec), run)| Some(spec == spec_id && paths.contains(source) && !others.contains(run)))
                .collect()
        };
        let files = self.files_about(Table::Rejects, "source", paths)?;
        let mut rewrite = Rewrite::default();
        self.without(Table::Rejects, files, &["source", SPEC_ID, "run_id"], removed, &mut rewrite).await?;
        Ok(rewrite)
    }

    /// The files of a table that can have one of `paths` in `column`.
    fn files_about(&self, table: Table, column: &str, paths: &BTreeSet<String>) -> Result<Vec<DataFile>> {
        let mut files = self.data_files(table)?;
        let between = |least: &str, greatest: &str| {
            least <= greatest && paths.range::<str, _>((Included(least), Included(greatest))).next().is_some()
        };
        files.retain(|file| file.may_hold(column, between));
        Ok(files)
    }

    /// Removes the rows of `files` for whose values in `columns` `is_removed` is true.
    async fn without(
        &self,
        table: Table,
        files: Vec<DataFile>,
        columns: &[&str],
        is_removed: impl Fn(&RecordBatch) -> BooleanArray + Copy,
        rewrite: &mut Rewrite,
    ) -> Result<()> {
        let schema = table.file_schema(self.id_type());
        let failed = |cause: DataFusionError| self.failed("look rows up in", cause);
        let only = self.columns(table, columns).map_err(failed)?;
        let counting: Vec<_> = files.into_iter().map(|file| self.count(file, &only, is_removed)).collect();
        let mut counted = futures::stream::iter(counting).buffered(PROBES);
        while let Some((file, rows, removed)) = counted.try_next().await.map_err(failed)? {
            if removed == 0 {
                continue;
            }
            if removed < rows {
                let kept = self.keep(table, &file, &schema, columns, is_removed).await;
                let kept = kept.map_err(|cause| self.failed("write to", cause))?;
                let written: u64 = kept.iter().map(|file| file.rows).sum();
                if written != rows - removed {
                    let cause = format!(
                        "`{}` has {rows} rows: {removed} were to be removed, and {written} were kept",
                        file.path
                    );
                    return Err(self.failed("rewrite a file of", cause));
                }
                rewrite.files.extend(kept);
            }
            rewrite.rows += removed;
            rewrite.replaced.push((table, file.path));
        }
        Ok(())
    }

    /// A file, its number of rows, and how many of them are removed.
    async fn count(
        &self,
        file: DataFile,
        only: &SchemaRef,
        is_removed: impl Fn(&RecordBatch) -> BooleanArray,
    ) -> DataFusionResult<(DataFile, u64, u64)> {
        let mut batches = file.read(self.location().objects(), only).await?;
        let (mut rows, mut removed) = (0, 0);
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows() as u64;
            removed += is_removed(&batch).true_count() as u64;
        }
        Ok((file, rows, removed))
    }

    /// Writes the rows of a file that are kept.
    async fn keep(
        &self,
        table: Table,
        file: &DataFile,
        schema: &SchemaRef,
        columns: &[&str],
        is_removed: impl Fn(&RecordBatch) -> BooleanArray,
    ) -> DataFusionResult<Vec<WrittenFile>> {
        let mut batches = file.read(self.location().objects(), schema).await?;
        let mut files = TableFiles::new(table, self.location(), file.partition.as_deref().unwrap_or_default());
        let mut written = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let indices = columns.iter().map(|column| schema.index_of(column)).collect::<Result<Vec<_>, _>>()?;
            let kept = not(&is_removed(&batch.project(&indices)?))?;
            written.extend(files.write(&filter_record_batch(&batch, &kept)?).await?);
        }
        written.extend(files.finish().await?);
        Ok(written)
    }
}

#[cfg(test)]
mod tests;

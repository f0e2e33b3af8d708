//! Looks documents up in the ledger, the table `documents`. In: a stream of ids. Out: the content hashes of the documents that the
//! store has, and its specifications. It must not hold the ledger in memory: it reads the rows file by file.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::task::JoinError;

use crate::error::Result;
use crate::extract::known_documents::{InForce, KnownDocuments, digest, digest_of};
use crate::store::data_files::DataFile;
use crate::store::delta_store::Store;
use crate::store::ids::Ids;
use crate::tables::Table;

impl Store {
    /// Content hashes and places of those documents among `ids` (columns of the type [`Store::id_type`]) that the store has under
    /// `spec_id`, each as if its file no longer had it. Files and row groups whose id range excludes all of `ids` are skipped; the others are read concurrently, one file per
    /// core. Memory holds the distinct ids, the hashes found, and one batch of rows per file being read.
    ///
    /// # Errors
    /// The errors of `ids`; [`crate::error::Error::Store`] if a file cannot be read or `ids` have another type.
    pub async fn known_documents(
        &self,
        spec_id: &str,
        mut ids: impl Stream<Item = Result<ArrayRef>> + Send + Unpin,
    ) -> Result<KnownDocuments> {
        let doing = "look documents up in";
        let mut wanted = Ids::none(self.id_type());
        while let Some(column) = ids.try_next().await? {
            wanted.add(&column, self.id_type()).map_err(|cause| self.failed(doing, cause))?;
        }
        wanted.sort();
        let ids = Arc::new(wanted);
        let mut files = self.data_files(Table::Documents)?;
        files.retain(|file| file.partition.as_deref() == Some(spec_id) && ids.may_be_between(file.bounds("doc_id")));
        let columns = self.columns(Table::Documents, &["doc_id", "content_hash", "source", "commit"]);
        let columns = columns.map_err(|cause| self.failed(doing, cause))?;
        // At most as many are found as are wanted or as the files have, so the table never has to grow.
        let rows = files.iter().map(|file| file.rows().unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
        let mut found =
            KnownDocuments { known: HashMap::with_capacity(ids.len().min(rows as usize)), ..KnownDocuments::default() };
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let reading = files.into_iter().map(|file| {
            let (objects, columns) = (Arc::clone(self.location().objects()), Arc::clone(&columns));
            let ids = Arc::clone(&ids);
            tokio::spawn(async move { hashes(&file, &objects, &columns, &ids).await })
        });
        // The stream starts tasks lazily, so at most this many files are open.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut read = futures::stream::iter(reading).buffer_unordered(cores);
        while let Some(of_file) = read.next().await {
            let of_file = of_file.map_err(|cause: JoinError| self.failed(doing, cause))?;
            for (source, documents) in of_file.map_err(|cause| self.failed(doing, cause))? {
                let source = *numbers.entry(source).or_insert_with_key(|source| {
                    found.sources.push(source.clone());
                    found.sources.len() as u32 - 1
                });
                found.known.extend(documents.into_iter().map(|(id, document)| (id, InForce { source, ..document })));
            }
        }
        Ok(found)
    }

    /// The specifications that `documents` has rows of, oldest first, according to the log.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the log cannot be read.
    pub fn specs(&self) -> Result<Vec<String>> {
        let mut first: BTreeMap<String, i64> = BTreeMap::new();
        for file in self.data_files(Table::Documents)? {
            // Only another writer omits statistics, when it merges old files.
            let commit = file.bounds("commit").and_then(|(least, _)| Value::as_i64(least)).unwrap_or_default();
            let earliest = first.entry(file.partition.unwrap_or_default()).or_insert(commit);
            *earliest = commit.min(*earliest);
        }
        let mut specs: Vec<(i64, String)> = first.into_iter().map(|(spec, commit)| (commit, spec)).collect();
        specs.sort();
        Ok(specs.into_iter().map(|(_, spec)| spec).collect())
    }
}

/// Entries of [`KnownDocuments`] for the documents `ids` in one file, in runs of one source.
async fn hashes(
    file: &DataFile,
    objects: &Arc<dyn object_store::ObjectStore>,
    columns: &SchemaRef,
    ids: &Arc<Ids>,
) -> DataFusionResult<Vec<(String, Vec<(u128, InForce)>)>> {
    let mut found: Vec<(String, Vec<(u128, InForce)>)> = Vec::new();
    let mut batches = file.read_only(objects, columns, ids).await?;
    while let Some(batch) = batches.try_next().await? {
        let column = |column: usize| cast(batch.column(column), &DataType::Utf8).map_err(DataFusionError::from);
        let (ids, hashes, sources) = (column(0)?, column(1)?, column(2)?);
        let commits = batch.column(3).as_primitive::<Int64Type>().values();
        let rows = ids.as_string::<i32>().iter().zip(hashes.as_string::<i32>());
        for (((id, hash), source), commit) in rows.zip(sources.as_string::<i32>()).zip(commits) {
            let (Some(id), Some(hash), Some(source)) = (id, hash, source) else { continue };
            if found.last().is_none_or(|(last, _)| last != source) {
                found.push((source.to_owned(), Vec::new()));
            }
            let document = InForce { text: digest_of(hash), commit: *commit, source: 0, later: false };
            if let Some((_, documents)) = found.last_mut() {
                documents.push((digest(id), document));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;
    use crate::store::write::commit::tests::{commit_of, open};
    use crate::store::write::write_exec::tests::stamp;
    use crate::tables::Stamp;

    /// Columns with one id each.
    fn texts(ids: &[&str]) -> impl Stream<Item = Result<ArrayRef>> + Send + Unpin + use<> {
        let column = |id: &&str| Ok(Arc::new(StringArray::from_iter_values([*id])) as ArrayRef);
        futures::stream::iter(ids.iter().map(column).collect::<Vec<Result<ArrayRef>>>())
    }

    #[tokio::test]
    async fn documents_are_found_in_their_specification_and_other_files_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder).await;
        assert!(store.specs().unwrap().is_empty());
        for number in [1, 2, 3] {
            let spec_id = if number == 2 { "older" } else { "newer" };
            let stamp = Stamp { spec_id: spec_id.to_owned(), ..stamp(number, "run-1") };
            let next = commit_of(&store, stamp, &format!("{number}.parquet"), number * 10).await;
            store.commit(&next).await.unwrap();
        }
        assert_eq!(store.specs().unwrap(), ["newer", "older"]);
        let wanted = || texts(&["doc-10", "doc-21", "doc-31", "unknown", "doc-10"]);
        let found = store.known_documents("newer", wanted()).await.unwrap();
        let place = |id: &str| {
            let document = found.known[&digest(id)];
            (document.text, document.commit, found.source(document), document.later)
        };
        assert_eq!(found.len(), 2);
        assert_eq!(place("doc-10"), (0x0a, 1, "1.parquet", false));
        assert_eq!(place("doc-31"), (0x1f, 3, "3.parquet", false));
        assert_eq!(store.known_documents("older", wanted()).await.unwrap().len(), 1);
        assert!(
            store.known_documents("other", wanted()).await.unwrap().is_empty()
                && store.known_documents("newer", texts(&[])).await.unwrap().is_empty()
        );
        for file in store.data_files(Table::Documents).unwrap() {
            if file.bounds("doc_id").unwrap().0 != "doc-30" {
                std::fs::remove_file(folder.path().join("a store/documents").join(&file.path)).unwrap();
            }
        }
        assert_eq!(store.known_documents("newer", texts(&["doc-30"])).await.unwrap().len(), 1);
        let error = store.known_documents("newer", texts(&["doc-10"])).await.unwrap_err();
        assert!(error.causes().concat().contains("not found"), "{error:?}");
    }
}

//! Known and repeated documents. In: the ids of a chunk, the store's documents. Out: which documents of the chunk the store has and where
//! their rows come from, and the corrupt files of a chunk. It must not read the texts of files that are done, unless one of them can have a later row of a
//! document of the chunk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::extract::known_documents::{KnownDocuments, digest};
use crate::query::statement::plan;
use crate::run::known::ledger::Ledger;
use crate::source::chunk::Chunk;
use crate::source::corrupt_file::is_of_the_store;
use crate::source::input::Documents;
use crate::source::operator::read_counts::ReadCounts;
use crate::source::plan_error::own_error;
use crate::store::delta_store::Store;
use crate::tables::result_row::result_rows;
use crate::text::document::Document;

/// The chunk's documents that the store has under `spec_id`. The chunk's ids are held in memory; the ledger's are streamed.
pub(crate) async fn known(
    context: &SessionContext,
    documents: &Documents,
    chunk: &Chunk,
    store: &Store,
    spec_id: &str,
    ledger: &Ledger,
) -> Result<KnownDocuments> {
    if !ledger.has_documents() {
        return Ok(KnownDocuments::default());
    }
    let Some(first) = chunk.ranges.first().map(|range| documents.files[range.file].path.as_str()) else {
        return Ok(KnownDocuments::default());
    };
    let mut places = FirstFiles { several: chunk.ranges.len() > 1, ..FirstFiles::default() };
    let ids = documents.ids(context, chunk)?.select_columns(&["source", "doc_id"]).map_err(failed)?;
    let batches = ids.execute_stream().await.map_err(failed)?;
    let ids = batches.map_err(failed).map(|batch| -> Result<ArrayRef> {
        let batch = batch?;
        places.observe(&batch)?;
        Ok(Arc::clone(batch.column(1)))
    });
    let mut known = store.known_documents(spec_id, ids).await?;
    // A row loses to one of a later file only if that file still has it. The ledger knows that of unchanged files; the others are read.
    let listed: Vec<bool> =
        known.sources.iter().map(|source| source.as_str() > first && ledger.is_listed(source)).collect();
    let mut unsure: BTreeSet<String> = BTreeSet::new();
    for (id, document) in known.known.iter_mut().filter(|(_, document)| listed[document.source as usize]) {
        let source = &known.sources[document.source as usize];
        if source.as_str() <= places.first_file(*id).unwrap_or(first) {
            continue;
        }
        document.later = ledger.is_current(source, document.commit);
        if !document.later && !unsure.contains(source) {
            unsure.insert(source.clone());
        }
    }
    if !known.is_empty() {
        unsure.extend(ledger.repeated_after(first).cloned());
    }
    for source in unsure {
        find_later(context, documents, &source, &mut known).await?;
    }
    Ok(known)
}

/// The first file of each id in a chunk of several files. An id takes 32 to 64 bytes.
#[derive(Default)]
struct FirstFiles {
    several: bool,
    files: Vec<String>,
    by_id: HashMap<u128, u32>,
}

impl FirstFiles {
    /// Adds a batch of (source, id).
    fn observe(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.several {
            return Ok(());
        }
        let ids: ArrayRef = cast(batch.column(1), &DataType::Utf8).map_err(|error| failed(error.into()))?;
        for (source, id) in batch.column(0).as_string::<i32>().iter().zip(ids.as_string::<i32>()) {
            let (Some(source), Some(id)) = (source, id) else { continue };
            if self.files.last().is_none_or(|last| last != source) {
                self.files.push(source.to_owned());
            }
            let number = self.files.len() as u32 - 1;
            let first = self.by_id.entry(digest(id)).or_insert(number);
            if self.files[*first as usize].as_str() > source {
                *first = number;
            }
        }
        Ok(())
    }

    fn first_file(&self, id: u128) -> Option<&str> {
        self.by_id.get(&id).map(|file| self.files[*file as usize].as_str())
    }
}

/// Records which known documents have a later row in a file. Rows that cannot be read or would be refused replace none.
async fn find_later(
    context: &SessionContext,
    documents: &Documents,
    source: &str,
    known: &mut KnownDocuments,
) -> Result<()> {
    let Some(file) = documents.plan_of(context, source).await? else { return Ok(()) };
    let mut batches = execute_stream(file, context.task_ctx()).map_err(failed)?;
    let mut number = None;
    loop {
        let batch = match batches.try_next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(error) if is_of_the_store(&error) => return Err(failed(error)),
            Err(error) => {
                tracing::debug!(%error, source, "the rest of the file replaces no document");
                return Ok(());
            }
        };
        let ids: ArrayRef = cast(batch.column(2), &DataType::Utf8).map_err(|error| failed(error.into()))?;
        let (ids, texts) = (ids.as_string::<i32>(), batch.column(3).as_string_view());
        for (row, id) in ids.iter().enumerate() {
            let Some(id) = id.map(digest) else { continue };
            let Some(document) = known.known.get_mut(&id) else { continue };
            let text = texts.is_valid(row).then(|| texts.value(row));
            let nearer = known.sources[document.source as usize].as_str() <= source || !document.later;
            if nearer && Document::admit(true, text).is_ok() {
                document.source = *number.get_or_insert_with(|| {
                    known.sources.push(source.to_owned());
                    known.sources.len() as u32 - 1
                });
                document.later = true;
            }
        }
    }
}

/// The digests of ids that occur more than once in the input, for a run without a store. Memory: 18 to 37 bytes for each.
/// Corrupt files are recorded in `documents`, and only their readable rows count.
pub(crate) async fn repeated(
    context: &SessionContext,
    documents: &mut Documents,
    all_rows: impl Fn(&Documents) -> Chunk,
) -> Result<Arc<HashSet<u128>>> {
    loop {
        let chunk = all_rows(documents);
        match repeated_of(context, documents, &chunk).await {
            Ok((repeated, read)) => {
                if let Some(read) = read {
                    let read = ReadCounts::of(&read);
                    documents.check_filter(&read)?;
                    documents.count_rows(read);
                }
                return Ok(Arc::new(repeated));
            }
            Err(error) => find_corrupt(context, documents, error, &chunk).await?,
        }
    }
}

/// The repeated ids, and the plan that has read all rows; none if there is no file.
async fn repeated_of(
    context: &SessionContext,
    documents: &Documents,
    chunk: &Chunk,
) -> Result<(HashSet<u128>, Option<Arc<dyn ExecutionPlan>>)> {
    let mut repeated = HashSet::new();
    if chunk.ranges.is_empty() {
        return Ok((repeated, None));
    }
    input(context, documents, chunk).await?;
    // An aggregation can spill to disk if there are too many ids for memory.
    let ids =
        "SELECT CAST(doc_id AS varchar) AS id FROM input WHERE doc_id IS NOT NULL GROUP BY doc_id HAVING count(*) > 1";
    let read = plan(context, ids).await?.create_physical_plan().await.map_err(failed)?;
    let mut batches = execute_stream(Arc::clone(&read), context.task_ctx()).map_err(failed)?;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        for row in result_rows([&batch]) {
            repeated.insert(digest(row.get("id")?));
        }
    }
    Ok((repeated, Some(read)))
}

/// Finds the corrupt files of a chunk that caused an error. Their readable rows are still extracted, and the commit that covers these
/// rows records the files as refused. Returns the error if all files can be read, because then it has another cause.
pub(crate) async fn find_corrupt(
    context: &SessionContext,
    documents: &mut Documents,
    error: Error,
    chunk: &Chunk,
) -> Result<()> {
    if !matches!(error, Error::Engine { .. }) {
        return Err(error);
    }
    let mut found = false;
    let files: BTreeSet<usize> = chunk.ranges.iter().map(|range| range.file).collect();
    for number in files {
        if documents.damage(number).is_some() {
            continue;
        }
        let Some(damage) = documents.broken(context, number).await? else { continue };
        let reason = documents.leave_out(number, damage);
        tracing::warn!("`{}` cannot be read: {reason}", documents.files[number].path);
        found = true;
    }
    // If all files can be read, the condition may have failed on a row.
    if found || documents.filter_by_row() { Ok(()) } else { Err(error) }
}

/// Looks for the damage that earlier runs found. Where it is as they recorded it, rows behind it that they have done stay done; a file
/// without it, or with other damage, is read from its first row.
pub(crate) async fn find_known_damage(
    context: &SessionContext,
    documents: &mut Documents,
    ledger: &mut Ledger,
) -> Result<()> {
    for path in ledger.damaged().clone() {
        let Some(number) = documents.files.iter().position(|file| file.path == path) else { continue };
        let reason = documents.broken(context, number).await?.map(|damage| documents.leave_out(number, damage));
        if !reason.is_some_and(|reason| ledger.has_damage(&path, &reason)) {
            ledger.read_again(&path);
        } else if ledger.is_refused(&path) {
            documents.end_at_damage(number);
        }
    }
    Ok(())
}

/// Registers a chunk's (source, row, `doc_id`) as the table `input`.
pub(crate) async fn input(context: &SessionContext, documents: &Documents, chunk: &Chunk) -> Result<()> {
    let ids = documents.ids(context, chunk)?;
    context.deregister_table("input").map_err(failed)?;
    context.register_table("input", ids.into_view()).map_err(failed)?;
    Ok(())
}

fn failed(source: DataFusionError) -> Error {
    own_error(source, "read the document ids")
}

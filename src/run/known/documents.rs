//! Known and duplicate documents. In: the ids of a chunk, the ids of the whole input. Out: which ids the store has, and which rows later
//! rows replace. It must not read a text.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::error::{Error, Result};
use crate::extract::known_documents::{LedgerHashes, Replaced, digest};
use crate::query::session::register_store;
use crate::query::statement::{plan, query_store};
use crate::source::chunk::Chunk;
use crate::source::input::Documents;
use crate::source::plan_error::own_error;
use crate::store::delta_store::Store;
use crate::tables::SourceOutcome;
use crate::tables::result_row::{ColumnError, first_row, result_rows, scalar};

/// A position (file, row) before the whole input.
const BEFORE_INPUT: (usize, i64) = (0, -1);

/// Content hashes, by id, of the chunk's documents that the store has under `spec_id`. The chunk's ids are held in memory; the
/// ledger's are streamed.
pub(crate) async fn known(
    context: &SessionContext,
    documents: &Documents,
    chunk: &Chunk,
    store: &Store,
    spec_id: &str,
) -> Result<LedgerHashes> {
    let ids = documents.ids(context, chunk)?.select_columns(&["doc_id"]).map_err(failed)?;
    let batches = ids.execute_stream().await.map_err(failed)?;
    store.known_documents(spec_id, batches.map_ok(|batch| Arc::clone(batch.column(0))).map_err(failed)).await
}

/// The rows of the input that later rows with the same id replace. Memory: 38 to 75 bytes for each id that occurs more than once,
/// and 8 bytes for each replaced row.
/// Corrupt files are recorded in `documents`, and only their readable rows count.
pub(crate) async fn replaced(
    context: &SessionContext,
    documents: &mut Documents,
    finished_rows: &BTreeMap<String, i64>,
) -> Result<Arc<Replaced>> {
    loop {
        let all_rows = documents.whole(|path| finished_rows.get(path).copied().unwrap_or(0));
        match replaced_of(context, documents, &all_rows).await {
            Ok((replaced, read)) => {
                if let Some(read) = read {
                    documents.check_filter(&read)?;
                    documents.count_rows(&read);
                }
                return Ok(Arc::new(replaced));
            }
            Err(error) => find_corrupt(context, documents, error, &all_rows).await?,
        }
    }
}

/// The replaced rows, and the plan that has read all rows; none if there is no file.
async fn replaced_of(
    context: &SessionContext,
    documents: &Documents,
    all_rows: &Chunk,
) -> Result<(Replaced, Option<Arc<dyn ExecutionPlan>>)> {
    let mut replaced = Replaced::default();
    if documents.files.is_empty() {
        return Ok((replaced, None));
    }
    input(context, documents, all_rows).await?;
    // An aggregation can spill to disk if there are too many ids for memory; a join with the rows could not.
    let repeated =
        "SELECT CAST(doc_id AS varchar) AS id FROM input WHERE doc_id IS NOT NULL GROUP BY doc_id HAVING count(*) > 1";
    // Keyed by digest, because ids can be long and many.
    let mut last: HashMap<u128, (usize, i64)> = HashMap::new();
    let read = plan(context, repeated).await?.create_physical_plan().await.map_err(failed)?;
    let mut batches = execute_stream(Arc::clone(&read), context.task_ctx()).map_err(failed)?;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        for row in result_rows([&batch]) {
            last.insert(digest(row.get("id")?), BEFORE_INPUT);
        }
    }
    if last.is_empty() {
        return Ok((replaced, Some(read)));
    }
    let order: BTreeMap<&str, usize> =
        documents.files.iter().enumerate().map(|(number, file)| (file.path.as_str(), number)).collect();
    let rows = "SELECT CAST(doc_id AS varchar) AS id, source, \"row\" FROM input WHERE doc_id IS NOT NULL";
    let mut batches = plan(context, rows).await?.execute_stream().await.map_err(failed)?;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        for row in result_rows([&batch]) {
            let Some(latest) = last.get_mut(&digest(row.get("id")?)) else { continue };
            let position = (order.get(row.get::<&str>("source")?).copied().unwrap_or_default(), row.get("row")?);
            let earlier = position.min(*latest);
            *latest = position.max(*latest);
            if earlier != BEFORE_INPUT {
                replaced.add(&documents.files[earlier.0].path, earlier.1);
            }
        }
    }
    replaced.sort();
    Ok((replaced, Some(read)))
}

/// The number of rows of a chunk that later rows of the same chunk replace.
pub(crate) async fn count_replaced(context: &SessionContext, documents: &Documents, chunk: &Chunk) -> Result<usize> {
    if chunk.ranges.is_empty() { Ok(0) } else { Ok(replaced_of(context, documents, chunk).await?.0.rows()) }
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

/// Documents that a replacement has not covered yet: those of other specifications whose file is not done under `spec_id` and whose id
/// has no row under it. Returns the number of documents, the number of their files, and one of these files; none if all are covered.
pub(crate) async fn not_replaced_yet(
    context: &SessionContext,
    store: &Store,
    spec_id: &str,
) -> Result<Option<(u64, u64, String)>> {
    register_store(context, store).await?;
    // Files first, because they are few: ids are compared only if a file is missing or could not be read to its end.
    let done = SourceOutcome::Done;
    let unread = format!(
        "SELECT source, doc_id FROM documents WHERE spec_id <> '{spec_id}' AND source NOT IN
         (SELECT path FROM sources WHERE spec_id = '{spec_id}' AND outcome = '{done}')"
    );
    let count = query_store(context, store.location(), &format!("SELECT count(*) FROM ({unread})")).await?;
    if scalar::<usize>(&count)? == 0 {
        return Ok(None);
    }
    let sql = format!(
        "SELECT count(*) AS documents, count(DISTINCT source) AS files, min(source) AS example FROM ({unread}) AS unread WHERE NOT EXISTS
         (SELECT 1 FROM documents AS replacing WHERE replacing.spec_id = '{spec_id}' AND replacing.doc_id = unread.doc_id)"
    );
    let found = query_store(context, store.location(), &sql).await?;
    let found = first_row(&found).ok_or(ColumnError::NoRow)?;
    let (documents, files): (usize, usize) = (found.get("documents")?, found.get("files")?);
    // Without documents there is no file.
    let example: Option<String> = found.get("example")?;
    Ok(example.map(|example| (documents as u64, files as u64, example)))
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

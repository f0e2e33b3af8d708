//! Known and duplicate documents. In: the ids of a chunk, the ids of the whole input. Out: which ids the store has, and which rows later
//! rows replace. It must not read a text.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::console;
use crate::error::{Error, Result};
use crate::extract::known_documents::{LedgerHashes, Replaced, digest};
use crate::query::session::register_store;
use crate::query::statement::{count_at, i64_row, plan, query_store, string_column};
use crate::run::known::ledger::DONE;
use crate::source::chunk::Chunk;
use crate::source::input::Documents;
use crate::store::delta_store::Store;

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
    let ids = documents.ids(context, chunk).await?.select_columns(&["doc_id"]).map_err(failed)?;
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
            Ok(replaced) => return Ok(Arc::new(replaced)),
            Err(error) => find_corrupt(context, documents, error, &all_rows).await?,
        }
    }
}

async fn replaced_of(context: &SessionContext, documents: &Documents, all_rows: &Chunk) -> Result<Replaced> {
    let mut replaced = Replaced::default();
    if documents.files.is_empty() {
        return Ok(replaced);
    }
    input(context, documents, all_rows).await?;
    // An aggregation can spill to disk if there are too many ids for memory; a join with the rows could not.
    let repeated =
        "SELECT CAST(doc_id AS varchar) FROM input WHERE doc_id IS NOT NULL GROUP BY doc_id HAVING count(*) > 1";
    // Keyed by digest, because ids can be long and many.
    let mut last: HashMap<u128, (usize, i64)> = HashMap::new();
    let mut batches = plan(context, repeated).await?.execute_stream().await.map_err(failed)?;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        last.extend(string_column(&batch, 0)?.iter().map(|id| (digest(id), BEFORE_INPUT)));
    }
    if last.is_empty() {
        return Ok(replaced);
    }
    let order: BTreeMap<&str, usize> =
        documents.files.iter().enumerate().map(|(number, file)| (file.path.as_str(), number)).collect();
    let rows = "SELECT CAST(doc_id AS varchar), source, \"row\" FROM input WHERE doc_id IS NOT NULL";
    let mut batches = plan(context, rows).await?.execute_stream().await.map_err(failed)?;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        let rows = batch.column(2).as_primitive::<Int64Type>();
        for ((id, source), row) in string_column(&batch, 0)?.iter().zip(string_column(&batch, 1)?).zip(rows.values()) {
            let Some(latest) = last.get_mut(&digest(id)) else { continue };
            let position = (order.get(source.as_str()).copied().unwrap_or_default(), *row);
            let earlier = position.min(*latest);
            *latest = position.max(*latest);
            if earlier != BEFORE_INPUT {
                replaced.add(&documents.files[earlier.0].path, earlier.1);
            }
        }
    }
    replaced.sort();
    Ok(replaced)
}

/// The number of rows of a chunk that later rows of the same chunk replace.
pub(crate) async fn count_replaced(context: &SessionContext, documents: &Documents, chunk: &Chunk) -> Result<usize> {
    if chunk.ranges.is_empty() { Ok(0) } else { Ok(replaced_of(context, documents, chunk).await?.rows()) }
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
        if documents.files[number].broken.is_some() {
            continue;
        }
        let Some((rows, reason)) = documents.broken(context, number).await? else { continue };
        let file = &mut documents.files[number];
        let reason = if rows > 0 { format!("from row {rows} on: {reason}") } else { reason };
        console::warn(&format!("`{}` cannot be read: {reason}", file.path));
        file.broken = Some((rows, reason.clone()));
        documents.unreadable.push((file.clone(), reason));
        found = true;
    }
    if found { Ok(()) } else { Err(error) }
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
    let unread = format!(
        "SELECT source, doc_id FROM documents WHERE spec_id <> '{spec_id}' AND source NOT IN
         (SELECT path FROM sources WHERE spec_id = '{spec_id}' AND outcome = '{DONE}')"
    );
    let count = query_store(context, store.location(), &format!("SELECT count(*) FROM ({unread})")).await?;
    if i64_row(&count)? == [0] {
        return Ok(None);
    }
    let sql = format!(
        "SELECT count(*), count(DISTINCT source), min(source) FROM ({unread}) AS unread WHERE NOT EXISTS
         (SELECT 1 FROM documents AS replacing WHERE replacing.spec_id = '{spec_id}' AND replacing.doc_id = unread.doc_id)"
    );
    let found = query_store(context, store.location(), &sql).await?;
    let Some(batch) = found.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let (documents, files) = (count_at(batch, 0, 0)? as u64, count_at(batch, 1, 0)? as u64);
    Ok((documents > 0).then_some((documents, files, string_column(batch, 2)?.remove(0))))
}

/// Registers a chunk's (source, row, `doc_id`) as the table `input`.
pub(crate) async fn input(context: &SessionContext, documents: &Documents, chunk: &Chunk) -> Result<()> {
    let ids = documents.ids(context, chunk).await?;
    context.deregister_table("input").map_err(failed)?;
    context.register_table("input", ids.into_view()).map_err(failed)?;
    Ok(())
}

fn failed(source: DataFusionError) -> Error {
    Error::Engine { doing: "read the document ids".into(), source: source.into() }
}

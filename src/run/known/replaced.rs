//! Rows that a commit replaces → rejects. In: the removed rows of `documents`, the commit's files. Out: the rows of the present input among
//! them. It must not count rows of a file that has changed since, unless the file still has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::error::Result;
use crate::extract::known_documents::{digest, digest_of};
use crate::run::failure::failed;
use crate::run::known::ledger::Ledger;
use crate::source::input::Documents;
use crate::store::delta_store::Store;
use crate::store::table_files::WrittenFile;
use crate::store::write::replaced::rows;
use crate::tables::Table;
use crate::tables::result_row::{ColumnError, IdText, result_rows};

/// A removed row of a file that has changed since it was read.
struct Stale {
    text: u128,
    /// The index of its batch and its row there.
    place: (usize, usize),
    /// The row of its file that replaces it.
    before: i64,
}

/// The removed rows of `documents` that later rows of the present input replace; `files` are those of the commit. Rows of files that are
/// gone are not among them, nor are rows of other files that have changed since.
pub(crate) async fn replaced_rows(
    context: &SessionContext,
    documents: &Documents,
    store: &Store,
    ledger: &Ledger,
    removed: &[RecordBatch],
    files: &[WrittenFile],
) -> Result<Vec<RecordBatch>> {
    let miscounted = |source: DataFusionError| failed("look up replaced documents", source);
    let mut replaced = Vec::new();
    let mut stale: BTreeMap<String, HashMap<u128, Stale>> = BTreeMap::new();
    let mut newest: Option<HashMap<u128, (String, i64)>> = None;
    for (number, batch) in removed.iter().enumerate() {
        let current: Result<Vec<bool>, ColumnError> =
            result_rows([batch]).map(|row| Ok(ledger.is_current(row.get("source")?, row.get("commit")?))).collect();
        let current: BooleanArray = current?.into();
        for (place, row) in result_rows([batch]).enumerate().filter(|(place, _)| !current.value(*place)) {
            let source: &str = row.get("source")?;
            if !ledger.is_listed(source) {
                continue;
            }
            if newest.is_none() {
                newest = Some(places(store, files).await.map_err(miscounted)?);
            }
            let id = digest(&row.get::<IdText>("doc_id")?.0);
            let newer = newest.as_ref().and_then(|newest| newest.get(&id));
            if let Some((_, before)) =
                newer.filter(|newer| newer.0 == source && row.get("row").is_ok_and(|row: i64| row < newer.1))
            {
                let text = digest_of(row.get("content_hash")?);
                let of_file = stale.entry(source.to_owned()).or_default();
                of_file.insert(id, Stale { text, place: (number, place), before: *before });
            }
        }
        replaced.push(filter_record_batch(batch, &current).map_err(|source| miscounted(source.into()))?);
    }
    for (source, mut stale) in stale {
        let Some(plan) = documents.plan_of(context, &source).await? else { continue };
        let mut batches = execute_stream(plan, context.task_ctx()).map_err(miscounted)?;
        // A file that cannot be read to its end ends the run elsewhere.
        while let Ok(Some(batch)) = batches.try_next().await {
            replaced.extend(still_there(&batch, removed, &mut stale).map_err(miscounted)?);
            let last = batch.column(1).as_primitive::<Int64Type>().values().last().copied();
            if last.is_some_and(|last| stale.values().all(|one| one.before <= last)) {
                break;
            }
        }
    }
    Ok(replaced)
}

/// The removed rows that a batch (source, row, id, text) of their file still has, with their present row numbers. The first row counts.
fn still_there(
    batch: &RecordBatch,
    removed: &[RecordBatch],
    stale: &mut HashMap<u128, Stale>,
) -> DataFusionResult<Vec<RecordBatch>> {
    let ids: ArrayRef = cast(batch.column(2), &DataType::Utf8)?;
    let (numbers, texts) = (batch.column(1).as_primitive::<Int64Type>(), batch.column(3).as_string_view());
    let mut found = Vec::new();
    for (row, id) in ids.as_string::<i32>().iter().enumerate() {
        let (Some(id), true) = (id.map(digest), texts.is_valid(row)) else { continue };
        let number = numbers.value(row);
        let same = stale.get(&id).is_some_and(|one| number < one.before && one.text == digest(texts.value(row)));
        let Some(Stale { place, .. }) = same.then(|| stale.remove(&id)).flatten() else { continue };
        let document = removed[place.0].slice(place.1, 1);
        let mut columns = document.columns().to_vec();
        columns[document.schema().index_of("row")?] = Arc::new(Int64Array::from(vec![number]));
        found.push(RecordBatch::try_new(document.schema(), columns)?);
    }
    Ok(found)
}

/// The file and row of each document of a commit, by the digest of its id.
async fn places(store: &Store, files: &[WrittenFile]) -> DataFusionResult<HashMap<u128, (String, i64)>> {
    let columns = store.columns(Table::Documents, &["doc_id", "source", "row"])?;
    let mut places = HashMap::new();
    for file in files.iter().filter(|file| file.table == Table::Documents) {
        let mut batches = rows(store.location(), file, &columns).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids: ArrayRef = cast(batch.column(0), &DataType::Utf8)?;
            let (ids, sources) = (ids.as_string::<i32>(), batch.column(1).as_string::<i32>());
            let numbers = batch.column(2).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                places.insert(digest(ids.value(row)), (sources.value(row).to_owned(), numbers.value(row)));
            }
        }
    }
    Ok(places)
}

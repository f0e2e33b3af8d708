//! What must be known before documents are read. In: ids of a chunk, ids of the whole input. Out: which of them the store has, and
//! which rows later rows replace. It may not read a text.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;

use super::ledger::{query, strings};
use crate::engine::chunk::Chunk;
use crate::engine::input::Documents;
use crate::engine::location::StoreLocation;
use crate::engine::store::Store;
use crate::error::{Error, Result};

/// Rows, by source, whose document comes again in a later row.
pub(super) type Replaced = Arc<BTreeMap<String, BTreeSet<i64>>>;

/// Content hashes, by id, of the chunk's documents that the store has under `spec_id`. The chunk's ids are held, the ledger's
/// pass by.
pub(super) async fn known(
    context: &SessionContext,
    documents: &Documents,
    chunk: &Chunk,
    store: &Store,
    spec_id: &str,
) -> Result<HashMap<String, String>> {
    input(context, documents, chunk).await?;
    let sql = format!(
        "SELECT CAST(done.doc_id AS varchar), done.content_hash FROM documents AS done
         JOIN (SELECT DISTINCT doc_id FROM input WHERE doc_id IS NOT NULL) AS new ON done.doc_id = new.doc_id
         WHERE done.spec_id = '{spec_id}'"
    );
    let batches = query(context, &sql, &store.location().to_string()).await?;
    Ok(strings(&batches, 0).zip(strings(&batches, 1)).collect())
}

/// The rows of the input that later rows with the same id replace.
pub(super) async fn replaced(
    context: &SessionContext,
    documents: &Documents,
    whole: &Chunk,
    store: &StoreLocation,
) -> Result<Replaced> {
    if documents.files.is_empty() {
        return Ok(Replaced::default());
    }
    input(context, documents, whole).await?;
    let sql = "SELECT CAST(doc_id AS varchar), source, \"row\" FROM input WHERE doc_id IN
         (SELECT doc_id FROM input WHERE doc_id IS NOT NULL GROUP BY doc_id HAVING count(*) > 1)";
    let order: HashMap<&str, usize> =
        documents.files.iter().enumerate().map(|(number, file)| (file.path.as_str(), number)).collect();
    let mut last: HashMap<String, (usize, i64)> = HashMap::new();
    let mut replaced: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let mut replace = |(file, row): (usize, i64)| {
        replaced.entry(documents.files[file].path.clone()).or_default().insert(row);
    };
    for batch in query(context, sql, &store.to_string()).await? {
        let rows = batch.column(2).as_primitive::<Int64Type>().values().to_vec();
        let batch = std::slice::from_ref(&batch);
        for ((id, source), row) in strings(batch, 0).zip(strings(batch, 1)).zip(rows) {
            let place = (order.get(source.as_str()).copied().unwrap_or(0), row);
            let latest = last.entry(id).or_insert(place);
            if *latest < place {
                replace(std::mem::replace(latest, place));
            } else if *latest > place {
                replace(place);
            }
        }
    }
    Ok(Arc::new(replaced))
}

/// Makes a chunk's (source, row, `doc_id`) known as the table `input`.
pub(super) async fn input(context: &SessionContext, documents: &Documents, chunk: &Chunk) -> Result<()> {
    let failed = |source: datafusion::error::DataFusionError| Error::Engine {
        doing: "look at the documents' ids".into(),
        source: source.into(),
    };
    let ids = documents.ids(context, chunk).await?;
    context.deregister_table("input").map_err(failed)?;
    context.register_table("input", ids.into_view()).map_err(failed)?;
    Ok(())
}

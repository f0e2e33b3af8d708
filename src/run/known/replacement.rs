//! When the rows of another specification can go. In: the store's tables. Out: the documents that a replacement must wait for. It must not
//! write.
//!
//! An old row goes if its document has a row under the new specification. It also goes if its file was read to its end under the new
//! specification, with every `where`, `id` and `text` that it was read with before, and in the same state: then the new specification has
//! refused the document. A row of a file that has changed since the row was written stays, because its document has vanished or its new
//! text is refused. So does a row of a file that is gone, unread, or read for some of its jobs only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::error::{Error, Result};
use crate::extract::known_documents::digest;
use crate::query::session::register_store;
use crate::query::statement::{query_store, stream_store};
use crate::store::delta_store::Store;
use crate::tables::SourceOutcome;
use crate::tables::result_row::{ColumnError, ResultRow, first_row, result_rows};

/// Documents that a replacement waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) documents: u64,
    /// The files of their rows.
    pub(crate) files: u64,
    /// One of them.
    pub(crate) document: String,
    /// Its file.
    pub(crate) file: String,
}

/// The table, registered for the query, of files whose old rows can wait.
const HELD: &str = "held_files";

/// The documents that keep the rows of other specifications from being dropped; `None` if there are none.
pub(crate) async fn waiting(context: &SessionContext, store: &Store, spec_id: &str) -> Result<Option<Waiting>> {
    register_store(context, store).await?;
    let held = held(context, store, spec_id).await?;
    if held.is_empty() {
        return Ok(None);
    }
    let failed = |source| Error::Engine { doing: "look up replaced documents".into(), source };
    let batch = batch(&held).map_err(|source| failed(source.into()))?;
    context.deregister_table(HELD).map_err(|source| failed(source.into()))?;
    context.register_batch(HELD, batch).map_err(|source| failed(source.into()))?;
    // Files first, because they are few: ids are compared only of rows whose file does not let them go.
    let rows = format!(
        "SELECT old.source, old.doc_id FROM documents AS old JOIN {HELD} AS held
         ON old.spec_id = held.old_spec AND old.source = held.path WHERE old.commit < held.before"
    );
    let sql = format!(
        "SELECT count(*) AS documents, count(DISTINCT source) AS files, min(source) AS file,
            CAST(first_value(doc_id ORDER BY source, doc_id) AS varchar) AS document
         FROM ({rows}) AS waiting WHERE NOT EXISTS
            (SELECT 1 FROM documents AS replacing WHERE replacing.spec_id = '{spec_id}' AND replacing.doc_id = waiting.doc_id)"
    );
    let found = query_store(context, store.location(), &sql).await?;
    let found = first_row(&found).ok_or(ColumnError::NoRow)?;
    let (documents, files): (usize, usize) = (found.get("documents")?, found.get("files")?);
    // Without documents there is no file.
    let (file, document): (Option<String>, Option<String>) = (found.get("file")?, found.get("document")?);
    let place = file.zip(document);
    Ok(place.map(|(file, document)| Waiting { documents: documents as u64, files: files as u64, document, file }))
}

/// Files whose rows of another specification, by its id, can wait: those that commits before this one added.
type Held = BTreeMap<(String, String), i64>;

/// The files whose old rows do not all go with their file.
async fn held(context: &SessionContext, store: &Store, spec_id: &str) -> Result<Held> {
    let columns = "spec_id, path, input_hash, size, etag, modified_at, changed_in, outcome";
    let done = SourceOutcome::Done;
    // By digests, because a store has as many files as its input.
    let mut read: HashMap<u128, u128> = HashMap::new();
    let sql = format!("SELECT {columns} FROM sources WHERE spec_id = '{spec_id}' AND outcome = '{done}'");
    let mut batches = stream_store(context, store.location(), &sql).await?;
    while let Some(batch) = batches.try_next().await? {
        for row in result_rows([&batch]) {
            read.insert(input(&row)?, state(&row)?);
        }
    }
    let mut held = Held::new();
    let sql = format!("SELECT {columns} FROM sources WHERE spec_id <> '{spec_id}'");
    let mut batches = stream_store(context, store.location(), &sql).await?;
    while let Some(batch) = batches.try_next().await? {
        for row in result_rows([&batch]) {
            let same = read.get(&input(&row)?) == Some(&state(&row)?);
            let before = if same { row.get::<Option<i64>>("changed_in")?.unwrap_or(0) } else { i64::MAX };
            if before > 0 {
                let most = held.entry((row.get("spec_id")?, row.get("path")?)).or_default();
                *most = before.max(*most);
            }
        }
    }
    Ok(held)
}

/// A file and the job's input settings.
fn input(row: &ResultRow<'_>) -> Result<u128, ColumnError> {
    Ok(digest(&[row.get::<&str>("path")?, row.get("input_hash")?].join("\u{1f}")))
}

/// The state of a file.
fn state(row: &ResultRow<'_>) -> Result<u128, ColumnError> {
    let (size, etag): (i64, Option<&str>) = (row.get("size")?, row.get("etag")?);
    let modified: Option<DateTime<Utc>> = row.get("modified_at")?;
    Ok(digest(&format!("{size} {} {modified:?}", etag.unwrap_or_default())))
}

fn batch(held: &Held) -> Result<RecordBatch, arrow::error::ArrowError> {
    let texts = |values: Vec<&String>| Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
    RecordBatch::try_from_iter([
        ("old_spec", texts(held.keys().map(|(spec, _)| spec).collect())),
        ("path", texts(held.keys().map(|(_, path)| path).collect())),
        ("before", Arc::new(held.values().copied().collect::<Int64Array>()) as ArrayRef),
    ])
}

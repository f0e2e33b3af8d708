//! Documents that later rows of the same chunk repeat. In: slices of extracted rows, in order. Out: the rows that are written, and the files
//! of a commit batch without the rows that later rows of it replace. It must not hold texts.
//!
//! Every accepted row replaces the row of an earlier one with the same id and another text, in the commit that adds it: a refused row
//! replaces none, and a run that stops between the two leaves the earlier one in force. Rows of one commit batch are streamed to files as
//! they come; if a later row of the batch replaces some of them, the files are written again without them before they are committed.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use deltalake_core::kernel::Add;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::extract::known_documents::{digest, digest_of};
use crate::source::location::StoreLocation;
use crate::store::data_files::read;
use crate::store::table_files::{TableFiles, WrittenFile};
use crate::tables::Totals;
use crate::text::document::RejectReason;

/// The newest accepted row of an id in a chunk.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    /// The digest of its text.
    text: u128,
    /// The commit whose files have it.
    commit: i64,
    /// The number of its file among the files of the chunk.
    source: u32,
    mentions: u32,
}

/// The first rows of an id in the files of a commit batch: as many documents and mentions as later rows replace.
#[derive(Debug, Clone, Copy, Default)]
struct Leading {
    documents: usize,
    mentions: usize,
}

/// The accepted rows of a chunk. An id takes 56 to 112 bytes.
#[derive(Debug, Default)]
pub(crate) struct AcceptedRows {
    newest: HashMap<u128, Accepted>,
    replaced: HashMap<u128, Leading>,
    /// The file of the last slice, and its number.
    source: (String, u32),
}

/// A slice, resolved.
pub(crate) struct Resolved {
    /// The rows to write.
    pub(crate) rows: RecordBatch,
    /// The ids, as text, whose committed rows the commit must remove.
    pub(crate) changed: Vec<String>,
    /// The file, if it has rows that repeat the text of a document in force whose row is from another file. A slice has rows of one file.
    pub(crate) repeated: Option<String>,
}

impl AcceptedRows {
    /// Decides which rows of a slice are written with the commit `commit`.
    pub(crate) fn resolve(&mut self, slice: &RecordBatch, commit: i64) -> Result<Resolved> {
        let ids: ArrayRef = cast(&slice["doc_id"], &DataType::Utf8)?;
        let (ids, reasons) = (ids.as_string::<i32>(), slice["reason"].as_string::<i32>());
        let (hashes, in_force) = (slice["content_hash"].as_string::<i32>(), slice["in_force"].as_string::<i32>());
        let lists = slice["entities"].as_list::<i32>();
        let mut resolved = Resolved { rows: slice.clone(), changed: Vec::new(), repeated: None };
        let mut written = vec![true; slice.num_rows()];
        let file = slice["source"].as_string::<i32>().value(0);
        if self.source.0 != file {
            self.source = (file.to_owned(), self.source.1 + 1);
        }
        for (row, written) in written.iter_mut().enumerate() {
            if reasons.is_valid(row) || ids.is_null(row) || hashes.is_null(row) {
                continue;
            }
            let (id, text) = (digest(ids.value(row)), digest_of(hashes.value(row)));
            let earlier = self.newest.get(&id).copied();
            let known = in_force.is_valid(row).then(|| digest_of(in_force.value(row)));
            if earlier.map(|row| row.text).or(known) == Some(text) {
                *written = false;
                if earlier.is_some_and(|earlier| earlier.source != self.source.1) {
                    resolved.repeated = Some(file.to_owned());
                }
                continue;
            }
            match earlier {
                Some(earlier) if earlier.commit == commit => {
                    let leading = self.replaced.entry(id).or_default();
                    leading.documents += 1;
                    leading.mentions += earlier.mentions as usize;
                }
                Some(_) => resolved.changed.push(ids.value(row).to_owned()),
                None if known.is_some() => resolved.changed.push(ids.value(row).to_owned()),
                None => {}
            }
            let mentions = lists.value_length(row).unsigned_abs();
            self.newest.insert(id, Accepted { text, commit, source: self.source.1, mentions });
        }
        if written.contains(&false) {
            resolved.rows = filter_record_batch(slice, &written.into())?;
        }
        Ok(resolved)
    }

    /// Starts a commit batch.
    pub(crate) fn next_batch(&mut self) {
        self.replaced.clear();
    }

    /// Whether later rows replace rows of the open commit batch.
    pub(crate) fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Which rows of the next batch of documents, as files of the commit batch have them, are replaced.
    fn documents(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        self.leading(batch, |leading| &mut leading.documents)
    }

    /// Which rows of the next batch of mentions are replaced.
    fn mentions(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        self.leading(batch, |leading| &mut leading.mentions)
    }

    fn leading(&mut self, batch: &RecordBatch, left: impl Fn(&mut Leading) -> &mut usize) -> Result<BooleanArray> {
        let ids: ArrayRef = cast(&batch["doc_id"], &DataType::Utf8)?;
        let replaced = ids.as_string::<i32>().iter().map(|id| {
            let left = self.replaced.get_mut(&digest(id.unwrap_or_default())).map(&left);
            let replaced = left.filter(|left| **left > 0).map(|left| *left -= 1);
            Some(replaced.is_some())
        });
        Ok(replaced.collect())
    }

    /// Writes the files of `entities` and `documents` of a commit batch again without the replaced rows, and takes these out of its
    /// `totals`. Returns the files, and the replaced rows of `documents`.
    pub(crate) async fn rewrite(
        &mut self,
        location: &StoreLocation,
        (entities, documents): (Vec<WrittenFile>, Vec<WrittenFile>),
        (mention_writer, document_writer): (&mut TableFiles, &mut TableFiles),
        schemas: (&SchemaRef, &SchemaRef),
        totals: &mut Totals,
    ) -> Result<(Vec<WrittenFile>, Vec<RecordBatch>)> {
        let (mut files, mut removed) = (Vec::new(), Vec::new());
        for file in entities {
            let mut batches = rows(location, &file, schemas.0).await?;
            while let Some(batch) = batches.try_next().await? {
                let replaced = self.mentions(&batch)?;
                files.extend(mention_writer.write(&filter_record_batch(&batch, &not(&replaced)?)?).await?);
                totals.take_mentions(&filter_record_batch(&batch, &replaced)?)?;
            }
            delete(location, &file).await?;
        }
        files.extend(mention_writer.finish().await?);
        for file in documents {
            let mut batches = rows(location, &file, schemas.1).await?;
            while let Some(batch) = batches.try_next().await? {
                let replaced = self.documents(&batch)?;
                files.extend(document_writer.write(&filter_record_batch(&batch, &not(&replaced)?)?).await?);
                let replaced = filter_record_batch(&batch, &replaced)?;
                totals.take_documents(&replaced)?;
                totals.reject(RejectReason::DuplicateId, replaced.num_rows() as u64);
                removed.push(replaced);
            }
            delete(location, &file).await?;
        }
        files.extend(document_writer.finish().await?);
        Ok((files, removed))
    }
}

/// The place of a file that is in no log yet.
fn place(location: &StoreLocation, file: &WrittenFile) -> Result<Path> {
    let add: Add = serde_json::from_str(&file.action).map_err(|cause| DataFusionError::External(cause.into()))?;
    Ok(location.table_path(file.table).parts().chain(Path::parse(add.path)?.parts()).collect())
}

/// The rows of a file that is in no log yet.
pub(crate) async fn rows(
    location: &StoreLocation,
    file: &WrittenFile,
    schema: &SchemaRef,
) -> Result<futures::stream::BoxStream<'static, Result<RecordBatch>>> {
    read(location.objects(), &place(location, file)?, file.bytes, schema).await
}

async fn delete(location: &StoreLocation, file: &WrittenFile) -> Result<()> {
    let deleted = location.objects().delete(&place(location, file)?).await;
    deleted.map_err(|cause| DataFusionError::ObjectStore(Box::new(cause)))
}

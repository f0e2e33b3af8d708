//! Files → their columns. In: files of one format. Out: names and types, from the files' metadata or their first records. It must not
//! read more of a file than that.

use std::io::Read;
use std::sync::Arc;

use arrow::csv::reader::Format as Csv;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::{Buf, Bytes};
use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use crate::source::listing::Format;

/// The types of a CSV file's columns are inferred from this many records.
const RECORDS: usize = 1000;

impl Format {
    /// The merged schema of `files`.
    pub(crate) async fn columns(
        self,
        state: &dyn Session,
        objects: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        if self != Self::Csv {
            return self.reader().infer_schema(state, objects, files).await;
        }
        // DataFusion's own inference splits a file at line ends, and mistakes line ends in quoted texts for ends of records.
        let mut schemas = Vec::new();
        for file in files {
            let stream = objects.get(&file.location).await?.into_stream();
            let records = BlockingReader { stream, buffered: Bytes::new(), runtime: Handle::current() };
            let read =
                tokio::task::spawn_blocking(|| Csv::default().with_header(true).infer_schema(records, Some(RECORDS)));
            let read = read.await.map_err(|cause| DataFusionError::External(cause.into()))?;
            schemas.push(read?.0);
        }
        Ok(Arc::new(Schema::try_merge(schemas)?))
    }
}

/// An object's bytes as a blocking reader.
struct BlockingReader {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    buffered: Bytes,
    runtime: Handle,
}

impl Read for BlockingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.buffered.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(chunk) => self.buffered = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.buffered.len());
        self.buffered.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Describes the first column in which two headers differ.
pub(crate) fn difference(one: &Schema, other: &Schema) -> Option<String> {
    let name = |schema: &Schema, column: usize| match schema.fields().get(column) {
        Some(field) => format!("`{}`", field.name()),
        None => "not there".to_owned(),
    };
    let mut columns = 0..one.fields().len().max(other.fields().len());
    let column = columns.find(|&column| name(one, column) != name(other, column))?;
    let (one, other) = (name(one, column), name(other, column));
    Some(format!("column {} is {one} in the first and {other} in the second", column + 1))
}

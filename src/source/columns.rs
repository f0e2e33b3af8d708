//! Files → their columns. In: files of one format. Out: names and types, as their metadata or their first records tell. It may not
//! read more of a file than that takes.

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

/// Records of a CSV file that say what its columns hold.
const RECORDS: usize = 1000;

impl Format {
    /// The columns of `files` together.
    pub(crate) async fn columns(
        self,
        state: &dyn Session,
        objects: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        if self != Self::Csv {
            return self.reader().infer_schema(state, objects, files).await;
        }
        // DataFusion's own way cuts a file where lines end, and takes line ends in quoted texts for those of records.
        let mut schemas = Vec::new();
        for file in files {
            let stream = objects.get(&file.location).await?.into_stream();
            let records = Chunks { stream, rest: Bytes::new(), runtime: Handle::current() };
            let read =
                tokio::task::spawn_blocking(|| Csv::default().with_header(true).infer_schema(records, Some(RECORDS)));
            let read = read.await.map_err(|cause| DataFusionError::External(cause.into()))?;
            schemas.push(read?.0);
        }
        Ok(Arc::new(Schema::try_merge(schemas)?))
    }
}

/// An object's bytes, for a reader that blocks.
struct Chunks {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    rest: Bytes,
    runtime: Handle,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The first column that two headers do not share, in words.
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

//! Files → their columns. In: a file of a format. Out: names and types, from the file's metadata or its first records. It must not read
//! more of a file than that.

use std::sync::Arc;

use arrow::csv::reader::Format as Csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::{DataFusionError, Result};
use futures::FutureExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use tokio::runtime::Handle;

use crate::machine::panics::{contain, contain_future};
use crate::source::listing::Format;
use crate::source::records::sample::{self, Object};

pub(crate) mod types;

/// The types of a CSV file's columns in SQL are inferred from this many records.
const RECORDS: usize = 1000;

/// A Parquet file ends with the length of its footer in 4 bytes, and these 4; or `PARE` if the footer is encrypted.
const MAGIC: &[u8] = b"PAR1";
/// The smallest Parquet file: the magic, and an empty footer with length and magic.
const PARQUET_BYTES: u64 = 12;

impl Format {
    /// The columns of a file as a run reads them. `names` are those that a CSV header must have for its delimiter to be found.
    pub(crate) async fn columns(
        self,
        state: &dyn Session,
        objects: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
        names: [&str; 2],
    ) -> Result<SchemaRef> {
        if self == Self::Parquet {
            return self.engine_columns(state, objects, file).await;
        }
        let (object, runtime) = (Object::new(objects, file), Handle::current());
        let names = names.map(str::to_owned);
        let read = move || contain(|| sample::columns(self, &object, &names.each_ref().map(String::as_str), &runtime));
        Ok(Arc::new(blocking(read).await??.map_err(sample::failure)?))
    }

    /// The columns of a file as DataFusion reads them in SQL.
    pub(crate) async fn engine_columns(
        self,
        state: &dyn Session,
        objects: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
    ) -> Result<SchemaRef> {
        if self == Self::Parquet {
            check_footer(objects.as_ref(), file).await?;
        }
        if self != Self::Csv {
            let (reader, files) = (self.reader(), std::slice::from_ref(file));
            return contain_future(reader.infer_schema(state, objects, files).boxed()).await?;
        }
        // DataFusion's own inference splits a file at line ends, and mistakes line ends in quoted texts for ends of records.
        let (object, runtime) = (Object::new(objects, file), Handle::current());
        let read = move || {
            contain(|| {
                let exact = sample::columns(self, &object, &[], &runtime).map_err(sample::failure)?;
                let records = object.open(&runtime).map_err(sample::failure)?;
                let inferred = Csv::default().with_header(true).infer_schema(records, Some(RECORDS))?.0;
                // `00123` is no number.
                let field = |field: &Field| match exact.field_with_name(field.name()) {
                    Ok(exact) if *exact.data_type() == DataType::Utf8 && field.data_type().is_numeric() => {
                        exact.clone()
                    }
                    _ => field.clone(),
                };
                Ok(Schema::new(inferred.fields().iter().map(|one| field(one)).collect::<Vec<_>>()))
            })
        };
        blocking(read).await??.map(Arc::new)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| DataFusionError::External(cause.into()))
}

/// Checks that a Parquet file is long enough for the footer that its last bytes announce: the library subtracts one from the other.
async fn check_footer(objects: &dyn ObjectStore, file: &ObjectMeta) -> Result<()> {
    let damaged = |reason: String| Err(DataFusionError::from(ParquetError::General(reason)));
    if file.size < PARQUET_BYTES {
        return damaged(format!("the file has only {} bytes", file.size));
    }
    let end = objects.get_range(&file.location, file.size - 8..file.size).await?;
    let Some((length, magic)) = end.split_first_chunk::<4>() else {
        return damaged("the file is shorter than it was when it was listed".to_owned());
    };
    if magic != MAGIC && magic != b"PARE" {
        return damaged("the file does not end as Parquet does: it is cut off, or of another format".to_owned());
    }
    let length = u64::from(u32::from_le_bytes(*length));
    if length + PARQUET_BYTES > file.size {
        return damaged(format!("its footer says that it has {length} bytes, but the file has only {}", file.size));
    }
    Ok(())
}

/// A Parquet file's metadata, from the session's cache if it is there.
pub(crate) async fn parquet_metadata(
    state: &dyn Session,
    objects: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
) -> Result<Arc<ParquetMetaData>> {
    let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let reader = DFParquetMetadata::new(objects.as_ref(), file).with_file_metadata_cache(Some(cache));
    contain_future(reader.fetch_metadata().boxed()).await?
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

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_footer_longer_than_its_file_is_an_error() {
        let (objects, location) = (InMemory::new(), Path::from("a.parquet"));
        for (bytes, expected) in [
            (b"PAR1\0\0\0\0PAR1".to_vec(), None),
            (b"PAR1\x01\0\0\0PAR1".to_vec(), Some("says that it has 1 bytes, but the file has only 12")),
            (b"PAR1xxxx\xff\xff\xff\xffPARE".to_vec(), Some("4294967295 bytes")),
            (b"PAR1".to_vec(), Some("only 4 bytes")),
            (b"id,body\n1,a text\n".to_vec(), Some("it is cut off, or of another format")),
        ] {
            objects.put(&location, bytes.into()).await.unwrap();
            let meta = objects.head(&location).await.unwrap();
            let error = check_footer(&objects, &meta).await.err().map(|error| error.to_string());
            assert!(
                error.as_deref().map_or(expected.is_none(), |error| error.contains(expected.unwrap())),
                "{error:?}"
            );
        }
    }
}

//! The data files of a table. In: a table's log, as last read. Out: each file's path, statistics and rows, as record batches of the
//! requested columns. It must not write or read files that are in no log.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use deltalake_core::kernel::{Action, Add, EagerSnapshot, LogicalFileView};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde_json::Value;

use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::ids::Ids;
use crate::store::log::features;
use crate::tables::Table;

/// Rows per batch in document lookups.
const LOOKUP_ROWS: usize = 8192;

/// One file of a table, as the log describes it.
pub(crate) struct DataFile {
    /// Its path relative to the table's folder, as in [`crate::store::write::commit::Commit::replaced`].
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// When it was written, in milliseconds since 1970.
    pub(crate) modified: i64,
    /// The value of the partition column, if the table has one.
    pub(crate) partition: Option<String>,
    view: LogicalFileView,
    location: Path,
    /// Delta's statistics (Delta protocol, "Per-file Statistics"); null if the file has none.
    statistics: Value,
}

impl Store {
    /// The files of a table at the last read version of its log.
    pub(crate) fn data_files(&self, table: Table) -> crate::error::Result<Vec<DataFile>> {
        data_files(self.location(), table, self.snapshot(table)?)
    }

    /// The columns `names` of a table's files, in this order.
    pub(crate) fn columns(&self, table: Table, names: &[&str]) -> Result<SchemaRef> {
        let schema = table.file_schema(self.id_type());
        let indices = names.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(schema.project(&indices)?))
    }
}

/// The files of a table at one version of its log.
///
/// # Errors
/// [`crate::error::Error::Unsupported`] if one has a deletion vector.
pub(crate) fn data_files(
    location: &StoreLocation,
    table: Table,
    snapshot: &EagerSnapshot,
) -> crate::error::Result<Vec<DataFile>> {
    let (folder, store) = (location.table_path(table), location.to_string());
    let file = |view: LogicalFileView| {
        features::check_file(&store, table, &view)?;
        let partition = table.partition_column().and_then(|column| view.partition_values_map().remove(column));
        let statistics = view.stats().and_then(|statistics| serde_json::from_str(&statistics).ok());
        Ok(DataFile {
            path: view.path().into_owned(),
            bytes: view.size().max(0) as u64,
            modified: view.modification_time(),
            partition: partition.flatten(),
            location: folder.parts().chain(view.object_store_path().parts()).collect(),
            statistics: statistics.unwrap_or_default(),
            view,
        })
    };
    snapshot.log_data().iter().map(file).collect()
}

impl DataFile {
    /// How many rows it has, if the log says so.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.statistics.get("numRecords")?.as_u64()
    }

    /// Lower and upper bound of a column's values, if the log has both. Another writer can truncate long strings: no value lies
    /// outside the bounds, but the bounds themselves need not occur.
    pub(crate) fn bounds(&self, column: &str) -> Option<(&Value, &Value)> {
        Some((self.statistics.get("minValues")?.get(column)?, self.statistics.get("maxValues")?.get(column)?))
    }

    /// Whether a string column can hold a wanted value: `between` decides from the file's minimum and maximum. True without bounds.
    pub(crate) fn may_hold(&self, column: &str, between: impl FnOnce(&str, &str) -> bool) -> bool {
        let bounds = self.bounds(column).and_then(|(least, greatest)| least.as_str().zip(greatest.as_str()));
        bounds.is_none_or(|(least, greatest)| between(least, greatest))
    }

    /// The action that removes it from the table. `data_change` is false if its rows stay, in other files.
    pub(crate) fn remove(&self, data_change: bool) -> Action {
        Action::Remove(self.view.remove_action(data_change))
    }

    /// The action that adds it to the table again.
    pub(crate) fn add(&self) -> Action {
        Action::Add(Add {
            path: self.path.clone(),
            partition_values: self.view.partition_values_map(),
            size: self.view.size(),
            modification_time: self.modified,
            data_change: true,
            stats: self.view.stats(),
            ..Add::default()
        })
    }

    /// Its path relative to the table's folder, as an object store path.
    pub(crate) fn object_path(&self) -> Path {
        self.view.object_store_path()
    }

    /// Whether the Parquet file still exists.
    pub(crate) async fn is_there(&self, objects: &dyn ObjectStore) -> object_store::Result<bool> {
        match objects.head(&self.location).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    /// Its rows with the columns of `schema`, in file order. At most one row group is in memory.
    pub(crate) async fn read(
        &self,
        objects: &Arc<dyn ObjectStore>,
        schema: &SchemaRef,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        read(objects, &self.location, self.bytes, schema).await
    }

    /// Its rows of the documents `ids`, with the columns of `schema`, the first of which is `doc_id`. Row groups whose id range
    /// excludes all of `ids` are skipped, and only the id is decoded of other documents' rows.
    pub(crate) async fn read_only(
        &self,
        objects: &Arc<dyn ObjectStore>,
        schema: &SchemaRef,
        ids: &Arc<Ids>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let builder = self.open(objects).await?;
        let groups = {
            let (file, columns) = (builder.metadata(), builder.parquet_schema());
            let bounds = StatisticsConverter::try_new(schema.field(0).name(), builder.schema(), columns)?;
            let groups = file.row_groups();
            let within = ids.may_be_within(&bounds.row_group_mins(groups)?, &bounds.row_group_maxes(groups)?)?;
            within.iter().enumerate().filter(|(_, may)| **may).map(|(group, _)| group).collect()
        };
        let columns = |names: &[&str]| ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
        let (only, id_type) = (Arc::clone(ids), schema.field(0).data_type().clone());
        let among = ArrowPredicateFn::new(columns(&[schema.field(0).name()]), move |batch: RecordBatch| {
            Ok(only.among(&cast(batch.column(0), &id_type)?))
        });
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = columns(&names);
        let builder = builder.with_row_groups(groups).with_row_filter(RowFilter::new(vec![Box::new(among)]));
        let schema = Arc::clone(schema);
        let rows =
            builder.with_projection(columns).with_batch_size(LOOKUP_ROWS).build()?.map_err(DataFusionError::from);
        Ok(rows.map(move |batch| conform(&batch?, &schema)).boxed())
    }

    async fn open(&self, objects: &Arc<dyn ObjectStore>) -> Result<ParquetRecordBatchStreamBuilder<ObjectReader>> {
        open(objects, &self.location, self.bytes).await
    }
}

/// The rows of a Parquet file of `bytes` bytes with the columns of `schema`, in file order. At most one row group is in memory.
pub(crate) async fn read(
    objects: &Arc<dyn ObjectStore>,
    path: &Path,
    bytes: u64,
    schema: &SchemaRef,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let builder = open(objects, path, bytes).await?;
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let columns = ProjectionMask::columns(builder.parquet_schema(), names);
    let schema = Arc::clone(schema);
    let rows = builder.with_projection(columns).build()?.map_err(DataFusionError::from);
    Ok(rows.map(move |batch| conform(&batch?, &schema)).boxed())
}

async fn open(
    objects: &Arc<dyn ObjectStore>,
    path: &Path,
    bytes: u64,
) -> Result<ParquetRecordBatchStreamBuilder<ObjectReader>> {
    let reader = ObjectReader { objects: Arc::clone(objects), path: path.clone(), bytes };
    Ok(ParquetRecordBatchStreamBuilder::new(reader).await?)
}

/// The batch with the columns of `schema`. Another writer can store columns in another order, or with other Arrow types for the same
/// Delta types.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |name: &str, data_type| {
        let column = batch.column_by_name(name);
        let column = column.ok_or_else(|| DataFusionError::Execution(format!("a data file has no column `{name}`")))?;
        Ok(cast(column, data_type)?)
    };
    let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
}

/// Reads byte ranges of one object for Parquet's reader.
struct ObjectReader {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

fn external(cause: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(cause))
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.objects.get_range(&self.path, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.objects.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'reader>(
        &'reader mut self,
        options: Option<&'reader ArrowReaderOptions>,
    ) -> BoxFuture<'reader, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.bytes;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

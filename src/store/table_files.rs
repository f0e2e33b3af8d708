//! Writes the data files of one table. In: record batches with the table's file schema. Out: Parquet files in the table's folder
//! and, for each, the Add action that makes it part of the table. It must not touch the transaction log.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use chrono::Utc;
use datafusion::error::{DataFusionError, Result};
use deltalake_core::kernel::Add;
use object_store::buffered::BufWriter;
use object_store::path::{Path, PathPart};
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::source::location::StoreLocation;
use crate::tables::{SPEC_ID, Table};

/// A file is closed and the next one started at this many bytes.
pub const FILE_BYTES: usize = 128 << 20;
/// A row group is closed when its encoded columns take this many bytes of memory.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// How many parts of 10 MiB of one file are uploaded to the object store concurrently.
const UPLOADS: usize = 2;
/// A string longer than this is not kept in the log: its column then has no minimum and maximum.
const STATISTIC_BYTES: usize = 1024;
/// Columns that no query filters by range. Without their statistics the log stays short.
const WITHOUT_STATISTICS: [&str; 5] = ["text", "detail", "job", "counts", "versions"];

/// A finished data file that is in no transaction log yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Its table.
    pub table: Table,
    /// Delta's Add action (Delta protocol, "Add File and Remove File") as JSON.
    pub action: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Writes the files of one table, one after another. If it is dropped before [`TableFiles::finish`], it leaves at most one file
/// that is in no log.
pub struct TableFiles {
    table: Table,
    location: StoreLocation,
    /// The value of the partition column, if the table has one.
    spec_id: Option<String>,
    file_bytes: usize,
    properties: WriterProperties,
    open: Option<OpenFile>,
}

struct OpenFile {
    writer: AsyncArrowWriter<BufWriter>,
    /// Relative to the table's folder, as in the log.
    path: Path,
    rows: u64,
    columns: Vec<ColumnStatistics>,
}

impl TableFiles {
    /// A writer for `table` without an open file.
    #[must_use]
    pub fn new(table: Table, location: &StoreLocation, spec_id: &str) -> Self {
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_created_by(concat!("quarry ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        Self {
            table,
            location: location.clone(),
            spec_id: table.partition_column().map(|_| spec_id.to_owned()),
            file_bytes: FILE_BYTES,
            properties,
            open: None,
        }
    }

    /// The same writer with files of about `bytes`.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: usize) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// Adds rows. Returns the file if these rows filled it. An empty batch starts no file.
    ///
    /// # Errors
    /// The errors of Parquet's writer and of the object store.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<Option<WrittenFile>> {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        if self.open.is_none() {
            self.open = Some(self.create(&batch.schema())?);
        }
        let Some(file) = self.open.as_mut() else { return Ok(None) };
        file.writer.write(batch).await?;
        file.rows += batch.num_rows() as u64;
        for statistics in &mut file.columns {
            statistics.observe(batch);
        }
        if file.writer.bytes_written() + file.writer.in_progress_size() < self.file_bytes {
            return Ok(None);
        }
        self.finish().await
    }

    /// Closes the open file, if any. The next rows go to a new one.
    ///
    /// # Errors
    /// The errors of Parquet's writer and of the object store.
    pub async fn finish(&mut self) -> Result<Option<WrittenFile>> {
        let Some(mut file) = self.open.take() else { return Ok(None) };
        file.writer.finish().await?;
        let bytes = file.writer.bytes_written() as u64;
        let partition_values =
            self.spec_id.iter().map(|spec_id| (SPEC_ID.to_owned(), Some(spec_id.clone()))).collect::<HashMap<_, _>>();
        let add = Add {
            path: file.path.to_string(),
            partition_values,
            size: bytes as i64,
            modification_time: Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(statistics_json(file.rows, &file.columns)),
            ..Add::default()
        };
        let action = serde_json::to_string(&add).map_err(|cause| DataFusionError::External(Box::new(cause)))?;
        Ok(Some(WrittenFile { table: self.table, action, rows: file.rows, bytes }))
    }

    fn create(&self, schema: &SchemaRef) -> Result<OpenFile> {
        let name = format!("part-{}.zstd.parquet", Uuid::now_v7());
        let folder = self.spec_id.iter().map(|spec_id| format!("{SPEC_ID}={spec_id}"));
        let path: Path = folder.chain([name]).map(PathPart::from).collect();
        let full_path: Path = self.location.table_path(self.table).parts().chain(path.parts()).collect();
        let objects = BufWriter::new(Arc::clone(self.location.objects()), full_path).with_max_concurrency(UPLOADS);
        let writer = AsyncArrowWriter::try_new(objects, Arc::clone(schema), Some(self.properties.clone()))?;
        Ok(OpenFile { writer, path, rows: 0, columns: ColumnStatistics::of(schema) })
    }
}

/// Minimum, maximum and number of nulls of one column, which the log keeps for skipping files.
struct ColumnStatistics {
    name: String,
    nulls: u64,
    /// `None` before the first value.
    range: Option<(Value, Value)>,
    /// Whether a minimum or maximum was too long to be kept.
    too_long: bool,
}

impl ColumnStatistics {
    fn of(schema: &SchemaRef) -> Vec<Self> {
        schema
            .fields()
            .iter()
            .filter(|field| matches!(field.data_type(), DataType::Utf8 | DataType::Int32 | DataType::Int64))
            .filter(|field| !WITHOUT_STATISTICS.contains(&field.name().as_str()))
            .map(|field| Self { name: field.name().clone(), nulls: 0, range: None, too_long: false })
            .collect()
    }

    fn observe(&mut self, batch: &RecordBatch) {
        let Some(column) = batch.column_by_name(&self.name) else { return };
        self.nulls += column.null_count() as u64;
        if let Some(strings) = column.as_string_opt::<i32>() {
            let Some((least, greatest)) = min_string(strings).zip(max_string(strings)) else { return };
            self.too_long |= least.len().max(greatest.len()) > STATISTIC_BYTES;
            let (mut least, mut greatest) = (least.to_owned(), greatest.to_owned());
            if let Some((Value::String(low), Value::String(high))) = self.range.take() {
                least = least.min(low);
                greatest = greatest.max(high);
            }
            self.range = Some((least.into(), greatest.into()));
        } else {
            let range = if let Some(integers) = column.as_primitive_opt::<Int64Type>() {
                min(integers).zip(max(integers))
            } else {
                let integers = column.as_primitive_opt::<Int32Type>();
                integers.and_then(|integers| min(integers).zip(max(integers))).map(|(a, b)| (a.into(), b.into()))
            };
            let Some((mut least, mut greatest)) = range else { return };
            if let Some((low, high)) = self.range.take() {
                least = low.as_i64().map_or(least, |low| low.min(least));
                greatest = high.as_i64().map_or(greatest, |high| high.max(greatest));
            }
            self.range = Some((least.into(), greatest.into()));
        }
    }
}

/// A file's statistics as JSON (Delta protocol, "Per-file Statistics").
fn statistics_json(rows: u64, columns: &[ColumnStatistics]) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for column in columns {
        nulls.insert(column.name.clone(), column.nulls.into());
        if let (Some((low, high)), false) = (&column.range, column.too_long) {
            least.insert(column.name.clone(), low.clone());
            greatest.insert(column.name.clone(), high.clone());
        }
    }
    json!({ "numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls }).to_string()
}

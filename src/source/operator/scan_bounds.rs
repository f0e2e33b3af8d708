//! How much a scan reads at a time. In: the files of a scan. Out: the rows of a batch, fewer the longer the texts of any file are, and
//! the files in parts whose compressed texts fit in memory. It must not read more than a file's metadata. Readers of text files bound
//! their batches themselves.
//!
//! Parquet's reader holds all pages of a row group that it is asked for. With an offset index (Parquet's "page index") it can be asked for
//! fewer: the rows of a part. A file without this index has one part.

use std::ops::Range;
use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::StreamExt;
use object_store::ObjectStore;
use parquet::file::metadata::ParquetMetaData;

use crate::source::listing::Format;
use crate::source::scan::{ScanFile, ScanSpec};

/// The bytes of text in a batch, if texts are about as long as their file's metadata or first bytes say.
const BATCH_BYTES: u64 = 4 << 20;

/// The compressed bytes of text in a part of a Parquet file.
const PART_BYTES: u64 = 16 << 20;

/// Files that are looked at concurrently.
const CONCURRENT_FILES: usize = 16;

/// Bounds of a file's scan.
struct Bounds {
    /// The mean bytes of text of its rows, where they are longest.
    row_bytes: u64,
    /// The rows at which a part ends, in order.
    ends: Vec<i64>,
}

impl Bounds {
    /// Of a file of short texts, or one that cannot be looked at: the scan says why.
    const NONE: Self = Self { row_bytes: 0, ends: Vec::new() };
}

/// The same scan with its files in parts, and the rows of its batches: at most those of the session.
pub(crate) async fn bounded(spec: &ScanSpec, task: &TaskContext) -> (ScanSpec, usize) {
    let (mut spec, most) = (spec.clone(), task.session_config().batch_size());
    let objects = ObjectStoreUrl::parse(&spec.objects).and_then(|url| task.runtime_env().object_store(url));
    let Ok(objects) = objects else { return (spec, most) };
    let (mut longest, mut parts) = (0, Vec::with_capacity(spec.files.len()));
    let bounds = futures::stream::iter(0..spec.files.len());
    let mut bounds = bounds.map(|file| bounds_of(&spec, &spec.files[file], &objects, task)).buffered(CONCURRENT_FILES);
    for file in &spec.files {
        let Bounds { row_bytes, ends } = bounds.next().await.unwrap_or(Bounds::NONE);
        longest = longest.max(row_bytes);
        parts.extend(split(file.range.clone(), &ends).map(|range| ScanFile { range, ..file.clone() }));
    }
    drop(bounds);
    spec.files = parts;
    (spec, fitting(longest, most))
}

/// The rows of this many bytes that a batch has. A power of two divides the rows of a larger batch: what one reads, the other can read.
fn fitting(row_bytes: u64, most: usize) -> usize {
    let rows = (BATCH_BYTES / row_bytes.max(1)).clamp(1, most.max(1) as u64);
    1 << rows.ilog2()
}

/// A range in parts that end at these rows; of a damaged index some are not in order.
fn split(range: Range<i64>, ends: &[i64]) -> impl Iterator<Item = Range<i64>> {
    let Range { start: first, end: last } = range;
    let inside = ends.iter().copied().filter(move |end| *end < last).chain([last]);
    let whole = move |start: i64, end: i64| start == first && end == last;
    let mut start = first;
    inside.filter_map(move |end| {
        let counts = start < end || whole(start, end);
        counts.then(|| std::mem::replace(&mut start, end)..end)
    })
}

async fn bounds_of(spec: &ScanSpec, file: &ScanFile, objects: &Arc<dyn ObjectStore>, task: &TaskContext) -> Bounds {
    let Ok(meta) = file.meta() else { return Bounds::NONE };
    if spec.format != Format::Parquet || !spec.texts {
        return Bounds::NONE;
    }
    let cache = task.runtime_env().cache_manager.get_file_metadata_cache();
    let reader = DFParquetMetadata::new(objects.as_ref(), &meta).with_file_metadata_cache(Some(cache));
    reader.fetch_metadata().await.map_or(Bounds::NONE, |metadata| column_bounds(&metadata, &spec.text))
}

/// The bounds of a scan of a Parquet file's column: by pages if the file has an offset index, else by row groups.
fn column_bounds(metadata: &ParquetMetaData, column: &str) -> Bounds {
    let mut bounds = Bounds::NONE;
    let (mut first_row, mut part) = (0_i64, 0_u64);
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        let Some(index) = group.columns().iter().position(|chunk| chunk.column_path().parts() == [column]) else {
            return Bounds::NONE;
        };
        let chunk = group.column(index);
        let bytes = chunk.unencoded_byte_array_data_bytes().unwrap_or_else(|| chunk.uncompressed_size());
        let mut see = |bytes: i64, rows: i64| {
            bounds.row_bytes = bounds.row_bytes.max(bytes.unsigned_abs() / rows.unsigned_abs().max(1));
        };
        let offsets = metadata.offset_index().and_then(|groups| groups.get(number)?.get(index));
        let Some(offsets) = offsets.filter(|offsets| !offsets.page_locations.is_empty()) else {
            see(bytes, rows);
            first_row = rows.saturating_add(first_row);
            continue;
        };
        let pages = &offsets.page_locations;
        let lengths = offsets.unencoded_byte_array_data_bytes();
        if lengths.is_none() {
            see(bytes, rows);
        }
        for (page, location) in pages.iter().enumerate() {
            let end = pages.get(page + 1).map_or(rows, |next| next.first_row_index);
            if let Some(length) = lengths.and_then(|lengths| lengths.get(page)) {
                see(*length, end.saturating_sub(location.first_row_index));
            }
            let size = u64::from(location.compressed_page_size.unsigned_abs());
            if part > 0 && part.saturating_add(size) > PART_BYTES {
                bounds.ends.push(location.first_row_index.saturating_add(first_row));
                part = 0;
            }
            part += size;
        }
        first_row = rows.saturating_add(first_row);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Int64Type};
    use datafusion::physical_plan::{ExecutionPlan, execute_stream};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::TryStreamExt;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::source::input::{Documents, InputSpec};
    use crate::source::listing::Listing;
    use crate::source::operator::scan_exec::ScanExec;

    #[test]
    fn longer_rows_make_smaller_batches() {
        let rows = |bytes: u64| fitting(bytes, 256);
        assert_eq!([0, 1, 16 << 10, (16 << 10) + 1, 20_000].map(rows), [256, 256, 256, 128, 128]);
        assert_eq!([2_000_000, 4 << 20, 1 << 40].map(rows), [2, 1, 1]);
        assert_eq!((fitting(1, 100), fitting(1, 0)), (64, 1));
    }

    #[test]
    fn a_range_is_split_at_the_rows_inside_it() {
        let parts = |range: Range<i64>| split(range, &[3, 7, 9]).collect::<Vec<_>>();
        assert_eq!(parts(0..10), [0..3, 3..7, 7..9, 9..10]);
        assert_eq!(parts(3..9), [3..7, 7..9]);
        assert_eq!([parts(4..6), parts(9..20), parts(5..5)].concat(), [4..6, 9..20, 5..5]);
        let damaged = split(2..8, &[7, 3, -1, i64::MIN, 7, 5]).collect::<Vec<_>>();
        assert_eq!(damaged, [2..7, 7..8]);
    }

    /// The rows of each batch of a scan of `count` texts of `length` bytes, the numbers of all rows, and how many parts are read.
    async fn batches(ending: &str, filter: Option<&str>, length: usize, count: usize) -> (Vec<usize>, Vec<i64>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("docs.{ending}"));
        let texts: Vec<String> = (0..count).map(|row| format!("{row:04}").repeat(length / 4)).collect();
        match ending {
            "parquet" => {
                let ids: ArrayRef = Arc::new((0..count).map(|id| Some(id.to_string())).collect::<StringArray>());
                let texts: ArrayRef = Arc::new(StringArray::from(texts));
                let batch = RecordBatch::try_from_iter([("id", ids), ("body", texts)]).unwrap();
                // Pages of about a megabyte.
                let properties = WriterProperties::builder().set_dictionary_enabled(false).set_write_batch_size(1);
                let file = std::fs::File::create(&path).unwrap();
                let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
                writer.write(&batch).unwrap();
                writer.close().unwrap();
            }
            "jsonl" => {
                let line = |(id, text): (usize, &String)| format!("{{\"id\": \"{id}\", \"body\": \"{text}\"}}\n");
                std::fs::write(&path, texts.iter().enumerate().map(line).collect::<String>()).unwrap();
            }
            _ => {
                let line = |(id, text): (usize, &String)| format!("x{id},{text}\n");
                let lines: String = texts.iter().enumerate().map(line).collect();
                std::fs::write(&path, format!("id,body\n{lines}")).unwrap();
            }
        }
        let context = SessionContext::new_with_config(SessionConfig::new().with_batch_size(256));
        let location = path.display().to_string();
        let listing = Listing::find(&context, &location).await.unwrap();
        let spec =
            InputSpec { documents: location, id: "id".into(), text: "body".into(), filter: filter.map(str::to_owned) };
        let documents = Documents::inspect(&context, spec, listing, 0).await.unwrap();
        let plan: Arc<dyn ExecutionPlan> = documents.plan(&documents.whole(|_| 0));
        assert_eq!(plan.schema().field(3).data_type(), &DataType::Utf8View);
        let (scan, _) = bounded(plan.downcast_ref::<ScanExec>().unwrap().spec(), &context.task_ctx()).await;
        let read: Vec<RecordBatch> = execute_stream(plan, context.task_ctx()).unwrap().try_collect().await.unwrap();
        let numbers = |batch: &RecordBatch| batch["row"].as_primitive::<Int64Type>().values().to_vec();
        (read.iter().map(RecordBatch::num_rows).collect(), read.iter().flat_map(numbers).collect(), scan.files.len())
    }

    #[tokio::test]
    async fn batches_are_bounded_in_bytes_in_every_format() {
        for ending in ["parquet", "jsonl", "csv"] {
            for filter in [None, Some("id <> 'none'")] {
                let (sizes, rows, parts) = batches(ending, filter, 1 << 20, 40).await;
                assert!(sizes.iter().all(|size| *size <= 4), "{ending} {filter:?}: {sizes:?}");
                assert_eq!(rows, (0..40).collect::<Vec<_>>(), "{ending} {filter:?}");
                assert_eq!(parts, if ending == "parquet" { 3 } else { 1 });
                let (sizes, rows, parts) = batches(ending, filter, 100, 600).await;
                assert!(sizes.len() < 5 && parts == 1, "{ending} {filter:?}: {sizes:?}");
                assert_eq!(rows, (0..600).collect::<Vec<_>>(), "{ending} {filter:?}");
            }
        }
    }
}

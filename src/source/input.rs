//! Documents → scans of their rows. In: the readable files and the job's columns. Out: a DataFusion plan of (source, row, id, text) for
//! any chunk of their rows. It must not read rows, except to find the offset after a number of documents.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::error::{Error, Result};
use crate::source::chunk::{Chunk, RowRange};
use crate::source::filter::bad_filter;
use crate::source::listing::{Format, Listing, SourceFile, store_of};
use crate::source::operator::read_counts::ReadCounts;
use crate::source::operator::scan_exec::{ScanExec, ScanTable};
use crate::source::plan_error::own_error;
use crate::source::scan::{ScanFile, ScanSpec};
use crate::tables::result_row::first_row;

/// Slices, and therefore chunks, end at multiples of this many rows of a file, and where a slice has enough text.
pub const SLICE_ROWS: i64 = 256;

/// The columns of a job's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// A file, folder, glob or URL.
    pub documents: String,
    /// The id column: string or integer.
    pub id: String,
    /// The text column: string.
    pub text: String,
    /// A SQL condition on the files' columns.
    pub filter: Option<String>,
}

/// The input of a job: its files, validated.
#[derive(Debug)]
pub struct Documents {
    pub(crate) spec: InputSpec,
    /// Without its files, which are in [`Documents::files`] and [`Documents::unreadable`].
    pub(crate) listing: Listing,
    /// The id column, the text column and the columns of the files that the condition uses, with types for all files.
    pub(crate) schema: SchemaRef,
    /// The other columns that the condition uses: names in folders `key=value`.
    pub(crate) partitions: Vec<String>,
    /// Files that have the job's columns.
    pub files: Vec<SourceFile>,
    /// Files that cannot be read, and why.
    pub unreadable: Vec<(SourceFile, String)>,
    /// The type of the `doc_id` columns.
    pub id_type: DataType,
    /// Row counts of files whose metadata has none, as [`Documents::count_rows`] recorded them last, by the file's name in the scan.
    pub(crate) counts: BTreeMap<String, i64>,
    /// The rows of Parquet files that cannot be read, by the file's number, and why.
    pub(crate) holes: BTreeMap<usize, (Vec<Range<i64>>, String)>,
    /// Whether the condition is evaluated row by row because it fails on some rows.
    pub(crate) by_row: bool,
    /// How many files of the input were done by earlier runs.
    pub(crate) known: usize,
}

impl Documents {
    /// The job's input settings.
    pub const fn spec(&self) -> &InputSpec {
        &self.spec
    }

    /// The total number of rows, if every file's row count is known.
    pub fn rows(&self) -> Option<i64> {
        self.files.iter().map(SourceFile::readable).sum()
    }

    /// One chunk over the whole input, each file from its first row not done yet, which `begun` returns.
    pub fn whole(&self, begun: impl Fn(&str) -> i64) -> Chunk {
        let range = |(file, source): (usize, &SourceFile)| {
            let end = source.readable().unwrap_or(i64::MAX);
            RowRange { file, rows: begun(&source.path).min(end)..end }
        };
        Chunk { ranges: self.files.iter().enumerate().map(range).collect() }
    }

    /// A plan of (source string, row int64, id, text string view, fault string), in file order, in one partition. `fault` is the code and
    /// detail of the reject of a row that cannot be read.
    pub fn plan(&self, chunk: &Chunk) -> Arc<dyn ExecutionPlan> {
        Arc::new(ScanExec::new(ScanSpec { texts: true, ..self.scan(chunk) }))
    }

    /// A plan like [`Documents::plan`] of all rows of a listed file, which need not be one of [`Documents::files`]. `None` if it is gone.
    pub(crate) async fn plan_of(&self, context: &SessionContext, path: &str) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let failed = |cause: String| Error::Engine { doing: format!("read `{path}`"), source: cause.into() };
        let objects = store_of(context, &self.listing.objects).map_err(failed)?;
        let location = Path::parse(path.strip_prefix(&self.listing.prefix).unwrap_or(path));
        let location = location.map_err(|cause| failed(cause.to_string()))?;
        let meta = match objects.head(&location).await {
            Ok(meta) => meta,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(cause) => return Err(failed(cause.to_string())),
        };
        let file = SourceFile { path: path.to_owned(), meta, rows: None, broken: None };
        let files = vec![ScanFile::new(&file, &RowRange { file: 0, rows: 0..i64::MAX }, &[])];
        let scan = ScanSpec { texts: true, files, ..self.scan(&Chunk::default()) };
        Ok(Some(Arc::new(ScanExec::new(scan))))
    }

    /// The scan of (source, row, id) of a chunk.
    pub(crate) fn scan(&self, chunk: &Chunk) -> ScanSpec {
        let files = chunk.ranges.iter().map(|range| {
            let holes = self.holes.get(&range.file).map_or(&[][..], |(holes, _)| holes);
            ScanFile::new(&self.files[range.file], range, holes)
        });
        ScanSpec {
            format: self.listing.format,
            objects: self.listing.objects.to_string(),
            prefix: self.listing.prefix.clone(),
            schema: Arc::clone(&self.schema),
            files: files.collect(),
            id: self.spec.id.clone(),
            id_type: self.id_type.clone(),
            partitions: self.partitions.clone(),
            text: self.spec.text.clone(),
            texts: false,
            more: Vec::new(),
            filter: self.spec.filter.clone(),
            by_row: self.by_row,
        }
    }

    /// The same rows as a table of (source, row, id) for queries. The texts are not read.
    pub fn ids(&self, context: &SessionContext, chunk: &Chunk) -> Result<DataFrame> {
        let ids = || {
            let mut all: Option<DataFrame> = None;
            for part in self.parts(chunk) {
                let table = context.read_table(Arc::new(ScanTable(self.scan(&part))))?;
                all = Some(match all {
                    Some(all) => all.union(table)?,
                    None => table,
                });
            }
            all.ok_or_else(|| DataFusionError::Plan("there is no file to read".to_owned()))
        };
        ids().map_err(|error| self.planned(error))
    }

    /// Records how many rows a plan has read of each of its text files. The counts of earlier plans are forgotten.
    pub fn count_rows(&mut self, read: ReadCounts) {
        self.counts = read.rows;
    }

    /// Checks that the condition did not fail on every row that a finished plan has read. Once files are done, rows on which it fails are
    /// rejects, however many.
    ///
    /// # Errors
    /// [`Error::Setting`] if it did.
    pub fn check_filter(&self, read: &ReadCounts) -> Result<(), Error> {
        let ReadCounts { failed, evaluated, .. } = read;
        match &self.spec.filter {
            Some(filter) if *failed > 0 && failed == evaluated && self.known == 0 => {
                let reason = format!("`{filter}` fails on all {failed} rows, as a cast or a division by zero does");
                Err(bad_filter(&DataFusionError::External(reason.into())))
            }
            _ => Ok(()),
        }
    }

    /// Evaluates the condition row by row from now on, so that a row on which it fails is a reject and not the scan's failure. False if
    /// it is so already, or if there is no condition.
    pub fn filter_by_row(&mut self) -> bool {
        let new = self.spec.filter.is_some() && self.listing.format == Format::Parquet && !self.by_row;
        self.by_row |= new;
        new
    }

    /// The first row of a file that cannot be read, and why; `None` if all can be read as far as is known.
    pub fn damage(&self, file: usize) -> Option<(i64, &str)> {
        let holes = || self.holes.get(&file).and_then(|(holes, reason)| Some((holes.first()?.start, reason.as_str())));
        self.files[file].broken.as_ref().map(|(rows, reason)| (*rows, reason.as_str())).or_else(holes)
    }

    /// Splits a chunk into parts that one scan can read, in order. A text file that ends early needs a scan of its own.
    fn parts(&self, chunk: &Chunk) -> impl Iterator<Item = Chunk> {
        let alone = |range: &RowRange| self.files[range.file].ends_early();
        let parts = chunk.ranges.chunk_by(move |one, next| !alone(one) && !alone(next));
        parts.map(|ranges| Chunk { ranges: ranges.to_vec() })
    }

    /// The offset (file and row) of the document after the first `count` of `chunk`. `None` if there are no more.
    pub async fn place_behind(
        &self,
        context: &SessionContext,
        chunk: &Chunk,
        count: u64,
    ) -> Result<Option<(usize, i64)>> {
        if chunk.ranges.is_empty() {
            return Ok(None);
        }
        let mut count = usize::try_from(count).unwrap_or(usize::MAX);
        let failed = |error| self.planned(error);
        for part in self.parts(chunk) {
            let ids = self.ids(context, &part)?;
            let rows = ids.clone().limit(count, Some(1)).map_err(failed)?.collect().await.map_err(failed)?;
            if let Some(found) = first_row(&rows) {
                let (source, row): (&str, i64) = (found.get("source")?, found.get("row")?);
                return Ok(self.files.iter().position(|file| file.path == source).map(|file| (file, row)));
            }
            count -= ids.count().await.map_err(failed)?;
        }
        Ok(None)
    }

    pub(crate) fn planned(&self, source: DataFusionError) -> Error {
        own_error(source, format!("plan the scan of `{}`", self.spec.documents))
    }

    /// How many rows `file` has, from its metadata or as counted by a scan.
    pub fn rows_of(&self, file: &SourceFile) -> i64 {
        let counted = || self.counts.get(file.meta.location.as_ref()).copied().unwrap_or(0);
        file.readable().unwrap_or_else(counted)
    }
}

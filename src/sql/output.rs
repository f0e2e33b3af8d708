//! Rows → the screen or a file. In: batches of one result at a time, and the output settings. Out: a table, CSV, JSON Lines or Parquet. It
//! must not hold more rows than it writes at a time.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::NamedTempFile;

use super::columns::{renamed, text_columns, text_schema, unique_names};
use super::result_table::{Sink, Table, TableOptions};
use super::settings::RowFormat;
use crate::console::{self, thousands};
use crate::error::{Cause, Error, Result};
use crate::machine::files::unfinished;

/// Maximum encoded bytes of a Parquet row group.
const ROW_GROUP: usize = 64 << 20;

/// The output settings, and the current output file.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) format: RowFormat,
    /// Maximum number of rows of a table on the screen; 0 for all.
    pub(super) rows: usize,
    /// Whether a table shows one line per column of a row.
    pub(super) records: bool,
    /// Whether a shell shows the duration of each query.
    pub(super) timing: bool,
    /// Whether a shell uses it.
    pub(super) shell: bool,
    /// The store's folder, where results must not be written.
    store: Option<PathBuf>,
    file: Option<OutFile>,
}

/// A file that rows are written to.
#[derive(Debug)]
struct OutFile {
    path: PathBuf,
    /// Whether it appears only once it is complete; a shell writes in place.
    atomic: bool,
    /// The temporary file of an atomic write, once there is a result.
    unfinished: Option<NamedTempFile>,
    results: usize,
}

impl Output {
    /// Writes results to the screen. `store` is the store's folder, if it is on this machine.
    pub(super) fn new(format: RowFormat, rows: usize, shell: bool, store: Option<PathBuf>) -> Self {
        Self { format, rows, records: false, timing: shell, shell, store, file: None }
    }

    /// Writes the only result to a file, which appears once it is complete.
    pub(super) fn write_atomically(&mut self, path: &Path) -> Result<()> {
        self.check_place(path)?;
        self.file = Some(OutFile { path: path.to_owned(), atomic: true, unfinished: None, results: 0 });
        Ok(())
    }

    /// Refuses a file inside the store: a file of its tables can be overwritten there, and a reader takes any file for one of them.
    fn check_place(&self, path: &Path) -> Result<()> {
        // A file that does not exist yet is where its folder is; a folder that does not exist is reported when the file is created.
        let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = path.canonicalize().or_else(|_| beside.canonicalize());
        let store = self.store.as_ref().and_then(|store| store.canonicalize().ok());
        match (place, store) {
            (Ok(place), Some(store)) if place.starts_with(&store) => Err(Error::Setting {
                origin: "sql".into(),
                key: "out".into(),
                reason: format!("`{}` is inside the store", path.display()),
                hint: "name a file outside of the store: only runs and evaluations write there".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes the following results to a file, or to the screen again.
    pub(super) fn redirect(&mut self, path: Option<&Path>) -> Result<()> {
        self.finish()?;
        if let Some(path) = path {
            self.check_place(path)?;
            File::create(path).map_err(|cause| unwritable(path, cause))?;
            self.file = Some(OutFile { path: path.to_owned(), atomic: false, unfinished: None, results: 0 });
        }
        Ok(())
    }

    /// Begins a result with these columns; `started` is when its statement was started.
    pub(super) fn begin(&mut self, schema: &SchemaRef, started: Instant) -> Result<ResultWriter> {
        let refuse = |reason: &str, hint: &str| {
            Err(Error::Setting { origin: "sql".into(), key: "out".into(), reason: reason.into(), hint: hint.into() })
        };
        let repeated = self.file.as_ref().is_some_and(|file| file.results > 0);
        let mut sink: Sink = match &mut self.file {
            None if self.format == RowFormat::Parquet => {
                return refuse("Parquet output needs a file", "use --out FILE, or \\o FILE in the shell");
            }
            None => console::results(),
            Some(file) if repeated && file.atomic => {
                return refuse("a file takes the rows of one query", "run one query, or write several files");
            }
            Some(file) if repeated && self.format == RowFormat::Parquet => {
                let reason = format!("`{}` already has a result, and a Parquet file takes one", file.path.display());
                return refuse(&reason, "choose another file with \\o FILE");
            }
            Some(file) => {
                file.results += 1;
                let opened = file.open(repeated).map_err(|cause| unwritable(&file.path, cause))?;
                Box::new(std::io::BufWriter::new(opened))
            }
        };
        let failed = |cause: Cause| Error::Engine { doing: "write the rows".into(), source: cause };
        let format = match self.format {
            RowFormat::Table => {
                let (rows, records, in_file, shell) = (self.rows, self.records, self.file.is_some(), self.shell);
                FormatWriter::Table(Table::new(TableOptions { rows, records, in_file, shell }, schema, sink))
            }
            RowFormat::Csv => {
                if repeated {
                    sink.write_all(b"\n").map_err(|cause| failed(cause.into()))?;
                }
                let schema = text_schema(schema);
                let mut writer = csv::WriterBuilder::new().with_header(true).build(sink);
                // A result without rows has a header, too.
                writer.write(&RecordBatch::new_empty(Arc::clone(&schema))).map_err(|cause| failed(cause.into()))?;
                FormatWriter::Csv(writer, schema)
            }
            RowFormat::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(sink);
                FormatWriter::Json(writer, unique_names(schema))
            }
            RowFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
                // Readers that do not support Arrow's string views must find plain strings.
                let options =
                    ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
                let schema = unique_names(schema);
                let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&schema), options);
                FormatWriter::Parquet(writer.map_err(|cause| failed(cause.into()))?, schema)
            }
        };
        Ok(ResultWriter { format, rows: 0, started, file: self.file.as_ref().map(|file| file.path.clone()) })
    }

    /// Reports in a shell that a statement without rows is done.
    pub(super) fn done(&self, started: Instant) {
        if self.shell {
            let time =
                if self.timing { format!("; {}", console::short_time(started.elapsed())) } else { String::new() };
            console::print(&format!("(done{time})"));
        }
    }

    /// Completes the file: an atomic write gets its name.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(OutFile { path, unfinished: Some(file), .. }) = self.file.take() {
            file.persist(&path).map_err(|cause| unwritable(&path, cause.error))?;
        }
        Ok(())
    }
}

impl OutFile {
    /// Opens the file for a result, after earlier results if there are some.
    fn open(&mut self, repeated: bool) -> std::io::Result<File> {
        if self.atomic {
            return self.unfinished.insert(unfinished(&self.path)?).as_file().try_clone();
        }
        if repeated { File::options().append(true).open(&self.path) } else { File::create(&self.path) }
    }
}

/// Writes one result.
pub(super) struct ResultWriter {
    format: FormatWriter,
    rows: usize,
    started: Instant,
    file: Option<PathBuf>,
}

enum FormatWriter {
    Table(Table),
    Csv(csv::Writer<Sink>, SchemaRef),
    Json(arrow::json::writer::Writer<Sink, LineDelimited>, SchemaRef),
    Parquet(ArrowWriter<Sink>, SchemaRef),
}

impl ResultWriter {
    /// Writes a batch, and returns whether more rows are needed.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<bool> {
        self.rows += batch.num_rows();
        let file = self.file.clone();
        self.format.write(batch).map_err(|cause| failed(file.as_deref(), cause))
    }

    /// Completes the result; `settings` are those it was begun with.
    pub(super) fn finish(self, settings: &Output) -> Result<()> {
        let Self { format, rows, started, file } = self;
        let table = matches!(format, FormatWriter::Table(_));
        let time = (settings.shell && settings.timing).then(|| started.elapsed());
        format.finish(time).map_err(|cause| failed(file.as_deref(), cause))?;
        if let Some(path) = file.filter(|_| !table || settings.shell) {
            tracing::info!("{} row(s) written to `{}`", thousands(rows as u64), path.display());
        }
        Ok(())
    }
}

impl FormatWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<bool, Cause> {
        match self {
            Self::Table(table) => return table.write(batch),
            Self::Csv(writer, schema) => writer.write(&text_columns(batch, schema)?)?,
            Self::Json(writer, schema) => writer.write(&renamed(batch, schema)?)?,
            Self::Parquet(writer, schema) => {
                writer.write(&renamed(batch, schema)?)?;
                if writer.in_progress_size() > ROW_GROUP {
                    writer.flush()?;
                }
            }
        }
        Ok(true)
    }

    fn finish(self, time: Option<Duration>) -> Result<(), Cause> {
        match self {
            Self::Table(table) => table.finish(time)?,
            Self::Csv(writer, _) => writer.into_inner().flush()?,
            Self::Json(mut writer, _) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Self::Parquet(mut writer, _) => {
                writer.finish()?;
                writer.inner_mut().flush()?;
            }
        }
        Ok(())
    }
}

fn unwritable(path: &Path, cause: std::io::Error) -> Error {
    Error::Write { path: path.to_owned(), source: cause.into() }
}

fn failed(file: Option<&Path>, cause: Cause) -> Error {
    let path = file.unwrap_or(Path::new("standard output"));
    Error::Write { path: path.to_owned(), source: cause }
}

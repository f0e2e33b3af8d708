//! Rows → the screen or a file. In: batches of one result at a time, and how they shall look. Out: a table, CSV, JSON Lines or Parquet. It
//! may hold no more rows than it shows in one piece.

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

use super::columns::{as_text, renamed, text_columns, unlike};
use super::result_table::{Look, Sink, Table};
use crate::cli::RowFormat;
use crate::console::{self, thousands};
use crate::error::{Cause, Error, Result};
use crate::machine::files::unfinished;

/// Encoded bytes at which a Parquet row group ends.
const ROW_GROUP: usize = 64 << 20;

/// How results are written, from one to the next.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) format: RowFormat,
    /// How many rows a table on the screen shows; 0 for all.
    pub(super) rows: usize,
    /// Whether a table has a line for every column of a row.
    pub(super) records: bool,
    /// Whether a shell says how long a query took.
    pub(super) timing: bool,
    /// Whether it is a shell's.
    pub(super) shell: bool,
    file: Option<OutFile>,
}

/// A file that rows go to.
#[derive(Debug)]
struct OutFile {
    path: PathBuf,
    /// Whether it is there when it is whole; a shell writes in place.
    whole: bool,
    /// Where it is written until it is whole, once there is a result.
    unfinished: Option<NamedTempFile>,
    results: usize,
}

impl Output {
    /// Results on the screen.
    pub(super) fn new(format: RowFormat, rows: usize, shell: bool) -> Self {
        Self { format, rows, records: false, timing: shell, shell, file: None }
    }

    /// The one result goes to a file, which is there when it is whole.
    pub(super) fn write_whole_file(&mut self, path: &Path) {
        self.file = Some(OutFile { path: path.to_owned(), whole: true, unfinished: None, results: 0 });
    }

    /// From now on results go to a file, or to the screen again.
    pub(super) fn redirect(&mut self, path: Option<&Path>) -> Result<()> {
        self.finish()?;
        if let Some(path) = path {
            File::create(path).map_err(|cause| unwritable(path, cause))?;
            self.file = Some(OutFile { path: path.to_owned(), whole: false, unfinished: None, results: 0 });
        }
        Ok(())
    }

    /// Begins a result of these columns; `started` is when it was asked for.
    pub(super) fn begin(&mut self, schema: &SchemaRef, started: Instant) -> Result<ResultWriter> {
        let refuse = |reason: &str, hint: &str| {
            Err(Error::Setting { origin: "sql".into(), key: "out".into(), reason: reason.into(), hint: hint.into() })
        };
        let repeated = self.file.as_ref().is_some_and(|file| file.results > 0);
        let mut sink: Sink = match &mut self.file {
            None if self.format == RowFormat::Parquet => {
                return refuse("Parquet goes into a file", "name it with --out FILE, or \\o FILE in the shell");
            }
            None => Box::new(console::results()),
            Some(file) if repeated && file.whole => {
                return refuse("a file takes the rows of one query", "ask for one result, or write several files");
            }
            Some(file) if repeated && self.format == RowFormat::Parquet => {
                let reason = format!("`{}` has a result already, and Parquet takes one", file.path.display());
                return refuse(&reason, "name another file with \\o FILE");
            }
            Some(file) => {
                file.results += 1;
                let opened = file.open(repeated).map_err(|cause| unwritable(&file.path, cause))?;
                Box::new(std::io::BufWriter::new(opened))
            }
        };
        let failed = |cause: Cause| Error::Engine { doing: "write the rows".into(), source: cause };
        let form = match self.format {
            RowFormat::Table => {
                let (rows, records, in_file, shell) = (self.rows, self.records, self.file.is_some(), self.shell);
                Form::Table(Table::new(Look { rows, records, in_file, shell }, schema, sink))
            }
            RowFormat::Csv => {
                if repeated {
                    sink.write_all(b"\n").map_err(|cause| failed(cause.into()))?;
                }
                let schema = as_text(schema);
                let mut writer = csv::WriterBuilder::new().with_header(true).build(sink);
                // A result without rows has a header too.
                writer.write(&RecordBatch::new_empty(Arc::clone(&schema))).map_err(|cause| failed(cause.into()))?;
                Form::Csv(writer, schema)
            }
            RowFormat::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(sink);
                Form::Json(writer, unlike(schema))
            }
            RowFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
                // Readers that do not know Arrow's string views shall find plain strings.
                let options =
                    ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
                let schema = unlike(schema);
                let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&schema), options);
                Form::Parquet(writer.map_err(|cause| failed(cause.into()))?, schema)
            }
        };
        Ok(ResultWriter { form, rows: 0, started, file: self.file.as_ref().map(|file| file.path.clone()) })
    }

    /// Says that a statement without rows is done, to who sees it.
    pub(super) fn done(&self, started: Instant) {
        if self.shell {
            let time =
                if self.timing { format!("; {}", console::short_time(started.elapsed())) } else { String::new() };
            console::print(&format!("(done{time})"));
        }
    }

    /// The file is whole: it takes its name.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(OutFile { path, unfinished: Some(file), .. }) = self.file.take() {
            file.persist(&path).map_err(|cause| unwritable(&path, cause.error))?;
        }
        Ok(())
    }
}

impl OutFile {
    /// Opens it for a result, behind earlier ones where there are some.
    fn open(&mut self, repeated: bool) -> std::io::Result<File> {
        if self.whole {
            return self.unfinished.insert(unfinished(&self.path)?).as_file().try_clone();
        }
        if repeated { File::options().append(true).open(&self.path) } else { File::create(&self.path) }
    }
}

/// Writes one result.
pub(super) struct ResultWriter {
    form: Form,
    rows: usize,
    started: Instant,
    file: Option<PathBuf>,
}

enum Form {
    Table(Table),
    Csv(csv::Writer<Sink>, SchemaRef),
    Json(arrow::json::writer::Writer<Sink, LineDelimited>, SchemaRef),
    Parquet(ArrowWriter<Sink>, SchemaRef),
}

impl ResultWriter {
    /// Writes a batch; says whether more is wanted.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<bool> {
        self.rows += batch.num_rows();
        let file = self.file.clone();
        self.form.write(batch).map_err(|cause| failed(file.as_deref(), cause))
    }

    /// Ends the result; `settings` are those it was begun with.
    pub(super) fn finish(self, settings: &Output) -> Result<()> {
        let Self { form, rows, started, file } = self;
        let table = matches!(form, Form::Table(_));
        let time = (settings.shell && settings.timing).then(|| started.elapsed());
        form.finish(time).map_err(|cause| failed(file.as_deref(), cause))?;
        if let Some(path) = file.filter(|_| !table || settings.shell) {
            console::note(&format!("{} row(s) in `{}`", thousands(rows as u64), path.display()));
        }
        Ok(())
    }
}

impl Form {
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

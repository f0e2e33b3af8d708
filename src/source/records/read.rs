//! Text files → batches. In: files in order, their format, the id and text columns, the columns of a condition. Out: one row per record:
//! (source, id, text, fault, columns of the condition). It must not stop at a record that cannot be read: such a row has nulls and a fault.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringArray, StringBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::PartitionStream;
use tokio::runtime::Handle;

use crate::machine::panics::contain;
use crate::source::listing::{Format, has_tabs, partition_value};
use crate::source::records::csv::CsvRecords;
use crate::source::records::filter_columns::{constant, from_csv, from_json};
use crate::source::records::json_lines::JsonLines;
use crate::source::records::object_bytes::{Object, read_error};
use crate::source::records::record::{Cell, Record};
use crate::text::document::RejectReason;

/// A batch ends at this many bytes of records.
const BATCH_BYTES: usize = 4 << 20;

/// Where the columns of the condition begin in the output.
pub(crate) const OWN_COLUMNS: usize = 4;

/// The records of a file.
enum Records {
    Json(JsonLines),
    Csv(Box<CsvRecords>),
}

impl Records {
    /// The next record; `None` at the end of the file.
    fn next(&mut self) -> std::io::Result<Option<Record>> {
        match self {
            Self::Json(lines) => lines.next(),
            Self::Csv(records) => records.next(),
        }
    }
}

/// Text files to read.
pub(crate) struct TextFiles(Arc<Layout>);

/// The files, and the columns that are read of them.
struct Layout {
    format: Format,
    objects: ObjectStoreUrl,
    /// Path and size of each file.
    files: Vec<(object_store::path::Path, u64)>,
    id: String,
    /// Whether ids are integers; otherwise strings.
    integer_ids: bool,
    text: String,
    /// The columns of the condition: those of the files, then those of the folders' names.
    filter: (SchemaRef, SchemaRef),
    schema: SchemaRef,
}

impl fmt::Debug for TextFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TextFiles {{ format: {:?}, files: {} }}", self.0.format, self.0.files.len())
    }
}

impl TextFiles {
    pub(crate) fn new(
        format: Format,
        objects: ObjectStoreUrl,
        files: Vec<(object_store::path::Path, u64)>,
        (id, id_type): (&str, &DataType),
        text: &str,
        filter: (Fields, Fields),
    ) -> Self {
        let mut fields = vec![
            Field::new("source", DataType::Utf8, false),
            Field::new("doc_id", id_type.clone(), true),
            Field::new("text", DataType::Utf8View, true),
            Field::new("fault", DataType::Utf8, true),
        ];
        for field in filter.0.iter().chain(&filter.1) {
            fields.push(Field::new(format!("filter {}", field.name()), field.data_type().clone(), true));
        }
        Self(Arc::new(Layout {
            format,
            objects,
            files,
            id: id.to_owned(),
            integer_ids: id_type.is_integer(),
            text: text.to_owned(),
            filter: (Arc::new(Schema::new(filter.0)), Arc::new(Schema::new(filter.1))),
            schema: Arc::new(Schema::new(fields)),
        }))
    }
}

impl Layout {
    /// Opens a file. The cells of its records are id, text, and for CSV the columns of the condition.
    fn open(&self, object: &Object, runtime: &Handle) -> std::io::Result<Records> {
        let input = object.open(runtime)?;
        let mut wanted = vec![self.id.clone(), self.text.clone()];
        Ok(match self.format {
            Format::Csv => {
                wanted.extend(self.filter.0.fields().iter().map(|field| field.name().clone()));
                let names = [self.id.as_str(), self.text.as_str()];
                let tabs = has_tabs(object.location.as_ref());
                Records::Csv(Box::new(CsvRecords::new(input, &names, &wanted, tabs)?))
            }
            Format::JsonLines | Format::Parquet => Records::Json(JsonLines::new(input, wanted)),
        })
    }

    /// Reads a file and hands over its batches until `send` returns false; returns false then.
    fn read(
        &self,
        object: &Object,
        rows: usize,
        runtime: &Handle,
        send: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<bool> {
        let mut records = self.open(object, runtime).map_err(read_error)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let next = records.next();
            let last = !matches!(next, Ok(Some(_)));
            if let Ok(Some(record)) = next {
                bytes += record.raw.len();
                batch.push(record);
                if batch.len() < rows && bytes < BATCH_BYTES {
                    continue;
                }
                if !send(self.batch(object, &std::mem::take(&mut batch))?) {
                    return Ok(false);
                }
                bytes = 0;
                continue;
            }
            // Also before a failure: the records before it are sound.
            if last && !batch.is_empty() && !send(self.batch(object, &std::mem::take(&mut batch))?) {
                return Ok(false);
            }
            next.map_err(read_error)?;
            return Ok(true);
        }
    }

    /// The rows of some records.
    fn batch(&self, object: &Object, records: &[Record]) -> Result<RecordBatch> {
        let mut faults: Vec<Option<String>> = records.iter().map(|record| self.fault(record)).collect();
        let sound = |number: usize| faults[number].is_none().then_some(&records[number]);
        let numbers = || (0..records.len()).map(sound);
        let (mut filter, failed) = if self.filter.0.fields().is_empty() {
            (Vec::new(), Vec::new())
        } else if self.format == Format::Csv {
            let cells: Vec<Option<&[Cell]>> = numbers().map(condition_cells).collect();
            from_csv(&cells, &self.filter.0)?
        } else {
            let lines: Vec<_> = numbers().map(|record| record.map(|record| record.raw.as_slice())).collect();
            from_json(&lines, &self.filter.0)?
        };
        for (number, reason) in failed {
            let line = records[number].line;
            faults[number].get_or_insert(format!("{}: line {line}: {reason}", RejectReason::FilterFailed));
        }
        for field in self.filter.1.fields() {
            let value = partition_value(object.location.as_ref(), field.name());
            filter.push(constant(value.as_deref(), field.data_type(), records.len())?);
        }
        let cell = |number: usize, place: usize| {
            let sound = faults[number].is_none();
            records[number]
                .cells
                .as_ref()
                .ok()
                .filter(|_| sound)
                .and_then(|cells| cells.get(place))
                .unwrap_or(&Cell::Null)
        };
        let ids: ArrayRef = if self.integer_ids {
            let mut ids = Int64Builder::new();
            (0..records.len()).for_each(|number| match cell(number, 0) {
                Cell::Integer(id) => ids.append_value(*id),
                _ => ids.append_null(),
            });
            Arc::new(ids.finish())
        } else {
            let mut ids = StringBuilder::new();
            (0..records.len()).for_each(|number| match cell(number, 0) {
                Cell::Text(id) => ids.append_value(id),
                _ => ids.append_null(),
            });
            Arc::new(ids.finish())
        };
        let mut texts = StringViewBuilder::new();
        (0..records.len()).for_each(|number| match cell(number, 1) {
            Cell::Text(text) => texts.append_value(text),
            _ => texts.append_null(),
        });
        let source = StringArray::from(vec![object.location.as_ref(); records.len()]);
        let faults: StringArray = faults.into_iter().collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(source), ids, Arc::new(texts.finish()), Arc::new(faults)];
        columns.extend(filter);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// What is wrong with a record, with the code of the reject.
    fn fault(&self, record: &Record) -> Option<String> {
        let fault = match &record.cells {
            Err(fault) => fault.clone(),
            Ok(cells) => {
                let wrong = match (cells.first(), cells.get(1)) {
                    (Some(Cell::Null | Cell::Integer(_)), _) if self.integer_ids => None,
                    (Some(Cell::Null | Cell::Text(_)), _) if !self.integer_ids => None,
                    (Some(id), _) => Some((id, &self.id, if self.integer_ids { "an integer" } else { "a string" })),
                    (None, _) => None,
                };
                let wrong = wrong.or_else(|| match cells.get(1) {
                    None | Some(Cell::Null | Cell::Text(_)) => None,
                    Some(text) => Some((text, &self.text, "a string")),
                });
                let (cell, column, expected) = wrong?;
                format!("`{column}` is {}, expected {expected} as in the records before", cell.kind())
            }
        };
        Some(format!("{}: line {}: {fault}", RejectReason::InvalidRow, record.line))
    }
}

/// The cells behind id and text.
fn condition_cells(record: Option<&Record>) -> Option<&[Cell]> {
    record?.cells.as_deref().ok()?.get(2..)
}

impl PartitionStream for TextFiles {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let files = Arc::clone(&self.0);
        let objects = match context.runtime_env().object_store(&files.objects) {
            Ok(objects) => objects,
            Err(error) => {
                let failed = futures::stream::once(async { Err(error) });
                return Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&files.schema), failed));
            }
        };
        let (rows, runtime) = (context.session_config().batch_size(), Handle::current());
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&files.schema), 1);
        let output = builder.tx();
        builder.spawn_blocking(move || {
            for (location, size) in &files.files {
                let object = Object { objects: Arc::clone(&objects), location: location.clone(), size: *size };
                let mut send = |batch| output.blocking_send(Ok(batch)).is_ok();
                let read = contain(|| files.read(&object, rows, &runtime, &mut send));
                match read.map_err(DataFusionError::from).flatten() {
                    Ok(true) => {}
                    Ok(false) => break,
                    // Behind the last batch, which an error that this thread returns could overtake.
                    Err(error) => {
                        let _ = output.blocking_send(Err(error));
                        break;
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}

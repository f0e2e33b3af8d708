//! A scan of rows of files. In: files with row ranges, and the columns to read. Out: a plan of (source, row, id, text) of exactly these
//! rows, in file order, in one partition. It must not read ahead of its consumer.
//!
//! In Parquet, `source` and `row` come from DataFusion's scan itself (`input_file_name()` and `file_row_index()`), so a filter that is
//! pushed into the scan does not shift them. A condition that fails on a value fails such a scan: it is then evaluated row by row, behind
//! the scan. JSON Lines and CSV have no row index: their rows are numbered in file order before the filter is applied, row by row.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, Operator, ident};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::streaming::{PartitionStream as _, StreamingTableExec};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use serde::{Deserialize, Serialize};

use crate::source::chunk::RowRange;
use crate::source::filter::{bad_filter, condition};
use crate::source::listing::{Format, SourceFile, partition_value};
use crate::source::operator::row_filter::{RowFilter, RowFilterExec};
use crate::source::operator::row_number::{NumberRows, NumberRowsExec};
use crate::source::records::read::{OWN_COLUMNS, TextFiles};
use crate::source::scan::parquet_files::ParquetFiles;
use crate::source::scan::parsed::{Parsed, parsed};

mod parquet_files;
mod parsed;

/// What is read, and from where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The format of all files.
    pub format: Format,
    /// The URL of their object store.
    pub objects: String,
    /// The part of `source` before an object's path.
    pub prefix: String,
    /// The id column, the text column and the columns of the files that the condition uses.
    pub schema: SchemaRef,
    /// The other columns that the condition uses: names in folders `key=value`, all strings.
    pub partitions: Vec<String>,
    /// The files, in the order in which they are read.
    pub files: Vec<ScanFile>,
    /// The id column.
    pub id: String,
    /// The type of the ids.
    pub id_type: DataType,
    /// The text column.
    pub text: String,
    /// Whether texts are read, and with them the faults of rows.
    pub texts: bool,
    /// Other columns to read.
    pub more: Vec<String>,
    /// A SQL condition on the files' columns.
    pub filter: Option<String>,
    /// Whether the condition is evaluated row by row because it fails on some rows.
    pub by_row: bool,
}

/// Rows of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFile {
    /// Its path in the object store.
    pub location: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed.
    pub last_modified: DateTime<Utc>,
    /// Its tag, if its store has tags.
    pub e_tag: Option<String>,
    /// Its version, if its store has versions.
    pub version: Option<String>,
    /// How many rows it has, if its metadata says so.
    pub rows: Option<i64>,
    /// The rows to read, from 0; the end is [`i64::MAX`] for a file of unknown length.
    pub range: Range<i64>,
    /// Rows that cannot be read, in order.
    pub holes: Vec<Range<i64>>,
}

impl ScanFile {
    pub(crate) fn new(file: &SourceFile, range: &RowRange, holes: &[Range<i64>]) -> Self {
        let ObjectMeta { location, last_modified, size, e_tag, version } = &file.meta;
        Self {
            location: location.to_string(),
            size: *size,
            last_modified: *last_modified,
            e_tag: e_tag.clone(),
            version: version.clone(),
            rows: file.rows,
            range: range.rows.clone(),
            holes: holes.to_vec(),
        }
    }

    /// The file as its object store lists it.
    pub(crate) fn meta(&self) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            // As it was listed: special characters are not encoded again.
            location: object_store::path::Path::parse(&self.location)?,
            last_modified: self.last_modified,
            size: self.size,
            e_tag: self.e_tag.clone(),
            version: self.version.clone(),
        })
    }

    /// The file for DataFusion's scan, with the values of its folders' names and with the selection of its rows if its length is known.
    fn partitioned(&self, names: &[String]) -> Result<PartitionedFile> {
        let mut part = PartitionedFile::new_from_meta(self.meta()?);
        let value = |name: &String| ScalarValue::Utf8(partition_value(&self.location, name));
        part.partition_values = names.iter().map(value).collect();
        let Some(all) = self.rows else { return Ok(part) };
        let (mut selectors, mut next) = (Vec::new(), 0);
        let mut select = |rows: Range<i64>| {
            let rows = rows.start.clamp(next, all)..rows.end.clamp(next, all);
            if rows.start < rows.end {
                selectors.push(RowSelector::skip((rows.start - next) as usize));
                selectors.push(RowSelector::select((rows.end - rows.start) as usize));
                next = rows.end;
            }
        };
        let mut start = self.range.start;
        for hole in &self.holes {
            select(start..hole.start.min(self.range.end));
            start = start.max(hole.end);
        }
        select(start..self.range.end);
        selectors.push(RowSelector::skip((all - next) as usize));
        selectors.retain(|selector| selector.row_count > 0);
        if selectors.iter().all(|selector| !selector.skip) {
            return Ok(part);
        }
        Ok(part.with_extension(ParquetRowSelection::new(RowSelection::from(selectors))))
    }
}

impl ScanSpec {
    /// The columns: source (string), row (int64), `doc_id`; the text (string view) and the fault (string: the code and detail of a reject)
    /// if texts are read; and the other columns under names that cannot clash with ours.
    pub(crate) fn output_schema(&self) -> SchemaRef {
        let mut fields = vec![
            Field::new("source", DataType::Utf8, false),
            Field::new("row", DataType::Int64, false),
            Field::new("doc_id", self.id_type.clone(), true),
        ];
        if self.texts {
            fields.push(Field::new("text", DataType::Utf8View, true));
            fields.push(Field::new("fault", DataType::Utf8, true));
        }
        let other = |name: &String| {
            let data_type = self.schema.field_with_name(name).map_or(DataType::Null, |field| field.data_type().clone());
            Field::new(renamed(name), data_type, true)
        };
        fields.extend(self.more.iter().map(other));
        Arc::new(Schema::new(fields))
    }

    /// The plan that reads the rows, with DataFusion's own operators and ours, in a session of [`scan_session`].
    pub(crate) async fn plan(&self, context: &SessionContext) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = match self.format {
            Format::Parquet => self.parquet_plan(context).await?,
            Format::JsonLines | Format::Csv => self.text_plan(context)?,
        };
        self.with_prefix(plan)
    }

    /// The plan of Parquet files: (source, row, id), text and fault if they are read, the other columns.
    async fn parquet_plan(&self, context: &SessionContext) -> Result<Arc<dyn ExecutionPlan>> {
        let mut frame = context.read_table(Arc::new(ParquetFiles {
            objects: ObjectStoreUrl::parse(&self.objects)?,
            columns: Arc::clone(&self.schema),
            folders: self.folder_fields(),
            files: self.files.iter().map(|file| file.partitioned(&self.partitions)).collect::<Result<_>>()?,
        }))?;
        let by_row = self.filter.as_ref().filter(|_| self.by_row);
        if let (Some(filter), false) = (&self.filter, self.by_row) {
            let filter = frame.parse_sql_expr(filter).map_err(|error| bad(&error))?;
            frame = frame.filter(filter).map_err(|error| bad(&error))?;
        }
        let source = call(context, "input_file_name").alias("source");
        let row = call(context, "file_row_index").alias("row");
        let Parsed { id, text, fault } = parsed(&self.schema, (&self.id, &self.id_type), &self.text)?;
        let mut columns = vec![source, row, id.alias("doc_id")];
        if self.texts {
            columns.push(text.alias("text"));
        }
        if self.texts || by_row.is_some() {
            columns.push(fault.alias("fault"));
        }
        columns.extend(self.more.iter().map(|name| ident(name).alias(renamed(name))));
        let own = columns.len();
        if by_row.is_some() {
            let fields = self.filter_fields();
            columns.extend(fields.iter().map(|field| ident(field.name()).alias(format!("filter {}", field.name()))));
        }
        let plan = frame.select(columns)?.create_physical_plan().await?;
        match by_row {
            Some(filter) => self.filtered(context, plan, filter, own),
            None => Ok(plan),
        }
    }

    /// The plan of text files: (source, row, id, text, fault).
    fn text_plan(&self, context: &SessionContext) -> Result<Arc<dyn ExecutionPlan>> {
        let (mut of_files, mut of_folders) = (Vec::new(), Vec::new());
        if self.filter.is_some() {
            for field in &self.filter_fields() {
                let list = if self.partitions.contains(field.name()) { &mut of_folders } else { &mut of_files };
                list.push(Arc::clone(field));
            }
        }
        let location = |file: &ScanFile| Ok((object_store::path::Path::parse(&file.location)?, file.size));
        let files = TextFiles::new(
            self.format,
            ObjectStoreUrl::parse(&self.objects)?,
            self.files.iter().map(location).collect::<Result<_>>()?,
            (&self.id, &self.id_type),
            &self.text,
            (of_files.into(), of_folders.into()),
        );
        let schema = Arc::clone(files.schema());
        let plan = StreamingTableExec::try_new(schema, vec![Arc::new(files)], None, None, false, None)?;
        let ranges = self.files.iter().map(|file| (file.location.clone(), file.range.clone())).collect();
        let plan: Arc<dyn ExecutionPlan> = Arc::new(NumberRowsExec::try_new(Arc::new(plan), NumberRows { ranges })?);
        match &self.filter {
            Some(filter) => self.filtered(context, plan, filter, OWN_COLUMNS + 1),
            None => Ok(plan),
        }
    }

    /// The columns that a condition can use: those of the files, then those of folders' names.
    fn filter_fields(&self) -> Fields {
        self.schema.fields().iter().chain(&self.folder_fields()).cloned().collect()
    }

    fn folder_fields(&self) -> Fields {
        self.partitions.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect()
    }

    /// Filters rows by the condition, whose columns follow our own.
    fn filtered(
        &self,
        context: &SessionContext,
        plan: Arc<dyn ExecutionPlan>,
        filter: &str,
        own: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(Schema::new(self.filter_fields()));
        let condition = condition(context, &schema, filter).map_err(|error| bad(&error))?.transform(|expression| {
            Ok(match expression.downcast_ref::<Column>() {
                Some(column) => Transformed::yes(Arc::new(Column::new(column.name(), column.index() + own)) as _),
                None => Transformed::no(expression),
            })
        })?;
        Ok(Arc::new(RowFilterExec::try_new(plan, RowFilter { condition: condition.data, own })?))
    }

    /// Prepends the prefix to `source` and keeps the columns of [`ScanSpec::output_schema`].
    fn with_prefix(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = plan.schema();
        let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let source = binary(lit(self.prefix.as_str()), Operator::StringConcat, col("source", &schema)?, &schema)?;
        columns.push((source, "source".into()));
        for field in self.output_schema().fields().iter().skip(1) {
            columns.push((col(field.name(), &schema)?, field.name().clone()));
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
    }
}

fn bad(error: &DataFusionError) -> DataFusionError {
    DataFusionError::External(Box::new(bad_filter(error)))
}

/// A column of the files, under a name that cannot clash with ours.
fn renamed(name: &str) -> String {
    format!("column {name}")
}

fn call(context: &SessionContext, function: &str) -> Expr {
    let state = context.state();
    state.scalar_functions().get(function).map_or_else(|| ident(function), |function| function.call(vec![]))
}

/// A session for [`ScanSpec::plan`]: its plans keep rows in file order, in one partition.
pub(crate) fn scan_session(config: &SessionConfig, resources: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = config.clone();
    let options = config.options_mut();
    options.execution.target_partitions = 1;
    options.execution.enable_file_stream_work_stealing = false;
    options.execution.collect_statistics = false;
    options.execution.parquet.pushdown_filters = true;
    SessionContext::new_with_config_rt(config, resources)
}

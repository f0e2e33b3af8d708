//! A scan of rows of files. In: files with row ranges, and the columns to read. Out: a plan of (source, row, id, text) of exactly these
//! rows, in file order, in one partition. It must not read ahead of its consumer.
//!
//! `source` and `row` come from DataFusion's scan itself (`input_file_name()`, and `file_row_index()` for Parquet), so a filter that is
//! pushed into the scan does not shift them. JSON Lines and CSV have no row index: their rows are numbered in file order before the
//! filter is applied.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, cast, ident};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use serde::{Deserialize, Serialize};

use crate::source::chunk::RowRange;
use crate::source::filter::{bad_filter, condition};
use crate::source::listing::{Format, SourceFile};
use crate::source::operator::row_number::{NumberRows, NumberRowsExec};

/// What is read, and from where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The format of all files.
    pub format: Format,
    /// The URL of their object store.
    pub objects: String,
    /// The part of `source` before an object's path.
    pub prefix: String,
    /// The merged schema of the files.
    pub schema: SchemaRef,
    /// The files, in the order in which they are read.
    pub files: Vec<ScanFile>,
    /// The id column.
    pub id: String,
    /// The type of the ids.
    pub id_type: DataType,
    /// The text column, if texts are read.
    pub text: Option<String>,
    /// Other columns to read.
    pub more: Vec<String>,
    /// A SQL condition on the files' columns.
    pub filter: Option<String>,
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
}

impl ScanFile {
    pub(crate) fn new(file: &SourceFile, range: &RowRange) -> Self {
        let ObjectMeta { location, last_modified, size, e_tag, version } = &file.meta;
        Self {
            location: location.to_string(),
            size: *size,
            last_modified: *last_modified,
            e_tag: e_tag.clone(),
            version: version.clone(),
            rows: file.rows,
            range: range.rows.clone(),
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

    /// The file for DataFusion's scan, with the selection of its rows if its length is known.
    fn partitioned(&self) -> Result<PartitionedFile> {
        let part = PartitionedFile::new_from_meta(self.meta()?);
        let Range { start, end } = self.range;
        let Some(all) = self.rows.filter(|all| *all > end - start) else { return Ok(part) };
        let selectors = [
            RowSelector::skip(start as usize),
            RowSelector::select((end - start) as usize),
            RowSelector::skip((all - end) as usize),
        ];
        let selectors: Vec<RowSelector> = selectors.into_iter().filter(|selector| selector.row_count > 0).collect();
        Ok(part.with_extension(ParquetRowSelection::new(RowSelection::from(selectors))))
    }
}

impl ScanSpec {
    /// The columns: source (string), row (int64), `doc_id`, the text (string view) if it is read, and the other columns under names that
    /// cannot clash with ours.
    pub(crate) fn output_schema(&self) -> SchemaRef {
        let mut fields = vec![
            Field::new("source", DataType::Utf8, false),
            Field::new("row", DataType::Int64, false),
            Field::new("doc_id", self.id_type.clone(), true),
        ];
        fields.extend(self.text.as_ref().map(|_| Field::new("text", DataType::Utf8View, true)));
        let other = |name: &String| {
            let data_type = self.schema.field_with_name(name).map_or(DataType::Null, |field| field.data_type().clone());
            Field::new(renamed(name), data_type, true)
        };
        fields.extend(self.more.iter().map(other));
        Arc::new(Schema::new(fields))
    }

    /// The plan that reads the rows, with DataFusion's own operators and [`NumberRowsExec`], in a session of [`scan_session`].
    pub(crate) async fn plan(&self, context: &SessionContext) -> Result<Arc<dyn ExecutionPlan>> {
        let bad = |error: DataFusionError| DataFusionError::External(Box::new(bad_filter(&error)));
        let mut wanted: Vec<Expr> = Vec::new();
        wanted.extend(self.text.iter().map(|text| cast(ident(text), DataType::Utf8View).alias("text")));
        wanted.extend(self.more.iter().map(|name| ident(name).alias(renamed(name))));
        let names: Vec<String> = wanted.iter().map(|expression| expression.schema_name().to_string()).collect();
        let mut frame = context.read_table(Arc::new(Files(self.clone())))?;
        let source = call(context, "input_file_name").alias("source");
        let id = cast(ident(&self.id), self.id_type.clone()).alias("doc_id");
        if self.format == Format::Parquet {
            if let Some(filter) = &self.filter {
                let filter = frame.parse_sql_expr(filter).map_err(bad)?;
                frame = frame.filter(filter).map_err(bad)?;
            }
            let mut columns = vec![source, call(context, "file_row_index").alias("row"), id];
            columns.extend(wanted);
            let plan = frame.select(columns)?.create_physical_plan().await?;
            return self.with_prefix(plan, &names);
        }
        let mut columns = vec![source, id];
        columns.extend(wanted);
        // The condition can use any column of the files; these follow our own.
        let own = columns.len() + 1;
        if self.filter.is_some() {
            let all = self.schema.fields().iter().map(|field| field.name());
            columns.extend(all.map(|name| ident(name).alias(format!("filter {}", renamed(name)))));
        }
        let plan = frame.select(columns)?.create_physical_plan().await?;
        let ranges = self.files.iter().map(|file| (file.location.clone(), file.range.clone())).collect();
        let mut plan: Arc<dyn ExecutionPlan> = Arc::new(NumberRowsExec::try_new(plan, NumberRows { ranges })?);
        if let Some(filter) = &self.filter {
            plan = self.filtered(context, plan, filter, own).map_err(bad)?;
        }
        self.with_prefix(plan, &names)
    }

    /// Filters numbered rows by the condition. `own` is how many of our columns precede the file's.
    fn filtered(
        &self,
        context: &SessionContext,
        plan: Arc<dyn ExecutionPlan>,
        filter: &str,
        own: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let condition = condition(context, &self.schema, filter)?.transform(|expression| {
            Ok(match expression.downcast_ref::<Column>() {
                Some(column) => Transformed::yes(Arc::new(Column::new(column.name(), column.index() + own)) as _),
                None => Transformed::no(expression),
            })
        })?;
        // By default it joins its batches to 8,192 rows.
        let rows = context.state().config().batch_size();
        Ok(Arc::new(FilterExec::try_new(condition.data, plan)?.with_batch_size(rows)?))
    }

    /// Prepends the prefix to `source` and keeps (source, row, id) and the columns `more`.
    fn with_prefix(&self, plan: Arc<dyn ExecutionPlan>, more: &[String]) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = plan.schema();
        let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let source = binary(lit(self.prefix.as_str()), Operator::StringConcat, col("source", &schema)?, &schema)?;
        columns.push((source, "source".into()));
        for name in ["row", "doc_id"].into_iter().chain(more.iter().map(String::as_str)) {
            columns.push((col(name, &schema)?, name.into()));
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
    }
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

/// The files of a scan as a table, with the columns of the files.
#[derive(Debug)]
struct Files(ScanSpec);

#[async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let reader = self.0.format.reader();
        let source = reader.file_source(Arc::clone(&self.0.schema).into());
        let files = self.0.files.iter().map(ScanFile::partitioned).collect::<Result<_>>()?;
        // With work stealing, files come in any order and are consumed by the plan's first execution.
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(&self.0.objects)?, source)
            .with_preserve_order(true)
            .with_file_groups(vec![FileGroup::new(files)])
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        reader.create_physical_plan(state, scan).await
    }
}

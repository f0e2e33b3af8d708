//! Documents → plans over their rows. In: the readable files and the job's columns. Out: a DataFusion plan of (source, row, id, text)
//! for any chunk of their rows. It must not read rows, except to find the offset after a number of documents.
//!
//! `source` and `row` come from the scan itself (`input_file_name()`, and `file_row_index()` for Parquet), so a filter that is
//! pushed into the scan does not shift them. JSON Lines and CSV have no row index: their rows are numbered in file order
//! before the filter is applied.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, cast, ident};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::prelude::{DataFrame, SessionContext, col};

use crate::error::{Error, Result};
use crate::source::chunk::{Chunk, RowRange};
use crate::source::listing::{Format, Listing, SourceFile};
use crate::source::plan_error::first_line;
use crate::source::plan_error::own_error;
use crate::source::row_number::{NumberRowsExec, RowCounts};
use crate::source::scan::{ChunkTable, PlanTable, in_order};

/// Slices, and therefore commits, end at multiples of this many rows of a file.
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
    pub(crate) listing: Listing,
    /// The merged schema of all files.
    pub(crate) schema: SchemaRef,
    /// Files that have the job's columns.
    pub files: Vec<SourceFile>,
    /// Files that cannot be read, and why.
    pub unreadable: Vec<(SourceFile, String)>,
    /// The type of the `doc_id` columns.
    pub id_type: DataType,
    /// Rows read so far of files whose metadata has no row count.
    pub counts: RowCounts,
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

    /// A plan of (source string, row int64, id, text string view), in file order, in one partition.
    pub async fn plan(&self, context: &SessionContext, chunk: &Chunk) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.columns(context, chunk, vec![self.text()], self.spec.filter.as_deref()).await;
        plan.map_err(|error| self.planned(error))
    }

    pub(crate) fn text(&self) -> Expr {
        cast(ident(&self.spec.text), DataType::Utf8View).alias("text")
    }

    /// The same rows as a table of (source, row, id) for queries. The texts are not read.
    pub async fn ids(&self, context: &SessionContext, chunk: &Chunk) -> Result<DataFrame> {
        let ids = async {
            let mut all: Option<DataFrame> = None;
            for part in self.parts(chunk) {
                let plan = self.columns(context, &part, vec![], self.spec.filter.as_deref()).await?;
                let table = context.read_table(Arc::new(PlanTable(plan)))?;
                all = Some(match all {
                    Some(all) => all.union(table)?,
                    None => table,
                });
            }
            all.ok_or_else(|| DataFusionError::Plan("there is no file to read".to_owned()))
        };
        ids.await.map_err(|error| self.planned(error))
    }

    /// Splits a chunk into parts that one scan can read, in order. A text file that ends early needs a scan of its own.
    fn parts(&self, chunk: &Chunk) -> impl Iterator<Item = Chunk> {
        let alone = |range: &RowRange| self.files[range.file].ends_early();
        let parts = chunk.ranges.chunk_by(move |one, next| !alone(one) && !alone(next));
        parts.map(|ranges| Chunk { ranges: ranges.to_vec() })
    }

    /// Every column of the files, under a name that cannot clash with ours.
    pub(crate) fn own_columns(&self) -> impl Iterator<Item = Expr> + '_ {
        self.schema.fields().iter().map(|field| renamed(field.name()))
    }

    /// Plans the job's condition over the files' columns. Fails if the expression is not boolean.
    pub(crate) fn condition(
        &self,
        context: &SessionContext,
        filter: &str,
    ) -> datafusion::error::Result<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from(self.schema.as_ref().clone())?;
        let condition = context.create_physical_expr(context.parse_sql_expr(filter, &schema)?, &schema)?;
        let data_type = condition.data_type(&self.schema)?;
        if data_type == DataType::Boolean {
            return Ok(condition);
        }
        Err(DataFusionError::Plan(format!("`{filter}` is {data_type}, not true or false")))
    }

    /// The columns that the job's condition needs from a Parquet scan, under names that cannot clash with ours.
    pub(crate) fn condition_columns(&self, context: &SessionContext) -> datafusion::error::Result<Vec<Expr>> {
        let Some(filter) = &self.spec.filter else { return Ok(Vec::new()) };
        let columns = datafusion::physical_expr::utils::collect_columns(&self.condition(context, filter)?);
        Ok(columns.iter().map(|column| renamed(column.name())).collect())
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
            let ids = self.ids(context, &part).await?;
            let rows = ids.clone().limit(count, Some(1)).map_err(failed)?.collect().await.map_err(failed)?;
            if let Some(batch) = rows.iter().find(|batch| batch.num_rows() > 0) {
                let source = batch.column(0).as_string::<i32>().value(0);
                let row = batch.column(1).as_primitive::<Int64Type>().value(0);
                return Ok(self.files.iter().position(|file| file.path == source).map(|file| (file, row)));
            }
            count -= ids.count().await.map_err(failed)?;
        }
        Ok(None)
    }

    pub(crate) fn planned(&self, source: DataFusionError) -> Error {
        own_error(source, format!("plan the scan of `{}`", self.spec.documents))
    }

    pub(crate) async fn columns(
        &self,
        context: &SessionContext,
        chunk: &Chunk,
        more: Vec<Expr>,
        filter: Option<&str>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let bad = |error: DataFusionError| DataFusionError::External(Box::new(bad_filter(&error)));
        let names: Vec<String> = more.iter().map(|expression| expression.schema_name().to_string()).collect();
        let table = ChunkTable::new(self.listing.format, &self.listing.objects, &self.schema, &self.files, chunk);
        let context = &in_order(context);
        let mut frame = context.read_table(Arc::new(table))?;
        let source = call(context, "input_file_name").alias("source");
        let id = cast(ident(&self.spec.id), self.id_type.clone()).alias("doc_id");
        if self.listing.format == Format::Parquet {
            if let Some(filter) = filter {
                let filter = frame.parse_sql_expr(filter).map_err(bad)?;
                frame = frame.filter(filter).map_err(bad)?;
            }
            let mut columns = vec![source, call(context, "file_row_index").alias("row"), id];
            columns.extend(more);
            let plan = frame.select(columns)?.create_physical_plan().await?;
            return self.with_prefix(plan, &names);
        }
        let mut columns = vec![source, id];
        columns.extend(more);
        let own = columns.len() + 1;
        if filter.is_some() {
            columns.extend(self.own_columns());
        }
        let plan = frame.select(columns)?.create_physical_plan().await?;
        let ranges = chunk
            .ranges
            .iter()
            .map(|range| (self.scanned_name(&self.files[range.file]).to_owned(), range.rows.clone()));
        let mut plan: Arc<dyn ExecutionPlan> =
            Arc::new(NumberRowsExec::try_new(plan, ranges.collect(), self.counts.clone())?);
        if let Some(filter) = filter {
            plan = self.filtered(context, plan, filter, own).map_err(bad)?;
        }
        self.with_prefix(plan, &names)
    }

    /// How many rows `file` has, from its metadata or as counted by the scan.
    pub fn rows_of(&self, file: &SourceFile) -> i64 {
        file.readable().unwrap_or_else(|| self.counts.of(self.scanned_name(file)))
    }

    /// The name of a file in the scan's output.
    fn scanned_name<'file>(&self, file: &'file SourceFile) -> &'file str {
        file.path.strip_prefix(&self.listing.prefix).unwrap_or(&file.path)
    }

    /// Filters numbered rows by the job's condition. `own` is how many of our columns precede the file's.
    fn filtered(
        &self,
        context: &SessionContext,
        plan: Arc<dyn ExecutionPlan>,
        filter: &str,
        own: usize,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        // The file's columns follow our own.
        let condition = self.condition(context, filter)?.transform(|expression| {
            Ok(match expression.downcast_ref::<Column>() {
                Some(column) => Transformed::yes(Arc::new(Column::new(column.name(), column.index() + own)) as _),
                None => Transformed::no(expression),
            })
        })?;
        Ok(Arc::new(FilterExec::try_new(condition.data, plan)?))
    }

    /// Prepends the prefix to `source` and keeps (source, row, id) and the columns `more`.
    fn with_prefix(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        more: &[String],
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        use datafusion::logical_expr::Operator;
        use datafusion::physical_expr::expressions::{binary, col, lit};
        let schema = plan.schema();
        let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let prefix = lit(self.listing.prefix.as_str());
        let source = binary(prefix, Operator::StringConcat, col("source", &schema)?, &schema)?;
        columns.push((source, "source".into()));
        for name in ["row", "doc_id"].into_iter().chain(more.iter().map(String::as_str)) {
            columns.push((col(name, &schema)?, name.into()));
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
    }
}

/// A column of the files, under a name that cannot clash with ours.
fn renamed(name: &str) -> Expr {
    ident(name).alias(format!("column {name}"))
}

/// An error for a filter that is not a condition, or that names a missing column.
pub(crate) fn bad_filter(error: &DataFusionError) -> Error {
    Error::Setting {
        origin: "job".into(),
        key: "input.where".into(),
        reason: first_line(error),
        hint: "it is a SQL condition on the files' columns, such as where = \"lang = 'en'\"".into(),
    }
}

fn call(context: &SessionContext, function: &str) -> Expr {
    context.state().scalar_functions().get(function).map_or_else(|| col(function), |function| function.call(vec![]))
}

//! A chunk as a table. In: row ranges of files. Out: a scan of exactly these rows, in file order, in one partition. It must not
//! read ahead of its consumer.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use datafusion::prelude::SessionContext;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use crate::source::chunk::{Chunk, RowRange};
use crate::source::listing::{Format, SourceFile};

/// The rows of one chunk. Text files are scanned completely; the rows outside the chunk are dropped after numbering.
#[derive(Debug)]
pub(crate) struct ChunkTable {
    format: Format,
    schema: SchemaRef,
    objects: ObjectStoreUrl,
    files: Vec<PartitionedFile>,
}

impl ChunkTable {
    pub(crate) fn new(
        format: Format,
        objects: &ObjectStoreUrl,
        schema: &SchemaRef,
        files: &[SourceFile],
        chunk: &Chunk,
    ) -> Self {
        let files = chunk.ranges.iter().map(|range| part(&files[range.file], range));
        Self { format, schema: Arc::clone(schema), objects: objects.clone(), files: files.collect() }
    }
}

fn part(file: &SourceFile, RowRange { rows, .. }: &RowRange) -> PartitionedFile {
    let part = PartitionedFile::new_from_meta(file.meta.clone());
    let Some(all) = file.rows.filter(|all| *all > rows.end - rows.start) else { return part };
    let selectors = [
        RowSelector::skip(rows.start as usize),
        RowSelector::select((rows.end - rows.start) as usize),
        RowSelector::skip((all - rows.end) as usize),
    ];
    let selectors: Vec<RowSelector> = selectors.into_iter().filter(|selector| selector.row_count > 0).collect();
    part.with_extension(ParquetRowSelection::new(RowSelection::from(selectors)))
}

/// A session like `context` whose plans keep rows in file order, in one partition.
pub(crate) fn in_order(context: &SessionContext) -> SessionContext {
    let mut state = context.state();
    let options = state.config_mut().options_mut();
    options.execution.target_partitions = 1;
    options.execution.enable_file_stream_work_stealing = false;
    options.execution.collect_statistics = false;
    options.execution.parquet.pushdown_filters = true;
    SessionContext::new_with_state(state)
}

#[async_trait]
impl TableProvider for ChunkTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
        let reader = self.format.reader();
        let source = reader.file_source(Arc::clone(&self.schema).into());
        // With work stealing, files come in any order and are consumed by the plan's first execution.
        let scan = FileScanConfigBuilder::new(self.objects.clone(), source)
            .with_preserve_order(true)
            .with_file_groups(vec![FileGroup::new(self.files.clone())])
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        reader.create_physical_plan(state, scan).await
    }
}

/// A plan as a table, for queries; its rows keep their order.
#[derive(Debug)]
pub(crate) struct PlanTable(pub(crate) Arc<dyn ExecutionPlan>);

/// Hides a plan from a query's optimizer, which would otherwise repartition the batches below `NumberRowsExec`, and each partition would
/// number its rows from 0.
#[derive(Debug)]
struct SealedExec(Arc<dyn ExecutionPlan>);

impl DisplayAs for SealedExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SealedExec")
    }
}

impl ExecutionPlan for SealedExec {
    fn name(&self) -> &'static str {
        "SealedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.0.execute(partition, context)
    }
}

#[async_trait]
impl TableProvider for PlanTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // A scan plan returns its files only once, so a query that reads the table twice needs a new state each time.
        let plan = reset_plan_states(Arc::clone(&self.0))?;
        let sealed = |plan: Arc<dyn ExecutionPlan>| Ok(Arc::new(SealedExec(plan)) as _);
        let Some(projection) = projection else { return sealed(plan) };
        let schema = self.0.schema();
        let column = |&index: &usize| -> (Arc<dyn PhysicalExpr>, String) {
            let name = schema.field(index).name();
            (Arc::new(Column::new(name, index)), name.clone())
        };
        let columns: Vec<_> = projection.iter().map(column).collect();
        sealed(Arc::new(ProjectionExec::try_new(columns, plan)?))
    }
}

//! `ScanExec`: a scan as an operator of a plan. In: a [`ScanSpec`]. Out: its rows, in one partition. It is data that can be sent to
//! another machine. It must not plan how the files are read before it runs.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, execute_stream};
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use crate::machine::panics::contain_stream;
use crate::source::operator::scan_bounds::bounded;
use crate::source::scan::{ScanSpec, scan_session};

/// The operator. It has no input: the reading plan is made when it runs, so an optimizer cannot split the rows of a file.
#[derive(Debug)]
pub struct ScanExec {
    spec: Arc<ScanSpec>,
    properties: Arc<PlanProperties>,
    /// The plan that read the rows, for its metrics.
    reading: Arc<Mutex<Option<Arc<dyn ExecutionPlan>>>>,
}

impl ScanExec {
    /// A scan.
    pub fn new(spec: ScanSpec) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(spec.output_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { spec: Arc::new(spec), properties: Arc::new(properties), reading: Arc::default() }
    }

    /// What is read.
    pub fn spec(&self) -> &ScanSpec {
        &self.spec
    }

    /// The plan that reads the files, as a run makes it.
    ///
    /// # Errors
    /// DataFusion's, and [`crate::error::Error::Setting`] for a filter that is not a condition.
    pub async fn reading_plan(&self, context: &SessionContext) -> Result<Arc<dyn ExecutionPlan>> {
        self.spec.plan(&scan_session(context.state().config(), context.runtime_env())).await
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanSpec { format, prefix, files, id, text, texts, filter, .. } = self.spec.as_ref();
        write!(formatter, "ScanExec: format={format:?}, files={}", files.len())?;
        if let Some(first) = files.first() {
            let Range { start, end } = first.range;
            let end = if end == i64::MAX { String::new() } else { end.to_string() };
            write!(formatter, ", first={prefix}{} rows {start}..{end}", first.location)?;
        }
        write!(formatter, ", id={id}")?;
        if *texts {
            write!(formatter, ", text={text}")?;
        }
        filter.as_ref().map_or(Ok(()), |filter| write!(formatter, ", where={filter}"))
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("ScanExec has no input") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("ScanExec has one partition");
        }
        let (schema, spec, reading) = (self.schema(), Arc::clone(&self.spec), Arc::clone(&self.reading));
        let shape = Arc::clone(&schema);
        let rows = async move {
            let (spec, rows) = bounded(&spec, &task).await;
            let config = task.session_config().clone().with_batch_size(rows);
            let context = scan_session(&config, task.runtime_env());
            let plan = spec.plan(&context).await?;
            *reading.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&plan));
            execute_stream(plan, context.task_ctx())
        };
        // A reader that panics on a damaged file fails this scan, which then finds the file.
        let rows = contain_stream(futures::stream::once(rows).try_flatten(), |panic| Err(panic.into()));
        let rows = rows.map(move |batch| Ok(RecordBatch::try_new(Arc::clone(&shape), batch?.columns().to_vec())?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.as_ref().map(all_metrics)
    }
}

/// The metrics of a plan and of everything below it.
pub(crate) fn all_metrics(plan: &Arc<dyn ExecutionPlan>) -> MetricsSet {
    let mut all = plan.metrics().unwrap_or_default();
    for child in plan.children() {
        for metric in all_metrics(child).iter() {
            all.push(Arc::clone(metric));
        }
    }
    all
}

/// A scan as a table, for queries; its rows keep their order.
#[derive(Debug)]
pub(crate) struct ScanTable(pub(crate) ScanSpec);

#[async_trait]
impl TableProvider for ScanTable {
    fn schema(&self) -> SchemaRef {
        self.0.output_schema()
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
        let scan = Arc::new(ScanExec::new(self.0.clone()));
        let Some(projection) = projection else { return Ok(scan) };
        let schema = scan.schema();
        let column = |&index: &usize| -> (Arc<dyn PhysicalExpr>, String) {
            let name = schema.field(index).name();
            (Arc::new(Column::new(name, index)), name.clone())
        };
        Ok(Arc::new(ProjectionExec::try_new(projection.iter().map(column).collect::<Vec<_>>(), scan)?))
    }
}

//! The DataFusion plan node that our operators share. In: a [`RowOperator`], which is settings and a function from a partition's stream
//! to a stream, and the plan below it. Out: [`UnaryExec`], the plan node. It must not know what an operator does.
//!
//! An operator is a struct that implements [`RowOperator`], and an alias for its plan node, such as
//! `type WriteExec = UnaryExec<WriteSpec>`. `plan.downcast_ref::<WriteExec>()` finds it in a plan, and [`UnaryExec::operator`] returns
//! the settings from which it can be rebuilt.
//!
//! | file | what |
//! |---|---|
//! | [`scan_exec`] | `ScanExec`: reads rows of files, the first operator of every extraction |
//! | `scan_bounds` | how much a scan reads at a time |
//! | [`read_counts`] | what a plan has read, for those who see only its result |
//! | [`row_number`] | `NumberRowsExec`: row numbers for formats whose scan has no row index |
//! | [`row_filter`] | `RowFilterExec`: the job's condition, where it can fail on a row |
//! | [`contain_panics`] | `ContainPanicsExec`: panics of readers as errors, in SQL |

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::projection::project_ordering;
use datafusion::physical_expr::{EquivalenceProperties, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    Partitioning, PlanProperties, SendableRecordBatchStream,
};

pub mod contain_panics;
pub mod read_counts;
pub mod row_filter;
pub mod row_number;
mod scan_bounds;
pub mod scan_exec;

/// What an operator does to the rows of each input partition, and what it needs of them. The value is the operator's settings.
pub trait RowOperator: fmt::Debug + Send + Sync + 'static {
    /// The name in plans, such as `WriteExec`.
    const NAME: &'static str;

    /// The schema of the output. A column that has the name of an input column has its values too.
    ///
    /// # Errors
    /// A plan error if the operator does not take this input, or if its settings are not valid.
    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef>;

    /// The settings that a plan shows after the name; nothing if empty.
    fn details(&self) -> String {
        String::new()
    }

    /// How the input's rows must be distributed over its partitions. DataFusion changes the plan below to meet it.
    fn required_input_distribution(&self) -> Distribution {
        Distribution::UnspecifiedDistribution
    }

    /// How each partition of the input, which has this schema, must be sorted. DataFusion sorts it if it is not.
    fn required_input_ordering(&self, _input: &SchemaRef) -> Option<OrderingRequirements> {
        None
    }

    /// Whether the output rows are in the order of the input rows that they come from.
    fn maintains_input_order(&self) -> bool {
        true
    }

    /// Starts the work on one partition: the stream of its output.
    ///
    /// # Errors
    /// Any reason why it cannot start; later ones are in the stream.
    fn run(self: Arc<Self>, input: SendableRecordBatchStream, task: PartitionTask)
    -> Result<SendableRecordBatchStream>;
}

/// One partition of an operator at work.
#[derive(Debug)]
pub struct PartitionTask {
    /// The partition's number.
    pub partition: usize,
    /// The session's settings and resources on the machine where the partition runs.
    pub context: Arc<TaskContext>,
    /// The schema of the output, as [`RowOperator::output_schema`] gave it.
    pub schema: SchemaRef,
    /// The plan's metrics, for the partition to register its own in.
    pub metrics: ExecutionPlanMetricsSet,
}

/// A [`RowOperator`] over a plan. The output has as many partitions as the input, which is never split further for the operator's sake:
/// rows of a file stay together and in order.
#[derive(Debug)]
pub struct UnaryExec<Operator> {
    input: Arc<dyn ExecutionPlan>,
    operator: Arc<Operator>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<Operator: RowOperator> UnaryExec<Operator> {
    /// The operator over `input`.
    ///
    /// # Errors
    /// The errors of [`RowOperator::output_schema`].
    pub fn try_new(input: Arc<dyn ExecutionPlan>, operator: Operator) -> Result<Self> {
        Self::over(input, Arc::new(operator))
    }

    fn over(input: Arc<dyn ExecutionPlan>, operator: Arc<Operator>) -> Result<Self> {
        let schema = operator.output_schema(&input.schema())?;
        let orderings = input.equivalence_properties().oeq_class().iter();
        let orderings = orderings.filter(|_| operator.maintains_input_order());
        let orderings: Vec<_> = orderings.filter_map(|ordering| project_ordering(ordering, &schema)).collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, orderings),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            input.boundedness(),
        );
        Ok(Self { input, operator, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// The operator's settings.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }
}

impl<Operator: RowOperator> DisplayAs for UnaryExec<Operator> {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Operator::NAME)?;
        match self.operator.details() {
            details if details.is_empty() => Ok(()),
            details => write!(formatter, ": {details}"),
        }
    }
}

impl<Operator: RowOperator> ExecutionPlan for UnaryExec<Operator> {
    fn name(&self) -> &'static str {
        Operator::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![self.operator.required_input_distribution()])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.operator.required_input_ordering(&self.input.schema())]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.operator.maintains_input_order()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return internal_err!("{} has one input", Operator::NAME);
        };
        Ok(Arc::new(Self::over(input, Arc::clone(&self.operator))?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let task = PartitionTask { partition, context, schema: self.schema(), metrics: self.metrics.clone() };
        Arc::clone(&self.operator).run(input, task)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_expr::{LexRequirement, PhysicalSortRequirement};
    use datafusion::physical_plan::metrics::MetricBuilder;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::StreamExt;
    use insta::assert_snapshot;

    use super::*;

    /// Puts the running sum of `value` before it; that is only right over all rows, in order.
    #[derive(Debug)]
    struct RunningSum {
        start: i64,
    }

    impl RowOperator for RunningSum {
        const NAME: &'static str = "RunningSumExec";

        fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
            let sum = Arc::new(Field::new("sum", DataType::Int64, false));
            Ok(Arc::new(Schema::new([&[sum], &input.fields()[..]].concat())))
        }

        fn details(&self) -> String {
            format!("start={}", self.start)
        }

        fn required_input_distribution(&self) -> Distribution {
            Distribution::SinglePartition
        }

        fn required_input_ordering(&self, input: &SchemaRef) -> Option<OrderingRequirements> {
            let value = col("value", input).ok()?;
            LexRequirement::new([PhysicalSortRequirement::new(value, None)]).map(OrderingRequirements::new)
        }

        fn run(
            self: Arc<Self>,
            input: SendableRecordBatchStream,
            task: PartitionTask,
        ) -> Result<SendableRecordBatchStream> {
            let (schema, mut sum) = (Arc::clone(&task.schema), self.start);
            let rows = MetricBuilder::new(&task.metrics).counter("rows", task.partition);
            let sums = input.map(move |batch| {
                let batch = batch?;
                rows.add(batch.num_rows());
                let add = |value: &i64| {
                    sum += value;
                    sum
                };
                let sums = batch.column(0).as_primitive::<Int64Type>().values().iter().map(add);
                let sums: ArrayRef = Arc::new(sums.collect::<Int64Array>());
                Ok(RecordBatch::try_new(Arc::clone(&schema), [&[sums], batch.columns()].concat())?)
            });
            Ok(Box::pin(RecordBatchStreamAdapter::new(task.schema, sums)))
        }
    }

    /// A plan of two partitions with the column `value`.
    async fn two_partitions(context: &SessionContext) -> Arc<dyn ExecutionPlan> {
        let batch = |values: Vec<i64>| {
            RecordBatch::try_from_iter([("value", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
        };
        let partitions = vec![vec![batch(vec![5, 1])], vec![batch(vec![3])]];
        let table = MemTable::try_new(partitions[0][0].schema(), partitions).unwrap();
        context.read_table(Arc::new(table)).unwrap().create_physical_plan().await.unwrap()
    }

    #[tokio::test]
    async fn the_planner_meets_what_an_operator_declares() {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let operator = RunningSum { start: 10 };
        let mut plan: Arc<dyn ExecutionPlan> =
            Arc::new(UnaryExec::try_new(two_partitions(&context).await, operator).unwrap());
        for rule in context.state().physical_optimizers() {
            plan = rule.optimize(plan, context.state().config_options()).unwrap();
        }
        assert_snapshot!(displayable(plan.as_ref()).indent(false).to_string(), @r"
        RunningSumExec: start=10
          SortPreservingMergeExec: [value@0 ASC NULLS LAST]
            SortExec: expr=[value@0 ASC NULLS LAST], preserve_partitioning=[true]
              DataSourceExec: partitions=2, partition_sizes=[1, 1]
        ");
        // `value` has moved from the first place to the second, and is still known to be sorted.
        assert_eq!(plan.output_ordering().unwrap().to_string(), "value@1 ASC NULLS LAST");
        let rows = collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
        let sums: Vec<i64> =
            rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(sums, [11, 14, 19]);
        assert_eq!(plan.metrics().unwrap().sum_by_name("rows").unwrap().as_usize(), 3);
        assert_eq!(plan.downcast_ref::<UnaryExec<RunningSum>>().unwrap().operator().start, 10);
    }

    #[tokio::test]
    async fn an_operator_has_exactly_one_input() {
        let context = SessionContext::new();
        let input = two_partitions(&context).await;
        let plan = Arc::new(UnaryExec::try_new(Arc::clone(&input), RunningSum { start: 0 }).unwrap());
        let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        for children in [vec![], vec![Arc::clone(&input), input]] {
            let error = Arc::clone(&plan).replace_children(children, recompute).unwrap_err().to_string();
            assert!(error.contains("RunningSumExec has one input"), "{error}");
        }
    }
}

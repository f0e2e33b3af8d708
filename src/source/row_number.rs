//! `NumberRowsExec`: rows of files → the rows of given ranges, with their row number in the file. In: batches whose first column is
//! `source`, each file complete and in order in one partition. Out: (source, row, …). It must not reorder rows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;

/// How many rows were read of each file, by the file's name in the scan.
#[derive(Debug, Clone, Default)]
pub struct RowCounts(Arc<Mutex<BTreeMap<String, i64>>>);

impl RowCounts {
    /// The rows read so far; 0 for an unknown file.
    pub fn of(&self, source: &str) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source).copied().unwrap_or(0)
    }

    fn set(&self, source: &str, rows: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(source.to_owned(), rows);
    }
}

/// Numbers the rows of each file from 0, for formats whose scan has no row index, and keeps the rows in the file's range.
#[derive(Debug)]
pub struct NumberRowsExec {
    input: Arc<dyn ExecutionPlan>,
    ranges: Arc<BTreeMap<String, Range<i64>>>,
    counts: RowCounts,
    properties: Arc<PlanProperties>,
}

impl NumberRowsExec {
    /// An operator over `input`, whose first column is the file's name.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        ranges: BTreeMap<String, Range<i64>>,
        counts: RowCounts,
    ) -> Result<Self> {
        let schema = input.schema();
        if schema.fields().first().is_none_or(|field| field.data_type() != &DataType::Utf8) {
            return Err(DataFusionError::Plan(format!("NumberRowsExec needs a source column first, found {schema}")));
        }
        let mut fields = schema.fields().to_vec();
        fields.insert(1, Arc::new(Field::new("row", DataType::Int64, false)));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::new(fields))),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { input, ranges: Arc::new(ranges), counts, properties: Arc::new(properties) })
    }
}

impl DisplayAs for NumberRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NumberRowsExec")
    }
}

impl ExecutionPlan for NumberRowsExec {
    fn name(&self) -> &'static str {
        "NumberRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("NumberRowsExec has one child".into()))?;
        Ok(Arc::new(Self::try_new(input, self.ranges.as_ref().clone(), self.counts.clone())?))
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let (ranges, counts) = (Arc::clone(&self.ranges), self.counts.clone());
        let counter = Counter { schema: Arc::clone(&schema), ranges, counts, source: None, next: 0 };
        let input = self.input.execute(partition, context)?;
        let rows = futures::stream::try_unfold((input, counter), |(mut input, mut counter)| async move {
            if counter.is_done() {
                return Ok(None);
            }
            let Some(batch) = input.next().await else { return Ok(None) };
            let batch = counter.number(&batch?)?;
            Ok(Some((batch, (input, counter))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

struct Counter {
    schema: SchemaRef,
    ranges: Arc<BTreeMap<String, Range<i64>>>,
    counts: RowCounts,
    source: Option<String>,
    next: i64,
}

impl Counter {
    /// Whether all rows in the range of a single file were returned. Reading on could hit the part that cannot be read.
    fn is_done(&self) -> bool {
        self.ranges.len() == 1 && self.ranges.values().all(|range| self.next >= range.end)
    }

    fn number(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let sources = batch.column(0).as_string::<i32>();
        let mut numbers = Vec::with_capacity(batch.num_rows());
        let mut in_range = Vec::with_capacity(batch.num_rows());
        for source in sources.iter().map(Option::unwrap_or_default) {
            if self.source.as_deref() != Some(source) {
                self.count();
                self.source = Some(source.to_owned());
                self.next = 0;
            }
            numbers.push(self.next);
            in_range.push(self.ranges.get(source).is_none_or(|range| range.contains(&self.next)));
            self.next += 1;
        }
        self.count();
        let mut columns = batch.columns().to_vec();
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        columns.insert(1, numbers);
        let numbered = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok(filter_record_batch(&numbered, &in_range.into())?)
    }

    fn count(&self) {
        if let Some(source) = &self.source {
            self.counts.set(source, self.next);
        }
    }
}

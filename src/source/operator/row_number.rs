//! `NumberRowsExec`: rows of files → the rows of given ranges, with their row number in the file. In: batches whose first column is
//! `source`, each file complete and in order in one partition. Out: (source, row, …). It must not reorder rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, Metric, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{Distribution, SendableRecordBatchStream};
use futures::StreamExt;

use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};

/// The metric that counts the rows read of a file, and the label that names it.
const ROWS: (&str, &str) = ("rows_of_file", "source");

/// The rows read of each file, by its name in the scan, according to a plan's metrics.
pub(crate) fn rows_by_source(metrics: &MetricsSet) -> BTreeMap<String, i64> {
    labels(metrics, ROWS).map(|(source, rows)| (source, rows as i64)).collect()
}

/// The values of a counter by the value of a label, given as (counter, label).
pub(crate) fn labels(
    metrics: &MetricsSet,
    (counter, name): (&'static str, &'static str),
) -> impl Iterator<Item = (String, usize)> {
    let of = move |metric: &Arc<Metric>| {
        let label = metric.labels().iter().find(|label| label.name() == name)?;
        (metric.value().name() == counter).then(|| (label.value().to_owned(), metric.value().as_usize()))
    };
    metrics.iter().filter_map(of)
}

/// The plan that numbers rows.
pub type NumberRowsExec = UnaryExec<NumberRows>;

/// Numbers the rows of each file from 0, for formats whose scan has no row index, and keeps the rows in the file's range. A metric counts
/// the rows of each file.
#[derive(Debug)]
pub struct NumberRows {
    /// The rows to keep of each file, by its name in the scan. All rows of a file that is not named are kept.
    pub ranges: BTreeMap<String, Range<i64>>,
}

impl RowOperator for NumberRows {
    const NAME: &'static str = "NumberRowsExec";

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        if input.fields().first().is_none_or(|field| field.data_type() != &DataType::Utf8) {
            return plan_err!("NumberRowsExec needs a source column first, found {input}");
        }
        let mut fields = input.fields().to_vec();
        fields.insert(1, Arc::new(Field::new("row", DataType::Int64, false)));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn required_input_distribution(&self) -> Distribution {
        // Each partition would number its rows from 0.
        Distribution::SinglePartition
    }

    fn run(
        self: Arc<Self>,
        input: SendableRecordBatchStream,
        task: PartitionTask,
    ) -> Result<SendableRecordBatchStream> {
        let counter = Counter {
            schema: Arc::clone(&task.schema),
            operator: self,
            metrics: task.metrics,
            partition: task.partition,
            source: None,
            rows: Count::new(),
            next: 0,
        };
        let rows = futures::stream::try_unfold((input, counter), |(mut input, mut counter)| async move {
            if counter.is_done() {
                return Ok(None);
            }
            let Some(batch) = input.next().await else { return Ok(None) };
            let batch = counter.number(&batch?)?;
            Ok(Some((batch, (input, counter))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(task.schema, rows)))
    }
}

struct Counter {
    schema: SchemaRef,
    operator: Arc<NumberRows>,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
    source: Option<String>,
    /// The rows of this source.
    rows: Count,
    next: i64,
}

impl Counter {
    /// Whether all rows in the range of a single file were returned. Reading on could hit the part that cannot be read.
    fn is_done(&self) -> bool {
        let ranges = &self.operator.ranges;
        ranges.len() == 1 && ranges.values().all(|range| self.next >= range.end)
    }

    fn number(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let sources = batch.column(0).as_string::<i32>();
        let mut numbers = Vec::with_capacity(batch.num_rows());
        let mut in_range = Vec::with_capacity(batch.num_rows());
        for source in sources.iter().map(Option::unwrap_or_default) {
            if self.source.as_deref() != Some(source) {
                let metric = MetricBuilder::new(&self.metrics).with_new_label(ROWS.1, source.to_owned());
                self.rows = metric.counter(ROWS.0, self.partition);
                self.source = Some(source.to_owned());
                self.next = 0;
            }
            numbers.push(self.next);
            in_range.push(self.operator.ranges.get(source).is_none_or(|range| range.contains(&self.next)));
            self.next += 1;
            self.rows.add(1);
        }
        let mut columns = batch.columns().to_vec();
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        columns.insert(1, numbers);
        let numbered = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok(filter_record_batch(&numbered, &in_range.into())?)
    }
}

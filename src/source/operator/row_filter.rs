//! `RowFilterExec`: rows → the rows that the job's condition takes, and those on which it fails. In: our own columns, `fault` among them,
//! and the columns of the condition. Out: our own columns. It must not let one value fail the whole scan.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{filter_record_batch, is_null, nullif};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{Count, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};
use crate::source::plan_error::first_line;
use crate::text::document::RejectReason;

/// The metrics: rows on which the condition was evaluated, and rows on which it failed.
const EVALUATED: &str = "filter_evaluated";
const FAILED: &str = "filter_failed";

/// The plan that filters rows one by one where it must.
pub type RowFilterExec = UnaryExec<RowFilter>;

/// Keeps the rows for which a condition is true. A row on which it fails is kept too, with nulls and a fault; so is one with a fault.
#[derive(Debug)]
pub struct RowFilter {
    /// The condition, over the columns of the input.
    pub condition: Arc<dyn PhysicalExpr>,
    /// How many columns of the input are our own; the others are dropped.
    pub own: usize,
}

/// How many rows a plan's condition failed on, and on how many it was evaluated.
pub(crate) fn failures(metrics: &MetricsSet) -> (usize, usize) {
    let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize());
    (sum(FAILED), sum(EVALUATED))
}

impl RowOperator for RowFilter {
    const NAME: &'static str = "RowFilterExec";

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        if input.fields().len() < self.own || input.column_with_name("fault").is_none() {
            return plan_err!("RowFilterExec needs {} columns of our own, found {input}", self.own);
        }
        // A row on which the condition fails has nulls, except for its place.
        let nullable = |field: &arrow::datatypes::FieldRef| match field.name().as_str() {
            "source" | "row" => Arc::clone(field),
            _ => Arc::new(field.as_ref().clone().with_nullable(true)),
        };
        Ok(Arc::new(Schema::new(input.fields()[..self.own].iter().map(nullable).collect::<Vec<_>>())))
    }

    fn details(&self) -> String {
        self.condition.to_string()
    }

    fn run(
        self: Arc<Self>,
        input: SendableRecordBatchStream,
        task: PartitionTask,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&task.schema);
        let count = |name: &'static str| MetricBuilder::new(&task.metrics).counter(name, task.partition);
        let (evaluated, failed) = (count(EVALUATED), count(FAILED));
        let rows = input.map(move |batch| self.filter(&batch?, &schema, &evaluated, &failed));
        Ok(Box::pin(RecordBatchStreamAdapter::new(task.schema, rows)))
    }
}

impl RowFilter {
    fn filter(
        &self,
        batch: &RecordBatch,
        schema: &SchemaRef,
        evaluated: &Count,
        failed: &Count,
    ) -> Result<RecordBatch> {
        let (mut kept, mut failures) = (vec![false; batch.num_rows()], Vec::new());
        self.evaluate(batch, 0..batch.num_rows(), &mut kept, &mut failures);
        let faults = batch.column_by_name("fault").map(|faults| faults.as_string::<i32>().clone());
        let faults = faults.unwrap_or_else(|| StringArray::new_null(batch.num_rows()));
        failures.retain(|(row, _)| faults.is_null(*row));
        evaluated.add(faults.null_count());
        failed.add(failures.len());
        for (row, kept) in kept.iter_mut().enumerate() {
            *kept |= faults.is_valid(row);
        }
        let mut own = RecordBatch::try_new(Arc::clone(schema), batch.columns()[..self.own].to_vec())?;
        if !failures.is_empty() {
            let mut reasons: Vec<Option<String>> = faults.iter().map(|fault| fault.map(str::to_owned)).collect();
            let mut failed = vec![false; batch.num_rows()];
            for (row, reason) in failures {
                (kept[row], failed[row]) = (true, true);
                reasons[row] = Some(format!("{}: `where`: {reason}", RejectReason::FilterFailed));
            }
            let failed = BooleanArray::from(failed);
            let reasons: ArrayRef = Arc::new(StringArray::from(reasons));
            let column = |(field, values): (&arrow::datatypes::FieldRef, &ArrayRef)| match field.name().as_str() {
                "source" | "row" => Ok(Arc::clone(values)),
                "fault" => Ok(Arc::clone(&reasons)),
                _ if values.null_count() == values.len() => Ok(new_null_array(values.data_type(), values.len())),
                _ => nullif(values, &failed),
            };
            let columns = schema.fields().iter().zip(own.columns()).map(column).collect::<Result<Vec<_>, _>>()?;
            own = RecordBatch::try_new(Arc::clone(schema), columns)?;
        }
        Ok(filter_record_batch(&own, &kept.into())?)
    }

    /// Evaluates the condition on some rows; where it fails, on each half of them.
    fn evaluate(
        &self,
        batch: &RecordBatch,
        rows: Range<usize>,
        kept: &mut [bool],
        failures: &mut Vec<(usize, String)>,
    ) {
        if rows.is_empty() {
            return;
        }
        match self.values(&batch.slice(rows.start, rows.len())) {
            Ok(values) => {
                for (row, value) in rows.zip(values.iter()) {
                    kept[row] = value == Some(true);
                }
            }
            Err(error) if rows.len() == 1 => failures.push((rows.start, first_line(&error))),
            Err(_) => {
                let middle = rows.start + rows.len() / 2;
                self.evaluate(batch, rows.start..middle, kept, failures);
                self.evaluate(batch, middle..rows.end, kept, failures);
            }
        }
    }

    fn values(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let values = self.condition.evaluate(batch)?.into_array(batch.num_rows())?;
        match values.as_boolean_opt() {
            Some(values) => Ok(values.clone()),
            None if is_null(&values)?.true_count() == values.len() => Ok(BooleanArray::new_null(values.len())),
            None => Err(DataFusionError::Plan(format!("the condition is {}", values.data_type()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn a_row_on_which_the_condition_fails_is_a_fault_and_the_others_are_filtered() {
        let texts = ["a", "b", "c", "d", "e"];
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("source", Arc::new(StringArray::from(vec!["a.csv"; 5])) as ArrayRef, false),
            ("row", Arc::new(Int64Array::from(vec![0, 1, 2, 3, 4])), false),
            ("doc_id", Arc::new(StringArray::from(texts.to_vec())), true),
            ("text", Arc::new(StringViewArray::from(texts.to_vec())), true),
            ("fault", Arc::new(StringArray::from(vec![None, None, None, Some("invalid_row: x"), None])), true),
            ("year", Arc::new(StringArray::from(vec!["1999", "n/a", "2001", "n/a", "2002"])), true),
        ])
        .unwrap();
        let fields = DFSchema::try_from(batch.schema().as_ref().clone()).unwrap();
        let context = SessionContext::new();
        let condition = context.parse_sql_expr("CAST(year AS bigint) > 2000", &fields).unwrap();
        let filter = RowFilter { condition: context.create_physical_expr(condition, &fields).unwrap(), own: 5 };
        let schema = filter.output_schema(&batch.schema()).unwrap();
        let (evaluated, failed) = (Count::new(), Count::new());
        let found = filter.filter(&batch, &schema, &evaluated, &failed).unwrap();
        assert_eq!(found["row"].as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        let ids: Vec<_> = found["doc_id"].as_string::<i32>().iter().collect();
        assert_eq!(ids, [None, Some("c"), Some("d"), Some("e")]);
        let faults: Vec<_> = found["fault"].as_string::<i32>().iter().collect();
        assert!(faults[0].unwrap().starts_with("filter_failed: `where`: "), "{faults:?}");
        assert_eq!(faults[1..], [None, Some("invalid_row: x"), None]);
        assert_eq!((evaluated.value(), failed.value()), (4, 1));
        let no_fault = Schema::new(vec![Field::new("source", DataType::Utf8, false)]);
        assert!(filter.output_schema(&Arc::new(no_fault)).is_err());
    }
}

//! `SkipKnownExec`: document rows → rows still to be extracted. In: (source, row, id, text) and the ledger's entries for these
//! documents. Out: the rows that are not done, with a column `refused` for duplicate rows, and the set of changed documents
//! (`known_documents` decides both). It must not reorder rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;

use crate::extract::known_documents::{KnownDocuments, Verdict};
use crate::text::document::RejectReason;

/// The operator. It adds each changed document to [`KnownDocuments`]; `SpareExec` removes those that are refused later.
#[derive(Debug)]
pub struct SkipKnownExec {
    input: Arc<dyn ExecutionPlan>,
    known_documents: Arc<KnownDocuments>,
    properties: Arc<PlanProperties>,
}

impl SkipKnownExec {
    /// An operator over (source, row, id, text); it adds `refused`, the reason code of a refused row.
    pub fn new(input: Arc<dyn ExecutionPlan>, known_documents: Arc<KnownDocuments>) -> Self {
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("refused", DataType::Utf8, true)));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::new(fields))),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, known_documents, properties: Arc::new(properties) }
    }
}

fn skip_known(known_documents: &KnownDocuments, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    if known_documents.known.is_empty() && known_documents.replaced.0.is_empty() {
        columns.push(new_null_array(&DataType::Utf8, batch.num_rows()));
        return Ok(RecordBatch::try_new(Arc::clone(schema), columns)?);
    }
    let (sources, rows) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
    let ids: ArrayRef = cast(batch.column(2), &DataType::Utf8)?;
    let (ids, texts) = (ids.as_string::<i32>(), batch.column(3).as_string_view());
    let verdict = |row: usize| {
        if ids.is_null(row) {
            return Verdict::New;
        }
        let text = texts.is_valid(row).then(|| texts.value(row));
        known_documents.judge(sources.value(row), rows.value(row), ids.value(row), text)
    };
    let verdicts: Vec<Verdict> = (0..batch.num_rows()).map(verdict).collect();
    let reason =
        |verdict: &Verdict| matches!(verdict, Verdict::Duplicate).then_some(RejectReason::DuplicateId.as_str());
    let refused: StringArray = verdicts.iter().map(reason).collect();
    columns.push(Arc::new(refused));
    let kept: BooleanArray = verdicts.iter().map(|verdict| Some(!matches!(verdict, Verdict::Done))).collect();
    Ok(filter_record_batch(&RecordBatch::try_new(Arc::clone(schema), columns)?, &kept)?)
}

impl DisplayAs for SkipKnownExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SkipKnownExec: known={}", self.known_documents.known.len())
    }
}

impl ExecutionPlan for SkipKnownExec {
    fn name(&self) -> &'static str {
        "SkipKnownExec"
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

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else { return internal_err!("SkipKnownExec has one input") };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.known_documents))))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (schema, known_documents) = (self.schema(), Arc::clone(&self.known_documents));
        let shape = Arc::clone(&schema);
        let rows =
            self.input.execute(partition, context)?.map(move |batch| skip_known(&known_documents, &batch?, &shape));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::known_documents::{Changed, LedgerHashes, Replaced, digest};
    use arrow::array::{Int64Array, StringViewArray};

    #[test]
    fn done_documents_are_skipped_and_changed_ones_are_remembered() {
        let known = LedgerHashes::from([(digest("1"), digest("same")), (digest("2"), digest("old"))]);
        let mut replaced = Replaced::default();
        replaced.add("a", 2);
        let known_documents = KnownDocuments::new(known, Arc::new(replaced));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("source", Arc::new(StringArray::from(vec!["a"; 5])) as ArrayRef, false),
            ("row", Arc::new(Int64Array::from(vec![0, 1, 2, 3, 4])), false),
            ("doc_id", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), Some(3), None])), true),
            (
                "text",
                Arc::new(StringViewArray::from(vec![Some("same"), Some("new"), Some("x"), None, Some("y")])),
                true,
            ),
        ])
        .unwrap();
        let mut fields = batch.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("refused", DataType::Utf8, true)));
        let kept = skip_known(&known_documents, &batch, &Arc::new(Schema::new(fields))).unwrap();
        assert_eq!(kept.column(1).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        let refused: Vec<_> = kept.column(4).as_string::<i32>().iter().collect();
        assert_eq!(refused, [None, Some("duplicate_id"), None, None]);
        assert!(known_documents.take_changed(|changed| changed.row > 1).is_empty());
        let changed = Changed { source: "a".to_owned(), row: 1, id: "2".to_owned() };
        assert_eq!(known_documents.take_changed(|_| true), [changed]);
        assert!(known_documents.take_changed(|_| true).is_empty());
    }
}

//! `SpareExec`: keeps the old rows of changed documents whose new text is refused. In: extracted rows, and the changed documents among
//! them. Out: the same rows; a refused document no longer counts as changed, so the commit removes no row of it. It must not change a row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::TryStreamExt;

use crate::extract::known_documents::KnownDocuments;

/// The operator. The tokenizer can refuse a text long after `SkipKnownExec` let it through. Then the document's old rows stay, as they
/// do if the new text is blank.
#[derive(Debug)]
pub(crate) struct SpareExec {
    input: Arc<dyn ExecutionPlan>,
    known_documents: Arc<KnownDocuments>,
}

impl SpareExec {
    /// An operator over rows of `tables::extracted_schema`, whose documents `known_documents` let through.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, known_documents: Arc<KnownDocuments>) -> Self {
        Self { input, known_documents }
    }
}

impl KnownDocuments {
    /// Removes refused documents from the changed ones.
    fn spare(&self, extracted: &RecordBatch) {
        let reasons = &extracted["reason"];
        let mut changed = self.changed();
        if changed.is_empty() || reasons.null_count() == reasons.len() {
            return;
        }
        let (sources, rows) = (extracted["source"].as_string::<i32>(), extracted["row"].as_primitive::<Int64Type>());
        for row in (0..extracted.num_rows()).filter(|row| reasons.is_valid(*row)) {
            changed.remove(&(sources.value(row).to_owned(), rows.value(row)));
        }
    }
}

impl DisplayAs for SpareExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SpareExec")
    }
}

impl ExecutionPlan for SpareExec {
    fn name(&self) -> &'static str {
        "SpareExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
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
        let Ok([input]) = <[_; 1]>::try_from(children) else { return internal_err!("SpareExec has one input") };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.known_documents))))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let known_documents = Arc::clone(&self.known_documents);
        let rows = self.input.execute(partition, context)?.inspect_ok(move |batch| known_documents.spare(batch));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::extract::known_documents::{LedgerHashes, digest};
    use crate::tables::sample;

    #[tokio::test]
    async fn a_refused_document_is_no_longer_a_changed_one() {
        let known = LedgerHashes::from(["1", "2", "3"].map(|id| (digest(id), digest("old"))));
        let known_documents = Arc::new(KnownDocuments::new(known, Arc::default()));
        for (row, id) in [(0, "1"), (1, "2"), (2, "3"), (3, "4")] {
            known_documents.judge("a", row, id, Some("new"));
        }
        // The same row number in another file is another document.
        known_documents.judge("b", 1, "3", Some("new"));
        let rows = [
            (Some(1), None, vec![]),
            (Some(2), Some("tokenizer"), vec![]),
            (Some(3), None, vec![]),
            (Some(4), Some("tokenizer"), vec![]),
        ];
        let batch = sample::extracted(&DataType::Int64, "a", &rows);
        let context = SessionContext::new();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
        let scan = context.read_table(Arc::new(table)).unwrap().create_physical_plan().await.unwrap();
        let spare = Arc::new(SpareExec::new(scan, Arc::clone(&known_documents)));
        assert_eq!(collect(spare, context.task_ctx()).await.unwrap(), [batch]);
        let changed = known_documents.take_changed(|_| true);
        let places: Vec<(&str, i64)> = changed.iter().map(|one| (one.source.as_str(), one.row)).collect();
        assert_eq!(places, [("a", 0), ("a", 2), ("b", 1)]);
    }
}

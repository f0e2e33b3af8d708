//! `SkipKnownExec`: document rows → rows still to be extracted. In: (source, row, id, text, fault), and what the store knows of these documents.
//! Out: the rows that are not done, with the columns `refused` for rows that are duplicates or have a fault and `changed` for documents
//! that the store has with another text. It must not reorder rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{Distribution, SendableRecordBatchStream};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::extract::known_documents::{KnownDocuments, Verdict};
use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};
use crate::text::document::RejectReason;

/// The place of the scan's column `fault`.
const FAULT: usize = 4;
/// The detail of a duplicate row's reject.
const DUPLICATE: &str = "a later document of this run has the same id";

/// The plan that skips known documents.
pub type SkipKnownExec = UnaryExec<SkipKnown>;

/// Skips documents that the store has. It makes `fault` into `refused`, the code and detail of a refused row, and adds `changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipKnown {
    /// What the store knows of the documents.
    pub known_documents: Arc<KnownDocuments>,
}

impl RowOperator for SkipKnown {
    const NAME: &'static str = "SkipKnownExec";

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        if input.fields().len() != 5 || input.field(FAULT).data_type() != &DataType::Utf8 {
            return plan_err!("SkipKnownExec needs (source, row, id, text, fault), found {input}");
        }
        let mut fields = input.fields()[..FAULT].to_vec();
        fields.push(Arc::new(Field::new("refused", DataType::Utf8, true)));
        fields.push(Arc::new(Field::new("changed", DataType::Boolean, false)));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn details(&self) -> String {
        format!("known={}", self.known_documents.len())
    }

    fn required_input_distribution(&self) -> Distribution {
        Distribution::SinglePartition
    }

    fn run(
        self: Arc<Self>,
        input: SendableRecordBatchStream,
        task: PartitionTask,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&task.schema);
        let rows = input.map(move |batch| skip_known(&self.known_documents, &batch?, &schema));
        Ok(Box::pin(RecordBatchStreamAdapter::new(task.schema, rows)))
    }
}

fn skip_known(known_documents: &KnownDocuments, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let (mut columns, count) = (batch.columns()[..FAULT].to_vec(), batch.num_rows());
    let faults = batch.column(FAULT);
    if known_documents.is_empty() {
        columns.push(Arc::clone(faults));
        columns.push(Arc::new(BooleanArray::from(vec![false; count])));
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
    let verdicts: Vec<Verdict> = (0..count).map(verdict).collect();
    let is = |wanted: Verdict| verdicts.iter().map(move |verdict| Some(*verdict == wanted));
    let reason = |(duplicate, fault): (Option<bool>, Option<&str>)| {
        let duplicate = (duplicate == Some(true)).then(|| format!("{}: {DUPLICATE}", RejectReason::DuplicateId));
        duplicate.or_else(|| fault.map(str::to_owned))
    };
    let faults = faults.as_string::<i32>().iter();
    columns.push(Arc::new(is(Verdict::Duplicate).zip(faults).map(reason).collect::<StringArray>()));
    columns.push(Arc::new(is(Verdict::Changed).collect::<BooleanArray>()));
    let kept: BooleanArray = verdicts.iter().map(|verdict| Some(*verdict != Verdict::Done)).collect();
    Ok(filter_record_batch(&RecordBatch::try_new(Arc::clone(schema), columns)?, &kept)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::known_documents::{LedgerHashes, Replaced, digest};
    use arrow::array::{Int64Array, StringViewArray};

    #[test]
    fn done_documents_are_skipped_and_changed_ones_are_marked() {
        let known = LedgerHashes::from([(digest("1"), digest("same")), (digest("2"), digest("old"))]);
        let mut replaced = Replaced::default();
        replaced.add("a", 2);
        let known_documents = Arc::new(KnownDocuments::new(known, Arc::new(replaced)));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("source", Arc::new(StringArray::from(vec!["a"; 5])) as ArrayRef, false),
            ("row", Arc::new(Int64Array::from(vec![0, 1, 2, 3, 4])), false),
            ("doc_id", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), Some(3), None])), true),
            (
                "text",
                Arc::new(StringViewArray::from(vec![Some("same"), Some("new"), Some("x"), None, Some("y")])),
                true,
            ),
            ("fault", Arc::new(StringArray::from(vec![None, None, None, None, Some("invalid_row: x")])), true),
        ])
        .unwrap();
        let operator = SkipKnown { known_documents };
        let schema = operator.output_schema(&batch.schema()).unwrap();
        let kept = skip_known(&operator.known_documents, &batch, &schema).unwrap();
        assert_eq!(kept["row"].as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        let refused: Vec<_> = kept["refused"].as_string::<i32>().iter().collect();
        assert_eq!(
            refused,
            [None, Some("duplicate_id: a later document of this run has the same id"), None, Some("invalid_row: x")]
        );
        let changed: Vec<_> = kept["changed"].as_boolean().iter().flatten().collect();
        assert_eq!(changed, [true, false, false, false]);
    }
}

//! `SkipKnownExec`: document rows → rows still to be extracted. In: (source, row, id, text, fault), and what the store knows of these documents.
//! Out: the rows that are not done, with the columns `refused` for rows that are duplicates or have a fault and `in_force` for the content
//! hash that the store has. It must not reorder rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{Distribution, SendableRecordBatchStream};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::extract::known_documents::{KnownDocuments, Verdict, digest};
use crate::source::operator::row_number::labels;
use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};
use crate::text::document::{LATER_ROW, RejectReason};

/// The place of the scan's column `fault`.
const FAULT: usize = 4;

/// The plan that skips known documents.
pub type SkipKnownExec = UnaryExec<SkipKnown>;

/// The metric that counts rows whose document is done, with its row in another file, and the label that names the file of these rows.
const REPEATED: (&str, &str) = ("rows_repeated", "source");

/// The files with rows whose document is done with its row in another file, according to a plan's metrics.
pub(crate) fn repeated_sources(metrics: &MetricsSet) -> impl Iterator<Item = String> {
    labels(metrics, REPEATED).filter(|(_, rows)| *rows > 0).map(|(source, _)| source)
}

/// Counts rows that repeat a document whose row is in another file.
pub(crate) fn count_repeated(metrics: &ExecutionPlanMetricsSet, partition: usize, source: &str, rows: usize) {
    let metric = MetricBuilder::new(metrics).with_new_label(REPEATED.1, source.to_owned());
    metric.counter(REPEATED.0, partition).add(rows);
}

/// Skips documents that the store has. It makes `fault` into `refused`, the code and detail of a refused row, and adds `in_force`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipKnown {
    /// What the store knows of the documents.
    pub known_documents: Arc<KnownDocuments>,
    /// The rows, by source, that end the process that extracts them: they are refused.
    pub killers: BTreeMap<String, BTreeSet<i64>>,
}

impl From<KnownDocuments> for SkipKnown {
    fn from(known_documents: KnownDocuments) -> Self {
        Self { known_documents: Arc::new(known_documents), killers: BTreeMap::new() }
    }
}

impl SkipKnown {
    /// The faults of a batch's rows, with those of its killers.
    fn faults(&self, batch: &RecordBatch) -> ArrayRef {
        let faults = batch.column(FAULT);
        if self.killers.is_empty() {
            return Arc::clone(faults);
        }
        let rows = batch.column(1).as_primitive::<Int64Type>().values();
        let places = batch.column(0).as_string::<i32>().iter().zip(rows);
        let kills = |source: &str, row| self.killers.get(source).is_some_and(|rows| rows.contains(row));
        let faults = places.zip(faults.as_string::<i32>()).map(|((source, row), fault)| match (fault, source) {
            (None, Some(source)) if kills(source, row) => {
                Some(format!("{}: every process that extracts it ends", RejectReason::KillsExecutor))
            }
            (fault, _) => fault.map(str::to_owned),
        });
        Arc::new(faults.collect::<StringArray>())
    }
}

impl RowOperator for SkipKnown {
    const NAME: &'static str = "SkipKnownExec";

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        if input.fields().len() != 5 || input.field(FAULT).data_type() != &DataType::Utf8 {
            return plan_err!("SkipKnownExec needs (source, row, id, text, fault), found {input}");
        }
        let mut fields = input.fields()[..FAULT].to_vec();
        fields.push(Arc::new(Field::new("refused", DataType::Utf8, true)));
        fields.push(Arc::new(Field::new("in_force", DataType::Utf8, true)));
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
        let mut judge = Judge { operator: self, schema: task.schema, changed: HashSet::new(), repeated: None };
        let (metrics, partition) = (task.metrics, task.partition);
        let rows = input.map(move |batch| judge.skip_known(&batch?, &metrics, partition));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

struct Judge {
    operator: Arc<SkipKnown>,
    schema: SchemaRef,
    /// Known documents with another text in an earlier row. Whether a later row repeats the document in force depends on whether that
    /// text is accepted, so it is not skipped.
    changed: HashSet<u128>,
    /// The file whose repeated rows were counted last.
    repeated: Option<String>,
}

impl Judge {
    fn skip_known(
        &mut self,
        batch: &RecordBatch,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
    ) -> Result<RecordBatch> {
        let (mut columns, count) = (batch.columns()[..FAULT].to_vec(), batch.num_rows());
        let faults = self.operator.faults(batch);
        let known_documents = &self.operator.known_documents;
        if known_documents.is_empty() {
            columns.extend([faults, new_null_array(&DataType::Utf8, count)]);
            return Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        let sources = batch.column(0).as_string::<i32>();
        let ids: ArrayRef = cast(batch.column(2), &DataType::Utf8)?;
        let (ids, texts) = (ids.as_string::<i32>(), batch.column(3).as_string_view());
        let mut verdicts = Vec::with_capacity(count);
        for row in 0..count {
            if ids.is_null(row) {
                verdicts.push(Verdict::New);
                continue;
            }
            let (source, id) = (sources.value(row), digest(ids.value(row)));
            let text = (texts.is_valid(row) && faults.is_null(row)).then(|| digest(texts.value(row)));
            let verdict = known_documents.judge(source, id, text);
            if verdict == (Verdict::Done { elsewhere: true }) && self.repeated.as_deref() != Some(source) {
                count_repeated(metrics, partition, source, 1);
                self.repeated = Some(source.to_owned());
            }
            verdicts.push(match (verdict, known_documents.known.get(&id)) {
                (Verdict::Done { .. }, Some(known)) if self.changed.contains(&id) => Verdict::Known(known.text),
                (verdict, _) => verdict,
            });
            if matches!(verdict, Verdict::Known(_)) {
                self.changed.insert(id);
            }
        }
        let refused = verdicts.iter().zip(faults.as_string::<i32>()).map(|(verdict, fault)| match (fault, verdict) {
            (Some(fault), _) => Some(fault.to_owned()),
            (None, Verdict::Duplicate) => Some(format!("{}: {LATER_ROW}", RejectReason::DuplicateId)),
            (None, _) => None,
        });
        columns.push(Arc::new(refused.collect::<StringArray>()));
        let in_force = verdicts.iter().map(|verdict| match verdict {
            Verdict::Known(text) => Some(format!("{text:032x}")),
            _ => None,
        });
        columns.push(Arc::new(in_force.collect::<StringArray>()));
        let kept: BooleanArray = verdicts.iter().map(|one| Some(!matches!(one, Verdict::Done { .. }))).collect();
        Ok(filter_record_batch(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?, &kept)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::known_documents::InForce;
    use arrow::array::{Int64Array, StringViewArray};

    #[test]
    fn done_documents_are_skipped_and_changed_ones_are_marked() {
        let entry = |id: &str, text: &str, later| {
            (digest(id), InForce { text: digest(text), commit: 1, source: u32::from(later), later })
        };
        let known = [entry("1", "same", false), entry("2", "old", false), entry("4", "late", true)].into();
        let sources = vec!["a".to_owned(), "b".to_owned()];
        let known_documents = Arc::new(KnownDocuments { known, sources });
        let texts = [Some("same"), Some("new"), Some("x"), None, Some("y"), Some("z"), Some("late"), Some("old")];
        let ids = [Some(1), Some(2), Some(3), Some(3), None, Some(4), Some(4), Some(2)];
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("source", Arc::new(StringArray::from(vec!["a"; 8])) as ArrayRef, false),
            ("row", Arc::new(Int64Array::from_iter_values(0..8)), false),
            ("doc_id", Arc::new(Int64Array::from(ids.to_vec())), true),
            ("text", Arc::new(StringViewArray::from(texts.to_vec())), true),
            (
                "fault",
                Arc::new(StringArray::from(vec![None, None, None, None, None, None, None, Some("invalid_row: x")])),
                true,
            ),
        ])
        .unwrap();
        let operator = SkipKnown { known_documents, killers: [("a".to_owned(), [2].into())].into() };
        let schema = operator.output_schema(&batch.schema()).unwrap();
        let mut judge = Judge { operator: Arc::new(operator), schema, changed: HashSet::new(), repeated: None };
        let metrics = ExecutionPlanMetricsSet::new();
        let kept = judge.skip_known(&batch, &metrics, 0).unwrap();
        assert_eq!(kept["row"].as_primitive::<Int64Type>().values(), &[1, 2, 3, 4, 5, 7]);
        let refused: Vec<_> = kept["refused"].as_string::<i32>().iter().collect();
        assert_eq!(
            refused,
            [
                None,
                Some("kills_executor: every process that extracts it ends"),
                None,
                None,
                Some("duplicate_id: a later row has the same id"),
                Some("invalid_row: x")
            ]
        );
        // The old text of document 2 is not done after its new text: that one can be in force by then.
        let old = content_hash("old");
        let in_force: Vec<_> = kept["in_force"].as_string::<i32>().iter().collect();
        assert_eq!(in_force, [Some(old.as_str()), None, None, None, None, Some(old.as_str())]);
        let repeated: Vec<String> = repeated_sources(&metrics.clone_inner()).collect();
        assert_eq!(repeated, ["a"], "document 4 has its row in b");
    }

    fn content_hash(text: &str) -> String {
        crate::extract::known_documents::content_hash(text)
    }
}

//! `AdmitExec`: document rows → those that are still to be done. In: (source, row, id, text) and what the ledger knows of
//! these documents. Out: the same rows less those already done, with a column that says why a row is refused before its text
//! is looked at; and which documents have changed, until `SpareExec` sees one refused. It may not reorder rows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use sha2::{Digest, Sha256};

use crate::model::hash::short_hash;
use crate::mrc::documents::RejectReason;

mod spare;

pub use spare::SpareExec;

/// The content hashes under which documents are in the store, by id. Both are [`digest`]s, so an entry has 32 bytes however
/// long the id; with the room that a hash table leaves, a document takes 38 to 75.
pub type Known = HashMap<u128, u128>;

/// The first 128 bits of a text's SHA-256, in hexadecimal: the `content_hash` column.
pub fn content_hash(text: &str) -> String {
    short_hash(text.as_bytes(), 16)
}

/// The same bits as a number: of an id or of a document's text.
pub fn digest(text: &str) -> u128 {
    Sha256::digest(text.as_bytes()).iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte))
}

/// The number that a [`content_hash`] stands for; what is none is 0, which no text has.
pub fn digest_of(content_hash: &str) -> u128 {
    u128::from_str_radix(content_hash, 16).unwrap_or_default()
}

/// Rows, by source, whose document comes again in a later row: eight bytes each.
#[derive(Debug, Default)]
pub struct Replaced(BTreeMap<String, Vec<i64>>);

impl Replaced {
    /// Adds a row; before any is asked for, they must be sorted.
    pub fn add(&mut self, source: &str, row: i64) {
        match self.0.get_mut(source) {
            Some(rows) => rows.push(row),
            None => drop(self.0.insert(source.to_owned(), vec![row])),
        }
    }

    /// Brings the rows in order.
    pub fn sort(&mut self) {
        self.0.values_mut().for_each(|rows| rows.sort_unstable());
    }

    /// How many rows are replaced.
    pub fn rows(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn contains(&self, source: &str, row: i64) -> bool {
        self.0.get(source).is_some_and(|rows| rows.binary_search(&row).is_ok())
    }
}

/// What the ledger knows of a chunk's documents. Ids are in their text form.
#[derive(Debug, Default)]
pub struct Admission {
    known: Known,
    /// Rows that a later row of this run replaces.
    replaced: Arc<Replaced>,
    /// Ids of changed documents, by source and row.
    changed: Mutex<BTreeMap<(String, i64), String>>,
}

/// A document that is in the store with another text: its old rows must go in the commit that brings the new ones. Where the new
/// text is refused no new ones come, and the old stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where the new text stands.
    pub source: String,
    /// In which row.
    pub row: i64,
    /// The document's id, in its text form.
    pub id: String,
}

enum Verdict {
    New,
    Done,
    Duplicate,
}

impl Admission {
    /// What is known: content hashes by id, and rows that later rows replace.
    pub fn new(known: Known, replaced: Arc<Replaced>) -> Self {
        Self { known, replaced, changed: Mutex::default() }
    }

    /// Takes the changed documents for which `committed` holds. Of those that `SpareExec` has seen none is refused.
    pub fn take_changed(&self, committed: impl Fn(&Changed) -> bool) -> Vec<Changed> {
        let mut changed = self.changed();
        let all = std::mem::take(&mut *changed).into_iter().map(|((source, row), id)| Changed { source, row, id });
        let (taken, left): (Vec<Changed>, Vec<Changed>) = all.partition(committed);
        changed.extend(left.into_iter().map(|Changed { source, row, id }| ((source, row), id)));
        taken
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<(String, i64), String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, source: &str, row: i64, id: &str, text: Option<&str>) -> Verdict {
        let known = if self.known.is_empty() { None } else { self.known.get(&digest(id)).copied() };
        if known.is_some() && known == text.map(digest) {
            return Verdict::Done;
        }
        if self.replaced.contains(source, row) {
            return Verdict::Duplicate;
        }
        if known.is_some() && text.is_some_and(|text| !text.trim().is_empty()) {
            self.changed().insert((source.to_owned(), row), id.to_owned());
        }
        Verdict::New
    }
}

/// The operator.
#[derive(Debug)]
pub struct AdmitExec {
    input: Arc<dyn ExecutionPlan>,
    admission: Arc<Admission>,
    properties: Arc<PlanProperties>,
}

impl AdmitExec {
    /// An operator over (source, row, id, text); it adds `refused`, the reason code of a refused row.
    pub fn new(input: Arc<dyn ExecutionPlan>, admission: Arc<Admission>) -> Self {
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("refused", DataType::Utf8, true)));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::new(fields))),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, admission, properties: Arc::new(properties) }
    }
}

fn admit(admission: &Admission, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    if admission.known.is_empty() && admission.replaced.0.is_empty() {
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
        admission.judge(sources.value(row), rows.value(row), ids.value(row), text)
    };
    let verdicts: Vec<Verdict> = (0..batch.num_rows()).map(verdict).collect();
    let reason =
        |verdict: &Verdict| matches!(verdict, Verdict::Duplicate).then_some(RejectReason::DuplicateId.as_str());
    let refused: StringArray = verdicts.iter().map(reason).collect();
    columns.push(Arc::new(refused));
    let kept: BooleanArray = verdicts.iter().map(|verdict| Some(!matches!(verdict, Verdict::Done))).collect();
    Ok(filter_record_batch(&RecordBatch::try_new(Arc::clone(schema), columns)?, &kept)?)
}

impl DisplayAs for AdmitExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AdmitExec: known={}", self.admission.known.len())
    }
}

impl ExecutionPlan for AdmitExec {
    fn name(&self) -> &'static str {
        "AdmitExec"
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
        let Ok([input]) = <[_; 1]>::try_from(children) else { return internal_err!("AdmitExec has one input") };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.admission))))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (schema, admission) = (self.schema(), Arc::clone(&self.admission));
        let shape = Arc::clone(&schema);
        let rows = self.input.execute(partition, context)?.map(move |batch| admit(&admission, &batch?, &shape));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};

    #[test]
    fn the_column_and_the_number_are_the_same_bits() {
        // FIPS 180-4's one-block example.
        assert_eq!(digest("abc"), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        for text in ["abc", "", "Zürich , yesterday ."] {
            assert_eq!(digest_of(&content_hash(text)), digest(text));
        }
        assert_eq!((digest_of("of another program"), digest_of("0000000a")), (0, 10));
    }

    #[test]
    fn what_is_done_is_left_out_and_what_changed_is_remembered() {
        let known = Known::from([(digest("1"), digest("same")), (digest("2"), digest("old"))]);
        let mut replaced = Replaced::default();
        replaced.add("a", 2);
        let admission = Admission::new(known, Arc::new(replaced));
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
        let admitted = admit(&admission, &batch, &Arc::new(Schema::new(fields))).unwrap();
        assert_eq!(admitted.column(1).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        let refused: Vec<_> = admitted.column(4).as_string::<i32>().iter().collect();
        assert_eq!(refused, [None, Some("duplicate_id"), None, None]);
        assert!(admission.take_changed(|changed| changed.row > 1).is_empty());
        let changed = Changed { source: "a".to_owned(), row: 1, id: "2".to_owned() };
        assert_eq!(admission.take_changed(|_| true), [changed]);
        assert!(admission.take_changed(|_| true).is_empty());
    }
}

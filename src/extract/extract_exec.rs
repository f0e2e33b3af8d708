//! `ExtractExec`: document rows → one row per document with its mentions. In: rows (source, row, id, text, refused). Out: rows of
//! [`extracted_schema`]. It must not write anything or reorder the rows of a slice.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, Float32Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, trace_span};

use crate::extract::known_documents::content_hash;
use crate::extract::pipeline::Extractor;
use crate::extract::slice::{SliceResult, SliceRows};
use crate::extract::slices::{Slice, Slices};
use crate::source::plan_error::own_error;
use crate::tables::{extracted_schema, mention_fields};

use crate::extract::marks::Marks;

/// The operator's settings, as a plan shows them; never weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractSpec {
    /// The model directory as the job names it.
    pub model: String,
    /// The precision of the graph.
    pub precision: String,
    /// The device it runs on.
    pub device: String,
    /// The names of the entity types.
    pub types: Vec<String>,
    /// Context wordpieces in a window.
    pub window_tokens: usize,
    /// Context wordpieces shared with the next window.
    pub overlap_tokens: usize,
    /// Padded tokens in a batch.
    pub batch_tokens: usize,
}

/// The operator: one pipeline per input partition, all using the same sessions.
#[derive(Debug)]
pub struct ExtractExec {
    input: Arc<dyn ExecutionPlan>,
    spec: ExtractSpec,
    extractor: Arc<Extractor>,
    marks: Option<Arc<Marks>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExtractExec {
    /// An operator over `input`, whose columns are source (string), row (int64), the id, the text (string view) and the reason for which
    /// an earlier operator refused the row (string).
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        spec: ExtractSpec,
        extractor: Arc<Extractor>,
    ) -> DataFusionResult<Self> {
        let schema = input.schema();
        let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        let [DataType::Utf8, DataType::Int64, id_type, DataType::Utf8View, DataType::Utf8] = types[..] else {
            return Err(DataFusionError::Plan(format!(
                "ExtractExec needs (source, row, id, text, refused), found {types:?}"
            )));
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(extracted_schema(id_type)),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Self { input, spec, extractor, marks: None, properties, metrics })
    }

    /// The same operator, which records in `marks` the counters after each emitted slice.
    #[must_use]
    pub fn with_marks(self, marks: Option<Arc<Marks>>) -> Self {
        Self { marks, ..self }
    }
}

impl DisplayAs for ExtractExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExtractSpec { model, precision, device, types, window_tokens, overlap_tokens, batch_tokens } = &self.spec;
        write!(
            formatter,
            "ExtractExec: model={model}, precision={precision}, device={device}, types=[{}], window={window_tokens}/{overlap_tokens}, budget={batch_tokens}",
            types.join(", ")
        )
    }
}

impl ExecutionPlan for ExtractExec {
    fn name(&self) -> &'static str {
        "ExtractExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return Err(DataFusionError::Internal("ExtractExec has one child".into()));
        };
        let exec = Self::try_new(input, self.spec.clone(), Arc::clone(&self.extractor))?;
        Ok(Arc::new(exec.with_marks(self.marks.clone())))
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // The rows of a slice must stay together and in order; the scan is partitioned, not its output.
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), 2);
        let (rows, mut incoming) = tokio::sync::mpsc::channel(2);
        let extractor = Arc::clone(&self.extractor);
        builder.spawn(async move {
            loop {
                let started = Instant::now();
                let Some(batch) = input.next().instrument(trace_span!("read")).await else { break };
                extractor.counters.read.add(started.elapsed());
                if rows.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        let output = builder.tx();
        let extractor = Arc::clone(&self.extractor);
        let (metrics, marks) = (BaselineMetrics::new(&self.metrics, partition), self.marks.clone());
        builder.spawn_blocking(move || {
            let emit = |result: DataFusionResult<RecordBatch>| output.blocking_send(result).is_ok();
            let slices = Slices::new(std::iter::from_fn(move || incoming.blocking_recv()), extractor.slices);
            let slices = slices.map(|slice| slice.map_err(|error| own_error(error, "read the documents")));
            extractor.run(slices, |result| {
                let batch = to_batch(&result, &extractor, &schema);
                if let Ok(batch) = &batch {
                    metrics.record_output(batch.num_rows());
                    if let Some(marks) = &marks {
                        marks.record_slice(batch, &extractor.counters);
                    }
                }
                emit(batch)
            })?;
            Ok(())
        });
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A finished slice as rows of [`extracted_schema`].
fn to_batch(result: &SliceResult<Slice>, extractor: &Extractor, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    let rows = &result.rows;
    let joined = |column: usize| -> DataFusionResult<ArrayRef> {
        let parts: Vec<&dyn Array> = rows.pieces.iter().map(|piece| piece.column(column).as_ref()).collect();
        Ok(concat(&parts)?)
    };
    let texts: Vec<&str> = (0..rows.count()).map(|row| rows.row(row).text.unwrap_or_default()).collect();
    let documents = &result.documents;
    let integers = |value: &dyn Fn(usize) -> usize| -> ArrayRef {
        Arc::new((0..documents.len()).map(|row| value(row) as i64).collect::<Int64Array>())
    };
    let reject = |row: usize| documents[row].outcome.as_ref().err();
    let reasons: StringArray =
        (0..documents.len()).map(|row| reject(row).map(|reject| reject.reason.as_str())).collect();
    let details: StringArray =
        (0..documents.len()).map(|row| reject(row).map(|reject| reject.detail.as_str())).collect();
    let hashes: StringArray = texts.iter().map(|text| Some(content_hash(text))).collect();
    let columns: Vec<ArrayRef> = vec![
        joined(0)?,
        joined(1)?,
        joined(2)?,
        Arc::new(hashes),
        integers(&|row| texts[row].chars().count()),
        integers(&|row| documents[row].counts.tokens),
        integers(&|row| documents[row].windows),
        Arc::new(reasons),
        Arc::new(details),
        entities(result, &texts, extractor),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn entities(result: &SliceResult<Slice>, texts: &[&str], extractor: &Extractor) -> ArrayRef {
    let fields = mention_fields();
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields.clone(), 0)).with_field(Field::new(
        "item",
        DataType::Struct(fields),
        false,
    ));
    for (document, text) in result.documents.iter().zip(texts) {
        for mention in document.outcome.iter().flatten() {
            let row = list.values();
            let integer = |row: &mut StructBuilder, column: usize, value: usize| {
                if let Some(builder) = row.field_builder::<Int64Builder>(column) {
                    builder.append_value(value as i64);
                }
            };
            let string = |row: &mut StructBuilder, column: usize, value: &str| {
                if let Some(builder) = row.field_builder::<StringBuilder>(column) {
                    builder.append_value(value);
                }
            };
            string(row, 0, &extractor.schema.types[mention.entity_type].name);
            integer(row, 1, mention.chars.start);
            integer(row, 2, mention.chars.end);
            string(row, 3, mention.bytes.of(text));
            if let Some(builder) = row.field_builder::<Float32Builder>(4) {
                builder.append_value(mention.score);
            }
            integer(row, 5, mention.window);
            row.append(true);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

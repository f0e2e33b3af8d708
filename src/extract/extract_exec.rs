//! `ExtractExec`: document rows → one row per document with its mentions. In: rows (source, row, id, text, refused, changed). Out: rows
//! of [`extracted_schema`]. It must not write anything or reorder the rows of a slice.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructBuilder,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{Distribution, SendableRecordBatchStream};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, trace_span};

use crate::extract::extractor::Extractor;
use crate::extract::known_documents::content_hash;
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::slice::{Extracted, SliceResult, SliceRows};
use crate::extract::pipeline::slices::{Slice, Slices};
use crate::extract::settings::RuntimeSettings;
use crate::extract::spec::ExtractionSpec;
use crate::model::precision::Precision;
use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};
use crate::source::plan_error::own_error;
use crate::tables::{extracted_schema, mention_fields};
use crate::task::entity_schema::EntityType;

/// The plan that extracts.
pub type ExtractExec = UnaryExec<Extract>;

/// Extracts the mentions of documents. The model is opened by the process that runs the plan, once for all partitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extract {
    /// What is extracted.
    pub spec: ExtractionSpec,
    /// Where and how the model runs.
    pub runtime: RuntimeSettings,
}

impl RowOperator for Extract {
    const NAME: &'static str = "ExtractExec";

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let types: Vec<&DataType> = input.fields().iter().map(|field| field.data_type()).collect();
        let [DataType::Utf8, DataType::Int64, id_type, DataType::Utf8View, DataType::Utf8, DataType::Boolean] =
            types[..]
        else {
            return plan_err!("ExtractExec needs (source, row, id, text, refused, changed), found {types:?}");
        };
        Ok(extracted_schema(id_type))
    }

    fn details(&self) -> String {
        let Self { spec, runtime } = self;
        let types: Vec<&str> = spec.schema.types.iter().map(|one| one.name.as_str()).collect();
        format!(
            "model={}, precision={}, device={}, types=[{}], window={}/{}",
            spec.model.path.display(),
            spec.precision.map_or("auto", Precision::name),
            runtime.device,
            types.join(", "),
            spec.windows.tokens,
            spec.windows.overlap
        )
    }

    fn required_input_distribution(&self) -> Distribution {
        // Slices depend on the order of the rows.
        Distribution::SinglePartition
    }

    fn run(
        self: Arc<Self>,
        mut input: SendableRecordBatchStream,
        task: PartitionTask,
    ) -> Result<SendableRecordBatchStream> {
        let schema = task.schema;
        let monitor = Monitor::of(&task.context);
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), 2);
        let (rows, mut incoming) = tokio::sync::mpsc::channel(2);
        let reading = Arc::clone(&monitor);
        builder.spawn(async move {
            loop {
                let started = Instant::now();
                let Some(batch) = input.next().instrument(trace_span!("read")).await else { break };
                reading.read.add(started.elapsed());
                if rows.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        let output = builder.tx();
        let metrics = BaselineMetrics::new(&task.metrics, task.partition);
        builder.spawn_blocking(move || {
            let extractor = Extractor::shared(&self.spec, &self.runtime)?;
            let slices = Slices::new(std::iter::from_fn(move || incoming.blocking_recv()), extractor.slices());
            let slices = slices.map(|slice| slice.map_err(|error| own_error(error, "read the documents")));
            extractor.run(&monitor, slices, |result| {
                let batch = to_batch(&result, &self.spec.schema.types, &schema);
                if let Ok(batch) = &batch {
                    metrics.record_output(batch.num_rows());
                }
                output.blocking_send(batch).is_ok()
            })?;
            Ok(())
        });
        Ok(builder.build())
    }
}

/// A finished slice as rows of [`extracted_schema`].
fn to_batch(result: &SliceResult<Slice>, types: &[EntityType], schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = &result.rows;
    let joined = |column: usize| -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = rows.pieces.iter().map(|piece| piece.column(column).as_ref()).collect();
        Ok(concat(&parts)?)
    };
    let texts: Vec<&str> = (0..rows.count()).map(|row| rows.row(row).text.unwrap_or_default()).collect();
    let documents = &result.documents;
    let integers = |value: &dyn Fn(&Extracted) -> usize| -> ArrayRef {
        Arc::new(documents.iter().map(|document| value(document) as i64).collect::<Int64Array>())
    };
    let rejects = || documents.iter().map(|document| document.outcome.as_ref().err());
    let reasons: StringArray = rejects().map(|reject| reject.map(|reject| reject.reason.as_str())).collect();
    let details: StringArray = rejects().map(|reject| reject.map(|reject| reject.detail.as_str())).collect();
    let hashes: StringArray = texts.iter().map(|text| Some(content_hash(text))).collect();
    let lengths: Int64Array = texts.iter().map(|text| text.chars().count() as i64).collect();
    // The old rows of a document whose new text is refused stay.
    let changed = joined(5)?;
    let replaces = |(document, changed): (&Extracted, Option<bool>)| changed == Some(true) && document.outcome.is_ok();
    let changed: Vec<bool> = documents.iter().zip(changed.as_boolean()).map(replaces).collect();
    let columns: Vec<ArrayRef> = vec![
        joined(0)?,
        joined(1)?,
        joined(2)?,
        Arc::new(hashes),
        Arc::new(lengths),
        integers(&|document| document.tokens.tokens),
        integers(&|document| document.windows),
        Arc::new(reasons),
        Arc::new(details),
        entities(result, &texts, types),
        Arc::new(BooleanArray::from(changed)),
        integers(&|document| document.inputs),
        integers(&|document| document.tokens.unknown),
        integers(&|document| document.tokens.words_cut),
        integers(&|document| document.capped),
        integers(&|document| document.undecided),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn entities(result: &SliceResult<Slice>, texts: &[&str], types: &[EntityType]) -> ArrayRef {
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
            string(row, 0, &types[mention.entity_type].name);
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

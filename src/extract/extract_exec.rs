//! `ExtractExec`: document rows → one row per document with its mentions. In: rows (source, row, id, text, refused, `in_force`). Out: rows
//! of [`extracted_schema`]. It must not write anything or reorder the rows of a slice.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array as _, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{Distribution, SendableRecordBatchStream};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, trace_span};

use crate::extract::extracted_rows::extracted_rows;
use crate::extract::extractor::Extractor;
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::slices::Slices;
use crate::extract::settings::RuntimeSettings;
use crate::extract::spec::ExtractionSpec;
use crate::machine::fault;
use crate::model::precision::Precision;
use crate::source::operator::{PartitionTask, RowOperator, UnaryExec};
use crate::source::plan_error::own_error;
use crate::tables::extracted_schema;
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

/// The thresholds of types, and their temperatures unless all are 1: one value if it is the same for all.
fn scores(types: &[EntityType]) -> String {
    let shown = |name: &str, value: fn(&EntityType) -> f32| {
        let each: Vec<String> = types.iter().map(|one| format!("{} {}", one.name, value(one))).collect();
        match types {
            [first, rest @ ..] if rest.iter().all(|one| value(one).to_bits() == value(first).to_bits()) => {
                format!("{name}={}", value(first))
            }
            _ => format!("{name}s=[{}]", each.join(", ")),
        }
    };
    let mut scores = shown("threshold", EntityType::threshold);
    let plain = shown("temperature", |_| 1.0);
    let temperatures = shown("temperature", EntityType::temperature);
    if temperatures != plain {
        scores = format!("{scores}, {temperatures}");
    }
    scores
}

/// Ends the process if a batch has the document with this id and it is not refused.
fn end_at(batch: &RecordBatch, id: &str) {
    let (ids, refused) = (cast(batch.column(2), &DataType::Utf8), batch.column(4));
    let ids = ids.as_ref().ok().and_then(|ids| ids.as_string_opt::<i32>());
    let fatal = |(row, one): (usize, Option<&str>)| one == Some(id) && refused.is_null(row);
    if ids.is_some_and(|ids| ids.iter().enumerate().any(fatal)) {
        fault::end(id);
    }
}

impl RowOperator for Extract {
    const NAME: &'static str = "ExtractExec";

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let types: Vec<&DataType> = input.fields().iter().map(|field| field.data_type()).collect();
        let [DataType::Utf8, DataType::Int64, id_type, DataType::Utf8View, DataType::Utf8, DataType::Utf8] = types[..]
        else {
            return plan_err!("ExtractExec needs (source, row, id, text, refused, in_force), found {types:?}");
        };
        Ok(extracted_schema(id_type))
    }

    fn details(&self) -> String {
        let Self { spec, runtime } = self;
        let types: Vec<&str> = spec.schema.types.iter().map(|one| one.name.as_str()).collect();
        format!(
            "model={}, precision={}, device={}, types=[{}], {}, window={}/{}",
            spec.model.path.display(),
            spec.precision.map_or("auto", Precision::name),
            runtime.device,
            types.join(", "),
            scores(&spec.schema.types),
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
        let (rows, mut incoming) = tokio::sync::mpsc::channel(1);
        let reading = Arc::clone(&monitor);
        let fatal = fault::of("document");
        builder.spawn(async move {
            loop {
                let started = Instant::now();
                let next = input.next().instrument(trace_span!("read"));
                // A stopped run does not wait for rows, which can take long to come.
                let batch = tokio::select! {
                    batch = next => batch,
                    () = reading.stopped() => None,
                };
                let Some(batch) = batch else { break };
                reading.read.add(started.elapsed());
                if let (Ok(batch), Some(id)) = (&batch, &fatal) {
                    end_at(batch, id);
                }
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
                let batch = extracted_rows(&result, &self.spec.schema.types, &schema);
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

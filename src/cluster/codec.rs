//! `ChunkExec` as bytes. In: an operator. Out: bytes, and the operator again with the worker of the process that reads them. It must not
//! change how Ballista's own operators are written.

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use crate::cluster::chunk_exec::ChunkExec;
use crate::cluster::exchange::Task;
use crate::cluster::worker::Worker;

/// What a task begins with. Ballista's operators are protobuf messages, which cannot begin with this byte: it is no field's.
const MARK: &[u8] = b"\0quarry chunk\n";

/// Writes and reads operators.
#[derive(Debug)]
pub(crate) struct ChunkCodec {
    worker: Arc<Worker>,
    ballista: BallistaPhysicalExtensionCodec,
}

impl ChunkCodec {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        Self { worker, ballista: BallistaPhysicalExtensionCodec::default() }
    }

    /// The operator for a task.
    pub(crate) fn operator(&self, task: Task) -> Arc<dyn ExecutionPlan> {
        Arc::new(ChunkExec::new(Arc::new(task), Arc::clone(&self.worker)))
    }
}

impl PhysicalExtensionCodec for ChunkCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match bytes.strip_prefix(MARK) {
            Some(task) => {
                Ok(self
                    .operator(serde_json::from_slice(task).map_err(|cause| DataFusionError::External(cause.into()))?))
            }
            None => self.ballista.try_decode(bytes, inputs, context, converter),
        }
    }

    fn try_encode(
        &self,
        operator: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(chunk) = operator.downcast_ref::<ChunkExec>() else {
            return self.ballista.try_encode(operator, bytes, converter);
        };
        bytes.extend_from_slice(MARK);
        serde_json::to_writer(bytes, chunk.task()).map_err(|cause| DataFusionError::External(cause.into()))
    }
}

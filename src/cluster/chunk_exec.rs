//! `ChunkExec`: a chunk's whole plan as one operator. In: the plan as bytes. Out: one row, the chunk's outcome. It must not show its
//! operators to the planner of a cluster, which could spread the rows of a file.

use std::fmt;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::cluster::exchange::{Task, outcome_schema};
use crate::cluster::worker::Worker;

/// The operator.
#[derive(Debug)]
pub struct ChunkExec {
    task: Arc<Task>,
    worker: Arc<Worker>,
    properties: Arc<PlanProperties>,
}

impl ChunkExec {
    /// A task, and what runs it in this process.
    pub(crate) fn new(task: Arc<Task>, worker: Arc<Worker>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(outcome_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { task, worker, properties: Arc::new(properties) }
    }

    /// What is sent.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }
}

/// Whether Ballista runs a task of one partition again: whoever had it is lost. It calls tasks `TID job/stage.attempt/task.attempt`, and gives a
/// new number to a task whose executor is lost.
fn is_repeated(id: &str) -> bool {
    let numbers = id.split('/').skip(1).flat_map(|part| part.split('.'));
    // Stages count from 1, everything else from 0.
    numbers.skip(1).any(|number| number.parse::<u32>().is_ok_and(|number| number > 0))
}

impl DisplayAs for ChunkExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ChunkExec: {}", self.task.name)
    }
}

impl ExecutionPlan for ChunkExec {
    fn name(&self) -> &'static str {
        "ChunkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("ChunkExec has no input") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("ChunkExec has one partition");
        }
        let (mut task, worker) = (self.task.as_ref().clone(), Arc::clone(&self.worker));
        task.careful |= context.task_id().is_some_and(|id| is_repeated(&id));
        let outcome = async move { worker.run(&task).await?.record_batch() };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(outcome))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_run_again_shows_it() {
        for first in ["TID job/1.0/0.0", "TID 038HEWKPAC000/1.0/0.0", "", "TID"] {
            assert!(!is_repeated(first), "{first}");
        }
        for again in ["TID job/1.0/1.0", "TID job/1.0/0.1", "TID job/1.1/0.0", "TID 9/2.0/12.0"] {
            assert!(is_repeated(again), "{again}");
        }
    }
}

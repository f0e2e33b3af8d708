//! What a plan has read. In: the metrics of a plan that has run. Out: a value that can be sent to another machine, from which a driver
//! learns what the rows do not say. It must not hold the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};

use crate::source::operator::row_filter::failures;
use crate::source::operator::row_number::rows_by_source;
use crate::source::operator::scan_exec::all_metrics;

/// What a plan has read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    /// The rows of each text file, by its name in the scan. A file that was read to its end has this many.
    pub rows: BTreeMap<String, i64>,
    /// How many rows the job's condition failed on,
    pub failed: usize,
    /// and on how many it was evaluated row by row.
    pub evaluated: usize,
}

impl ReadCounts {
    /// The counts of a plan.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let metrics = all_metrics(plan);
        let (failed, evaluated) = failures(&metrics);
        Self { rows: rows_by_source(&metrics), failed, evaluated }
    }
}

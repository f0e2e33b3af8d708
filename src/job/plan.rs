//! The plan of an extraction. In: documents, a chunk of their rows, which of them the store has, a specification. Out: the plan, and its
//! encoding as bytes that another process decodes and runs. It must not hold a session, a model, or anything else that cannot be sent.

use std::sync::Arc;

use datafusion::common::{internal_err, not_impl_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};

use crate::extract::extract_exec::{Extract, ExtractExec};
use crate::extract::settings::RuntimeSettings;
use crate::extract::skip_known::{SkipKnown, SkipKnownExec};
use crate::source::chunk::Chunk;
use crate::source::input::Documents;
use crate::source::operator::scan_exec::ScanExec;
use crate::source::scan::ScanSpec;
use crate::store::write::write_exec::{WriteExec, WriteSpec};

/// The first half of the plan: scan, skip known documents, extract.
///
/// # Errors
/// A plan error if an operator does not take the rows of the one below it.
pub fn reading_plan(
    documents: &Documents,
    chunk: &Chunk,
    known: impl Into<SkipKnown>,
    extract: Extract,
) -> Result<Arc<dyn ExecutionPlan>> {
    let new_documents = SkipKnownExec::try_new(documents.plan(chunk), known.into())?;
    Ok(Arc::new(ExtractExec::try_new(Arc::new(new_documents), extract)?))
}

/// The whole plan: what `reading_plan` returns, and a write of its rows.
///
/// # Errors
/// As for [`reading_plan`].
pub fn writing_plan(reading_plan: Arc<dyn ExecutionPlan>, write: WriteSpec) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(WriteExec::try_new(reading_plan, write)?))
}

/// An operator of an extraction, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
enum Node {
    Scan(ScanSpec),
    SkipKnown(SkipKnown),
    Extract(Extract),
    Write(WriteSpec),
}

/// A plan of [`reading_plan`] or [`writing_plan`] as bytes (JSON): its operators' settings, from the scan upward.
///
/// # Errors
/// A plan error for an operator that is none of these.
pub fn encode(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
    let mut nodes = Vec::new();
    let mut next = Some(plan);
    while let Some(plan) = next {
        nodes.push(if let Some(scan) = plan.downcast_ref::<ScanExec>() {
            Node::Scan(scan.spec().clone())
        } else if let Some(skip) = plan.downcast_ref::<SkipKnownExec>() {
            Node::SkipKnown(skip.operator().clone())
        } else if let Some(extract) = plan.downcast_ref::<ExtractExec>() {
            Node::Extract(extract.operator().clone())
        } else if let Some(write) = plan.downcast_ref::<WriteExec>() {
            Node::Write(write.operator().clone())
        } else {
            return not_impl_err!("{} cannot be sent to another process", plan.name());
        });
        next = plan.children().first().copied();
    }
    nodes.reverse();
    serde_json::to_vec(&nodes).map_err(|cause| DataFusionError::External(cause.into()))
}

/// Decodes the bytes of [`encode`].
///
/// # Errors
/// An error if the bytes are not such a plan, or its operators do not fit each other.
pub fn decode(bytes: &[u8]) -> Result<Arc<dyn ExecutionPlan>> {
    decode_on(bytes, |_| ())
}

/// [`decode`] for a machine of its own: `adapt` changes where and how the model runs.
///
/// # Errors
/// As for [`decode`].
pub fn decode_on(bytes: &[u8], adapt: impl Fn(&mut RuntimeSettings)) -> Result<Arc<dyn ExecutionPlan>> {
    let nodes: Vec<Node> = serde_json::from_slice(bytes).map_err(|cause| DataFusionError::External(cause.into()))?;
    let mut plan: Option<Arc<dyn ExecutionPlan>> = None;
    for node in nodes {
        plan = Some(match (node, plan) {
            (Node::Scan(spec), None) => Arc::new(ScanExec::new(spec)),
            (Node::SkipKnown(skip), Some(input)) => Arc::new(SkipKnownExec::try_new(input, skip)?),
            (Node::Extract(mut extract), Some(input)) => {
                adapt(&mut extract.runtime);
                Arc::new(ExtractExec::try_new(input, extract)?)
            }
            (Node::Write(write), Some(input)) => Arc::new(WriteExec::try_new(input, write)?),
            (node, _) => return internal_err!("a plan begins with its only scan, not with {node:?}"),
        });
    }
    plan.map_or_else(|| internal_err!("the plan has no operator"), Ok)
}

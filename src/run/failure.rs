//! Failures of a run → errors. In: an error of DataFusion or the store. Out: an [`Error`]. It must not lose a cause.

use datafusion::error::DataFusionError;

use crate::error::{Cause, Error};
use crate::source::plan_error::own_error;

pub(crate) fn failed(doing: &str, source: impl Into<Cause>) -> Error {
    Error::Engine { doing: doing.into(), source: source.into() }
}

/// An error of a running plan.
pub(crate) fn run_error(error: DataFusionError) -> Error {
    own_error(error, "extract the documents")
}

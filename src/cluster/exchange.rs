//! What a driver and its executors exchange of a chunk. In: a plan; a commit batch, counts, or an error. Out: tasks and outcomes, and an outcome as
//! one row with one column of JSON. It must not lose what an error says, nor how a run ends because of it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::extract::monitor::Counts;
use crate::source::operator::read_counts::ReadCounts;
use crate::store::write::commit_batch::CommitBatch;

/// A chunk of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The chunk's plan, as [`encode`](crate::job::plan::encode) writes it.
    pub plan: String,
    /// What logs call it: the run and the commit.
    pub name: String,
    /// Whether it may end the process that runs it, which is then a process of its own.
    pub careful: bool,
    /// The trace that it belongs to (W3C Trace Context); empty if none is exported.
    pub trace: HashMap<String, String>,
}

/// The columns of an outcome.
pub(crate) fn outcome_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("outcome", DataType::Utf8, false)]))
}

/// What became of a chunk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChunkOutcome {
    /// The executor, as its log names it.
    pub executor: String,
    /// The data files with the chunk's rows; none if every document was known.
    pub batch: Option<CommitBatch>,
    /// What was read.
    pub read: ReadCounts,
    /// The files with rows whose document is done with its row in another file.
    pub repeated: Vec<String>,
    /// What the extraction counted.
    pub counts: Counts,
    /// How long it took, without opening the model.
    pub spent: Duration,
    /// The devices that answered.
    pub device: String,
    /// Their precision.
    pub precision: String,
    /// Why the chunk failed, if it did.
    pub failure: Option<Failure>,
}

/// An error of another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it says.
    pub message: String,
    /// Its causes, from the outside in.
    pub causes: Vec<String>,
    /// The way out, if it knows one.
    pub hint: Option<String>,
    /// The exit code of a run that ends with it.
    pub exit_code: u8,
    /// What the query engine could not do, if it was that which failed: damaged input shows itself so.
    pub engine: Option<String>,
    /// Whether the process that ran the chunk has ended.
    pub killed: bool,
}

/// A cause that another process has told.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Told {
    message: String,
    source: Option<Box<Told>>,
}

impl Failure {
    pub(crate) fn of(error: &Error) -> Self {
        Self {
            message: error.to_string(),
            causes: error.causes(),
            hint: error.hint().map(str::to_owned),
            exit_code: error.exit_code(),
            engine: match error {
                Error::Engine { doing, .. } => Some(doing.clone()),
                _ => None,
            },
            killed: false,
        }
    }

    /// The end of the process that ran a chunk.
    pub(crate) fn killed(how: &str) -> Self {
        Self {
            message: format!("the process that extracted a chunk has ended ({how})"),
            causes: Vec::new(),
            hint: Some(
                "its log, or that of the operating system, says why; the executor may need more memory".to_owned(),
            ),
            exit_code: 2,
            engine: None,
            killed: true,
        }
    }

    /// The error in the driver, which ends the run as it would have ended a local one.
    pub fn into_error(self, executor: &str) -> Error {
        let Self { message, causes, hint, exit_code, engine, .. } = self;
        if let Some(doing) = engine {
            return Error::Engine { doing, source: causes.join(": ").into() };
        }
        let told = |source: Option<Told>, message| Some(Told { message, source: source.map(Box::new) });
        Error::Executor {
            executor: executor.to_owned(),
            message,
            source: causes.into_iter().rev().fold(None, told).map(Into::into),
            hint: hint.unwrap_or_default(),
            exit_code,
        }
    }
}

/// Whether the chunk may succeed elsewhere or later: Ballista tries those of its tasks again that fail with an I/O error.
pub(crate) fn is_transient(error: &Error) -> bool {
    let of_a_network = matches!(
        error,
        Error::Store { .. }
            | Error::Write { .. }
            | Error::Hub { missing: false, .. }
            | Error::Library { retry: true, .. }
    );
    of_a_network && error.exit_code() == 2
}

/// The error of such a task.
pub(crate) fn io_error(error: &Error) -> DataFusionError {
    let text = [vec![error.to_string()], error.causes()].concat().join(": ");
    DataFusionError::IoError(io::Error::other(text))
}

impl ChunkOutcome {
    /// As a record batch of [`outcome_schema`].
    pub(crate) fn record_batch(&self) -> Result<RecordBatch> {
        let text =
            serde_json::to_string(self).map_err(|cause| internal_datafusion_err!("a chunk's outcome: {cause}"))?;
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        Ok(RecordBatch::try_new(outcome_schema(), vec![column])?)
    }

    /// From such a record batch.
    pub(crate) fn read(batch: &RecordBatch) -> Result<Self> {
        let column = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
        let text = column.filter(|column| column.len() == 1).map(|column| column.value(0));
        let text = text.ok_or_else(|| internal_datafusion_err!("a chunk's outcome is one row with one string"))?;
        serde_json::from_str(text).map_err(|cause| DataFusionError::External(cause.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_the_journey() {
        let failure = Failure::of(&Error::Model { path: "m".into(), reason: "gone".into(), hint: "fetch it".into() });
        let outcome = ChunkOutcome { executor: "a".into(), failure: Some(failure), ..ChunkOutcome::default() };
        assert_eq!(ChunkOutcome::read(&outcome.record_batch().unwrap()).unwrap(), outcome);
        assert!(ChunkOutcome::read(&RecordBatch::new_empty(outcome_schema())).is_err());
    }

    #[test]
    fn an_error_ends_the_run_as_at_home() {
        let errors = [
            Error::Model { path: "m".into(), reason: "its hash is 1".into(), hint: "start again".into() },
            Error::Device { device: "cuda:0".into(), reason: "there is none".into(), hint: "cpu".into() },
            Error::Unanswerable { refused: 3, documents: 4 },
        ];
        for error in errors {
            let there = Failure::of(&error).into_error("a:1");
            assert!(there.to_string().contains(&error.to_string()), "{there}");
            assert!(there.to_string().contains("a:1"), "{there}");
            assert_eq!((there.exit_code(), there.causes()), (error.exit_code(), error.causes()));
            assert_eq!(there.hint(), error.hint());
        }
        let damaged = Error::Engine { doing: "extract the documents".into(), source: "a page is damaged".into() };
        let there = Failure::of(&damaged).into_error("a:1");
        assert!(matches!(&there, Error::Engine { doing, .. } if doing == "extract the documents"), "{there:?}");
        assert_eq!(there.causes(), damaged.causes());
    }

    #[test]
    fn only_what_a_network_or_disk_does_is_tried_again() {
        let store = Error::Store { doing: "write to".into(), store: "s".into(), source: "timeout".into() };
        assert!(is_transient(&store));
        assert!(matches!(io_error(&store), DataFusionError::IoError(_)));
        assert!(!is_transient(&Error::Unanswerable { refused: 3, documents: 4 }));
        assert!(!is_transient(&Error::Engine { doing: "read".into(), source: "damaged".into() }));
    }
}

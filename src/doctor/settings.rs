//! The settings of the checks. In: resolved arguments. Out: what the checks get. It must not check anything.

use std::path::PathBuf;
use std::time::Duration;

/// What is checked, and how the findings are printed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A job file, whose model, input and store are checked.
    pub job: Option<PathBuf>,
    /// The values of `${KEY}` in the job file.
    pub set: Vec<(String, String)>,
    /// The store to check, instead of the job's.
    pub store: Option<String>,
    /// The model directory to check, instead of the job's.
    pub model: Option<PathBuf>,
    /// Time limit of all checks together.
    pub limit: Duration,
    /// Whether to fetch ONNX Runtime first if it is not on this machine.
    pub fetch: bool,
    /// Whether to print one JSON object.
    pub json: bool,
}

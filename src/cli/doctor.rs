//! The arguments of `quarry doctor`.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

/// Say what works here and what does not: machine, ONNX Runtime, model, input, store.
///
/// Every line is `ok`, `warning` (it works, but) or `fix` (a run would fail), each with a sentence on what to do. It takes three
/// seconds at the most (see --within): what does not answer by then is said to. Nothing is fetched, and nothing written but the program's own cache. The exit code is 1 where something
/// must be fixed.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// A job file, whose model, input and store are looked at.
    pub job: Option<PathBuf>,
    /// Fills `${KEY}` in the job file; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::cli::values::key_value, requires = "job")]
    pub set: Vec<(String, String)>,
    /// A store to look at, instead of the job's.
    #[arg(long)]
    pub store: Option<String>,
    /// A model directory to look at, instead of the job's.
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// How long the checks may take together; longer on a slow disk, network or busy machine.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.5, value_parser = seconds)]
    pub within: f64,
    /// Fetch ONNX Runtime first where it is not on this machine.
    #[arg(long)]
    pub fetch: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .ok_or_else(|| "write seconds from 0.1 to 3600".to_owned())
}

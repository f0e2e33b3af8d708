//! The arguments of `quarry doctor`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must
//! not check anything.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::doctor::Settings;

/// Check the machine, ONNX Runtime, model, input and store, and report problems.
///
/// Every line is `ok`, `warning` (a run works, but not as well as it could) or `fix` (a run would fail). Warnings and fixes say what to
/// do. The checks take at most three seconds together (see --within); a check that has not finished by then is reported. Nothing is
/// downloaded without --fetch, and nothing is written except the program's own cache. The exit code is 1 if something must be fixed.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// A job file, whose model, input and store are checked.
    pub job: Option<PathBuf>,
    /// Set `${KEY}` in the job file. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::cli::values::key_value, requires = "job")]
    pub set: Vec<(String, String)>,
    /// The store to check, instead of the job's.
    #[arg(long)]
    pub store: Option<String>,
    /// The model directory to check, instead of the job's.
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Time limit of all checks together. Raise it on a slow disk, a slow network or a busy machine.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.5, value_parser = seconds)]
    pub within: f64,
    /// Download ONNX Runtime first if it is not on this machine.
    #[arg(long)]
    pub fetch: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl DoctorArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        Settings {
            job: self.job,
            set: self.set,
            store: self.store,
            model: self.model,
            limit: Duration::from_secs_f64(self.within),
            fetch: self.fetch,
            json: self.json,
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .ok_or_else(|| "write seconds from 0.1 to 3600".to_owned())
}

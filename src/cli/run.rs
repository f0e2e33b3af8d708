//! The arguments of `quarry run`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must not
//! read the job.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::key_value;
use crate::run::{Mode, Settings};

/// Run a job: read documents, extract mentions, write the store's tables.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RunArgs {
    /// The job file (TOML).
    pub job: PathBuf,
    /// Set `${KEY}` in the job file. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Replace rows that were extracted with another model, schema or setting: extract everything again beside the old
    /// rows, and drop the old rows once all their files have been read again. A replacement that was killed, or that has
    /// read only a part of the files, continues without this flag until another replacement starts.
    #[arg(long)]
    pub replace: bool,
    /// At the end of a replacement, also drop the old rows of files that were not read again. Without this flag the old rows
    /// stay, and stay current, until a run has read those files.
    #[arg(long)]
    pub drop_missing: bool,
    /// Print what the run would do (files, documents, windows, queries, estimated time) and its plan, without running it.
    #[arg(long, conflicts_with = "dry_run")]
    pub explain: bool,
    /// Read only the next N unread documents, in file and row order. The next run continues after them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Extract and print the run summary, but write nothing: no store is created or changed.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the run summary as one JSON object, also when the run fails or is stopped (docs/nightly.md lists the keys).
    #[arg(long)]
    pub json: bool,
    /// Write the run's metrics to this file in Prometheus text format, for node exporter's textfile collector (name it *.prom).
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Print the time spent in each stage, and write a trace of every batch to this file (Chrome trace format; open it in Perfetto).
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Extract on the executors of this cluster, given by its scheduler (`df://HOST:PORT`; docs/scale.md). `standalone` starts a
    /// scheduler and an executor in this process, for trials.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["dry_run", "explain"])]
    pub cluster: Option<String>,
}

impl RunArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        let mode = match (self.explain, self.dry_run) {
            (true, _) => Mode::Explain,
            (false, true) => Mode::DryRun,
            (false, false) => Mode::Run,
        };
        Settings {
            job: self.job,
            set: self.set,
            mode,
            replace: self.replace,
            drop_missing: self.drop_missing,
            limit: self.limit,
            json: self.json,
            metrics_file: self.metrics_file,
            profile: self.profile.is_some(),
            cluster: self.cluster,
        }
    }
}

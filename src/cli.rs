//! The command line. In: arguments. Out: clap structs, whose doc comments are the help texts, and the settings of each command. It must
//! not check what only the commands can know.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

mod cluster;
mod doctor;
mod evaluate;
mod export;
mod prepare;
mod report;
mod run;
mod sql;
mod train;
mod r#try;
mod values;

pub use crate::cli::cluster::{ExecutorArgs, SchedulerArgs};
pub use crate::cli::doctor::DoctorArgs;
pub use crate::cli::evaluate::EvaluateArgs;
pub use crate::cli::export::ExportArgs;
pub use crate::cli::prepare::PrepareArgs;
pub use crate::cli::report::ReportArgs;
pub use crate::cli::run::RunArgs;
pub use crate::cli::sql::SqlArgs;
pub use crate::cli::train::TrainArgs;
pub use crate::cli::r#try::TryArgs;

/// Extract named entities from a document corpus by asking a question for each entity type.
#[derive(Debug, Parser)]
#[command(name = "quarry", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Log level on standard error: error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub log: tracing::Level,
    /// Log format. `auto` shows a progress bar on a terminal and writes log lines elsewhere.
    #[arg(long, global = true, default_value = "auto", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The format of messages on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A progress bar on a terminal, log lines elsewhere.
    Auto,
    /// Log lines.
    Plain,
    /// One JSON object per line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job: read documents, extract mentions, write the store's tables.
    Run(RunArgs),
    /// Convert a corpus to Parquet documents and gold entities.
    Prepare(PrepareArgs),
    /// Train a model on labelled documents.
    Train(TrainArgs),
    /// Convert a checkpoint to a model directory.
    Export(ExportArgs),
    /// Score predicted mentions against gold mentions, or compare two systems.
    Evaluate(EvaluateArgs),
    /// Query a store's tables with SQL. Without a query, start an interactive shell.
    Sql(SqlArgs),
    /// Write an HTML report: a store's metrics, and its documents with their mentions highlighted.
    Report(ReportArgs),
    /// Extract mentions from one text and print them.
    Try(TryArgs),
    /// Check the machine, ONNX Runtime, model, input and store, and report problems.
    Doctor(DoctorArgs),
    /// Start the scheduler of a cluster, which gives chunks of jobs to executors.
    Scheduler(SchedulerArgs),
    /// Start an executor of a cluster, which extracts chunks of jobs.
    Executor(ExecutorArgs),
    /// Print a shell completion script.
    Completions {
        /// The shell to generate the script for.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one per command.
    Man {
        /// The folder to write to, such as /usr/local/share/man/man1.
        out: PathBuf,
    },
    /// Extract the chunk on standard input. An executor starts itself with this command.
    #[cfg(feature = "cluster")]
    #[command(name = crate::cluster::worker::CHUNK_COMMAND, hide = true)]
    Chunk {
        /// The executor.
        name: String,
        /// The device of its models.
        #[arg(long)]
        device: Option<crate::model::runtime::device::DeviceChoice>,
    },
    /// Load ONNX Runtime's library in this process. The program starts itself with this command.
    #[command(name = crate::model::runtime::library::PROBE_COMMAND, hide = true)]
    Probe {
        /// The library file.
        library: PathBuf,
        /// Also start the CUDA provider on the device with this number; can be repeated.
        #[arg(long)]
        cuda: Vec<u32>,
        /// Also start the OpenVINO provider.
        #[arg(long)]
        openvino: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }
}

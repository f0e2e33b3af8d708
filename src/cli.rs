//! The command line. In: arguments. Out: clap structs, whose doc comments are the help texts. It must not check what only the
//! commands can know.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::device::DeviceChoice;
use crate::model::weights::safetensors_file::WeightForm;
use crate::score::counting::Counting;

mod doctor;
mod prepare;
mod report;
mod sql;
mod r#try;
mod values;

use crate::cli::values::{key_value, parsed};

pub use crate::cli::doctor::DoctorArgs;
pub use crate::cli::prepare::{Format, Labels, OnError, PrepareArgs, Scheme, Unit};
pub use crate::cli::report::ReportArgs;
pub use crate::cli::sql::{RowFormat, SqlArgs};
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
    /// Load ONNX Runtime's library in this process. The program starts itself with this command.
    #[command(name = crate::model::runtime::library::PROBE_COMMAND, hide = true)]
    Probe {
        /// The library file.
        library: PathBuf,
        /// Also start the CUDA provider, on the device with this number.
        #[arg(long)]
        cuda: Option<u32>,
        /// Also start the OpenVINO provider.
        #[arg(long)]
        openvino: bool,
    },
}

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
}

/// Train a model on labelled documents.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The training job (TOML).
    pub job: PathBuf,
    /// Set `${KEY}` in the training job. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Start again from the first step if the output folder holds an unfinished or finished training.
    #[arg(long)]
    pub restart: bool,
}

/// Convert a checkpoint to a model directory.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The checkpoint: a folder, or a safetensors, pytorch_model.bin or Lightning .ckpt file.
    pub checkpoint: PathBuf,
    /// The model directory to write.
    pub out: PathBuf,
    /// The folder with config.json and the tokenizer, if they are not beside the checkpoint.
    #[arg(long, value_name = "FOLDER")]
    pub encoder: Option<PathBuf>,
    /// The entity types and questions the model was trained with (a schema file), to store in quarry.json.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// Storage format of the matrices: fp32, fp16, or int8 with one scale per row.
    #[arg(long, default_value = "fp32", value_name = "FORMAT", value_parser = parsed::<WeightForm>)]
    pub weights: WeightForm,
    /// Also write this graph beside the weights, such as `fused-int8`. Can be repeated.
    #[arg(long, value_name = "VARIANT-PRECISION", value_parser = graph)]
    pub graph: Vec<(GraphVariant, Precision)>,
    /// Skip the parity report, which runs every precision on sample text.
    #[arg(long)]
    pub no_parity: bool,
    /// The device to run the parity report on: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = parsed::<DeviceChoice>)]
    pub device: DeviceChoice,
}

/// Score predicted mentions against gold mentions, or compare two systems.
///
/// A prediction is correct when its document, type, start and end equal those of a gold mention (strict). `span` ignores the type:
/// each span counts once, and is correct when both tables have a mention with its start and end. `partial` and `overlap` pair the
/// remaining mentions of a document and type one to one, the largest overlap in characters first. A pair counts 0.5 (partial, as in
/// MUC-5 and SemEval 2013) or 1 (overlap). A gold mention is nested if it shares characters with another gold mention; a false
/// positive is nested if it shares characters with another prediction.
///
/// Ids are compared as text. Rows with a null, rows whose end is not after their start, and duplicate rows do not count. Only
/// documents count that every given store has processed and that --documents, if given, contains.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Predicted mentions: Parquet, JSON Lines or CSV (a file, folder, glob or URL), a store, or a job file (.toml), which
    /// names its store and gold mentions.
    pub predicted: String,
    /// Gold mentions: doc_id, entity_type, start_char and end_char (code points, end exclusive). By default the job's.
    pub gold: Option<String>,
    /// Another system's mentions on the same documents (files, a store or a job). The report then shows what changed from that
    /// system to this one, and whether F1 differs significantly.
    #[arg(long, value_name = "MENTIONS")]
    pub against: Option<String>,
    /// The documents to score, with their texts, which add context to each error.
    #[arg(long, value_name = "FILES")]
    pub documents: Option<String>,
    /// The id column of the documents.
    #[arg(long, default_value = "doc_id", value_name = "COLUMN")]
    pub id: String,
    /// The text column of the documents.
    #[arg(long, default_value = "text", value_name = "COLUMN")]
    pub text: String,
    /// Write errors.parquet (every false positive and false negative), documents.parquet, scores.parquet and changes.parquet to
    /// this folder.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Which mentions count: `all`, or `reference:N` for those that the BERT-MRC reference implementation counts at maximum
    /// length N (wordpieces of question and context). With `reference:N` the documents must be its sentences.
    #[arg(long, default_value = "all", value_name = "COUNTING", value_parser = parsed::<Counting>)]
    pub counting: Counting,
    /// The model (a folder, or hf://owner/name) whose tokenizer `reference:N` uses. By default the job's.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// The types and questions that `reference:N` uses. By default the job's, or those in the model directory.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// Number of bootstrap resamples for confidence intervals and significance. 0 omits both.
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    pub resamples: usize,
    /// Random seed of the resampling.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// How many of the documents with the most errors to show.
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    pub worst: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Do not add the scores to the store's metrics table.
    #[arg(long)]
    pub no_metrics: bool,
    /// Set `${KEY}` in the job file. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

fn graph(text: &str) -> Result<(GraphVariant, Precision), String> {
    let (variant, precision) = text.split_once('-').ok_or("write VARIANT-PRECISION, such as fused-int8")?;
    Ok((parsed(variant)?, parsed(precision)?))
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

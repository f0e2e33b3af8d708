//! The command line as it is typed. In: arguments. Out: clap structs, whose doc comments are the help texts. It may not check
//! what only the commands can know.
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

use crate::cli::values::{key_value, word};

pub use crate::cli::doctor::DoctorArgs;
pub use crate::cli::prepare::{Format, Labels, OnError, PrepareArgs, Scheme, Unit};
pub use crate::cli::report::ReportArgs;
pub use crate::cli::sql::{RowFormat, SqlArgs};
pub use crate::cli::r#try::TryArgs;

/// Mines a corpus for named entities by asking questions.
#[derive(Debug, Parser)]
#[command(name = "quarry", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to say on standard error: error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub log: tracing::Level,
    /// How to say it; `auto` draws a progress bar on a terminal and writes lines elsewhere.
    #[arg(long, global = true, default_value = "auto", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The form of what goes to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A progress bar on a terminal, lines elsewhere.
    Auto,
    /// Lines.
    Plain,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job: read documents, ask every question, write entity tables.
    Run(RunArgs),
    /// Turn a corpus into documents and gold entities.
    Prepare(PrepareArgs),
    /// Train an extractor on labelled documents.
    Train(TrainArgs),
    /// Turn a checkpoint into a model directory.
    Export(ExportArgs),
    /// Score predicted mentions against gold ones, or compare two systems.
    Evaluate(EvaluateArgs),
    /// Ask a store's tables with SQL; without a query, in a shell.
    Sql(SqlArgs),
    /// Write a page to look at: a store's figures, and its documents with their mentions marked.
    Report(ReportArgs),
    /// Ask about a text at once and show what is found in it.
    Try(TryArgs),
    /// Say what works here and what does not: machine, ONNX Runtime, model, input, store.
    Doctor(DoctorArgs),
    /// Print a script that completes commands and options in a shell.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one per command.
    Man {
        /// The folder they are written to, such as /usr/local/share/man/man1.
        out: PathBuf,
    },
    /// Try ONNX Runtime's library in this process; the program calls this on itself.
    #[command(name = crate::model::runtime::library::PROBE_COMMAND, hide = true)]
    Probe {
        /// The library.
        library: PathBuf,
        /// Also the CUDA provider, with the device of this number.
        #[arg(long)]
        cuda: Option<u32>,
        /// Also the OpenVINO provider.
        #[arg(long)]
        openvino: bool,
    },
}

/// Run a job.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct RunArgs {
    /// The job file (TOML).
    pub job: PathBuf,
    /// Fills `${KEY}` in the job file; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Where the store has rows of another model, schema or setting: extract everything anew beside them, and drop
    /// them once all their files are read anew. A replacement that was killed, or that read a part of the files, goes
    /// on without it until another one is begun.
    #[arg(long)]
    pub replace: bool,
    /// At the end of a replacement, drop also old rows of files that were not read anew. Without it they stay, and stay in force, until a
    /// run has read their files.
    #[arg(long)]
    pub drop_missing: bool,
    /// Say what the run would do (files, documents, windows, queries, about how long), and the plan, instead of running it.
    #[arg(long, conflicts_with = "dry_run")]
    pub explain: bool,
    /// Read only the first N documents that are still to be read, by file and row. The next run goes on behind them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Extract and show the closing table, but write nothing: no store is made or changed.
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object, also where the run fails or is stopped, instead of the closing table (docs/nightly.md names its keys).
    #[arg(long)]
    pub json: bool,
    /// At the end, write the run's figures there for Prometheus (node exporter's textfile collector; the name ends in .prom).
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Say at the end where the time went, stage by stage, and write every batch's times there for a trace viewer (Perfetto).
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}

/// Train an extractor on labelled documents.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The training job (TOML).
    pub job: PathBuf,
    /// Fills `${KEY}` in the training job; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Begin anew where an unfinished or finished training is in the output folder.
    #[arg(long)]
    pub restart: bool,
}

/// Turn a checkpoint into a model directory.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A checkpoint: a folder, or a safetensors, pytorch_model.bin or Lightning .ckpt file.
    pub checkpoint: PathBuf,
    /// The model directory to write.
    pub out: PathBuf,
    /// The folder with config.json and the tokenizer, where they are not beside the checkpoint.
    #[arg(long, value_name = "FOLDER")]
    pub encoder: Option<PathBuf>,
    /// The entity types and questions it was trained with (a schema file), for quarry.json.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// How the matrices are stored: fp32, fp16, or int8 per row.
    #[arg(long, default_value = "fp32", value_name = "FORM", value_parser = word::<WeightForm>)]
    pub weights: WeightForm,
    /// Also write this graph beside the weights, such as `fused-int8`; may be given several times.
    #[arg(long, value_name = "VARIANT-PRECISION", value_parser = graph)]
    pub graph: Vec<(GraphVariant, Precision)>,
    /// Skip the parity report, which runs every precision on sample text.
    #[arg(long)]
    pub no_parity: bool,
    /// Where the parity report runs.
    #[arg(long, default_value = "cpu", value_parser = word::<DeviceChoice>)]
    pub device: DeviceChoice,
}

/// Score predicted mentions against gold ones, or compare two systems.
///
/// A prediction is right when document, type, start and end are those of a gold mention (strict). `span` leaves the type out: a
/// place counts once, and is right where both tables have a mention from its start to its end. `partial` and `overlap` pair what is
/// left of one document and type, one to one, the largest overlap in characters first; a pair counts one half (partial, as in
/// MUC-5 and SemEval 2013) or 1 (overlap). A gold mention is nested where it shares characters with another gold mention; a wrong
/// prediction, where it does with another prediction.
///
/// Ids are compared as text. Rows with a null, rows whose end is not behind their start and rows that repeat another do not count.
/// Only documents count that every store given has done and that --documents, if given, holds.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Predicted mentions: Parquet, JSON Lines or CSV (a file, folder, glob or URL), a store, or a job file (.toml) whose store
    /// and gold are meant.
    pub predicted: String,
    /// Gold mentions: doc_id, entity_type, start_char and end_char, in code points, half-open. A job names its own.
    pub gold: Option<String>,
    /// Another system's mentions on the same documents (files, a store or a job): what changed from those to these, and
    /// whether F1 differs significantly.
    #[arg(long, value_name = "MENTIONS")]
    pub against: Option<String>,
    /// The documents that are scored, with their texts, which give the errors their context.
    #[arg(long, value_name = "FILES")]
    pub documents: Option<String>,
    /// The documents' id column.
    #[arg(long, default_value = "doc_id", value_name = "COLUMN")]
    pub id: String,
    /// The documents' text column.
    #[arg(long, default_value = "text", value_name = "COLUMN")]
    pub text: String,
    /// Write errors.parquet (every false positive and false negative), documents.parquet, scores.parquet and changes.parquet there.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Which mentions count: `all`, or `reference:N` for those that the BERT-MRC reference implementation counts at maximum length
    /// N (wordpieces of question and context); the documents must then be its sentences.
    #[arg(long, default_value = "all", value_name = "COUNTING", value_parser = word::<Counting>)]
    pub counting: Counting,
    /// The model (a folder, or hf://owner/name) whose tokenizer `reference:N` counts with; a job names its own.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// The types and questions that `reference:N` counts with; the job's, or the model's own, unless given.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// How often documents are resampled for intervals and significance; 0 leaves them out.
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    pub resamples: usize,
    /// Where the random numbers begin.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// How many of the documents with most errors are shown.
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    pub worst: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Do not add the figures to the store's metrics.
    #[arg(long)]
    pub no_metrics: bool,
    /// Fills `${KEY}` in the job file; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

fn graph(text: &str) -> Result<(GraphVariant, Precision), String> {
    let (form, precision) = text.split_once('-').ok_or("write VARIANT-PRECISION, such as fused-int8")?;
    Ok((word(form)?, word(precision)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}

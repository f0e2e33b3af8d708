//! The arguments of `quarry evaluate`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It
//! must not open a table.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::{key_value, parsed};
use crate::evaluate::{CalibrationSettings, DocumentTable, Settings};
use crate::score::bootstrap::Resampling;
use crate::score::calibration::Goal;
use crate::score::counting::Counting;

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
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct EvaluateArgs {
    /// Predicted mentions: Parquet, JSON Lines or CSV (a file, folder, glob or URL), a store, or a job file (.toml), which
    /// names its store and gold mentions. With --calibrate a model directory or a job.
    #[arg(required_unless_present = "compare", conflicts_with = "compare")]
    pub predicted: Option<String>,
    /// Gold mentions: doc_id, entity_type, start_char and end_char (code points, end exclusive). By default the job's.
    #[arg(value_name = "GOLD", conflicts_with = "compare")]
    pub gold_mentions: Option<String>,
    /// Gold mentions, as the second argument; for --compare.
    #[arg(long, value_name = "MENTIONS", conflicts_with = "gold_mentions")]
    pub gold: Option<String>,
    /// Compare two or more systems in one table: scores, types, significance of the differences from the first (approximate
    /// randomization, adjusted for their number by Holm's method), tokens per second, and the cost of a type. A system is a
    /// table of mentions, a store, a job, or a model (a directory, or hf://owner/name), which runs on --documents.
    #[arg(long, value_name = "SYSTEM", num_args = 2.., conflicts_with_all = ["against", "out", "counting", "worst", "calibrate"])]
    pub compare: Vec<String>,
    /// Fit a temperature for each type of a model to labelled documents, so that a score is the share of right mentions, and
    /// choose the threshold with the best F1. Types with too few candidates share one of each.
    #[arg(long, conflicts_with_all = ["against", "out", "counting", "worst"])]
    pub calibrate: bool,
    /// With --calibrate: choose the threshold with at least this precision and the best recall.
    #[arg(long, value_name = "SHARE", requires = "calibrate", value_parser = precision)]
    pub precision: Option<f64>,
    /// With --calibrate: fit temperatures only. A threshold is right for texts like those that it was chosen on.
    #[arg(long, requires = "calibrate", conflicts_with = "precision")]
    pub keep_thresholds: bool,
    /// With --calibrate: write temperatures and thresholds into the model's quarry.json, where jobs find them.
    #[arg(long, requires = "calibrate")]
    pub write: bool,
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
    /// The types and questions that `reference:N` uses, and that --compare and --calibrate ask models. By default the job's, or
    /// those in the model directory.
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

/// A precision as it is typed.
fn precision(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("`{text}` is not a share above 0 and at most 1, as 0.95"))
}

impl EvaluateArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        let (id, text) = (self.id, self.text);
        let mut systems = self.predicted.into_iter().chain(self.compare);
        let goal = if self.keep_thresholds { Goal::Kept } else { self.precision.map_or(Goal::F1, Goal::Precision) };
        let calibration = CalibrationSettings { goal, write: self.write };
        Settings {
            predicted: systems.next().unwrap_or_default(),
            others: systems.collect(),
            calibration: self.calibrate.then_some(calibration),
            gold: self.gold_mentions.or(self.gold),
            against: self.against,
            documents: self.documents.map(|location| DocumentTable { location, id, text }),
            out: self.out,
            counting: self.counting,
            model: self.model,
            schema: self.schema,
            resampling: Resampling { resamples: self.resamples, seed: self.seed },
            worst: self.worst,
            json: self.json,
            metrics: !self.no_metrics,
            set: self.set,
        }
    }
}

//! The arguments of `quarry evaluate`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It
//! must not open a table.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::{key_value, parsed};
use crate::evaluate::{DocumentTable, Settings};
use crate::score::bootstrap::Resampling;
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

impl EvaluateArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        let (id, text) = (self.id, self.text);
        Settings {
            predicted: self.predicted,
            gold: self.gold,
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

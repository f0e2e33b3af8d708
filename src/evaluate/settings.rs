//! The settings of an evaluation. In: resolved arguments. Out: what the evaluation gets. It must not open a table.

use std::path::PathBuf;

use crate::score::bootstrap::Resampling;
use crate::score::calibration::Goal;
use crate::score::counting::Counting;

/// What is scored, how, and where the scores go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Predicted mentions: files, a store, or a job file (.toml), which names its store and gold mentions. In a comparison or calibration it can
    /// be a model.
    pub predicted: String,
    /// Gold mentions; `None` means the job's.
    pub gold: Option<String>,
    /// Systems to compare with the predicted mentions in one table: files, stores, job files or models.
    pub others: Vec<String>,
    /// Whether the predicted mentions are a model, or a job whose model is meant, to calibrate.
    pub calibration: Option<CalibrationSettings>,
    /// Another system's mentions on the same documents: files, a store or a job file.
    pub against: Option<String>,
    /// The documents to score, with their texts.
    pub documents: Option<DocumentTable>,
    /// The folder to write errors, documents, scores and changes to.
    pub out: Option<PathBuf>,
    /// Which mentions count.
    pub counting: Counting,
    /// The model whose tokenizer the reference implementation's counting uses; `None` means the job's.
    pub model: Option<PathBuf>,
    /// The schema file with the questions of that counting; `None` means the job's, or those in the model directory.
    pub schema: Option<PathBuf>,
    /// The resampling for confidence intervals and significance.
    pub resampling: Resampling,
    /// How many of the documents with the most errors to show.
    pub worst: usize,
    /// Whether to print one JSON object.
    pub json: bool,
    /// Whether to add the scores to the store's metrics table.
    pub metrics: bool,
    /// The values of `${KEY}` in the job files.
    pub set: Vec<(String, String)>,
}

/// A calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationSettings {
    /// What thresholds are chosen for.
    pub goal: Goal,
    /// Whether to write temperatures and thresholds into the model's quarry.json.
    pub write: bool,
}

/// A table of documents.
#[derive(Debug, Clone)]
pub struct DocumentTable {
    /// A file, folder, glob or URL.
    pub location: String,
    /// The id column.
    pub id: String,
    /// The text column.
    pub text: String,
}

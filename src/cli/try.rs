//! The arguments of `quarry try`.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::word;
use crate::model::runtime::device::DeviceChoice;

/// Ask about a text at once and show what is found in it.
///
/// Without --types or --schema, the model is asked what it was trained to answer. A word of --types that is the name of one of its types is
/// asked for with that type's question; any other becomes a question of our own making, which a model trained on few types answers less
/// well.
#[derive(Debug, Args)]
pub struct TryArgs {
    /// The text, or @FILE; without it, standard input.
    pub text: Option<String>,
    /// What to ask for, in words: person,ship.
    #[arg(long, value_name = "WORDS", value_delimiter = ',', conflicts_with = "schema")]
    pub types: Vec<String>,
    /// A schema with types and questions.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// The model directory, or hf://owner/name.
    #[arg(long, value_name = "MODEL", default_value = "models/default")]
    pub model: PathBuf,
    /// Where to run: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_parser = word::<DeviceChoice>)]
    pub device: DeviceChoice,
    /// A mention's score must be above this.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.5)]
    pub threshold: f32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

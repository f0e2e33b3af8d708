//! The arguments of `quarry try`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must
//! not read a text or a model.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::parsed;
use crate::model::runtime::device::DeviceChoice;
use crate::r#try::Settings;

/// Extract mentions from one text and print them.
///
/// Without --types or --schema, the model extracts the types it was trained on. A word of --types that names one of those types uses
/// that type's question. Any other word gets a generated question, which a model trained on few types answers less accurately.
#[derive(Debug, Args)]
pub struct TryArgs {
    /// The text, or @FILE. By default standard input.
    pub text: Option<String>,
    /// The entity types to extract, separated by commas, such as person,ship.
    #[arg(long, value_name = "WORDS", value_delimiter = ',', conflicts_with = "schema")]
    pub types: Vec<String>,
    /// A schema file with entity types and questions.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<PathBuf>,
    /// The model: a directory, or hf://owner/name.
    #[arg(long, value_name = "MODEL", default_value = "models/default")]
    pub model: PathBuf,
    /// The device to run on: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_parser = parsed::<DeviceChoice>)]
    pub device: DeviceChoice,
    /// Minimum score: only mentions that score above it are printed. By default the threshold of each type in the schema, else the model's, else
    /// 0.5.
    #[arg(long, value_name = "PROBABILITY")]
    pub threshold: Option<f32>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl TryArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        Settings {
            text: self.text,
            types: self.types,
            schema: self.schema,
            model: self.model,
            device: self.device,
            threshold: self.threshold,
            json: self.json,
        }
    }
}

//! The arguments of `quarry train`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must
//! not read the training job.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::key_value;
#[cfg(feature = "train")]
use crate::train::Settings;

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

#[cfg(feature = "train")]
impl TrainArgs {
    /// The settings of the command.
    pub fn settings(self) -> Settings {
        Settings { job: self.job, set: self.set, restart: self.restart }
    }
}

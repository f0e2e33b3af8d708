//! The arguments of `quarry export`. In: arguments. Out: a clap struct, whose doc comments are the help texts, and the settings. It must
//! not read a checkpoint.
#![allow(clippy::doc_markdown, reason = "doc comments here are help texts, read without markup")]

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::parsed;
use crate::error::Result;
use crate::export::Settings;
use crate::job::read_schema;
use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::device::DeviceChoice;
use crate::model::weights::safetensors_file::WeightForm;

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

impl ExportArgs {
    /// The settings of the command. The schema is read.
    ///
    /// # Errors
    /// The error of an invalid schema file.
    pub fn settings(self) -> Result<Settings> {
        Ok(Settings {
            checkpoint: self.checkpoint,
            out: self.out,
            encoder: self.encoder,
            schema: self.schema.as_deref().map(read_schema).transpose()?,
            weights: self.weights,
            graphs: self.graph,
            parity: (!self.no_parity).then_some(self.device),
        })
    }
}

fn graph(text: &str) -> Result<(GraphVariant, Precision), String> {
    let (variant, precision) = text.split_once('-').ok_or("write VARIANT-PRECISION, such as fused-int8")?;
    Ok((parsed(variant)?, parsed(precision)?))
}

//! The settings of an export. In: resolved arguments. Out: what the conversion and the parity report get. It must not read a file.

use std::path::PathBuf;

use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::device::DeviceChoice;
use crate::model::weights::safetensors_file::WeightForm;
use crate::task::entity_schema::EntitySchema;

/// The settings of an export.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A checkpoint folder or file.
    pub checkpoint: PathBuf,
    /// The model directory to write; created if missing.
    pub out: PathBuf,
    /// The folder with `config.json` and the tokenizer, if they are not in the folder of the weights.
    pub encoder: Option<PathBuf>,
    /// The types the model was trained on, instead of those of the checkpoint's `quarry.json`. Its other fields are kept.
    pub schema: Option<EntitySchema>,
    /// The storage format of the matrices.
    pub weights: WeightForm,
    /// ONNX graphs to write in addition to the weights; all others are generated on demand.
    pub graphs: Vec<(GraphVariant, Precision)>,
    /// The device that runs the parity report; `None` skips the report.
    pub parity: Option<DeviceChoice>,
}

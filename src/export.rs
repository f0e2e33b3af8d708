//! `quarry export`: converts a checkpoint to a model directory. In: a checkpoint folder or file, and the settings. Out: a verified model
//! directory, with ONNX graphs if requested, and a report. Below `command` it must not print.

mod command;
mod convert;
pub mod parity;
mod settings;

pub use crate::export::command::command;
pub use crate::export::convert::{ExportReport, run};
pub use crate::export::settings::Settings;

//! `quarry export`: a checkpoint becomes a model directory. In: a checkpoint folder or file, and what is known about it.
//! Out: a verified model directory, with graphs beside where they are asked for, and a report. It may not print.

mod command;
mod convert;
pub mod parity;

pub use crate::export::command::command;
pub use crate::export::convert::{ExportOptions, ExportReport, run};

//! What a model of two graphs is given of the questions. In: a task, the graph of questions. Out: the tensors of every batch. It must not
//! read windows.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library::Library;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::kind::{Kind, Task};
use crate::task::tensor::Tensors;

/// The tensors of every batch of a task. If its kind has a graph of questions, `graph` says where, and it is run here: in fp32 on the CPU,
/// with `threads` threads, which takes some milliseconds a question.
///
/// # Errors
/// What `graph` returns, and [`Error::Inference`] if the graph fails or violates its contract.
pub fn fixed(
    task: &Task,
    graph: impl FnOnce() -> Result<PathBuf>,
    library: &Library,
    threads: usize,
) -> Result<Tensors> {
    let asked = task.asked();
    let mut given = Vec::with_capacity(asked.len());
    if !asked.is_empty() {
        let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads };
        let mut session = Session::open(library, &graph()?, Kind::Questions, options)?;
        for question in &asked {
            given.push(session.run(&[question])?);
        }
    }
    let failed = |reason: String| Error::Inference { doing: "read the questions".into(), source: reason.into() };
    task.fixed(given).map_err(failed)
}

//! `quarry export` as it is typed. In: arguments. Out: a model directory, and on the screen what is in it and how its graphs
//! compare. It may not write files itself.

use super::parity::{self, Parity};
use super::{ExportOptions, ExportReport, run};
use crate::cli::ExportArgs;
use crate::console::{self, duration, thousands};
use crate::error::Result;
use crate::job::read_schema;
use crate::model::choice::Chosen;
use crate::model::device::Device;
use crate::model::flavour::{Flavour, Form};
use crate::model::session::SessionOptions;

/// The most a query's logits may depend on its batch mates.
const BATCH_LIMIT: f32 = 0.1;

/// Exports a checkpoint and prints the report.
pub fn command(arguments: &ExportArgs) -> Result<u8> {
    let schema = arguments.schema.as_deref().map(read_schema).transpose()?;
    let report = run(&ExportOptions {
        checkpoint: arguments.checkpoint.clone(),
        out: arguments.out.clone(),
        encoder: arguments.encoder.clone(),
        schema,
        weights: arguments.weights,
        graphs: arguments.graph.clone(),
    })?;
    console::print(&summary(&report));
    if !arguments.no_parity {
        let chosen = arguments.device.resolve(Some(Flavour::Fp32), None, &console::note)?;
        console::print(&compare(&report, &chosen)?);
    }
    Ok(0)
}

fn summary(report: &ExportReport) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    rows.push(("model".into(), report.model.root().display().to_string()));
    rows.push(("parameters".into(), thousands(report.parameters as u64)));
    for (name, bytes) in &report.files {
        rows.push((format!("  {name}"), format!("{} bytes", thousands(*bytes))));
    }
    rows.push(("time".into(), duration(report.elapsed)));
    console::rows(&rows)
}

/// The parity report: every graph the device computes, each against fp32 portable.
fn compare(report: &ExportReport, chosen: &Chosen) -> Result<String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let options = SessionOptions { device: chosen.device, distribution: chosen.distribution, threads };
    let graphs: &[(Form, Flavour)] = match chosen.device {
        Device::Cpu => &[
            (Form::Fused, Flavour::Fp32),
            (Form::Portable, Flavour::Fp16),
            (Form::Portable, Flavour::Int8),
            (Form::Fused, Flavour::Int8),
        ],
        Device::Cuda(_) => {
            &[(Form::Fused, Flavour::Fp32), (Form::Portable, Flavour::Fp16), (Form::Fused, Flavour::Fp16)]
        }
    };
    let found = parity::measure(&report.model, graphs, &chosen.library, options)?;
    for one in found.iter().filter(|one| one.batched > BATCH_LIMIT) {
        console::warn(&format!(
            "{}-{}: a query's logits move by {:.3} with its batch",
            one.form, one.flavour, one.batched
        ));
    }
    let header = ["graph", "largest logit difference", "mean", "mentions", "gained", "lost", "alone against batched"];
    let row = |one: &Parity| {
        vec![
            format!("{}-{}", one.form, one.flavour),
            format!("{:.5}", one.largest),
            format!("{:.6}", one.mean),
            one.mentions.to_string(),
            one.gained.to_string(),
            one.lost.to_string(),
            format!("{:.6}", one.batched),
        ]
    };
    let queries = found.first().map_or(0, |one| one.queries);
    let title = format!("parity with portable-fp32 on {queries} sample queries, {}", chosen.device);
    Ok(format!("{title}\n{}", console::columns(&header, found.iter().map(row))))
}

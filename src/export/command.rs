//! The command `quarry export`. In: its settings. Out: a model directory, and on the screen its files and the parity of its graphs. It
//! must not write files itself.

use crate::console;
use crate::console::{duration, thousands};
use crate::error::Result;
use crate::export::convert::{ExportReport, run};
use crate::export::parity;
use crate::export::parity::Parity;
use crate::export::settings::Settings;
use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::device::Device;
use crate::model::runtime::selection::RuntimeSelection;
use crate::model::runtime::session::SessionOptions;

/// The largest accepted difference between a query's logits in a batch and alone.
const BATCH_LIMIT: f32 = 0.1;

/// Exports a checkpoint and prints the report.
pub fn command(settings: &Settings) -> Result<u8> {
    let report = run(settings)?;
    console::print(&summary(&report));
    if let Some(device) = &settings.parity {
        let selection = device.resolve(Some(Precision::Fp32), None)?;
        console::print(&compare(&report, &selection)?);
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

/// The parity report: every graph that the device supports, compared with portable fp32.
fn compare(report: &ExportReport, selection: &RuntimeSelection) -> Result<String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let options = SessionOptions { device: selection.devices.first(), distribution: selection.distribution, threads };
    let graphs: &[(GraphVariant, Precision)] = match selection.devices.first() {
        Device::Cpu => &[
            (GraphVariant::Fused, Precision::Fp32),
            (GraphVariant::Portable, Precision::Fp16),
            (GraphVariant::Portable, Precision::Int8),
            (GraphVariant::Fused, Precision::Int8),
        ],
        Device::Cuda(_) => &[
            (GraphVariant::Fused, Precision::Fp32),
            (GraphVariant::Portable, Precision::Fp16),
            (GraphVariant::Fused, Precision::Fp16),
        ],
    };
    let found = parity::measure(&report.model, graphs, &selection.library, options)?;
    for one in found.iter().filter(|one| one.batch_difference > BATCH_LIMIT) {
        tracing::warn!(
            "{}-{}: a query's logits change by {:.3} with its batch",
            one.variant,
            one.precision,
            one.batch_difference
        );
    }
    let header = ["graph", "max logit difference", "mean", "mentions", "gained", "lost", "batched vs. single"];
    let row = |one: &Parity| {
        vec![
            format!("{}-{}", one.variant, one.precision),
            format!("{:.5}", one.largest),
            format!("{:.6}", one.mean),
            one.mentions.to_string(),
            one.gained.to_string(),
            one.lost.to_string(),
            format!("{:.6}", one.batch_difference),
        ]
    };
    let queries = found.first().map_or(0, |one| one.queries);
    let title = format!("parity with portable-fp32 on {queries} sample queries, {}", options.device);
    Ok(format!("{title}\n{}", console::columns(&header, found.iter().map(row))))
}

//! Processor and memory. In: what the kernel reports. Out: cores, vector instructions, free memory, and the precision that `auto`
//! selects. It must not run a benchmark.

use std::num::NonZeroUsize;

use sysinfo::{MemoryRefreshKind, System};

use crate::console::bytes;
use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::model::runtime::device::Device;
use crate::model::runtime::hardware::{field, kernels, processor};
use crate::model::runtime::selection::best_precision;

/// With less free memory than this, a model and its batches may not fit.
const LITTLE_MEMORY: u64 = 1 << 30;

pub(super) fn check(subject: &Subject, report: &mut Report) {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let features = instructions(&information);
    let shown: Vec<String> = features
        .iter()
        .map(|(name, present)| if *present { (*name).to_owned() } else { format!("no {name}") })
        .collect();
    let text = format!("{}, {cores} cores, {}", processor(), shown.join(", "));
    let vectors = features.iter().any(|(_, present)| *present);
    if features.is_empty() || vectors || subject.likely_devices().first() != Device::Cpu {
        report.ok("processor", text);
    } else {
        report.warning(
            "processor",
            text,
            "inference is several times slower without vector instructions: use another machine or a GPU",
        );
    }
    precision(subject, report);
    memory(report);
}

fn precision(subject: &Subject, report: &mut Report) {
    let device = subject.likely_devices().first();
    let (best, reason) = best_precision(device);
    let kind = if device == Device::Cpu { "the CPU" } else { "CUDA" };
    let text = match subject.job.as_ref().and_then(|job| job.extraction.precision) {
        Some(named) if named != best => {
            format!("the job names {named}; `auto` would select {best} on {kind}: {reason}")
        }
        _ => format!("`auto` selects {best} on {kind}: {reason}"),
    };
    let layers = kernels().filter(|_| device == Device::Cpu).map(|path| format!("; int8 layers run on {path}"));
    report.ok("precision", text + &layers.unwrap_or_default());
}

fn memory(report: &mut Report) {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let (free, total) = (system.available_memory(), system.total_memory());
    if total == 0 {
        return;
    }
    let text = format!("{} free of {}", bytes(free), bytes(total));
    if free < LITTLE_MEMORY {
        report.warning(
            "memory",
            text,
            "stop other programs: the default model needs about 0.4 GiB, larger models several GiB",
        );
    } else {
        report.ok("memory", text);
    }
}

/// The vector instructions that matter for inference, and whether the processor has them.
#[cfg(target_arch = "x86_64")]
fn instructions(information: &str) -> Vec<(&'static str, bool)> {
    let vnni = std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni");
    let tiles = field(information, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "amx_int8"));
    vec![
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("AVX-512", std::is_x86_feature_detected!("avx512f")),
        ("VNNI", vnni),
        ("AMX", tiles),
    ]
}

#[cfg(target_arch = "aarch64")]
fn instructions(_: &str) -> Vec<(&'static str, bool)> {
    let (products, matrices) =
        (std::arch::is_aarch64_feature_detected!("dotprod"), std::arch::is_aarch64_feature_detected!("i8mm"));
    vec![("dot products", products), ("integer matrices", matrices)]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions(_: &str) -> Vec<(&'static str, bool)> {
    Vec::new()
}

//! What this machine computes with. In: the kernel's files. Out: the names of processor and cards, what the processor multiplies, and
//! whether other programs keep it busy. It may not start a device.

use sysinfo::{CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, System};

use crate::machine::environment::variable;
use crate::model::runtime::device::Device;

/// What a processor multiplies by instructions for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// Tiles of bfloat16 (Intel's AMX), where OpenVINO is built for the machine.
    pub tiles: bool,
    /// 8-bit integers in vectors.
    pub bytes: bool,
}

impl Processor {
    /// The one this runs on; tiles only where the kernel has them too.
    pub fn own() -> Self {
        let openvino = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        let flag = |text: String| text.split_whitespace().any(|word| word == "amx_bf16");
        Self { tiles: openvino && read("/proc/cpuinfo").is_some_and(flag), bytes: multiplies_bytes() }
    }
}

#[cfg(target_arch = "x86_64")]
fn multiplies_bytes() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "aarch64")]
fn multiplies_bytes() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn multiplies_bytes() -> bool {
    false
}

/// What computes on a device, by name: another machine with the same is as fast. Where a card's name is not known, the machine's.
pub fn name(device: Device) -> String {
    if device == Device::Cpu {
        return processor();
    }
    let mut kinds = cards();
    kinds.sort_unstable();
    kinds.dedup();
    match kinds.len() {
        0 => System::host_name().unwrap_or_default(),
        1 => kinds.concat(),
        _ => {
            // Which of them has the device's number, these say.
            let order = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"].into_iter().filter_map(variable);
            kinds.extend(order.map(|value| value.to_string_lossy().into_owned()));
            kinds.join(", ")
        }
    }
}

/// The processor's name, as the kernel knows it. `sysinfo` has only names: of ARM those of a list, for all others none.
pub fn processor() -> String {
    processor_in(&read("/proc/cpuinfo").unwrap_or_default())
}

/// The same by what `/proc/cpuinfo` says: a name, or the numbers of maker and part (ARM); else only the architecture.
fn processor_in(information: &str) -> String {
    let numbers = || {
        let (maker, part) = (field(information, "CPU implementer")?, field(information, "CPU part")?);
        Some(format!("{} {maker} {part}", std::env::consts::ARCH))
    };
    let name = field(information, "model name").map(str::to_owned);
    name.or_else(numbers).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The names of the NVIDIA cards, as the kernel module knows them.
pub fn cards() -> Vec<String> {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let texts = folders.filter_map(|entry| std::fs::read_to_string(entry.path().join("information")).ok());
    texts.filter_map(|text| field(&text, "Model").map(str::to_owned)).collect()
}

/// Whether other programs keep more than half of the processors busy just now, so that nothing measured on them means anything. All of
/// the machine's count, also for who is inside a container. Not where the system does not say.
pub fn busy() -> bool {
    let usage = CpuRefreshKind::nothing().with_cpu_usage();
    let mut system = System::new();
    system.refresh_cpu_specifics(usage);
    std::thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
    system.refresh_cpu_specifics(usage);
    system.global_cpu_usage() > 50.0
}

/// The value behind `key` and a colon.
pub fn field<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    text.lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key))
        .map(|(_, value)| value.trim())
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:  12 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(text, "MemTotal"), Some("12 kB"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn a_processor_has_a_name_or_numbers() {
        assert_eq!(processor_in("processor\t: 0\nmodel\t: 17\nmodel name\t: Some CPU\n"), "Some CPU");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(processor_in(arm), format!("{} 0x41 0xd40", std::env::consts::ARCH));
        assert_eq!(processor_in(""), std::env::consts::ARCH);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
    fn a_machine_whose_processors_all_work_is_busy() {
        let mut system = System::new();
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let ours = std::thread::available_parallelism().unwrap().get();
        if ours < system.cpus().len() {
            eprintln!("skipped: {ours} of {} processors may be used, so the others stay idle", system.cpus().len());
            return;
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..ours {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let busy = busy();
            stop.store(true, Ordering::Relaxed);
            assert!(busy);
        });
    }
}

//! The machine's hardware. In: the kernel's files. Out: the names of the processor and of NVIDIA GPUs, the processor's instructions
//! for products, and whether other programs keep it busy. It must not start a device.

use sysinfo::{CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, System};

use crate::machine::environment::variable;
use crate::model::runtime::device::Device;

/// The number formats that a processor has instructions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// Products of bfloat16 tiles (Intel's AMX), on systems that OpenVINO supports.
    pub tiles: bool,
    /// Vector products of 8-bit integers.
    pub bytes: bool,
}

impl Processor {
    /// The processor of this machine; `tiles` only if the kernel supports them too.
    pub fn own() -> Self {
        let openvino = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        let flag = |text: String| text.split_whitespace().any(|word| word == "amx_bf16");
        Self { tiles: openvino && read("/proc/cpuinfo").is_some_and(flag), bytes: multiplies_bytes() }
    }
}

/// The instructions that `kernels/` uses for int8 layers on this processor; `None` if it has none for it.
pub fn kernels() -> Option<&'static str> {
    let path = quarry_kernels::Path::best();
    (path != quarry_kernels::Path::Plain).then(|| path.name())
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

/// The hardware of a device, by name: machines with the same name are equally fast. If the GPU's name is unknown, the machine's name.
pub fn name(device: Device) -> String {
    if device == Device::Cpu {
        return processor();
    }
    let mut kinds = gpus();
    kinds.sort_unstable();
    kinds.dedup();
    match kinds.len() {
        0 => System::host_name().unwrap_or_default(),
        1 => kinds.concat(),
        _ => {
            // These variables determine which GPU has the device's number.
            let order = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"].into_iter().filter_map(variable);
            kinds.extend(order.map(|value| value.to_string_lossy().into_owned()));
            kinds.join(", ")
        }
    }
}

/// The processor's name from the kernel. (`sysinfo` has names for a fixed list of ARM parts only, and no part
/// numbers.)
pub fn processor() -> String {
    processor_in(&read("/proc/cpuinfo").unwrap_or_default())
}

/// The processor's name in the text of `/proc/cpuinfo`: the model name, or the numbers of implementer and part (ARM); else the
/// architecture.
fn processor_in(information: &str) -> String {
    let numbers = || {
        let (maker, part) = (field(information, "CPU implementer")?, field(information, "CPU part")?);
        Some(format!("{} {maker} {part}", std::env::consts::ARCH))
    };
    let name = field(information, "model name").map(str::to_owned);
    name.or_else(numbers).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The names of the NVIDIA GPUs from the kernel module.
pub fn gpus() -> Vec<String> {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let texts = folders.filter_map(|entry| std::fs::read_to_string(entry.path().join("information")).ok());
    texts.filter_map(|text| field(&text, "Model").map(str::to_owned)).collect()
}

/// How many CUDA devices this process can see, `CUDA_VISIBLE_DEVICES` included (CUDA C++ Programming Guide, "CUDA Environment Variables"); 0 if
/// the kernel module names none.
pub fn visible_gpus() -> u32 {
    let chosen = variable("CUDA_VISIBLE_DEVICES").map(|value| value.to_string_lossy().into_owned());
    visible(gpus().len(), chosen.as_deref())
}

/// The first of the names that are chosen, up to one that is no device, which hides those after it.
fn visible(gpus: usize, chosen: Option<&str>) -> u32 {
    let is_device = |name: &&str| match name.trim().parse::<i64>() {
        Ok(number) => usize::try_from(number).is_ok_and(|number| number < gpus),
        Err(_) => !name.trim().is_empty(), // a UUID
    };
    chosen.map_or(gpus, |chosen| chosen.split(',').take_while(is_device).count()) as u32
}

/// Whether other programs currently keep more than half of the processors busy, so that measurements would be meaningless. All
/// processors of the machine count, also inside a container. False if the system does not report usage.
pub fn busy() -> bool {
    let usage = CpuRefreshKind::nothing().with_cpu_usage();
    let mut system = System::new();
    system.refresh_cpu_specifics(usage);
    std::thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
    system.refresh_cpu_specifics(usage);
    system.global_cpu_usage() > 50.0
}

/// The value after `key` and a colon.
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
    fn fields_are_found_by_their_full_name() {
        let text = "model\t\t: 17\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:  12 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(text, "MemTotal"), Some("12 kB"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn gpus_that_are_hidden_do_not_count() {
        let counts = [None, Some("0,2"), Some("1,-1,0"), Some("3,9,1"), Some("GPU-8932f937, 1"), Some("")];
        assert_eq!(counts.map(|chosen| visible(4, chosen)), [4, 2, 1, 1, 2, 0]);
    }

    #[test]
    fn a_processor_has_a_name_or_numbers() {
        assert_eq!(processor_in("processor\t: 0\nmodel\t: 17\nmodel name\t: Some CPU\n"), "Some CPU");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(processor_in(arm), format!("{} 0x41 0xd40", std::env::consts::ARCH));
        assert_eq!(processor_in(""), std::env::consts::ARCH);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test prints why")]
    fn a_machine_with_all_processors_in_use_is_busy() {
        let mut system = System::new();
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let ours = std::thread::available_parallelism().unwrap().get();
        if ours < system.cpus().len() {
            eprintln!(
                "skipped: this process can use only {ours} of {} processors, so the others stay idle",
                system.cpus().len()
            );
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

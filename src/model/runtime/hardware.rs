//! What this machine computes with. In: the kernel's files. Out: the names of processor and cards, what the processor multiplies, and
//! whether other programs keep it busy. It may not start a device.

use std::time::Duration;

use crate::machine::environment::variable;
use crate::model::runtime::device::Device;

/// How long it is watched whether other programs keep the processors busy.
const WATCHED: Duration = Duration::from_millis(100);

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
        0 => read("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        1 => kinds.concat(),
        _ => {
            // Which of them has the device's number, these say.
            let order = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"].into_iter().filter_map(variable);
            kinds.extend(order.map(|value| value.to_string_lossy().into_owned()));
            kinds.join(", ")
        }
    }
}

/// The processor's name, as the kernel knows it.
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
/// the machine's count, also for who is inside a container. Not where the kernel does not say (elsewhere than on Linux).
pub fn busy() -> bool {
    let ticks = || read("/proc/stat").and_then(|text| Ticks::in_statistics(&text));
    let Some(before) = ticks() else { return false };
    std::thread::sleep(WATCHED);
    ticks().and_then(|after| after.busy_since(before)).is_some_and(|share| share > 0.5)
}

/// Time of all processors together since the machine began, in ticks of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    /// What the first line of `/proc/stat` says (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal.
    fn in_statistics(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let counts: Vec<u64> = line.split_whitespace().take(8).map_while(|count| count.parse().ok()).collect();
        Some(Self { idle: counts.get(3..5)?.iter().sum(), all: counts.iter().sum() })
    }

    /// The share of the time since `before` that was not idle; none where the clock did not tick.
    fn busy_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        // The kernel may count time spent waiting for disks backwards.
        Some(1.0 - self.idle.saturating_sub(before.idle) as f64 / all as f64)
    }
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
    fn the_machine_is_as_busy_as_its_ticks_say() {
        let ticks = |first: &str| Ticks::in_statistics(&format!("{first}\ncpu0 9 9 9 9 9 9 9 9 9 9\nintr 7\n"));
        // Of guests the time is in that of their users; an hour's load before does not count.
        let before = ticks("cpu  90000 0 1000 500 500 0 0 0 7 7").unwrap();
        assert_eq!(before, Ticks { idle: 1000, all: 92_000 });
        let share = |first: &str| ticks(first).unwrap().busy_since(before);
        assert_eq!(share("cpu  90000 0 1000 590 510 0 0 0 7 7"), Some(0.0));
        assert_eq!(share("cpu  90030 0 1010 520 500 10 10 20 9 9"), Some(0.8));
        // Time spent waiting may be counted backwards, and a short sample may see no tick at all.
        assert_eq!(share("cpu  90100 0 1000 500 400 0 0 100 7 7"), Some(1.0));
        assert_eq!(share("cpu  90000 0 1000 500 500 0 0 0 7 7"), None);
        assert_eq!(ticks("cpu 1 2 3"), None);
        assert_eq!(Ticks::in_statistics("intr 7\n"), None);
    }
}

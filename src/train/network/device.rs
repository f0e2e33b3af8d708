//! The job's word for a device → LibTorch devices. In: `auto`, `cpu`, `cuda:0,cuda:1`. Out: devices that can be had, or an error. It may
//! not replace a device that was named.
//!
//! LibTorch's CUDA half is a library of its own that nothing in this program refers to, so that one binary runs where there is no
//! CUDA. Where a card is wanted the program starts itself again with that library loaded first, and with what LibTorch takes from the
//! environment.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use tch::{Cuda, Device};

use crate::console;
use crate::error::{Error, Result};

/// Set in the program that was started again.
const STARTED_AGAIN: &str = "QUARRY_LIBTORCH_CUDA";

/// What LibTorch takes from the environment as it is loaded, set for cards unless somebody has set it. Attention with a mask goes to the
/// memory-efficient kernel instead of cuDNN's, which in LibTorch 2.11 is planned anew for every shape of a batch and rounds the share that
/// dropout takes; and memory is taken in segments that can grow, for batches of many shapes.
const ON_CARDS: [(&str, &str); 2] =
    [("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1"), ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")];

/// The devices of a job's word; at least one.
pub fn devices(word: &str) -> Result<Vec<Device>> {
    let refuse = |reason: String, hint: &str| Error::Device { device: word.to_owned(), reason, hint: hint.to_owned() };
    let driver = Path::new("/proc/driver/nvidia/version").exists() || Path::new("/dev/nvidiactl").exists();
    let devices = if word.trim() == "auto" {
        vec![match cuda(driver) {
            Ok(()) => Device::Cuda(0),
            Err(reason) => {
                console::note(&format!("training on the CPU: {reason}"));
                Device::Cpu
            }
        }]
    } else {
        named(word).map_err(|(reason, hint)| refuse(reason, hint))?
    };
    let most =
        devices.iter().filter_map(|device| if let Device::Cuda(number) = device { Some(*number) } else { None }).max();
    if let Some(most) = most {
        let hint = "PyTorch's own CUDA build of LibTorch and the CUDA libraries it names must be on the loader's path (LD_LIBRARY_PATH), or say device = \"cpu\"";
        cuda(driver).map_err(|reason| refuse(reason, hint))?;
        if std::env::var_os(STARTED_AGAIN).is_none() {
            return Err(refuse(start_again(), hint));
        }
        let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
        if most >= count {
            return Err(refuse(format!("LibTorch sees {count} CUDA device(s)"), "cards are numbered from 0"));
        }
    }
    Ok(devices)
}

/// The devices that a word names: cards, each once, or the CPU, perhaps several times. Else what is wrong with it and the way out.
fn named(word: &str) -> Result<Vec<Device>, (String, &'static str)> {
    let mut devices: Vec<Device> = Vec::new();
    for one in word.split(',').map(str::trim) {
        let device = match one.split_once(':') {
            None if one == "cpu" => Device::Cpu,
            None if one == "cuda" => Device::Cuda(0),
            Some(("cuda", digits)) if digits.parse::<usize>().is_ok() => Device::Cuda(digits.parse().unwrap_or(0)),
            _ => return Err((format!("`{one}` is no device"), "say auto, cpu, cuda, cuda:1 or cuda:0,cuda:1")),
        };
        if devices.first().is_some_and(|first| (*first == Device::Cpu) != (device == Device::Cpu)) {
            return Err(("the CPU and cards do not share a step".into(), "name only cards, or only the CPU"));
        }
        if device != Device::Cpu && devices.contains(&device) {
            return Err((format!("`{one}` names a card that is there already"), "name each card once"));
        }
        devices.push(device);
    }
    Ok(devices)
}

/// Whether LibTorch's CUDA half can be had here, or why not. To find out without ending in the loader, it is loaded into a program that
/// does nothing.
fn cuda(driver: bool) -> Result<(), String> {
    if !driver {
        return Err("no NVIDIA driver answers on this machine".into());
    }
    if Cuda::is_available() {
        return Ok(());
    }
    if std::env::var_os(STARTED_AGAIN).is_some() {
        return Err("LibTorch's CUDA library finds no card".into());
    }
    let library = cuda_library()?;
    let tried = std::process::Command::new("true").env("LD_PRELOAD", &library).output();
    let tried = tried.map_err(|source| format!("`true` does not start: {source}"))?;
    let said = String::from_utf8_lossy(&tried.stderr).into_owned();
    if tried.status.success() && said.is_empty() {
        return Ok(());
    }
    Err(format!("`{}` cannot be loaded: {}", library.display(), said.lines().next().unwrap_or("it ends at once")))
}

fn cuda_library() -> Result<PathBuf, String> {
    let library = libtorch_folder().ok_or("nobody knows where LibTorch lies")?.join("libtorch_cuda.so");
    if library.exists() { Ok(library) } else { Err(format!("there is no `{}`", library.display())) }
}

/// Starts this program again as cards need it, with LibTorch's CUDA library loaded where it is not; returns only where that cannot be,
/// with the reason.
fn start_again() -> String {
    let started = || -> Result<std::convert::Infallible, String> {
        let program = std::env::current_exe().map_err(|source| source.to_string())?;
        let mut command = std::process::Command::new(program);
        command.args(std::env::args_os().skip(1)).env(STARTED_AGAIN, "1");
        if !Cuda::is_available() {
            let mut preload = cuda_library()?.into_os_string();
            if let Some(others) = std::env::var_os("LD_PRELOAD") {
                preload.push(":");
                preload.push(others);
            }
            command.env("LD_PRELOAD", preload);
        }
        command.envs(ON_CARDS.into_iter().filter(|(key, _)| std::env::var_os(key).is_none()));
        Err(command.exec().to_string())
    };
    let Err(reason) = started();
    reason
}

/// The folder that LibTorch was loaded from.
fn libtorch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Path::new(&line[line.find('/')?..]).parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_share_a_step_is_named_together() {
        assert_eq!(named("cpu"), Ok(vec![Device::Cpu]));
        assert_eq!(named("cpu,cpu"), Ok(vec![Device::Cpu; 2]));
        assert_eq!(named("cuda:1, cuda"), Ok(vec![Device::Cuda(1), Device::Cuda(0)]));
        for (word, reason) in [
            ("cpu,cuda", "the CPU and cards"),
            ("cuda:1,cpu", "the CPU and cards"),
            ("cuda,cuda:0", "`cuda:0` names a card that is there already"),
            ("auto,cpu", "`auto` is no device"),
            ("cuda:x", "`cuda:x` is no device"),
            ("", "`` is no device"),
        ] {
            let (said, _) = named(word).unwrap_err();
            assert!(said.starts_with(reason), "{word}: {said}");
        }
    }
}

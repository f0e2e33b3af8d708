//! The job's `device` setting → LibTorch devices. In: `auto`, `cpu`, `cuda:0,cuda:1`. Out: available devices, or an error. It must not
//! replace a device that was named.
//!
//! LibTorch's CUDA part is a separate library that this program does not link, so that one binary also runs without CUDA. If a GPU is
//! requested, the program re-executes itself with that library preloaded and with LibTorch's environment variables set.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use tch::{Cuda, Device};

use crate::error::{Error, Result};

/// Set in the re-executed program.
const REEXECUTED: &str = "QUARRY_LIBTORCH_CUDA";

/// Environment variables that LibTorch reads when it is loaded, set for GPUs unless the user has set them. The first sends attention with
/// a mask to the memory-efficient kernel instead of cuDNN's, which in LibTorch 2.11 builds a new plan for every batch shape and rounds the
/// dropout rate. The second allocates memory in expandable segments, for batches of many shapes.
const GPU_ENVIRONMENT: [(&str, &str); 2] =
    [("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1"), ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")];

/// The devices of a job's setting; at least one.
pub fn devices(setting: &str) -> Result<Vec<Device>> {
    let refuse =
        |reason: String, hint: &str| Error::Device { device: setting.to_owned(), reason, hint: hint.to_owned() };
    let driver = Path::new("/proc/driver/nvidia/version").exists() || Path::new("/dev/nvidiactl").exists();
    let devices = if setting.trim() == "auto" {
        vec![match cuda(driver) {
            Ok(()) => Device::Cuda(0),
            Err(reason) => {
                tracing::info!("training on the CPU: {reason}");
                Device::Cpu
            }
        }]
    } else {
        named(setting).map_err(|(reason, hint)| refuse(reason, hint))?
    };
    let highest =
        devices.iter().filter_map(|device| if let Device::Cuda(number) = device { Some(*number) } else { None }).max();
    if let Some(highest) = highest {
        let hint = "PyTorch's own CUDA build of LibTorch and the CUDA libraries it names must be on the loader's path (LD_LIBRARY_PATH); or set device = \"cpu\"";
        cuda(driver).map_err(|reason| refuse(reason, hint))?;
        if std::env::var_os(REEXECUTED).is_none() {
            return Err(refuse(reexecute(), hint));
        }
        let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
        if highest >= count {
            return Err(refuse(format!("LibTorch sees {count} CUDA device(s)"), "GPUs are numbered from 0"));
        }
    }
    Ok(devices)
}

/// The devices that a setting names: GPUs, each once, or the CPU, possibly several times. An error is a reason and a hint.
fn named(setting: &str) -> Result<Vec<Device>, (String, &'static str)> {
    let mut devices: Vec<Device> = Vec::new();
    for one in setting.split(',').map(str::trim) {
        let device = match one.split_once(':') {
            None if one == "cpu" => Device::Cpu,
            None if one == "cuda" => Device::Cuda(0),
            Some(("cuda", digits)) if digits.parse::<usize>().is_ok() => Device::Cuda(digits.parse().unwrap_or(0)),
            _ => return Err((format!("`{one}` is not a device"), "use auto, cpu, cuda, cuda:1 or cuda:0,cuda:1")),
        };
        if devices.first().is_some_and(|first| (*first == Device::Cpu) != (device == Device::Cpu)) {
            return Err(("the CPU and GPUs cannot share a step".into(), "name only GPUs, or only the CPU"));
        }
        if device != Device::Cpu && devices.contains(&device) {
            return Err((format!("`{one}` names the same GPU again"), "name each GPU once"));
        }
        devices.push(device);
    }
    Ok(devices)
}

/// Checks that LibTorch's CUDA library can be loaded, or returns the reason. Since a failure in the loader would end the process, it is
/// first preloaded into a program that does nothing.
fn cuda(driver: bool) -> Result<(), String> {
    if !driver {
        return Err("no NVIDIA driver found on this machine".into());
    }
    if Cuda::is_available() {
        return Ok(());
    }
    if std::env::var_os(REEXECUTED).is_some() {
        return Err("LibTorch's CUDA library finds no GPU".into());
    }
    let library = cuda_library()?;
    let output = std::process::Command::new("true").env("LD_PRELOAD", &library).output();
    let output = output.map_err(|source| format!("`true` does not start: {source}"))?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && messages.is_empty() {
        return Ok(());
    }
    let reason = messages.lines().next().unwrap_or("the process ended without a message");
    Err(format!("`{}` cannot be loaded: {reason}", library.display()))
}

fn cuda_library() -> Result<PathBuf, String> {
    let library = libtorch_folder().ok_or("the folder of LibTorch was not found")?.join("libtorch_cuda.so");
    if library.exists() { Ok(library) } else { Err(format!("`{}` does not exist", library.display())) }
}

/// Re-executes this program with the environment for GPUs, and with LibTorch's CUDA library preloaded if it is not loaded yet. Returns
/// only on failure, with the reason.
fn reexecute() -> String {
    let attempt = || -> Result<std::convert::Infallible, String> {
        let program = std::env::current_exe().map_err(|source| source.to_string())?;
        let mut command = std::process::Command::new(program);
        command.args(std::env::args_os().skip(1)).env(REEXECUTED, "1");
        if !Cuda::is_available() {
            let mut preload = cuda_library()?.into_os_string();
            if let Some(others) = std::env::var_os("LD_PRELOAD") {
                preload.push(":");
                preload.push(others);
            }
            command.env("LD_PRELOAD", preload);
        }
        command.envs(GPU_ENVIRONMENT.into_iter().filter(|(key, _)| std::env::var_os(key).is_none()));
        Err(command.exec().to_string())
    };
    let Err(reason) = attempt();
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
    fn devices_of_one_step_are_all_gpus_or_all_the_cpu() {
        assert_eq!(named("cpu"), Ok(vec![Device::Cpu]));
        assert_eq!(named("cpu,cpu"), Ok(vec![Device::Cpu; 2]));
        assert_eq!(named("cuda:1, cuda"), Ok(vec![Device::Cuda(1), Device::Cuda(0)]));
        for (setting, expected) in [
            ("cpu,cuda", "the CPU and GPUs"),
            ("cuda:1,cpu", "the CPU and GPUs"),
            ("cuda,cuda:0", "`cuda:0` names the same GPU again"),
            ("auto,cpu", "`auto` is not a device"),
            ("cuda:x", "`cuda:x` is not a device"),
            ("", "`` is not a device"),
        ] {
            let (reason, _) = named(setting).unwrap_err();
            assert!(reason.starts_with(expected), "{setting}: {reason}");
        }
    }
}

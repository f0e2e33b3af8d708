//! NVIDIA GPUs. In: the driver's files and `nvidia-smi`. Out: name, memory and driver version of each GPU. It must not use CUDA.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::model::runtime::device::{Device, nvidia_driver};
use crate::model::runtime::hardware::gpus;
use crate::model::runtime::library::ended_within;

pub(super) fn check(subject: &Subject, report: &mut Report) {
    if !nvidia_driver() {
        // For a job that names a GPU, the check of the execution provider reports the missing driver.
        return report.ok("GPU", "none: no NVIDIA driver is installed");
    }
    match query(subject.child_limit()) {
        Ok(gpus) if gpus.is_empty() => {
            report.warning("GPU", "the driver is installed but finds no GPU", "check `nvidia-smi` and the kernel log");
        }
        Ok(gpus) => {
            for (number, gpu) in gpus.iter().enumerate() {
                report.ok("GPU", format!("cuda:{number} {gpu}"));
            }
            let missing = |device: &Device| matches!(device, Device::Cuda(number) if *number as usize >= gpus.len());
            if let Some(device) = subject.likely_devices().iter().find(missing) {
                report.fix(
                    "GPU",
                    format!("the job names `{device}`, and this machine has {} GPU(s)", gpus.len()),
                    format!("name a device from cuda:0 to cuda:{}", gpus.len() - 1),
                );
            }
        }
        Err(reason) => {
            let names = gpus();
            let names = if names.is_empty() { String::new() } else { format!("{}; ", names.join(", ")) };
            report.warning(
                "GPU",
                format!("{names}memory unknown: {reason}"),
                "install the driver's tool `nvidia-smi`; extraction does not need it",
            );
        }
    }
}

/// One line for each GPU: name, memory, driver version.
fn query(limit: Duration) -> Result<Vec<String>, String> {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("`nvidia-smi` cannot be started: {error}"))?;
    let status = ended_within(&mut child, limit)
        .ok_or_else(|| format!("`nvidia-smi` did not answer within {:.1} s", limit.as_secs_f64()))?;
    if !status.success() {
        return Err(format!("`nvidia-smi` ended with {status}"));
    }
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut output).map_err(|error| error.to_string())?;
    }
    Ok(output.lines().filter_map(gpu).collect())
}

fn gpu(line: &str) -> Option<String> {
    let mut parts = line.split(',').map(str::trim);
    let (name, total, free, driver) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{name}, {free} free of {total}, driver {driver}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_becomes_a_description() {
        let line = gpu("NVIDIA H200, 143771 MiB, 143000 MiB, 580.65.06");
        assert_eq!(line.as_deref(), Some("NVIDIA H200, 143000 MiB free of 143771 MiB, driver 580.65.06"));
        assert_eq!(gpu("No devices were found"), None);
    }
}

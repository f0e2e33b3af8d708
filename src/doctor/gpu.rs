//! NVIDIA cards. In: the driver's files and its own tool. Out: name, memory and driver of each card. It may not use CUDA.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::model::runtime::device::{Device, nvidia_driver};
use crate::model::runtime::hardware::cards;
use crate::model::runtime::library::ended_within;

pub(super) fn look(subject: &Subject, report: &mut Report) {
    if !nvidia_driver() {
        // A job that names a card hears of it from the check of the provider.
        return report.ok("GPU", "none: there is no NVIDIA driver");
    }
    match ask(subject.child_limit()) {
        Ok(cards) if cards.is_empty() => {
            report.warning("GPU", "the driver is there but sees no card", "look at `nvidia-smi` and the kernel's log");
        }
        Ok(cards) => {
            let wanted = match subject.likely_device() {
                Device::Cuda(number) => number as usize,
                Device::Cpu => 0,
            };
            for (number, card) in cards.iter().enumerate() {
                report.ok("GPU", format!("cuda:{number} {card}"));
            }
            if wanted >= cards.len() {
                report.fix(
                    "GPU",
                    format!("the job names `cuda:{wanted}`, and there are {} cards", cards.len()),
                    format!("name a device from cuda:0 to cuda:{}", cards.len() - 1),
                );
            }
        }
        Err(reason) => {
            let names = cards();
            let names = if names.is_empty() { String::new() } else { format!("{}; ", names.join(", ")) };
            report.warning(
                "GPU",
                format!("{names}its memory is not known: {reason}"),
                "install the driver's tool `nvidia-smi`; extraction does not need it",
            );
        }
    }
}

/// One line for each card: name, memory, driver.
fn ask(limit: Duration) -> Result<Vec<String>, String> {
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
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(|error| error.to_string())?;
    }
    Ok(said.lines().filter_map(card).collect())
}

fn card(line: &str) -> Option<String> {
    let mut parts = line.split(',').map(str::trim);
    let (name, all, free, driver) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{name}, {free} free of {all}, driver {driver}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_a_line() {
        let line = card("NVIDIA H200, 143771 MiB, 143000 MiB, 580.65.06");
        assert_eq!(line.as_deref(), Some("NVIDIA H200, 143000 MiB free of 143771 MiB, driver 580.65.06"));
        assert_eq!(card("No devices were found"), None);
    }
}

//! ONNX Runtime and its execution providers. In: the job's library and device. Out: which library would be loaded, what it says in a
//! child process, and what keeps a provider from starting. It may not load a library into this process nor fetch one.

use std::path::{Path, PathBuf};

use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::model::runtime::device::{Device, DeviceChoice, nvidia_driver};
use crate::model::runtime::distribution::{Distribution, LIBRARY_VARIABLE, VERSION};
use crate::model::runtime::library;

/// What the CUDA provider loads beside itself: the file and what it belongs to.
const CUDA_LIBRARIES: [(&str, &str); 6] = [
    ("libcudart.so.13", "CUDA 13 runtime"),
    ("libcublas.so.13", "cuBLAS"),
    ("libcublasLt.so.13", "cuBLAS"),
    ("libcurand.so.10", "cuRAND"),
    ("libcufft.so.12", "cuFFT"),
    ("libcudnn.so.9", "cuDNN 9"),
];

pub(super) fn look(subject: &Subject, report: &mut Report) {
    let device = subject.likely_device();
    if let (DeviceChoice::Named(Device::Cuda(_)), false) = (subject.device, nvidia_driver()) {
        report.fix(
            "CUDA",
            format!("the job names device `{device}`, and no NVIDIA driver answers on this machine"),
            "install the driver, or say device = \"cpu\"",
        );
        return;
    }
    let distribution = subject.likely_distribution();
    let found = match library::find(subject.library.as_deref(), distribution) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let (release, kind) = (library::release(distribution), distribution.beside());
            report.warning(
                "ONNX Runtime",
                format!("{release}{kind} is not on this machine yet: the first run fetches it from PyPI"),
                format!(
                    "`quarry doctor --fetch` fetches it now; without a network, name a library in {LIBRARY_VARIABLE}"
                ),
            );
            return;
        }
        Err(error) => return report.error("ONNX Runtime", &error),
    };
    let place = format!("at `{}`, from {}", found.path.display(), found.origin);
    match library::try_library(&found.path, &[], subject.child_limit()) {
        Ok(version) if found.pinned => report.ok("ONNX Runtime", format!("{} {place}", version.trim())),
        Ok(version) => {
            let text = format!("{} {place}; it is not the release this program was measured with", short(&version));
            report.ok("ONNX Runtime", text);
        }
        Err(reason) => {
            let fix = format!(
                "remove the file, or name the library of ONNX Runtime {VERSION} or newer in {LIBRARY_VARIABLE}"
            );
            return report.fix("ONNX Runtime", reason, fix);
        }
    }
    match distribution {
        Distribution::OpenVino => openvino(&found.path, subject, report),
        Distribution::Cpu | Distribution::Cuda => providers(&found.path, device, subject, report),
    }
}

fn providers(library: &Path, device: Device, subject: &Subject, report: &mut Report) {
    let Device::Cuda(number) = device else {
        let why = if nvidia_driver() { "the job names the CPU" } else { "there is no NVIDIA driver" };
        return report.ok("providers", format!("CPU; CUDA is not used: {why}"));
    };
    let number = number.to_string();
    match library::try_library(library, &["--cuda", &number], subject.child_limit()) {
        Ok(_) => report.ok("providers", format!("CUDA starts on {device}; CPU")),
        Err(reason) => {
            let missing = missing(&loader_folders(library));
            let fix = if missing.is_empty() {
                "run with `--log debug` to see ONNX Runtime's own messages, or say device = \"cpu\"".to_owned()
            } else {
                format!("put these on the loader's path (LD_LIBRARY_PATH): {}", missing.join(", "))
            };
            report.fix("providers", format!("CUDA does not start: {reason}"), fix);
        }
    }
}

fn openvino(library: &Path, subject: &Subject, report: &mut Report) {
    match library::try_library(library, &["--openvino"], subject.child_limit()) {
        Ok(_) => report.ok("providers", "OpenVINO starts; CPU"),
        Err(reason) => report.warning(
            "providers",
            format!("OpenVINO does not start: {reason}"),
            "`auto` does without it, slower; remove the library's folder from the cache to have it fetched again",
        ),
    }
}

/// The first clause of a library's description of itself.
fn short(version: &str) -> &str {
    version.trim().split(',').next().unwrap_or_default()
}

/// Libraries of the CUDA provider that are in none of the folders.
fn missing(folders: &[PathBuf]) -> Vec<String> {
    let there = |file: &str| folders.iter().any(|folder| folder.join(file).exists());
    CUDA_LIBRARIES.iter().filter(|(file, _)| !there(file)).map(|(file, whose)| format!("{file} ({whose})")).collect()
}

/// Where the loader looks for libraries: beside the library, the environment, the system's configuration, the usual folders.
fn loader_folders(library: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = library.parent().map(Path::to_path_buf).into_iter().collect();
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    for entry in std::fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        folders.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from));
    }
    let architecture = std::env::consts::ARCH;
    let usual = ["/lib", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda/lib64"];
    folders.extend(usual.map(PathBuf::from));
    folders.push(format!("/usr/lib/{architecture}-linux-gnu").into());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        for (file, _) in &CUDA_LIBRARIES[..5] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        assert_eq!(missing(&[folder.path().into()]), ["libcudnn.so.9 (cuDNN 9)"]);
    }

    #[test]
    fn a_description_is_cut_at_its_first_comma() {
        assert_eq!(
            short("ORT Distribution Info: git-branch=rel-1.31.0, git-commit-id=1\n"),
            "ORT Distribution Info: git-branch=rel-1.31.0"
        );
    }
}

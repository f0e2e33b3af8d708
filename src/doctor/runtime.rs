//! ONNX Runtime and its execution providers. In: the job's library and device. Out: the library that would be loaded, its version as a
//! child process reports it, and why a provider does not start. It must not load a library into this process or download one.

use std::path::{Path, PathBuf};

use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::model::runtime::device::{Device, Devices, nvidia_driver};
use crate::model::runtime::distribution::{Distribution, LIBRARY_VARIABLE, VERSION};
use crate::model::runtime::library;

/// The libraries that the CUDA provider loads: the file and its product.
const CUDA_LIBRARIES: [(&str, &str); 6] = [
    ("libcudart.so.13", "CUDA 13 runtime"),
    ("libcublas.so.13", "cuBLAS"),
    ("libcublasLt.so.13", "cuBLAS"),
    ("libcurand.so.10", "cuRAND"),
    ("libcufft.so.12", "cuFFT"),
    ("libcudnn.so.9", "cuDNN 9"),
];

pub(super) fn check(subject: &Subject, report: &mut Report) {
    let devices = subject.likely_devices();
    if subject.device.names_a_gpu() && !nvidia_driver() {
        report.fix(
            "CUDA",
            format!("the job names device `{}`, but this machine has no NVIDIA driver", subject.device),
            "install the driver, or set device = \"cpu\"",
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
                format!("{release}{kind} is not on this machine yet: the first run downloads it from PyPI"),
                format!(
                    "`quarry doctor --fetch` downloads it now; without network access, name a library in {LIBRARY_VARIABLE}"
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
            let text = format!("{} {place}; not the release that this program was benchmarked with", short(&version));
            report.ok("ONNX Runtime", text);
        }
        Err(reason) => {
            let fix = format!(
                "remove the file, or name the library of ONNX Runtime {VERSION} or newer in {LIBRARY_VARIABLE}; on a machine that is busy, give it \
                 more time by `--within 30`"
            );
            return report.fix("ONNX Runtime", reason, fix);
        }
    }
    match distribution {
        Distribution::OpenVino => openvino(&found.path, subject, report),
        Distribution::Cpu | Distribution::Cuda => providers(&found.path, &devices, subject, report),
    }
}

fn providers(library: &Path, devices: &Devices, subject: &Subject, report: &mut Report) {
    if devices.first() == Device::Cpu {
        let why = if nvidia_driver() { "the job names the CPU" } else { "no NVIDIA driver is installed" };
        return report.ok("providers", format!("CPU; CUDA is not used: {why}"));
    }
    let numbers: Vec<String> = devices
        .iter()
        .filter_map(|device| match device {
            Device::Cuda(number) => Some(number.to_string()),
            Device::Cpu => None,
        })
        .collect();
    let arguments: Vec<&str> = numbers.iter().flat_map(|number| ["--cuda", number]).collect();
    match library::try_library(library, &arguments, subject.child_limit()) {
        Ok(_) => report.ok("providers", format!("CUDA starts on {devices}; CPU")),
        Err(reason) => {
            let missing = missing(&loader_folders(library));
            let fix = if missing.is_empty() {
                "run with `--log debug` to see ONNX Runtime's own messages, or set device = \"cpu\"".to_owned()
            } else {
                format!("install these libraries, or add their folder to LD_LIBRARY_PATH: {}", missing.join(", "))
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
            "`auto` runs without it, more slowly; to download it again, delete the library's folder in the cache",
        ),
    }
}

/// The first clause of a library's description of itself.
fn short(version: &str) -> &str {
    version.trim().split(',').next().unwrap_or_default()
}

/// The libraries of the CUDA provider that none of the folders contains.
fn missing(folders: &[PathBuf]) -> Vec<String> {
    let present = |file: &str| folders.iter().any(|folder| folder.join(file).exists());
    CUDA_LIBRARIES
        .iter()
        .filter(|(file, _)| !present(file))
        .map(|(file, product)| format!("{file} ({product})"))
        .collect()
}

/// The loader's search path: the library's folder, `LD_LIBRARY_PATH`, the system's configuration, the standard folders.
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
    let standard = ["/lib", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda/lib64"];
    folders.extend(standard.map(PathBuf::from));
    folders.push(format!("/usr/lib/{architecture}-linux-gnu").into());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_its_product() {
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

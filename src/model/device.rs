//! Where a model runs. In: the job's word for a device. Out: the device that is taken and why, and the session options that put
//! a graph there. It may not replace a device that was named: only `auto` chooses.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ort::ep::ExecutionProvider as _;
use ort::session::builder::SessionBuilder;

use super::library::{self, Build, Library};
use crate::error::{Error, Result};

/// The job's `[model] device`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A CUDA device where there is one, else the CPU; says which and why.
    #[default]
    Auto,
    /// This one or an error.
    Named(Device),
}

/// A device a session runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().map(|number| Self::Named(Device::Cuda(number)));
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Named(Device::Cpu)),
            None if text == "cuda" => Ok(Self::Named(Device::Cuda(0))),
            Some(("cuda", digits)) => {
                number(digits).map_err(|_| format!("`{digits}` is not the number of a CUDA device"))
            }
            _ => Err(format!("`{text}` is none of auto, cpu, cuda, cuda:N")),
        }
    }
}

/// A device, the library that serves it, and why it was taken.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Where sessions run.
    pub device: Device,
    /// For people, one clause.
    pub reason: String,
    /// What sessions are made with.
    pub library: Library,
}

impl DeviceChoice {
    /// Loads the library for the device and checks that the device can be had.
    pub fn resolve(self, library: Option<&Path>, note: &dyn Fn(&str)) -> Result<Chosen> {
        let load = |build| Library::load(library, build, note);
        match self {
            Self::Named(Device::Cpu) => {
                Ok(Chosen { device: Device::Cpu, reason: "the job names it".into(), library: load(Build::Cpu)? })
            }
            Self::Named(device @ Device::Cuda(number)) => {
                let refuse = |reason: String, hint: &str| Error::Device {
                    device: device.to_string(),
                    reason,
                    hint: hint.into(),
                };
                if !nvidia_driver() {
                    return Err(refuse(
                        "no NVIDIA driver answers on this machine".into(),
                        "install the driver, or say device = \"cpu\"",
                    ));
                }
                let library = load(Build::Cuda)?;
                if !ort::ep::CUDA::is_available().unwrap_or(false) {
                    let reason = format!("`{}` was built without the CUDA provider", library.path.display());
                    return Err(refuse(
                        reason,
                        "name the library of the `onnxruntime-gpu` package, or none to have it fetched",
                    ));
                }
                Ok(Chosen { device: Device::Cuda(number), reason: "the job names it".into(), library })
            }
            Self::Auto if nvidia_driver() => {
                let library = load(Build::Cuda)?;
                if ort::ep::CUDA::is_available().unwrap_or(false) {
                    return Ok(Chosen { device: Device::Cuda(0), reason: "an NVIDIA driver is there".into(), library });
                }
                Ok(Chosen { device: Device::Cpu, reason: "the library has no CUDA provider".into(), library })
            }
            Self::Auto => Ok(Chosen {
                device: Device::Cpu,
                reason: "there is no NVIDIA driver".into(),
                library: load(Build::Cpu)?,
            }),
        }
    }
}

impl DeviceChoice {
    /// The device that a run would take, as far as can be said without loading anything.
    pub fn likely(self) -> Device {
        match self {
            Self::Named(device) => device,
            Self::Auto if nvidia_driver() => Device::Cuda(0),
            Self::Auto => Device::Cpu,
        }
    }
}

impl Device {
    /// The build of ONNX Runtime that serves it.
    pub const fn build(self) -> Build {
        match self {
            Self::Cpu => Build::Cpu,
            Self::Cuda(_) => Build::Cuda,
        }
    }
}

/// Loads a library, and the provider of a CUDA device if one is asked for, and says the library's version: what the child process does
/// that tries them.
pub fn probe(path: &Path, cuda: Option<u32>) -> Result<String> {
    let library = library::probe(path)?;
    if let Some(number) = cuda {
        let failed = |source: ort::Error| Error::Inference { doing: "make a session".into(), source: source.into() };
        let builder = ort::session::Session::builder(library.environment()).map_err(failed)?;
        Device::Cuda(number).register(builder)?;
    }
    Ok(library.version)
}

/// Whether the kernel driver of an NVIDIA card is loaded.
pub fn nvidia_driver() -> bool {
    Path::new("/proc/driver/nvidia/version").exists() || Path::new("/dev/nvidiactl").exists()
}

impl Device {
    /// Registers the device's provider; one that cannot start is an error, never a silent move to the CPU.
    pub(super) fn register(self, builder: SessionBuilder) -> Result<SessionBuilder> {
        let Self::Cuda(number) = self else { return Ok(builder) };
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let provider = ort::ep::CUDA::default().with_device_id(number).build().error_on_failure();
        builder.with_execution_providers([provider]).map_err(|error| Error::Device {
            device: self.to_string(),
            reason: error.to_string(),
            hint: "ONNX Runtime's CUDA provider needs cuBLAS, cuDNN 9 and the CUDA 13 runtime on the loader's path (LD_LIBRARY_PATH)".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Named(Device::Cpu)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Named(Device::Cuda(0))));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Named(Device::Cuda(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}

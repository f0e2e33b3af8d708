//! Devices. In: a device's name in the job. Out: the device, and the execution provider that runs a graph on it. It must not select a
//! device: that is the task of [`selection`](crate::model::runtime::selection).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ort::ep::ArbitrarilyConfigurableExecutionProvider as _;
use ort::session::builder::SessionBuilder;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library;
use crate::model::runtime::library::Library;

/// The job's `[model] device`. It is written as in a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceChoice {
    /// A CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// This device, or an error.
    Named(Device),
}

/// A device that a session runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// The CUDA device with this number.
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

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Named(device) => device.fmt(formatter),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
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

/// Loads a library, starts the requested providers on their devices, and returns the library's version. `quarry` runs this in a
/// child process to test them.
pub fn probe(path: &Path, cuda: Option<u32>, openvino: bool) -> Result<String> {
    let library = library::open(path)?;
    if let Some(number) = cuda {
        try_provider(&library, Device::Cuda(number), Distribution::Cuda)?;
    }
    if openvino {
        try_provider(&library, Device::Cpu, Distribution::OpenVino)?;
    }
    Ok(library.version)
}

/// A minimal graph in the encoding of `quarry::graph::onnx`: `y = x + x`, one float each.
pub(crate) const TRIAL: &[u8] = b"\x08\x08\x3a\x35\x0a\x0e\x0a\x01x\x0a\x01x\x12\x01y\x22\x03Add\x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\x42\x02\x10\x11";

/// Starts a provider on a device: it opens a session with a minimal graph, because only that makes the driver open the GPU.
pub(crate) fn try_provider(library: &Library, device: Device, distribution: Distribution) -> Result<()> {
    let failed = |source: ort::Error| Error::Inference { doing: "open a session".into(), source: source.into() };
    let builder = ort::session::Session::builder(library.environment()).map_err(failed)?;
    let session = device.register(builder, distribution, 1)?.commit_from_memory(TRIAL);
    session.map(drop).map_err(|error| Error::Device {
        device: device.to_string(),
        reason: error.to_string(),
        hint: match device {
            Device::Cpu => "say precision = \"int8\" or \"fp32\", which do not need OpenVINO".into(),
            Device::Cuda(_) => {
                "name a GPU that `nvidia-smi` lists, with a driver for CUDA 13, or say device = \"cpu\"".into()
            }
        },
    })
}

/// Whether the kernel driver of an NVIDIA GPU is loaded, or Windows provides its own driver to Linux (WSL 2).
pub fn nvidia_driver() -> bool {
    let exists = |path: &str| Path::new(path).exists();
    let from_windows = exists("/dev/dxg") && exists("/usr/lib/wsl/lib/libcuda.so.1");
    exists("/proc/driver/nvidia/version") || exists("/dev/nvidiactl") || from_windows
}

/// OpenVINO's setting for bfloat16 products; it uses 32-bit floats if the processor does not support them.
const IN_BF16: &str = r#"{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}"#;

impl Device {
    /// Registers the provider of `distribution`. A provider that cannot start is an error, never a silent fallback to the CPU provider.
    pub(crate) fn register(
        self,
        builder: SessionBuilder,
        distribution: Distribution,
        threads: usize,
    ) -> Result<SessionBuilder> {
        let (provider, hint) = match (self, distribution) {
            (Self::Cuda(number), _) => {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                // fp32 is the reference, so TF32 products, the provider's default, are disabled.
                let provider = ort::ep::CUDA::default().with_device_id(number).with_tf32(false).build();
                (
                    provider,
                    "ONNX Runtime's CUDA provider needs the CUDA 13 runtime, cuBLAS, cuRAND, cuFFT and cuDNN 9 on the \
                     loader's path (LD_LIBRARY_PATH)",
                )
            }
            (Self::Cpu, Distribution::OpenVino) => {
                let provider = ort::ep::OpenVINO::default().with_device_type("CPU").with_num_threads(threads);
                let provider = provider.with_arbitrary_config("load_config", IN_BF16).build();
                (
                    provider,
                    "OpenVINO's libraries must be beside ONNX Runtime's; or say precision = \"int8\" or \"fp32\", which do not need OpenVINO",
                )
            }
            (Self::Cpu, _) => return Ok(builder),
        };
        builder.with_execution_providers([provider.error_on_failure()]).map_err(|error| Error::Device {
            device: self.to_string(),
            reason: error.to_string(),
            hint: hint.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_parsed() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Named(Device::Cpu)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Named(Device::Cuda(0))));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Named(Device::Cuda(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}

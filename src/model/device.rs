//! Where a model runs. In: the job's word for a device. Out: the device it means, and the session options that put a graph there. It
//! may not choose: that is [`choice`](super::choice)'s.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ort::ep::ArbitrarilyConfigurableExecutionProvider as _;
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

/// Loads a library, and starts the provider that is asked for, and says the library's version: what the child process does that tries
/// them.
pub fn probe(path: &Path, cuda: Option<u32>, openvino: bool) -> Result<String> {
    let library = library::probe(path)?;
    if let Some(number) = cuda {
        try_provider(&library, Device::Cuda(number), Build::Cuda)?;
    }
    if openvino {
        try_provider(&library, Device::Cpu, Build::OpenVino)?;
    }
    Ok(library.version)
}

/// Registers a provider with a session that is never made.
pub(super) fn try_provider(library: &Library, device: Device, build: Build) -> Result<()> {
    let failed = |source: ort::Error| Error::Inference { doing: "make a session".into(), source: source.into() };
    let builder = ort::session::Session::builder(library.environment()).map_err(failed)?;
    device.register(builder, build, 1).map(drop)
}

/// Whether the kernel driver of an NVIDIA card is loaded.
pub fn nvidia_driver() -> bool {
    Path::new("/proc/driver/nvidia/version").exists() || Path::new("/dev/nvidiactl").exists()
}

/// OpenVINO's own setting: multiply in bfloat16 where the processor can, else in 32-bit floats.
const IN_BF16: &str = r#"{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}"#;

impl Device {
    /// Registers the provider that `build` is for; one that cannot start is an error, never a silent move to the plain CPU.
    pub(super) fn register(self, builder: SessionBuilder, build: Build, threads: usize) -> Result<SessionBuilder> {
        let (provider, hint) = match (self, build) {
            (Self::Cuda(number), _) => {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                let provider = ort::ep::CUDA::default().with_device_id(number).build();
                (
                    provider,
                    "ONNX Runtime's CUDA provider needs cuBLAS, cuDNN 9 and the CUDA 13 runtime on the loader's path (LD_LIBRARY_PATH)",
                )
            }
            (Self::Cpu, Build::OpenVino) => {
                let provider = ort::ep::OpenVINO::default().with_device_type("CPU").with_num_threads(threads);
                let provider = provider.with_arbitrary_config("load_config", IN_BF16).build();
                (
                    provider,
                    "OpenVINO's libraries belong beside ONNX Runtime's; or say flavour = \"int8\" or \"fp32\", which do without",
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

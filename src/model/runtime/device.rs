//! Where a model runs. In: the job's word for a device. Out: the device it means, and the session options that put a graph there. It
//! may not choose: that is [`choice`](crate::model::runtime::selection)'s.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ort::ep::ArbitrarilyConfigurableExecutionProvider as _;
use ort::session::builder::SessionBuilder;

use crate::error::{Error, Result};
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library;
use crate::model::runtime::library::Library;

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

/// Loads a library, starts the provider that is asked for on its device, and says the library's version: what the child
/// process does that tries them.
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

/// The smallest graph there is, as `quarry::graph::onnx` would write it: `y = x + x`, one float each.
pub(crate) const TRIAL: &[u8] = b"\x08\x08\x3a\x35\x0a\x0e\x0a\x01x\x0a\x01x\x12\x01y\x22\x03Add\x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\x42\x02\x10\x11";

/// Starts a provider on a device: makes a session of the smallest graph, for only that asks the driver for the card.
pub(crate) fn try_provider(library: &Library, device: Device, distribution: Distribution) -> Result<()> {
    let failed = |source: ort::Error| Error::Inference { doing: "make a session".into(), source: source.into() };
    let builder = ort::session::Session::builder(library.environment()).map_err(failed)?;
    let session = device.register(builder, distribution, 1)?.commit_from_memory(TRIAL);
    session.map(drop).map_err(|error| Error::Device {
        device: device.to_string(),
        reason: error.to_string(),
        hint: match device {
            Device::Cpu => "say precision = \"int8\" or \"fp32\", which do without OpenVINO".into(),
            Device::Cuda(_) => {
                "name a card that `nvidia-smi` lists, under a driver for CUDA 13, or say device = \"cpu\"".into()
            }
        },
    })
}

/// Whether the kernel driver of an NVIDIA card is loaded, or Windows lends its own to the Linux inside it (WSL 2).
pub fn nvidia_driver() -> bool {
    let there = |path: &str| Path::new(path).exists();
    let lent = there("/dev/dxg") && there("/usr/lib/wsl/lib/libcuda.so.1");
    there("/proc/driver/nvidia/version") || there("/dev/nvidiactl") || lent
}

/// OpenVINO's own setting: multiply in bfloat16 where the processor can, else in 32-bit floats.
const IN_BF16: &str = r#"{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}"#;

impl Device {
    /// Registers the provider that `distribution` is for; one that cannot start is an error, never a silent move to the plain CPU.
    pub(crate) fn register(
        self,
        builder: SessionBuilder,
        distribution: Distribution,
        threads: usize,
    ) -> Result<SessionBuilder> {
        let (provider, hint) = match (self, distribution) {
            (Self::Cuda(number), _) => {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                // fp32 is the reference: the provider would round its products to TF32 unless told otherwise.
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
                    "OpenVINO's libraries belong beside ONNX Runtime's; or say precision = \"int8\" or \"fp32\", which do without",
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

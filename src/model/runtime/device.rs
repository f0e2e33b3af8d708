//! Devices. In: the name of a device, or of several, in the job. Out: the devices, and the execution provider that runs a graph on one. It
//! must not select a device: that is the task of [`selection`](crate::model::runtime::selection).

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceChoice {
    /// A CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// These devices, or an error.
    Named(Devices),
    /// Every CUDA device that this process can see, or an error.
    EveryGpu,
}

/// The devices of a run, each with a session of its own: GPUs, each once, or the CPU. The CPU can stand there several times, which divides its
/// cores and tests what several GPUs would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    first: Device,
    others: Vec<Device>,
}

impl Devices {
    /// The first device. The others are of the same kind.
    pub const fn first(&self) -> Device {
        self.first
    }

    /// The GPUs from 0 to `count`, at least one.
    pub fn first_gpus(count: u32) -> Self {
        Self { first: Device::Cuda(0), others: (1..count).map(Device::Cuda).collect() }
    }

    /// All devices, in the order of the job.
    pub fn iter(&self) -> impl Iterator<Item = Device> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// The number of devices.
    pub const fn count(&self) -> usize {
        1 + self.others.len()
    }
}

impl From<Device> for Devices {
    fn from(device: Device) -> Self {
        Self { first: device, others: Vec::new() }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(formatter)?;
        self.others.iter().try_for_each(|device| write!(formatter, ",{device}"))
    }
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
            Self::Named(devices) => devices.fmt(formatter),
            Self::EveryGpu => formatter.write_str("cuda:*"),
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
        match text {
            "auto" => Ok(Self::Auto),
            "cuda:*" => Ok(Self::EveryGpu),
            _ => text.parse().map(Self::Named),
        }
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = text.split(',').map(str::trim);
        let mut devices = Self::from(device(names.next().unwrap_or_default())?);
        for name in names {
            let next = device(name)?;
            if (next == Device::Cpu) != (devices.first == Device::Cpu) {
                return Err(format!("`{text}` mixes the CPU with GPUs, which compute in different precisions"));
            }
            if next != Device::Cpu && devices.iter().any(|device| device == next) {
                return Err(format!("`{text}` names {next} twice"));
            }
            devices.others.push(next);
        }
        Ok(devices)
    }
}

/// The device with this name.
fn device(name: &str) -> Result<Device, String> {
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", digits)) => {
            let number = digits.parse().map_err(|_| format!("`{digits}` is not the number of a CUDA device"));
            number.map(Device::Cuda)
        }
        _ => Err(format!("`{name}` is none of auto, cpu, cuda, cuda:N, cuda:*")),
    }
}

/// Loads a library, starts the requested providers on their devices, the GPUs by number, and returns the library's version. `quarry` runs this in a
/// child process to test them.
pub fn probe(path: &Path, cuda: &[u32], openvino: bool) -> Result<String> {
    let library = library::open(path)?;
    for number in cuda {
        try_provider(&library, Device::Cuda(*number), Distribution::Cuda)?;
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
        assert_eq!("cuda:*".parse(), Ok(DeviceChoice::EveryGpu));
        for (text, first, count) in [
            ("cpu", Device::Cpu, 1),
            ("cuda", Device::Cuda(0), 1),
            ("cuda:3", Device::Cuda(3), 1),
            ("cuda:2,cuda:0", Device::Cuda(2), 2),
            ("cpu, cpu, cpu", Device::Cpu, 3),
        ] {
            let devices: Devices = text.parse().unwrap();
            assert_eq!((devices.first(), devices.count()), (first, count), "{text}");
            assert_eq!(devices.iter().count(), count);
            assert_eq!(devices.to_string().parse(), Ok(DeviceChoice::Named(devices)));
        }
        let wrong = [
            "",
            "gpu",
            "cuda:",
            "cuda:x",
            "cpu:1",
            "cpu,",
            "cpu,auto",
            "cuda:0,cpu",
            "cpu,cuda",
            "cuda,cuda:0",
            "cuda:0,cuda:*",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}

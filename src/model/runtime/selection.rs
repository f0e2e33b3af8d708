//! Selects device, precision and library. In: the job's settings. Out: the selection and its reason. It must not replace an explicit
//! setting: only `auto` selects, and it reports every fallback.

use std::path::Path;

use ort::ep::ExecutionProvider;

use crate::error::{Error, Result};
use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::device::{Device, DeviceChoice, Devices, nvidia_driver, try_provider};
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::hardware::{Processor, kernels, visible_gpus};
use crate::model::runtime::library::Library;
use crate::model::runtime::session::SessionOptions;

/// Devices, a precision, and the library that computes in it.
#[derive(Debug, Clone)]
pub struct RuntimeSelection {
    /// The device of each session.
    pub devices: Devices,
    /// The reason for the devices, as one clause for people.
    pub reason: String,
    /// The precision of the sessions.
    pub precision: Precision,
    /// The build of ONNX Runtime, which determines the execution provider.
    pub distribution: Distribution,
    /// The loaded library.
    pub library: Library,
}

impl RuntimeSelection {
    /// The variant and precision of the graph to load.
    pub fn graph(&self) -> (GraphVariant, Precision) {
        graph(self.devices.first(), self.precision)
    }

    /// The options of each session, which share `cores` on the CPU.
    pub fn sessions(&self, cores: usize) -> Vec<SessionOptions> {
        let threads = (cores / self.devices.count()).max(1);
        let options = |device: Device| SessionOptions { device, distribution: self.distribution, threads };
        self.devices.iter().map(options).collect()
    }
}

/// The fused variant in every precision that has one, in int8 with the kernels of this processor. OpenVINO runs the portable fp32 graph and rounds
/// to bf16 itself.
fn graph(device: Device, precision: Precision) -> (GraphVariant, Precision) {
    match (device, precision) {
        (Device::Cpu, Precision::Bf16) => (GraphVariant::Portable, Precision::Fp32),
        (Device::Cuda(_), Precision::Bf16) => (GraphVariant::Portable, Precision::Bf16),
        (Device::Cpu, Precision::Int8) if kernels().is_some() => (GraphVariant::Kernels, precision),
        (_, Precision::Fp32 | Precision::Fp16 | Precision::Int8) => (GraphVariant::Fused, precision),
    }
}

/// The build of ONNX Runtime that supports this precision on this device.
pub const fn distribution(device: Device, precision: Precision) -> Distribution {
    match (device, precision) {
        (Device::Cuda(_), _) => Distribution::Cuda,
        (Device::Cpu, Precision::Bf16) => Distribution::OpenVino,
        (Device::Cpu, _) => Distribution::Cpu,
    }
}

impl DeviceChoice {
    /// Loads the library for the device and checks that device and provider are available. `precision` and `library` are the explicit
    /// settings, if any. Downloads and fallbacks of `auto` are logged.
    pub fn resolve(&self, precision: Option<Precision>, library: Option<&Path>) -> Result<RuntimeSelection> {
        let on_the_cpu = |devices: &Devices, reason| on_the_cpu(devices, reason, precision, library);
        let (cpu, gpu) = (Devices::from(Device::Cpu), Devices::from(Device::Cuda(0)));
        match self {
            Self::Named(devices) if devices.first() == Device::Cpu => on_the_cpu(devices, "the job names it"),
            Self::Named(_) | Self::EveryGpu => {
                if !nvidia_driver() {
                    return Err(Error::Device {
                        device: self.to_string(),
                        reason: "no NVIDIA driver answers on this machine".into(),
                        hint: "install the driver, or say device = \"cpu\"".into(),
                    });
                }
                on_gpus(&self.likely(), "the job names it", precision, library)
            }
            Self::Auto if precision == Some(Precision::Int8) => on_the_cpu(&cpu, "int8 runs on the CPU"),
            Self::Auto if nvidia_driver() => {
                on_gpus(&gpu, "there is an NVIDIA driver", precision, library).or_else(|error| {
                    tracing::info!("the GPU cannot be used, so this run uses the CPU: {error}");
                    on_the_cpu(&cpu, "the GPU cannot be used")
                })
            }
            Self::Auto => on_the_cpu(&cpu, "there is no NVIDIA driver"),
        }
    }

    /// The devices that a run would probably use, determined without loading a library.
    pub fn likely(&self) -> Devices {
        self.likely_in(None)
    }

    /// [`Self::likely`] for a run with an explicit precision, if any.
    pub fn likely_in(&self, precision: Option<Precision>) -> Devices {
        match self {
            Self::Named(devices) => devices.clone(),
            // Without the kernel module's list, as under Windows, the first.
            Self::EveryGpu => Devices::first_gpus(visible_gpus().max(1)),
            Self::Auto if precision != Some(Precision::Int8) && nvidia_driver() => Device::Cuda(0).into(),
            Self::Auto => Device::Cpu.into(),
        }
    }

    /// Whether the job names a GPU.
    pub fn names_a_gpu(&self) -> bool {
        match self {
            Self::Auto => false,
            Self::Named(devices) => devices.first() != Device::Cpu,
            Self::EveryGpu => true,
        }
    }
}

/// Selects GPUs. Loads the library with the CUDA provider, and checks that the provider starts on each.
fn on_gpus(
    devices: &Devices,
    reason: &str,
    precision: Option<Precision>,
    path: Option<&Path>,
) -> Result<RuntimeSelection> {
    let library = Library::load(path, Distribution::Cuda)?;
    if !ort::ep::CUDA::is_available().unwrap_or(false) {
        return Err(Error::Device {
            device: devices.to_string(),
            reason: format!("`{}` was built without the CUDA provider", library.path.display()),
            hint: "name the library of the `onnxruntime-gpu` package, or none to have it fetched".into(),
        });
    }
    for device in devices.iter() {
        try_provider(&library, device, Distribution::Cuda)?;
    }
    let precision = precision.unwrap_or_else(|| best_precision(devices.first()).0);
    let (devices, reason) = (devices.clone(), reason.into());
    Ok(RuntimeSelection { devices, reason, precision, distribution: Distribution::Cuda, library })
}

/// Selects the CPU, with the configured precision or the best one for this processor.
fn on_the_cpu(
    devices: &Devices,
    reason: &str,
    configured: Option<Precision>,
    path: Option<&Path>,
) -> Result<RuntimeSelection> {
    let load = |distribution: Distribution| match distribution {
        Distribution::OpenVino => openvino(path),
        Distribution::Cpu | Distribution::Cuda => Library::load(path, Distribution::Cpu),
    };
    let (precision, distribution, library) = precision_on(Processor::own(), configured, load)?;
    Ok(RuntimeSelection { devices: devices.clone(), reason: reason.into(), precision, distribution, library })
}

/// The configured precision or the best one for a processor, the distribution that supports it, and the result of `load` for this distribution. If the
/// best precision needs OpenVINO and it is not available, the next best precision is used, which is logged.
fn precision_on<Loaded>(
    processor: Processor,
    configured: Option<Precision>,
    load: impl Fn(Distribution) -> Result<Loaded>,
) -> Result<(Precision, Distribution, Loaded)> {
    let precision = configured.unwrap_or_else(|| best_on(processor).0);
    let wanted = distribution(Device::Cpu, precision);
    match load(wanted) {
        Ok(loaded) => {
            if wanted == Distribution::OpenVino && !processor.tiles {
                tracing::info!(
                    "this processor has no bfloat16 tiles (AMX), so OpenVINO computes in a wider format, which is slower than int8"
                );
            }
            Ok((precision, wanted, loaded))
        }
        Err(error) if wanted == Distribution::OpenVino && configured.is_none() => {
            tracing::info!(
                "OpenVINO, which is faster on this processor, cannot be used; this run does without it: {error}"
            );
            Ok((plain_on(processor).0, Distribution::Cpu, load(Distribution::Cpu)?))
        }
        Err(error) => Err(error),
    }
}

/// Loads the library with the OpenVINO provider, and checks that the provider starts.
fn openvino(path: Option<&Path>) -> Result<Library> {
    let library = Library::load(path, Distribution::OpenVino)?;
    if !ort::ep::OpenVINO::is_available().unwrap_or(false) {
        return Err(Error::Device {
            device: Device::Cpu.to_string(),
            reason: format!("`{}` was built without the OpenVINO provider", library.path.display()),
            hint: "name the library of the `onnxruntime-openvino` package, or none to have it fetched".into(),
        });
    }
    try_provider(&library, Device::Cpu, Distribution::OpenVino)?;
    Ok(library)
}

/// The precision that `auto` selects: fp16 on CUDA; on the CPU bf16 if the processor has bfloat16 tiles, int8 if it has vector products
/// of 8-bit integers, else fp32. (Without VNNI, x86 saturates sums of two products; this costs no measurable F1.) The second value is
/// the reason, as a clause.
pub fn best_precision(device: Device) -> (Precision, &'static str) {
    match device {
        Device::Cuda(_) => (Precision::Fp16, "it computes in half precision"),
        Device::Cpu => best_on(Processor::own()),
    }
}

fn best_on(processor: Processor) -> (Precision, &'static str) {
    if processor.tiles {
        (Precision::Bf16, "it multiplies tiles of bfloat16, with OpenVINO")
    } else {
        plain_on(processor)
    }
}

/// The best precision on a CPU without OpenVINO.
fn plain_on(processor: Processor) -> (Precision, &'static str) {
    if processor.bytes {
        (Precision::Int8, "it multiplies 8-bit integers in vectors")
    } else {
        (Precision::Fp32, "it does not multiply 8-bit integers in vectors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::captured_events::captured;

    const AMX: Processor = Processor { tiles: true, bytes: true };
    const AVX2: Processor = Processor { tiles: false, bytes: true };
    const OLD: Processor = Processor { tiles: false, bytes: false };

    /// The selection with or without OpenVINO, and its notes.
    fn selected(
        processor: Processor,
        configured: Option<Precision>,
        openvino: bool,
    ) -> (Result<(Precision, Distribution)>, String) {
        let load = |distribution: Distribution| {
            let missing = || Error::Device {
                device: "cpu".into(),
                reason: "its library has no such provider".into(),
                hint: String::new(),
            };
            if distribution == Distribution::OpenVino && !openvino { Err(missing()) } else { Ok(distribution) }
        };
        let (found, notes) = captured(|| precision_on(processor, configured, load));
        let found = found.map(|(precision, distribution, loaded)| {
            assert_eq!(distribution, loaded, "the loaded library is not the one of the selected distribution");
            (precision, distribution)
        });
        (found, notes.join("\n"))
    }

    #[test]
    fn a_processor_with_tiles_uses_them_if_openvino_is_available() {
        let (found, notes) = selected(AMX, None, true);
        assert_eq!((found.unwrap(), notes.as_str()), ((Precision::Bf16, Distribution::OpenVino), ""));
        let (found, notes) = selected(AMX, None, false);
        assert_eq!(found.unwrap(), (Precision::Int8, Distribution::Cpu));
        assert!(notes.starts_with("OpenVINO, ") && notes.contains("has no such provider"), "{notes}");
    }

    #[test]
    fn a_processor_without_tiles_does_not_use_openvino() {
        for openvino in [true, false] {
            for (processor, precision) in [(AVX2, Precision::Int8), (OLD, Precision::Fp32)] {
                let (found, notes) = selected(processor, None, openvino);
                assert_eq!((found.unwrap(), notes.as_str()), ((precision, Distribution::Cpu), ""));
            }
        }
    }

    #[test]
    fn a_configured_precision_is_never_replaced() {
        for processor in [AMX, AVX2, OLD] {
            for precision in [Precision::Fp32, Precision::Int8] {
                let (found, notes) = selected(processor, Some(precision), false);
                assert_eq!((found.unwrap(), notes.as_str()), ((precision, Distribution::Cpu), ""));
            }
            let (found, notes) = selected(processor, Some(Precision::Bf16), true);
            assert_eq!(found.unwrap(), (Precision::Bf16, Distribution::OpenVino));
            assert_eq!(notes.contains("no bfloat16 tiles"), !processor.tiles, "{notes}");
            let (found, notes) = selected(processor, Some(Precision::Bf16), false);
            assert!(found.unwrap_err().to_string().contains("has no such provider") && notes.is_empty(), "{notes}");
        }
    }

    #[test]
    fn int8_runs_on_the_cpu_unless_a_gpu_is_named() {
        assert_eq!(DeviceChoice::Auto.likely_in(Some(Precision::Int8)), Device::Cpu.into());
        let configured: DeviceChoice = "cuda:1,cuda:0".parse().unwrap();
        assert_eq!(configured.likely_in(Some(Precision::Int8)).to_string(), "cuda:1,cuda:0");
        assert_eq!(DeviceChoice::Auto.likely_in(None), DeviceChoice::Auto.likely());
        assert_eq!(DeviceChoice::EveryGpu.likely().first(), Device::Cuda(0));
    }
}

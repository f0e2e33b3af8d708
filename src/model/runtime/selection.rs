//! What runs a model: device, number format and library. In: the job's words for them. Out: what is taken, and why. It may not replace
//! what was named: only `auto` chooses, and what it falls back to is said.

use std::path::Path;

use ort::ep::ExecutionProvider;

use crate::error::{Error, Result};
use crate::model::precision::{GraphVariant, Precision};
use crate::model::runtime::device::{Device, DeviceChoice, nvidia_driver, try_provider};
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::hardware::Processor;
use crate::model::runtime::library::Library;

/// A device, the number format it computes in, and the library that serves it.
#[derive(Debug, Clone)]
pub struct RuntimeSelection {
    /// Where sessions run.
    pub device: Device,
    /// Why there: for people, one clause.
    pub reason: String,
    /// What they compute in.
    pub precision: Precision,
    /// Which provider computes.
    pub distribution: Distribution,
    /// What sessions are made with.
    pub library: Library,
}

impl RuntimeSelection {
    /// The form and the number format of the graph that is loaded.
    pub fn graph(&self) -> (GraphVariant, Precision) {
        graph(self.device, self.precision)
    }
}

/// ONNX Runtime's own operators in every precision that they exist for. OpenVINO reads the standard's 32-bit graph and rounds by itself.
const fn graph(device: Device, precision: Precision) -> (GraphVariant, Precision) {
    match (device, precision) {
        (Device::Cpu, Precision::Bf16) => (GraphVariant::Portable, Precision::Fp32),
        (Device::Cuda(_), Precision::Bf16) => (GraphVariant::Portable, Precision::Bf16),
        (_, Precision::Fp32 | Precision::Fp16 | Precision::Int8) => (GraphVariant::Fused, precision),
    }
}

/// The distribution of ONNX Runtime that computes this precision on this device.
pub const fn distribution(device: Device, precision: Precision) -> Distribution {
    match (device, precision) {
        (Device::Cuda(_), _) => Distribution::Cuda,
        (Device::Cpu, Precision::Bf16) => Distribution::OpenVino,
        (Device::Cpu, _) => Distribution::Cpu,
    }
}

impl DeviceChoice {
    /// Loads the library for the device and checks that device and provider can be had. `precision` is the one that was named, `library` a
    /// library that was; `note` is told what is fetched and what `auto` has to do without.
    pub fn resolve(
        self,
        precision: Option<Precision>,
        library: Option<&Path>,
        note: &dyn Fn(&str),
    ) -> Result<RuntimeSelection> {
        let cuda = |device: Device, reason: &str, library: Library| {
            let precision = precision.unwrap_or_else(|| best_precision(device).0);
            RuntimeSelection { device, reason: reason.into(), precision, distribution: Distribution::Cuda, library }
        };
        match self {
            Self::Named(Device::Cpu) => on_the_cpu("the job names it", precision, library, note),
            Self::Named(device @ Device::Cuda(_)) => {
                if !nvidia_driver() {
                    return Err(Error::Device {
                        device: device.to_string(),
                        reason: "no NVIDIA driver answers on this machine".into(),
                        hint: "install the driver, or say device = \"cpu\"".into(),
                    });
                }
                Ok(cuda(device, "the job names it", on_the_card(device, library, note)?))
            }
            Self::Auto if precision == Some(Precision::Int8) => {
                on_the_cpu("8-bit integers are computed there", precision, library, note)
            }
            Self::Auto if nvidia_driver() => match on_the_card(Device::Cuda(0), library, note) {
                Ok(loaded) => Ok(cuda(Device::Cuda(0), "an NVIDIA driver is there", loaded)),
                Err(error) => {
                    note(&format!("without the card from here on: {error}"));
                    on_the_cpu("the card cannot be used", precision, library, note)
                }
            },
            Self::Auto => on_the_cpu("there is no NVIDIA driver", precision, library, note),
        }
    }

    /// The device that a run would take, as far as can be said without loading anything.
    pub fn likely(self) -> Device {
        self.likely_in(None)
    }

    /// The same for a run whose number format may be named.
    pub fn likely_in(self, precision: Option<Precision>) -> Device {
        match self {
            Self::Named(device) => device,
            Self::Auto if precision != Some(Precision::Int8) && nvidia_driver() => Device::Cuda(0),
            Self::Auto => Device::Cpu,
        }
    }
}

/// The library with the CUDA provider, which starts on this card.
fn on_the_card(device: Device, path: Option<&Path>, note: &dyn Fn(&str)) -> Result<Library> {
    let library = Library::load(path, Distribution::Cuda, note)?;
    if !ort::ep::CUDA::is_available().unwrap_or(false) {
        return Err(Error::Device {
            device: device.to_string(),
            reason: format!("`{}` was built without the CUDA provider", library.path.display()),
            hint: "name the library of the `onnxruntime-gpu` package, or none to have it fetched".into(),
        });
    }
    try_provider(&library, device, Distribution::Cuda)?;
    Ok(library)
}

/// The CPU in the precision that was named or is best on this processor.
fn on_the_cpu(
    reason: &str,
    named: Option<Precision>,
    path: Option<&Path>,
    note: &dyn Fn(&str),
) -> Result<RuntimeSelection> {
    let load = |distribution: Distribution| match distribution {
        Distribution::OpenVino => openvino(path, note),
        Distribution::Cpu | Distribution::Cuda => Library::load(path, Distribution::Cpu, note),
    };
    let (precision, distribution, library) = precision_on(Processor::own(), named, load, note)?;
    Ok(RuntimeSelection { device: Device::Cpu, reason: reason.into(), precision, distribution, library })
}

/// The precision that was named or is best on a processor, the distribution that computes it, and what `load` gives for that. Where the best needs
/// OpenVINO and that cannot be had, the next best, and a word on it.
fn precision_on<Loaded>(
    processor: Processor,
    named: Option<Precision>,
    load: impl Fn(Distribution) -> Result<Loaded>,
    note: &dyn Fn(&str),
) -> Result<(Precision, Distribution, Loaded)> {
    let precision = named.unwrap_or_else(|| best_on(processor).0);
    let wanted = distribution(Device::Cpu, precision);
    match load(wanted) {
        Ok(loaded) => {
            if wanted == Distribution::OpenVino && !processor.tiles {
                note(
                    "this processor has no bfloat16 tiles: OpenVINO computes in a wider format, which is slower than int8",
                );
            }
            Ok((precision, wanted, loaded))
        }
        Err(error) if wanted == Distribution::OpenVino && named.is_none() => {
            note(&format!("without OpenVINO, which is faster on this processor, from here on: {error}"));
            Ok((plain_on(processor).0, Distribution::Cpu, load(Distribution::Cpu)?))
        }
        Err(error) => Err(error),
    }
}

/// The library with the OpenVINO provider, which starts.
fn openvino(path: Option<&Path>, note: &dyn Fn(&str)) -> Result<Library> {
    let library = Library::load(path, Distribution::OpenVino, note)?;
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

/// What `precision = "auto"` means: half precision on CUDA; on the CPU bfloat16 where the processor multiplies tiles of it, 8-bit integers
/// where it multiplies those in vectors, else 32-bit floats. (Without VNNI, x86 saturates sums of two products; that costs no
/// measurable F1.) The second value says why, in a clause.
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

/// The best that ONNX Runtime does by itself on a CPU.
fn plain_on(processor: Processor) -> (Precision, &'static str) {
    if processor.bytes {
        (Precision::Int8, "it multiplies 8-bit integers in vectors")
    } else {
        (Precision::Fp32, "it does not multiply 8-bit integers in vectors")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const AMX: Processor = Processor { tiles: true, bytes: true };
    const AVX2: Processor = Processor { tiles: false, bytes: true };
    const OLD: Processor = Processor { tiles: false, bytes: false };

    /// What is taken where OpenVINO can be had or not, and what is said of it.
    fn taken(
        processor: Processor,
        named: Option<Precision>,
        openvino: bool,
    ) -> (Result<(Precision, Distribution)>, String) {
        let said = RefCell::new(String::new());
        let load = |distribution: Distribution| {
            let missing = || Error::Device {
                device: "cpu".into(),
                reason: "its library has no such provider".into(),
                hint: String::new(),
            };
            if distribution == Distribution::OpenVino && !openvino { Err(missing()) } else { Ok(distribution) }
        };
        let note = |text: &str| said.borrow_mut().push_str(text);
        let found = precision_on(processor, named, load, &note);
        let found = found.map(|(precision, distribution, loaded)| {
            assert_eq!(distribution, loaded, "another library is loaded than is computed with");
            (precision, distribution)
        });
        (found, said.take())
    }

    #[test]
    fn a_processor_with_tiles_computes_in_them_where_openvino_is() {
        let (found, said) = taken(AMX, None, true);
        assert_eq!((found.unwrap(), said.as_str()), ((Precision::Bf16, Distribution::OpenVino), ""));
        let (found, said) = taken(AMX, None, false);
        assert_eq!(found.unwrap(), (Precision::Int8, Distribution::Cpu));
        assert!(said.starts_with("without OpenVINO, ") && said.contains("has no such provider"), "{said}");
    }

    #[test]
    fn a_processor_without_tiles_asks_for_no_openvino() {
        for openvino in [true, false] {
            for (processor, precision) in [(AVX2, Precision::Int8), (OLD, Precision::Fp32)] {
                let (found, said) = taken(processor, None, openvino);
                assert_eq!((found.unwrap(), said.as_str()), ((precision, Distribution::Cpu), ""));
            }
        }
    }

    #[test]
    fn a_precision_that_is_named_is_never_replaced() {
        for processor in [AMX, AVX2, OLD] {
            for precision in [Precision::Fp32, Precision::Int8] {
                let (found, said) = taken(processor, Some(precision), false);
                assert_eq!((found.unwrap(), said.as_str()), ((precision, Distribution::Cpu), ""));
            }
            let (found, said) = taken(processor, Some(Precision::Bf16), true);
            assert_eq!(found.unwrap(), (Precision::Bf16, Distribution::OpenVino));
            assert_eq!(said.contains("no bfloat16 tiles"), !processor.tiles, "{said}");
            let (found, said) = taken(processor, Some(Precision::Bf16), false);
            assert!(found.unwrap_err().to_string().contains("has no such provider") && said.is_empty(), "{said}");
        }
    }

    #[test]
    fn bytes_are_for_the_cpu_unless_a_card_is_named() {
        assert_eq!(DeviceChoice::Auto.likely_in(Some(Precision::Int8)), Device::Cpu);
        let named = DeviceChoice::Named(Device::Cuda(1));
        assert_eq!(named.likely_in(Some(Precision::Int8)), Device::Cuda(1));
        assert_eq!(DeviceChoice::Auto.likely_in(None), DeviceChoice::Auto.likely());
    }
}

//! Tensors → a graph's outputs. In: a graph file, the kind of its model, a device, tensors. Out: the outputs that the kind reads. A
//! session must not be shared: it belongs to the thread that runs it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ort::session::SessionInputValue;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, TensorElementType, TensorRef};
use quarry_kernels::operator;

use crate::error::{Error, Result};
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library::Library;
use crate::task::batch::Batch;
use crate::task::kind::Kind;
use crate::task::mrc;
use crate::task::mrc::decode::Logits;
use crate::task::tensor::{GraphSignature, OutputSignature, Tensor, Tensors, Values};

/// The options of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// The device.
    pub device: Device,
    /// The build of ONNX Runtime, which determines the execution provider.
    pub distribution: Distribution,
    /// The number of threads of one operator on the CPU.
    pub threads: usize,
}

/// A loaded graph that follows the contract of its kind.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    kind: Kind,
    inputs: Vec<String>,
}

/// The execution provider that ran an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The ONNX operator.
    pub operator: String,
    /// The execution provider, such as `CUDAExecutionProvider`.
    pub provider: String,
}

impl Placement {
    /// Whether the operator multiplies by weights: such operators must not fall back to the CPU silently. A subgraph that a
    /// provider compiled as a whole counts too, because its operators are not visible.
    pub fn has_weights(&self) -> bool {
        let names = ["MatMul", "Gemm", "Attention", "EmbedLayerNormalization", "-EP-subgraph"];
        names.iter().any(|name| self.operator.contains(name))
    }
}

impl Session {
    /// Loads the graph at `path` and checks its inputs and outputs against the contract.
    pub fn open(library: &Library, path: &Path, kind: Kind, options: SessionOptions) -> Result<Self> {
        Self::build(library, path, kind, options, None)
    }

    fn build(
        library: &Library,
        path: &Path,
        kind: Kind,
        options: SessionOptions,
        profile: Option<&Path>,
    ) -> Result<Self> {
        let doing = || format!("load the graph `{}`", path.display());
        let failed = |source: crate::error::Cause| Error::Inference { doing: doing(), source };
        let refused = |error: ort::Error<ort::session::builder::SessionBuilder>| failed(error.to_string().into());
        let builder = ort::session::Session::builder(library.environment()).map_err(|error| failed(error.into()))?;
        let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(refused)?;
        let builder = builder.with_intra_threads(options.threads).map_err(refused)?;
        let builder = builder.with_memory_pattern(false).map_err(refused)?;
        let mut builder = builder.with_flush_to_zero().map_err(refused)?;
        if let Some(profile) = profile {
            builder = builder.with_profiling(profile).map_err(refused)?;
        }
        builder = options.device.register(builder, options.distribution, options.threads)?;
        if (options.device, options.distribution) == (Device::Cpu, Distribution::Cpu) {
            let domain = operator::domain(options.threads).map_err(|error| failed(error.into()))?;
            builder = builder.with_operators(domain).map_err(refused)?;
        }
        let inner = builder.commit_from_file(path).map_err(|error| failed(error.into()))?;
        let signature = signature(&inner);
        kind.check(&signature).map_err(|misfit| Error::Model {
            path: path.into(),
            reason: misfit.reason,
            hint: misfit.hint.into(),
        })?;
        Ok(Self { inner, kind, inputs: signature.inputs })
    }

    /// [`Self::open`], with a check by computing `batch`: it fails if an operator with weights runs on another provider than the
    /// requested one.
    pub fn open_on_its_device(
        library: &Library,
        path: &Path,
        kind: Kind,
        options: SessionOptions,
        (batch, fixed): (&Batch, &Tensors),
    ) -> Result<Self> {
        let (session, placed) = Self::profiled(library, path, kind, options, (batch, fixed))?;
        let wanted = options.distribution.provider();
        if let Some(one) = placed.iter().find(|one| one.has_weights() && one.provider != wanted) {
            return Err(Error::Device {
                device: options.device.to_string(),
                reason: format!("ONNX Runtime runs {} on {}, not on {wanted}", one.operator, one.provider),
                hint: "the device cannot run the whole graph: name another precision, or say device = \"cpu\"".into(),
            });
        }
        if options.distribution == Distribution::Cuda {
            // A CUDA provider can be built with NVIDIA's tracer, which collects data as long as the session lives. The session is
            // dropped before the next one is opened, because the GPU's memory can be too small for two.
            drop(session);
            return Self::open(library, path, kind, options);
        }
        // A finished profile costs nothing. Loading the graph again would cost time, because OpenVINO compiles it.
        Ok(session)
    }

    /// The provider that runs each operator of the graph, determined by computing `batch` under ONNX Runtime's profiler. A
    /// profile without an operator that has weights proves nothing and is an error.
    pub fn placement(
        library: &Library,
        path: &Path,
        kind: Kind,
        options: SessionOptions,
        (batch, fixed): (&Batch, &Tensors),
    ) -> Result<Vec<Placement>> {
        Self::profiled(library, path, kind, options, (batch, fixed)).map(|(_, placed)| placed)
    }

    /// A session that has computed `batch` under the profiler, with the placements in the profile. The profiler has ended.
    fn profiled(
        library: &Library,
        path: &Path,
        kind: Kind,
        options: SessionOptions,
        (batch, fixed): (&Batch, &Tensors),
    ) -> Result<(Self, Vec<Placement>)> {
        static PROFILES: AtomicUsize = AtomicUsize::new(0);
        let number = PROFILES.fetch_add(1, Ordering::Relaxed);
        let prefix = std::env::temp_dir().join(format!("quarry-placement-{}-{number}", std::process::id()));
        let mut session = Self::build(library, path, kind, options, Some(&prefix))?;
        session.run(&[&kind.tensors(batch), fixed])?;
        let failed = |source: crate::error::Cause| Error::Inference { doing: "profile a graph".into(), source };
        let file = session.inner.end_profiling().map_err(|error| failed(error.into()))?;
        let json =
            std::fs::read(&file).map_err(|source| Error::Read { path: file.clone().into(), source: source.into() })?;
        // The profile is no longer needed; one that cannot be removed from the temporary folder does no harm.
        let _ = std::fs::remove_file(&file);
        let events: Vec<serde_json::Value> = serde_json::from_slice(&json).map_err(|error| failed(error.into()))?;
        let argument = |event: &serde_json::Value, name: &str| event["args"][name].as_str().map(str::to_owned);
        let placement = |event: &serde_json::Value| {
            Some(Placement { operator: argument(event, "op_name")?, provider: argument(event, "provider")? })
        };
        let placed: Vec<Placement> = events.iter().filter_map(placement).collect();
        if !placed.iter().any(Placement::has_weights) {
            return Err(failed("the profile has no operator with weights".into()));
        }
        Ok((session, placed))
    }

    /// Computes the graph on tensors, of which it takes those that it declares, and returns the outputs that the kind reads.
    ///
    /// # Errors
    /// [`Error::Inference`] if the runtime fails, an input is missing, or the outputs violate the contract of the kind.
    pub fn run(&mut self, given: &[&Tensors]) -> Result<Tensors> {
        let find = |name: &str| given.iter().find_map(|tensors| tensors.get(name));
        let shape = find("input_ids").map(|ids| ids.shape.clone()).unwrap_or_default();
        let doing = || match shape[..] {
            [rows, tokens] => format!("answer a batch of {rows} queries of {tokens} tokens"),
            _ => "run the graph".to_owned(),
        };
        let failed = |source: crate::error::Cause| Error::Inference { doing: doing(), source };
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            let Some(Tensor { shape, values: data }) = find(name) else {
                return Err(failed(format!("nothing is given for the input `{name}`").into()));
            };
            let shape = shape.as_slice();
            let value = match data {
                Values::F32(data) => TensorRef::from_array_view((shape, data.as_slice())).map(SessionInputValue::from),
                Values::I64(data) => TensorRef::from_array_view((shape, data.as_slice())).map(SessionInputValue::from),
                Values::Bool(data) => TensorRef::from_array_view((shape, data.as_slice())).map(SessionInputValue::from),
            };
            values.push((name, value.map_err(|error| failed(error.into()))?));
        }
        let outputs = self.inner.run(values).map_err(|error| failed(error.into()))?;
        let mut read = Tensors::default();
        for name in self.kind.outputs() {
            let Some(value) = outputs.get(name) else { continue };
            let (shape, values) = extract(value).map_err(|violation| contract(format!("{name} {violation}")))?;
            read = read.with(*name, &shape, values);
        }
        self.kind.accept(&find, read).map_err(contract)
    }

    /// The logits of a batch, of a graph of [`Kind::Mrc`]; `boundary` is the logit that a start and an end must exceed to be a candidate.
    ///
    /// # Errors
    /// As for [`Session::run`], and if the outputs violate the contract or are not finite.
    pub fn logits(&mut self, batch: &Batch, boundary: f32) -> Result<Logits> {
        let outputs = self.run(&[&mrc::tensors(batch), &mrc::fixed(boundary)])?;
        match mrc::unanswered(&outputs).first() {
            Some(row) => Err(contract(format!("the logits of row {row} are not finite"))),
            None => mrc::logits(outputs).map_err(contract),
        }
    }
}

/// What a graph declares.
fn signature(session: &ort::session::Session) -> GraphSignature {
    let output = |output: &ort::value::Outlet| OutputSignature {
        name: output.name().to_owned(),
        rank: output.dtype().tensor_shape().map_or(0, |shape| shape.len()),
        is_i64: output.dtype().tensor_type() == Some(TensorElementType::Int64),
        declared: output.dtype().to_string(),
    };
    GraphSignature {
        inputs: session.inputs().iter().map(|input| input.name().to_owned()).collect(),
        outputs: session.outputs().iter().map(output).collect(),
    }
}

/// An error for outputs that violate the contract of their kind.
pub(crate) fn contract(violation: String) -> Error {
    Error::Inference { doing: "return outputs by the contract of its kind".into(), source: violation.into() }
}

/// The shape and values of an output.
fn extract(value: &DynValue) -> std::result::Result<(Vec<usize>, Values), String> {
    let kind = value.dtype();
    let shape: Vec<usize> = kind
        .tensor_shape()
        .map(|shape| shape.iter().map(|length| (*length).max(0) as usize).collect())
        .unwrap_or_default();
    let empty = shape.contains(&0);
    let values = match kind.tensor_type() {
        // The runtime gives no address for an empty tensor.
        Some(TensorElementType::Float32) if empty => Values::F32(Vec::new()),
        Some(TensorElementType::Int64) if empty => Values::I64(Vec::new()),
        Some(TensorElementType::Float32) => {
            Values::F32(value.try_extract_tensor::<f32>().map_err(|error| error.to_string())?.1.to_vec())
        }
        Some(TensorElementType::Int64) => {
            Values::I64(value.try_extract_tensor::<i64>().map_err(|error| error.to_string())?.1.to_vec())
        }
        _ => return Err(format!("is {kind}, expected float32 or int64")),
    };
    Ok((shape, values))
}

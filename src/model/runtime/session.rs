//! `QueryBatch` → `Logits`. In: a graph file, a device, batches. Out: the logits of each batch, with checked shapes. A session must not
//! be shared: it belongs to the thread that runs it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{TensorElementType, TensorRef};

use crate::error::{Error, Result};
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library::Library;
use crate::task::batch::{BatchInputs, QueryBatch};
use crate::task::decode::Logits;

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

/// A loaded graph that follows the MRC contract.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    inputs: Vec<String>,
    dense: bool,
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

/// The inputs that a graph can have; `input_ids` is required.
const INPUTS: [&str; 6] = ["input_ids", "attention_mask", "token_type_ids", "start_mask", "end_mask", "boundary_logit"];

impl Session {
    /// Loads the graph at `path` and checks its inputs and outputs against the contract.
    pub fn open(library: &Library, path: &Path, options: SessionOptions) -> Result<Self> {
        Self::build(library, path, options, None)
    }

    fn build(library: &Library, path: &Path, options: SessionOptions, profile: Option<&Path>) -> Result<Self> {
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
        let inner = builder.commit_from_file(path).map_err(|error| failed(error.into()))?;
        let inputs: Vec<String> = inner.inputs().iter().map(|input| input.name().to_owned()).collect();
        let model_error = |reason: String, hint: &str| Error::Model { path: path.into(), reason, hint: hint.into() };
        if let Some(unknown) = inputs.iter().find(|name| !INPUTS.contains(&name.as_str())) {
            return Err(model_error(
                format!("the graph has an unknown input `{unknown}`"),
                "an MRC graph has the inputs input_ids, attention_mask, token_type_ids, start_mask, end_mask and boundary_logit",
            ));
        }
        let outputs: Vec<(String, usize)> = inner
            .outputs()
            .iter()
            .map(|output| (output.name().to_owned(), output.dtype().tensor_shape().map_or(0, |shape| shape.len())))
            .collect();
        let rank = |name: &str| outputs.iter().find(|(output, _)| output == name).map(|(_, rank)| *rank);
        for name in ["start_logits", "end_logits", "span_logits"] {
            if rank(name).is_none() {
                let found: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
                return Err(model_error(
                    format!("the graph has no output `{name}`, only {}", found.join(", ")),
                    "an MRC graph has the outputs start_logits, end_logits, span_index and span_logits; write one with `quarry export`",
                ));
            }
        }
        let dense = rank("span_index").is_none();
        let wanted = if dense { 3 } else { 1 };
        if rank("span_logits") != Some(wanted) {
            return Err(model_error(
                format!(
                    "span_logits has {} dimensions, expected {}",
                    rank("span_logits").unwrap_or(0),
                    if dense { "[batch, tokens, tokens]" } else { "[k]" }
                ),
                "an MRC graph scores candidates (span_index [k, 3], span_logits [k]) or all pairs (span_logits [batch, tokens, tokens])",
            ));
        }
        let index = inner.outputs().iter().find(|output| output.name() == "span_index").map(ort::value::Outlet::dtype);
        if let Some(kind) = index.filter(|kind| kind.tensor_type() != Some(TensorElementType::Int64)) {
            return Err(model_error(
                format!("span_index is {kind}, expected int64 [k, 3]"),
                "an MRC graph gives the row, start and end of each candidate as int64",
            ));
        }
        Ok(Self { inner, inputs, dense })
    }

    /// [`Self::open`], with a check by computing `batch`: it fails if an operator with weights runs on another provider than the
    /// requested one.
    pub fn open_on_its_device(
        library: &Library,
        path: &Path,
        options: SessionOptions,
        batch: &QueryBatch,
    ) -> Result<Self> {
        let (session, placed) = Self::profiled(library, path, options, batch)?;
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
            return Self::open(library, path, options);
        }
        // A finished profile costs nothing. Loading the graph again would cost time, because OpenVINO compiles it.
        Ok(session)
    }

    /// The provider that runs each operator of the graph, determined by computing `batch` under ONNX Runtime's profiler. A
    /// profile without an operator that has weights proves nothing and is an error.
    pub fn placement(
        library: &Library,
        path: &Path,
        options: SessionOptions,
        batch: &QueryBatch,
    ) -> Result<Vec<Placement>> {
        Self::profiled(library, path, options, batch).map(|(_, placed)| placed)
    }

    /// A session that has computed `batch` under the profiler, with the placements in the profile. The profiler has ended.
    fn profiled(
        library: &Library,
        path: &Path,
        options: SessionOptions,
        batch: &QueryBatch,
    ) -> Result<(Self, Vec<Placement>)> {
        static PROFILES: AtomicUsize = AtomicUsize::new(0);
        let number = PROFILES.fetch_add(1, Ordering::Relaxed);
        let prefix = std::env::temp_dir().join(format!("quarry-placement-{}-{number}", std::process::id()));
        let mut session = Self::build(library, path, options, Some(&prefix))?;
        session.answer(batch, 0.0)?;
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

    /// Computes a batch; `boundary` is the logit that a start and an end must exceed to be a candidate.
    pub fn answer(&mut self, batch: &QueryBatch, boundary: f32) -> Result<Logits> {
        self.answer_inputs(&batch.inputs(), boundary)
    }

    /// [`Self::answer`] for a batch whose tensors are already made.
    pub fn answer_inputs(&mut self, inputs: &BatchInputs, boundary: f32) -> Result<Logits> {
        let failed = |error: ort::Error| Error::Inference {
            doing: format!("answer a batch of {} queries of {} tokens", inputs.rows, inputs.tokens),
            source: error.into(),
        };
        let shape = [inputs.rows, inputs.tokens];
        let boundary_value = [boundary];
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            let ids = |data| TensorRef::from_array_view((shape, data)).map(SessionInputValue::from);
            let mask = |data| TensorRef::from_array_view((shape, data)).map(SessionInputValue::from);
            let value = match name.as_str() {
                "input_ids" => ids(inputs.input_ids.as_slice()),
                "attention_mask" => ids(inputs.attention_mask.as_slice()),
                "token_type_ids" => ids(inputs.token_type_ids.as_slice()),
                "start_mask" => mask(inputs.start_mask.as_slice()),
                "end_mask" => mask(inputs.end_mask.as_slice()),
                _ => TensorRef::from_array_view(([0_usize; 0], boundary_value.as_slice())).map(SessionInputValue::from),
            };
            values.push((name, value.map_err(failed)?));
        }
        let outputs = self.inner.run(values).map_err(failed)?;
        let size = inputs.rows * inputs.tokens;
        let start = floats(&outputs, "start_logits", size)?;
        let end = floats(&outputs, "end_logits", size)?;
        if self.dense {
            let pairs = floats(&outputs, "span_logits", size * inputs.tokens)?;
            return Ok(candidates(inputs, start, end, &pairs, boundary));
        }
        let index = &outputs["span_index"];
        let found = index.dtype().tensor_shape().and_then(|shape| shape.first().copied()).unwrap_or(0).max(0) as usize;
        let span = floats(&outputs, "span_logits", found)?;
        let span_index = if found == 0 {
            Vec::new()
        } else {
            let (_, flat) = index.try_extract_tensor::<i64>().map_err(failed)?;
            let inside = |&[row, first, last]: &[usize; 3]| row < inputs.rows && first <= last && last < inputs.tokens;
            let triples: Vec<[usize; 3]> =
                flat.chunks_exact(3).map(|one| [one[0] as usize, one[1] as usize, one[2] as usize]).collect();
            if triples.len() != found || !triples.iter().all(inside) {
                return Err(contract(format!("span_index {flat:?} is outside the batch of {shape:?}")));
            }
            triples
        };
        Ok(Logits { start, end, span_index, span })
    }
}

fn contract(violation: String) -> Error {
    Error::Inference { doing: "return outputs by the MRC contract".into(), source: violation.into() }
}

/// An output's values: as many as the contract requires, none of them NaN or +Inf. (A graph can use -Inf for an impossible span.)
fn floats(outputs: &SessionOutputs<'_>, name: &str, expected: usize) -> Result<Vec<f32>> {
    let output = &outputs[name];
    if expected == 0 {
        return Ok(Vec::new());
    }
    let (shape, values) = output.try_extract_tensor::<f32>().map_err(|error| contract(format!("{name}: {error}")))?;
    if values.len() != expected {
        return Err(contract(format!("{name} has shape {shape:?}, expected {expected} values")));
    }
    let invalid = |value: &f32| value.is_nan() || (value.is_infinite() && value.is_sign_positive());
    if let Some(position) = values.iter().position(invalid) {
        return Err(contract(format!("{name} has {} at {position} of {shape:?}", values[position])));
    }
    Ok(values.to_vec())
}

/// The candidates of a graph that scores all pairs, selected as in a graph that outputs candidates.
fn candidates(inputs: &BatchInputs, start: Vec<f32>, end: Vec<f32>, pairs: &[f32], boundary: f32) -> Logits {
    let width = inputs.tokens;
    let mut found = Logits { start, end, ..Logits::default() };
    for row in 0..inputs.rows {
        let passes =
            |mask: &[bool], logits: &[f32], at: usize| mask[row * width + at] && logits[row * width + at] > boundary;
        for first in (0..width).filter(|&at| passes(&inputs.start_mask, &found.start, at)) {
            for last in (first..width).filter(|&at| passes(&inputs.end_mask, &found.end, at)) {
                found.span_index.push([row, first, last]);
                found.span.push(pairs[(row * width + first) * width + last]);
            }
        }
    }
    found
}

//! The library's front door: text → mentions. In: a specification and where to run it. Out: an [`Extractor`] with open sessions, and the
//! mentions of a text or of slices of documents. It must not read documents or touch a store.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::Pipeline;
use crate::extract::pipeline::slice::{OneText, SliceResult, SliceRows};
use crate::extract::pipeline::slices::SliceRule;
use crate::extract::settings::RuntimeSettings;
use crate::extract::spec::ExtractionSpec;
use crate::graph::{WRITER_VERSION, cache, fits_kernels};
use crate::model::blocks::FeedForward;
use crate::model::encoder::architecture::{Attention, Layer};
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::model::precision::{GraphPart, GraphVariant, Precision};
use crate::model::runtime::batch_tuning;
use crate::model::runtime::batch_tuning::TuningKey;
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::hardware;
use crate::model::runtime::questions::cached;
use crate::model::runtime::scorer::{Answered, OpenExact, Scorer};
use crate::model::runtime::scorer_counters::ScorerCounters;
use crate::model::runtime::selection::RuntimeSelection;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::batch::Batch;
use crate::task::gliner::contract;
use crate::task::kind::{Kind, Task};
use crate::text::document::Document;
use crate::text::mention::Mention;
use crate::text::tokens::Tokenizer;
use crate::text::window::{WindowRule, Windows};

/// A loaded model with the entity types that it is asked for.
///
/// ```
/// use quarry::extract::extractor::Extractor;
/// use quarry::extract::settings::{ExtractionSettings, RuntimeSettings};
///
/// # fn main() -> quarry::error::Result<()> {
/// let schema = quarry::job::read_schema("schemas/conll03.toml".as_ref())?;
/// let (spec, _) = ExtractionSettings::new("models/default", schema).resolve()?;
/// let runtime = RuntimeSettings { batch_tokens: Some(2048), ..RuntimeSettings::default() };
/// let text = "Ada Lovelace met Charles Babbage in London.";
/// let mentions = Extractor::open(&spec, &runtime)?.extract(text)?;
/// let found: Vec<&str> = mentions.iter().map(|mention| mention.bytes.of(text)).collect();
/// assert_eq!(found, ["Ada Lovelace", "Charles Babbage", "London"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Extractor {
    spec: ExtractionSpec,
    spec_id: String,
    selection: RuntimeSelection,
    standard_attention: Option<&'static str>,
    kernels: Option<&'static str>,
    cores: usize,
    slices: SliceRule,
    pipeline: Pipeline,
}

impl Extractor {
    /// Opens the model of a specification on a device. Slow steps are logged before they start.
    ///
    /// # Errors
    /// [`Error::Model`] if the model is not the one that the specification means, and whatever can fail when a model, a library or a device
    /// is opened.
    pub fn open(spec: &ExtractionSpec, runtime: &RuntimeSettings) -> Result<Self> {
        let model = ModelDirectory::open(&resolve::model(&spec.model.path)?)?;
        Self::with_model(spec, &model, runtime)
    }

    /// [`Extractor::open`] for a model that is already verified.
    ///
    /// # Errors
    /// As for [`Extractor::open`].
    pub fn with_model(spec: &ExtractionSpec, model: &ModelDirectory, runtime: &RuntimeSettings) -> Result<Self> {
        if model.model_hash() != spec.model.hash {
            return Err(Error::Model {
                path: model.root().to_owned(),
                reason: format!("its hash is {}, and the specification means {}", model.model_hash(), spec.model.hash),
                hint: "the model has changed since the specification was made: start again".into(),
            });
        }
        if let Some(assumptions) = model.assumptions() {
            tracing::info!("{assumptions}");
        }
        let foreign = model.foreign_graph();
        // A foreign graph runs as it is, in fp32 unless a precision is named.
        let named = spec.precision.or_else(|| foreign.is_some().then_some(Precision::Fp32));
        let selection = runtime.device.resolve(named, runtime.library.as_deref())?;
        let tokenizer = model.tokenizer(Some(spec.words))?;
        let task = spec.task(&tokenizer, model, tolerance(selection.precision))?;
        let short = WindowRule { tokens: 16, overlap: 0, words: None };
        let (variant, graph_precision) = selection.graph();
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (device, options) = (selection.devices.first(), selection.sessions(cores));
        let trial = (selection.distribution != Distribution::Cpu).then(|| sample(&task, &tokenizer, short));
        let questions = || cache::derive_part(model, GraphPart::Questions, variant);
        let key = cache::questions_key(model, variant);
        let fixed = cached(&task, &key, questions, &selection.library, cores)?;
        let exact = (foreign.is_none() && selection.precision != Precision::Fp32)
            .then(|| in_fp32(spec, &selection, task.kind(), cores));
        let open = |graph: &Path| {
            Scorer::open(&selection.library, graph, task.kind(), &options, &fixed, trial.as_ref(), exact.as_ref())
        };
        let scorer = match foreign {
            Some(graph) => {
                let scorer = open(&graph)?;
                read_trial(&scorer, &task, sample(&task, &tokenizer, short), &graph)?;
                scorer
            }
            None => open(&cache::derive_part(model, GraphPart::answering(task.kind(), graph_precision), variant)?)?,
        };
        let tuning_key = TuningKey {
            model: spec.model.hash.clone(),
            writer: WRITER_VERSION,
            device: selection.devices.to_string(),
            hardware: hardware::name(device),
            precision: selection.precision.to_string(),
            library: selection.library.version.clone(),
            cores,
            longest: task.longest_input(spec.windows.tokens),
        };
        let search = || batch_tuning::search(&scorer, device, &sample(&task, &tokenizer, spec.windows));
        let batch_tokens = batch_tuning::settle(runtime.batch_tokens, &tuning_key, search)?;
        let encoder =
            model.config().filter(|_| model.foreign_graph().is_none()).map(|config| config.encoder.architecture());
        let fits = variant == GraphVariant::Kernels && encoder.as_ref().is_some_and(fits_kernels);
        let standard_attention = encoder.filter(|_| variant != GraphVariant::Portable);
        Ok(Self {
            spec: spec.clone(),
            spec_id: spec.id(),
            standard_attention: standard_attention.and_then(|encoder| encoder.beyond_fused_attention()),
            kernels: hardware::kernels().filter(|_| fits),
            cores,
            slices: SliceRule::new(device, spec.schema.types.len(), layer_weights(model)),
            pipeline: Pipeline {
                nesting: spec.schema.nested,
                windows: spec.windows,
                workers: workers(device, cores),
                task,
                tokenizer,
                batch_tokens,
                scorer,
            },
            selection,
        })
    }

    /// The mentions of one text, in text order. `entity_type` of a mention is the index of its type in the specification's schema.
    ///
    /// # Errors
    /// [`Error::Input`] for a text without a word, or on which the tokenizer fails; [`Error::Inference`] if the model fails.
    pub fn extract(&self, text: &str) -> Result<Vec<Mention>> {
        let mut found = None;
        self.run(&Monitor::default(), std::iter::once(Ok(OneText(text.to_owned()))), |mut result| {
            found = result.documents.pop();
            true
        })?;
        let document = found.ok_or_else(|| Error::Engine {
            doing: "extract the text".into(),
            source: "the pipeline returned no result".into(),
        })?;
        document.outcome.map_err(|reject| Error::Input {
            location: "the text".into(),
            reason: reject.detail,
            hint: "enter a text with at least one word".into(),
        })
    }

    /// Runs the pipeline over `slices` until they end or the monitor stops it. `emit` takes each finished slice, in order, and returns
    /// false to stop.
    ///
    /// # Errors
    /// Those of `slices`, and [`Error::Inference`] if the model fails.
    pub fn run<Rows: SliceRows>(
        &self,
        monitor: &Monitor,
        slices: impl Iterator<Item = Result<Rows>> + Send,
        emit: impl FnMut(SliceResult<Rows>) -> bool + Send,
    ) -> Result<()> {
        self.pipeline.run(monitor, slices, emit)
    }

    /// Seconds spent in each stage, summed over threads, in pipeline order.
    pub fn stages(&self, monitor: &Monitor) -> [(&'static str, f64); 9] {
        let ScorerCounters { tensors, wait, inference, .. } = self.scorer().counters();
        let Monitor { start, read, tokenize, decode, write, commit, .. } = monitor;
        let stages = [
            ("start", start),
            ("read", read),
            ("tokenize", tokenize),
            ("tensors", tensors),
            ("wait", wait),
            ("inference", inference),
            ("decode", decode),
            ("write", write),
            ("commit", commit),
        ];
        stages.map(|(name, stage)| (name, stage.seconds()))
    }

    /// What is extracted.
    pub const fn spec(&self) -> &ExtractionSpec {
        &self.spec
    }

    /// The hash of the specification.
    pub fn spec_id(&self) -> &str {
        &self.spec_id
    }

    /// The devices, the reason for their choice, the precision, and the library.
    pub const fn selection(&self) -> &RuntimeSelection {
        &self.selection
    }

    /// Why the attention of a graph with fused operators is written in standard ones, which are slower; `None` if it is not.
    pub const fn standard_attention(&self) -> Option<&'static str> {
        self.standard_attention
    }

    /// The instructions that `kernels/` computes the encoder's layers with; `None` if ONNX Runtime computes them.
    pub const fn kernels(&self) -> Option<&'static str> {
        self.kernels
    }

    /// How many cores the work uses.
    pub const fn cores(&self) -> usize {
        self.cores
    }

    /// Where slices of documents end on this device.
    pub const fn slices(&self) -> SliceRule {
        self.slices
    }

    /// The model's sessions.
    pub const fn scorer(&self) -> &Scorer {
        &self.pipeline.scorer
    }

    /// The maximum of padded tokens in a batch.
    pub const fn batch_tokens(&self) -> usize {
        self.pipeline.batch_tokens
    }

    /// The windows of a document.
    pub fn windows<'text>(&'text self, document: Document<'text>) -> Windows<'text> {
        Windows::new(&self.pipeline.tokenizer, self.pipeline.windows, document)
    }

    /// What the model is asked.
    pub const fn task(&self) -> &Task {
        &self.pipeline.task
    }
}

/// Opens the model in fp32 on the CPU, which every library has: for the few inputs whose logits overflow in another precision.
fn in_fp32(spec: &ExtractionSpec, selection: &RuntimeSelection, kind: Kind, threads: usize) -> OpenExact {
    let (path, library) = (spec.model.path.clone(), selection.library.clone());
    Arc::new(move || {
        let model = ModelDirectory::open(&resolve::model(&path)?)?;
        let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads };
        let graph = cache::derive_part(&model, GraphPart::answering(kind, Precision::Fp32), GraphVariant::Fused)?;
        Session::open(&library, &graph, kind, options)
    })
}

/// The inputs for one window by `rule`, as long as it can be, for a trial run of a graph.
fn sample(task: &Task, tokenizer: &Tokenizer, rule: WindowRule) -> Batch {
    let text = "Ada Lovelace met Charles Babbage in London . ".repeat(rule.tokens / 8 + 1);
    let windows = Windows::new(tokenizer, WindowRule { overlap: 0, ..rule }, Document { text: &text });
    Batch { inputs: windows.flatten().take(1).flat_map(|window| task.ask(0, &window)).collect() }
}

/// Reads a trial answer of a foreign graph, of which nothing else says how many tags it has. The counters are those of a new scorer afterwards.
fn read_trial(scorer: &Scorer, task: &Task, batch: Batch, path: &Path) -> Result<()> {
    let (reply, answers) = crossbeam_channel::bounded(batch.inputs.len());
    scorer.ask(batch, &reply)?;
    drop(reply);
    for answered in answers {
        let Answered { batch, outputs } = answered.map_err(|error| match task.kind() {
            Kind::Gliner => Error::Model {
                path: path.to_owned(),
                reason: format!("it cannot answer a trial text: {}", error.causes().join(": ")),
                hint: format!(
                    "gliner_config.json must be that of the graph, such as its `max_width`; {}",
                    contract::HINT
                ),
            },
            _ => error,
        })?;
        let Some(outputs) = outputs else { continue };
        task.read(&batch, outputs).map_err(|reason| Error::Model {
            path: path.to_owned(),
            reason,
            hint: match task.kind() {
                Kind::Gliner => contract::HINT,
                _ => "name the tags in the order of the graph's logits as `id2label` in config.json",
            }
            .into(),
        })?;
    }
    scorer.counters().clear();
    Ok(())
}

/// How many weights every token is multiplied by; unknown for a foreign graph without a configuration.
fn layer_weights(model: &ModelDirectory) -> Option<usize> {
    let layers = model.config()?.encoder.architecture().layers;
    let of = |Layer { attention, feed_forward, gate, .. }: &Layer| -> usize {
        let Attention { query, key, value, output, .. } = attention;
        let FeedForward { inner, outer } = feed_forward;
        let linear = [query, key, value, output, inner, outer].into_iter().chain(gate);
        linear.map(|linear| linear.inputs * linear.outputs).sum()
    };
    Some(layers.iter().map(of).sum())
}

/// The number of threads that take slices: with a GPU all cores except one, so that long texts are tokenized side by side; on the CPU one,
/// because inference uses the cores.
const fn workers(device: Device, cores: usize) -> usize {
    match device {
        Device::Cuda(_) if cores > 2 => cores - 1,
        Device::Cpu | Device::Cuda(_) => 1,
    }
}

/// How far a precision's logits can differ from the exact ones. Decisions closer to a threshold are counted as undecided.
const fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::Fp32 => 1e-3,
        Precision::Bf16 | Precision::Fp16 | Precision::Int8 => 0.1,
    }
}

//! Loads a job's model. In: a [`Job`]. Out: an [`Extractor`] with open sessions, and its description for tables and plans. It must not
//! read documents or touch the store.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::extract::counters::Counters;
use crate::extract::extract_exec::ExtractSpec;
use crate::extract::pipeline::Extractor;
use crate::extract::slices::SliceRule;
use crate::graph::{WRITER_VERSION, cache};
use crate::job::resolved::{Job, windows};
use crate::job::spec::spec_id;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::manifest::Manifest;
use crate::model::package::resolve;
use crate::model::precision::Precision;
use crate::model::runtime::batch_tuning;
use crate::model::runtime::batch_tuning::TuningKey;
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::hardware;
use crate::model::runtime::pool::SessionPool;
use crate::model::runtime::selection::RuntimeSelection;
use crate::model::runtime::session::SessionOptions;
use crate::task::batch::QueryBatch;
use crate::task::decode::{DecodeRule, logit};
use crate::task::query::Questions;
use crate::text::document::Document;
use crate::text::tokens::Tokenizer;
use crate::text::window::{SHORTEST_WINDOW, WindowRule, Windows};

/// Context wordpieces in one window, if neither the job nor the model sets it.
const DEFAULT_WINDOW: usize = 256;

/// A loaded model with the job's questions.
#[derive(Debug)]
pub struct Ready {
    /// Extracts mentions from texts.
    pub extractor: Arc<Extractor>,
    /// Its settings, as the plan shows them.
    pub spec: ExtractSpec,
    /// The parts of the specification: everything that changes the rows.
    pub spec_parts: serde_json::Value,
    /// The specification's hash.
    pub spec_id: String,
    /// The device, the reason for its choice, and the library.
    pub chosen: RuntimeSelection,
    /// The model directory's hash.
    pub model_hash: String,
    /// How many cores the work uses.
    pub cores: usize,
}

impl Job {
    /// Loads the model on its device and checks that the longest query fits it. Calls `note` before slow steps.
    pub fn load(&self, note: &dyn Fn(&str)) -> Result<Ready> {
        let model = ModelDirectory::open(&resolve::model(&self.file.model.path, note)?)?;
        let (tokenizer, questions, windows) = self.questions(&model)?;

        let foreign = model.foreign_graph();
        // A foreign graph runs as it is, in fp32 unless the job names a precision.
        let named = self.precision.or_else(|| foreign.is_some().then_some(Precision::Fp32));
        let chosen = self.device.resolve(named, self.file.model.library.as_deref(), note)?;
        let (variant, graph_precision) = chosen.graph();
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let extract = &self.file.extract;
        let boundary = logit(extract.boundary_threshold);
        let options = SessionOptions { device: chosen.device, distribution: chosen.distribution, threads: cores };
        let trial = (chosen.distribution != Distribution::Cpu).then(|| sample(&questions, &tokenizer, 16));
        let open = |graph: &Path| SessionPool::open(&chosen.library, graph, options, 1, boundary, trial.as_ref());
        let pool = match foreign {
            Some(graph) => open(&graph)?,
            None => cache::load(&model, variant, graph_precision, open)?,
        };
        let tuning_key = TuningKey {
            model: model.model_hash().to_owned(),
            writer: WRITER_VERSION,
            device: chosen.device.to_string(),
            hardware: hardware::name(chosen.device),
            precision: chosen.precision.to_string(),
            library: chosen.library.version.clone(),
            cores,
            longest: questions.longest_query(windows.tokens),
        };
        let search =
            || batch_tuning::search(&pool, chosen.device, &sample(&questions, &tokenizer, windows.tokens), note);
        let batch_tokens = batch_tuning::settle(extract.batch_tokens, &tuning_key, note, search)?;
        let spec = ExtractSpec {
            model: self.file.model.path.display().to_string(),
            precision: chosen.precision.to_string(),
            device: chosen.device.to_string(),
            types: self.schema.types.iter().map(|one| one.name.clone()).collect(),
            window_tokens: windows.tokens,
            overlap_tokens: windows.overlap,
            batch_tokens,
        };
        let decode = DecodeRule {
            threshold: logit(extract.threshold),
            boundary,
            nested: self.schema.nested,
            max_candidates: extract.max_candidates,
            tolerance: tolerance(chosen.precision),
        };
        let extractor = Extractor {
            counters: Counters::new(self.schema.types.len()),
            stop: AtomicBool::new(false),
            workers: workers(chosen.device, cores),
            schema: self.schema.clone(),
            slices: SliceRule::new(chosen.device, self.schema.types.len()),
            windows,
            batch_tokens,
            questions,
            tokenizer,
            decode,
            pool,
        };
        let spec_parts = self.spec_parts(&model, windows);
        Ok(Ready {
            extractor: Arc::new(extractor),
            spec,
            spec_id: spec_id(&spec_parts),
            spec_parts,
            chosen,
            model_hash: model.model_hash().to_owned(),
            cores,
        })
    }

    /// The model's tokenizer, the job's questions, and windows that fit the model together with the questions.
    pub fn questions(&self, model: &ModelDirectory) -> Result<(Tokenizer, Questions, WindowRule)> {
        let tokenizer = model.tokenizer(self.file.extract.words)?;
        let questions = Questions::new(&self.schema, &tokenizer)
            .map_err(|reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() })?;
        let windows = self.windows(&questions, model.manifest())?;
        Ok((tokenizer, questions, windows))
    }

    /// The window rule: from the job, or else from the model.
    fn windows(&self, questions: &Questions, model: &Manifest) -> Result<WindowRule> {
        let (extract, longest) = (&self.file.extract, model.max_length);
        let origin = self.file.model.path.display().to_string();
        let available = longest.saturating_sub(questions.longest_query(0));
        let tokens =
            extract.window_tokens.unwrap_or_else(|| model.window_tokens.unwrap_or(DEFAULT_WINDOW).min(available));
        if available < SHORTEST_WINDOW {
            let longest_question = questions.questions.iter().max_by_key(|question| question.ids.len());
            let name = longest_question.map_or("", |question| &self.schema.types[question.entity_type].name);
            return Err(Error::Setting {
                origin,
                key: "question".into(),
                reason: format!(
                    "that of type `{name}` leaves {available} of the model's {longest} tokens for the text"
                ),
                hint: "shorten the question".into(),
            });
        }
        let needed = questions.longest_query(tokens);
        if needed > longest {
            return Err(Error::Setting {
                origin,
                key: "extract.window_tokens".into(),
                reason: format!(
                    "{tokens} and the longest question need {needed} tokens, and the model takes {longest}"
                ),
                hint: format!("the maximum is {available}"),
            });
        }
        windows(&origin, extract, tokens)
    }

    /// The parts of the specification, which change the rows: weights and tokenizer, types and questions, words, windows (from
    /// [`Job::questions`]), thresholds, and the precision if the job names one.
    pub fn spec_parts(&self, model: &ModelDirectory, windows: WindowRule) -> serde_json::Value {
        let extract = &self.file.extract;
        serde_json::json!({
            "model": model.model_hash(),
            "nested": self.schema.nested,
            "types": self.schema.types,
            "words": model.words(extract.words),
            "window_tokens": windows.tokens,
            "overlap_tokens": windows.overlap,
            "threshold": extract.threshold,
            "boundary_threshold": extract.boundary_threshold,
            "max_candidates": extract.max_candidates,
            "precision": self.precision,
        })
    }
}

/// The queries of one window with about `tokens` tokens, for a trial run of a graph.
fn sample(questions: &Questions, tokenizer: &Tokenizer, tokens: usize) -> QueryBatch {
    let text = "Ada Lovelace met Charles Babbage in London . ".repeat(tokens / 8 + 1);
    let windows = Windows::new(tokenizer, WindowRule { tokens, overlap: 0 }, Document { text: &text });
    QueryBatch {
        queries: windows.flatten().take(1).flat_map(|window| questions.ask(0, &window).collect::<Vec<_>>()).collect(),
    }
}

/// The number of tokenizer threads: with a GPU all cores except one; on the CPU one, because inference uses the cores.
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

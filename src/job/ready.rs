//! A job's model, loaded: everything between a validated job and the first batch. In: a [`Job`]. Out: an [`Extractor`] whose
//! sessions wait, and what to say about it in tables and plans. It may not read documents or touch the store.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Job, spec_id};
use crate::engine::counters::Counters;
use crate::engine::extract::ExtractSpec;
use crate::engine::pipeline::Extractor;
use crate::error::{Error, Result};
use crate::graph::cache;
use crate::model::budget::{self, Circumstances};
use crate::model::choice::Chosen;
use crate::model::device::Device;
use crate::model::directory::ModelDirectory;
use crate::model::find;
use crate::model::flavour::Flavour;
use crate::model::library::Build;
use crate::model::pool::SessionPool;
use crate::model::session::{Session, SessionOptions};
use crate::mrc::batch::QueryBatch;
use crate::mrc::decode::{DecodeRule, logit};
use crate::mrc::documents::Document;
use crate::mrc::query::Questions;
use crate::mrc::tokens::Tokenizer;
use crate::mrc::window::{WindowRule, Windows};

/// A loaded model with the job's questions.
#[derive(Debug)]
pub struct Ready {
    /// What turns texts into mentions.
    pub extractor: Arc<Extractor>,
    /// What the plan shows of it.
    pub spec: ExtractSpec,
    /// All that changes the rows.
    pub spec_parts: serde_json::Value,
    /// Its hash.
    pub spec_id: String,
    /// The device, why it was taken, and the library.
    pub chosen: Chosen,
    /// The model directory's hash.
    pub model_hash: String,
    /// Cores the work is spread over.
    pub cores: usize,
}

impl Job {
    /// Loads the model on its device and checks that the longest query fits it. `note` is told what takes time.
    pub fn load(&self, note: &dyn Fn(&str)) -> Result<Ready> {
        let model = ModelDirectory::open(&find::model(&self.file.model.path, note)?)?;
        let (tokenizer, questions) = self.questions(&model)?;

        let foreign = model.foreign_graph();
        // A graph that was brought along computes as it is written, and by ONNX Runtime itself.
        let named = self.flavour.or_else(|| foreign.is_some().then_some(Flavour::Fp32));
        let chosen = self.device.resolve(named, self.file.model.library.as_deref(), note)?;
        let (form, graph_flavour) = chosen.graph();
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let extract = &self.file.extract;
        let boundary = logit(extract.boundary_threshold);
        let options = SessionOptions { device: chosen.device, build: chosen.build, threads: cores };
        let open = |graph: &Path| {
            if chosen.build != Build::Cpu {
                Session::stays_on_its_device(&chosen.library, graph, options, &sample(&questions, &tokenizer, 16))?;
            }
            SessionPool::open(&chosen.library, graph, options, 1, boundary)
        };
        let pool = match foreign {
            Some(graph) => open(&graph)?,
            None => cache::load(&model, form, graph_flavour, open)?,
        };
        let circumstances = Circumstances {
            model: model.model_hash().to_owned(),
            device: chosen.device.to_string(),
            flavour: chosen.flavour.to_string(),
            library: chosen.library.version.clone(),
            cores,
            longest: questions.longest_query(self.windows.tokens),
        };
        let batch_tokens = if let Some(tokens) = extract.batch_tokens.or_else(|| circumstances.remembered()) {
            tokens
        } else {
            let sample = sample(&questions, &tokenizer, self.windows.tokens);
            budget::find(&pool, chosen.device, &sample, &circumstances, note)?
        };
        let spec = ExtractSpec {
            model: self.file.model.path.display().to_string(),
            flavour: chosen.flavour.to_string(),
            device: chosen.device.to_string(),
            types: self.schema.types.iter().map(|one| one.name.clone()).collect(),
            window_tokens: self.windows.tokens,
            overlap_tokens: self.windows.overlap,
            batch_tokens,
        };
        let decode = DecodeRule {
            threshold: logit(extract.threshold),
            boundary,
            nested: self.schema.nested,
            max_candidates: extract.max_candidates,
            tolerance: tolerance(chosen.flavour),
        };
        let extractor = Extractor {
            counters: Counters::new(self.schema.types.len()),
            stop: AtomicBool::new(false),
            workers: workers(chosen.device, cores),
            schema: self.schema.clone(),
            windows: self.windows,
            batch_tokens,
            questions,
            tokenizer,
            decode,
            pool,
        };
        let spec_parts = self.spec_parts(model.model_hash());
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

    /// The model's tokenizer and the job's questions, which must fit the model together with a window.
    pub fn questions(&self, model: &ModelDirectory) -> Result<(Tokenizer, Questions)> {
        let tokenizer = model.tokenizer(self.file.extract.words)?;
        let questions = Questions::new(&self.schema, &tokenizer)
            .map_err(|reject| Error::Tokenizer { path: model.tokenizer_path(), source: reject.detail.into() })?;
        self.fits(&questions, model.manifest().max_length)?;
        Ok((tokenizer, questions))
    }

    fn fits(&self, questions: &Questions, longest: usize) -> Result<()> {
        let needed = questions.longest_query(self.windows.tokens);
        if needed <= longest {
            return Ok(());
        }
        let room = longest.saturating_sub(questions.longest_query(0));
        Err(Error::Setting {
            origin: self.file.model.path.display().to_string(),
            key: "extract.window_tokens".into(),
            reason: format!(
                "{} with the longest question makes {needed} tokens, the model takes {longest}",
                self.windows.tokens
            ),
            hint: format!("the most is {room}"),
        })
    }

    /// What changes the rows: weights and tokenizer, types and questions, words, windows, thresholds, and the
    /// flavour where the job names one.
    pub fn spec_parts(&self, model_hash: &str) -> serde_json::Value {
        let extract = &self.file.extract;
        serde_json::json!({
            "model": model_hash,
            "nested": self.schema.nested,
            "types": self.schema.types,
            "words": extract.words,
            "window_tokens": extract.window_tokens,
            "overlap_tokens": extract.overlap_tokens,
            "threshold": extract.threshold,
            "boundary_threshold": extract.boundary_threshold,
            "max_candidates": extract.max_candidates,
            "flavour": self.flavour,
        })
    }
}

/// The queries of one window of so many tokens, to try a graph with.
fn sample(questions: &Questions, tokenizer: &Tokenizer, tokens: usize) -> QueryBatch {
    let text = "Ada Lovelace met Charles Babbage in London . ".repeat(tokens / 8 + 1);
    let windows = Windows::new(tokenizer, WindowRule { tokens, overlap: 0 }, Document { text: &text });
    QueryBatch {
        queries: windows.flatten().take(1).flat_map(|window| questions.ask(0, &window).collect::<Vec<_>>()).collect(),
    }
}

/// Threads that tokenize: beside a GPU all cores but one are free for it, on the CPU they are busy with inference.
const fn workers(device: Device, cores: usize) -> usize {
    match device {
        Device::Cuda(_) if cores > 2 => cores - 1,
        Device::Cpu | Device::Cuda(_) => 1,
    }
}

/// How far a flavour's logits may lie from the exact ones: decisions closer to a threshold are counted as undecided.
const fn tolerance(flavour: Flavour) -> f32 {
    match flavour {
        Flavour::Fp32 => 1e-3,
        Flavour::Bf16 | Flavour::Fp16 | Flavour::Int8 => 0.1,
    }
}

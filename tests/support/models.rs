//! Models with random weights for tests: their answers mean nothing, but they are fast.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quarry::model::config::ModelConfig;
use quarry::model::head::Head;
use quarry::model::package::directory::{ModelDirectory, Parts};
use quarry::model::package::manifest::Manifest;
use quarry::model::weights::safetensors_file::WeightForm;
use quarry::model::weights::tensors::{Tensor, Weights};

use super::{Dir, Random, project};

/// The wordpiece `paris` in the vocabulary of the default model.
const PARIS: usize = 3000;

/// The width of the models here.
const HIDDEN: usize = 16;

impl Dir {
    /// A fast model that answers every text differently: one small layer with random weights.
    pub(crate) fn small_model(&self) -> PathBuf {
        self.adjusted_model("small-model", |_, _| {})
    }

    /// The same, with a vector of the word `paris` that fp16 cannot hold.
    pub(crate) fn model_beyond_fp16(&self) -> PathBuf {
        self.adjusted_model("beyond-fp16", |name, values| {
            if name.ends_with("word_embeddings.weight") {
                values[PARIS * HIDDEN..(PARIS + 1) * HIDDEN].fill(70_000.0);
            }
        })
    }

    /// The same, with a start logit of the word `paris` that no float can hold. Tokens do not see each other, so other words have other
    /// logits.
    pub(crate) fn unanswering_model(&self) -> PathBuf {
        self.adjusted_model("unanswering", |name, values| {
            if name.ends_with("word_embeddings.weight") {
                values[PARIS * HIDDEN..(PARIS + 1) * HIDDEN].fill(0.0);
                values[PARIS * HIDDEN] = 1e6;
            } else if name.ends_with("output.dense.weight") {
                values.fill(0.0);
            } else if name == "start_outputs.weight" {
                // Times the largest value of a normalized vector, √15.
                values[0] = 1e38;
            }
        })
    }

    /// A model of early interaction on the default model's encoder, with random heads whose start and end logits are above -4 for a few
    /// tokens of a text.
    pub(crate) fn early_model(&self) -> PathBuf {
        let default = project().join("models/default");
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(default.join("config.json")).unwrap()).unwrap();
        let keys = config.as_object_mut().unwrap();
        keys.retain(|key, _| !["interaction", "boundary_size"].contains(&key.as_str()));
        keys.insert("classifier_intermediate_hidden_size".into(), 64.into());
        let mut config = ModelConfig::parse(Path::new("config.json"), config.to_string().as_bytes()).unwrap();
        let weights = ModelDirectory::open(&default).unwrap().weights().unwrap();
        let encoder = weights.iter().filter(|(name, _)| !Head::owns(name));
        let mut tensors: BTreeMap<_, _> = encoder.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        let mut random = Random(11);
        let heads = config.head.two_layers(config.encoder.architecture().hidden_size);
        tensors.extend(heads.shapes().into_iter().map(|(name, shape)| {
            let value = |_| if name.ends_with("bias") { -6.0 } else { 0.2 * random.unit() as f32 - 0.1 };
            let values = (0..shape.iter().product()).map(value).collect();
            (name, Tensor { shape, values })
        }));
        let weights = Weights::check(tensors, &mut config).unwrap();
        let tokenizer = std::fs::read(default.join("tokenizer.json")).unwrap();
        self.written("early-model", &weights, WeightForm::Int8, (&config, &tokenizer))
    }

    fn adjusted_model(&self, name: &str, adjust: impl Fn(&str, &mut [f32])) -> PathBuf {
        let tokenizer = std::fs::read(project().join("models/default/tokenizer.json")).unwrap();
        self.model(name, 30_522, &tokenizer, adjust)
    }

    /// The same with a vocabulary of a few words, so that its files are read quickly.
    pub(crate) fn tiny_model(&self) -> PathBuf {
        let tokenizer = std::fs::read(project().join("models/default/tokenizer.json")).unwrap();
        let mut tokenizer: serde_json::Value = serde_json::from_slice(&tokenizer).unwrap();
        let words = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        words.retain(|_, id| id.as_u64().is_some_and(|id| id < 160));
        self.model("tiny-model", 160, &serde_json::to_vec(&tokenizer).unwrap(), |_, _| {})
    }

    fn model(&self, name: &str, words: usize, tokenizer: &[u8], adjust: impl Fn(&str, &mut [f32])) -> PathBuf {
        let config = serde_json::json!({
            "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
            "vocab_size": words, "max_position_embeddings": 512, "classifier_intermediate_hidden_size": 8,
        });
        let mut config = ModelConfig::parse(Path::new("config.json"), config.to_string().as_bytes()).unwrap();
        let mut random = Random(7);
        let mut shapes = config.encoder.architecture().shapes();
        shapes.extend(config.head.two_layers(HIDDEN).shapes());
        let tensors = shapes.into_iter().map(|(name, shape)| {
            let size: usize = shape.iter().product();
            let value = |_| match name.as_str() {
                norm if norm.ends_with("LayerNorm.weight") => 1.0,
                "start_outputs.bias" | "end_outputs.bias" | "span_embedding.classifier2.bias" => 0.5,
                name if name.contains("bias") => 0.0,
                _ => random.unit() as f32 * 2.0 - 1.0,
            };
            let mut values: Vec<f32> = (0..size).map(value).collect();
            adjust(&name, &mut values);
            (name, Tensor { shape, values })
        });
        let weights = Weights::check(tensors.collect(), &mut config).unwrap();
        self.written(name, &weights, WeightForm::Fp32, (&config, tokenizer))
    }

    fn written(
        &self,
        name: &str,
        weights: &Weights,
        form: WeightForm,
        (config, tokenizer): (&ModelConfig, &[u8]),
    ) -> PathBuf {
        let manifest = Manifest { max_length: 512, encoder: "made up".into(), ..Manifest::default() };
        let parts = Parts { weights, form, config, tokenizer, manifest: &manifest, extra: &[] };
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        ModelDirectory::write(&path, &parts).unwrap();
        path
    }
}

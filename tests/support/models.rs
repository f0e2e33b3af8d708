//! Models with random weights for tests: their answers mean nothing, but they are fast.

use std::path::{Path, PathBuf};

use quarry::model::config::ModelConfig;
use quarry::model::package::directory::{ModelDirectory, Parts};
use quarry::model::package::manifest::Manifest;
use quarry::model::weights::safetensors_file::WeightForm;
use quarry::model::weights::tensors::{Tensor, Weights};

use super::{Dir, Random, project};

/// The wordpiece `paris` in the vocabulary of the default model.
const PARIS: usize = 3000;

impl Dir {
    /// A fast model that answers every text differently: one small layer with random weights.
    pub(crate) fn small_model(&self) -> PathBuf {
        self.overflowing_model("small-model", None)
    }

    /// The same, with this value in every place of the vector of the word `paris`.
    pub(crate) fn overflowing_model(&self, name: &str, paris: Option<f32>) -> PathBuf {
        let tokenizer = std::fs::read(project().join("models/default/tokenizer.json")).unwrap();
        self.model(name, 30_522, &tokenizer, paris.map(|value| (PARIS, value)))
    }

    /// The same with a vocabulary of a few words, so that its files are read quickly.
    pub(crate) fn tiny_model(&self) -> PathBuf {
        let tokenizer = std::fs::read(project().join("models/default/tokenizer.json")).unwrap();
        let mut tokenizer: serde_json::Value = serde_json::from_slice(&tokenizer).unwrap();
        let words = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        words.retain(|_, id| id.as_u64().is_some_and(|id| id < 160));
        self.model("tiny-model", 160, &serde_json::to_vec(&tokenizer).unwrap(), None)
    }

    fn model(&self, name: &str, words: usize, tokenizer: &[u8], word: Option<(usize, f32)>) -> PathBuf {
        let config = serde_json::json!({
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
            "vocab_size": words, "max_position_embeddings": 512, "classifier_intermediate_hidden_size": 8,
        });
        let mut config = ModelConfig::parse(Path::new("config.json"), config.to_string().as_bytes()).unwrap();
        let mut random = Random(7);
        let mut shapes = config.encoder.architecture().shapes();
        shapes.extend(config.head.two_layers(16).shapes());
        let tensors = shapes.into_iter().map(|(name, shape)| {
            let size: usize = shape.iter().product();
            let value = |_| match name.as_str() {
                norm if norm.ends_with("LayerNorm.weight") => 1.0,
                "start_outputs.bias" | "end_outputs.bias" | "span_embedding.classifier2.bias" => 0.5,
                name if name.contains("bias") => 0.0,
                _ => random.unit() as f32 * 2.0 - 1.0,
            };
            let mut values: Vec<f32> = (0..size).map(value).collect();
            if let Some((word, value)) = word.filter(|_| name.ends_with("word_embeddings.weight")) {
                values[word * shape[1]..(word + 1) * shape[1]].fill(value);
            }
            (name, Tensor { shape, values })
        });
        let weights = Weights::check(tensors.collect(), &mut config).unwrap();
        let manifest = Manifest { max_length: 512, encoder: "made up".into(), ..Manifest::default() };
        let parts = Parts {
            weights: &weights,
            form: WeightForm::Fp32,
            config: &config,
            tokenizer,
            manifest: &manifest,
            extra: &[],
        };
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        ModelDirectory::write(&path, &parts).unwrap();
        path
    }
}

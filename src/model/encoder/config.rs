//! The encoder's configuration. In: the `config.json` of a Hugging Face BERT, with the reference's two keys for the match
//! head. Out: a [`BertConfig`] with consistent sizes that the graph writer supports. It must not read weights.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The maximum size. A larger one means a damaged file; the limit also keeps the product of two sizes from overflowing.
const MAX_SIZE: usize = 1 << 24;

/// The maximum number of layers: every layer has a dozen tensors to look for.
const MAX_LAYERS: usize = 1024;

/// The configuration of a BERT encoder and its match head in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// The architecture; only `bert` is supported.
    #[serde(default = "bert")]
    pub model_type: String,
    /// Width of a token's vector (h).
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads in a layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Activation of the feed-forward layer; only `gelu` (the exact one, with erf) is supported.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// Added to the variance in every layer normalization.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f32,
    /// Wordpieces in the vocabulary.
    pub vocab_size: usize,
    /// Longest input in tokens, question and special tokens counted.
    pub max_position_embeddings: usize,
    /// Number of token types (question and context need two).
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Type of position embedding; only `absolute` is supported.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Id of the padding token.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Width of the match head's hidden layer (m); if absent, it is taken from the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier_intermediate_hidden_size: Option<usize>,
    /// Activation of the match head.
    #[serde(default)]
    pub classifier_act_func: Activation,
}

/// Activations that a match head may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x·Φ(x), by the error function.
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

fn bert() -> String {
    "bert".to_owned()
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn layer_norm_eps() -> f32 {
    1e-12
}

fn two() -> usize {
    2
}

impl BertConfig {
    /// Reads and validates a `config.json`. Errors name the file and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source: source.into() })?;
        Self::parse(path, &bytes)
    }

    /// Parses and validates the bytes of a `config.json`; `path` is only for error messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(bytes).map_err(|source| Error::Parse {
            path: path.to_owned(),
            source: source.into(),
            hint: "it must be the config.json of a Hugging Face BERT".to_owned(),
        })?;
        config.validate().map_err(|(reason, hint)| Error::Model {
            path: path.to_owned(),
            reason,
            hint: hint.to_owned(),
        })?;
        Ok(config)
    }

    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn validate(&self) -> Result<(), (String, &'static str)> {
        let fixed = [
            ("model_type", &self.model_type, "bert", "only BERT encoders are supported"),
            ("hidden_act", &self.hidden_act, "gelu", "only the exact gelu is supported"),
            (
                "position_embedding_type",
                &self.position_embedding_type,
                "absolute",
                "only absolute positions are supported",
            ),
        ];
        for (key, value, wanted, hint) in fixed {
            if value != wanted {
                return Err((format!("`{key}` is `{value}`, not `{wanted}`"), hint));
            }
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
            ("classifier_intermediate_hidden_size", self.classifier_intermediate_hidden_size.unwrap_or(1)),
        ];
        for (key, value) in sizes {
            if value == 0 || value > MAX_SIZE {
                return Err((format!("`{key}` is {value}"), "a size must be between 1 and 2^24"));
            }
        }
        if self.num_hidden_layers > MAX_LAYERS {
            let layers = self.num_hidden_layers;
            return Err((format!("`num_hidden_layers` is {layers}"), "a model can have at most 1024 layers"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (size, heads) = (self.hidden_size, self.num_attention_heads);
            return Err((
                format!("`hidden_size` {size} cannot be divided into {heads} attention heads"),
                "`num_attention_heads` must divide `hidden_size`",
            ));
        }
        if self.type_vocab_size < 2 {
            return Err((
                "`type_vocab_size` is 1".to_owned(),
                "question and context need two token types; encoders like RoBERTa are not supported",
            ));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err((format!("`layer_norm_eps` is {}", self.layer_norm_eps), "it must be between 0 and 1"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tiny BERT configuration for tests.
    pub(crate) fn tiny() -> BertConfig {
        let json = br#"{"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
            "vocab_size": 32, "max_position_embeddings": 24, "classifier_intermediate_hidden_size": 12, "extra": [1]}"#;
        BertConfig::parse(Path::new("config.json"), json).expect("a valid configuration")
    }

    fn error_after(change: impl FnOnce(&mut BertConfig)) -> String {
        let mut config = tiny();
        change(&mut config);
        let bytes = serde_json::to_vec(&config).expect("it serializes");
        BertConfig::parse(Path::new("config.json"), &bytes).expect_err("an invalid configuration").to_string()
    }

    #[test]
    fn an_error_names_the_key_and_the_value() {
        assert!(error_after(|config| config.hidden_act = "relu".into()).contains("`hidden_act` is `relu`"));
        assert!(error_after(|config| config.model_type = "roberta".into()).contains("`model_type` is `roberta`"));
        assert!(error_after(|config| config.num_attention_heads = 3).contains("3 attention heads"));
        assert!(error_after(|config| config.vocab_size = 0).contains("`vocab_size` is 0"));
        assert!(error_after(|config| config.vocab_size = usize::MAX).contains("`vocab_size`"));
        assert!(error_after(|config| config.num_hidden_layers = 1 << 20).contains("`num_hidden_layers` is 1048576"));
        assert!(error_after(|config| config.type_vocab_size = 1).contains("type_vocab_size"));
    }

    #[test]
    fn a_damaged_file_is_a_parse_error() {
        let error = BertConfig::parse(Path::new("x/config.json"), b"{\"hidden_size\": 3").expect_err("damaged");
        assert_eq!(error.to_string(), "cannot parse `x/config.json`");
    }
}

//! BERT. In: its keys in the `config.json` of Hugging Face. Out: a [`BertConfig`] with consistent sizes, and its [`Architecture`] under the
//! names of the reference implementation. It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{Architecture, Attention, CheckpointNames, Layer, Normalization, Positions};
use crate::text::word_shape::WordShape;

/// The maximum number of layers: every layer has a dozen tensors to look for.
const MAX_LAYERS: usize = 1024;

/// How checkpoints name tensors. `cls.` are the heads of pretraining.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "bert.",
    bare: &["embeddings.", "encoder."],
    unused: &["pooler."],
    pretraining_heads: &["cls."],
};

/// The configuration of a BERT in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
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
    /// Number of shapes of words that it is told; BERT itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_shape_size: Option<usize>,
    /// Type of position embedding; only `absolute` is supported.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Id of the padding token.
    #[serde(default)]
    pub pad_token_id: u32,
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
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        config.validate()?;
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let hidden = self.hidden_size;
        let prefix = NAMES.prefix;
        let norm = |name: &str| Norm { name: format!("{prefix}{name}"), width: hidden, epsilon: self.layer_norm_eps };
        let table = |name: &str, rows: usize| Table {
            name: format!("{prefix}embeddings.{name}_embeddings.weight"),
            rows,
            columns: hidden,
        };
        let layer = |number: usize| {
            let name = |part: &str| format!("{prefix}encoder.layer.{number}.{part}");
            let projection = |part: &str| Linear::new(name(&format!("attention.self.{part}")), hidden, hidden);
            let norm = |part: &str| norm(&format!("encoder.layer.{number}.{part}"));
            Layer {
                attention: Attention {
                    name: name("attention.self"),
                    query: projection("query"),
                    key: projection("key"),
                    value: projection("value"),
                    output: Linear::new(name("attention.output.dense"), hidden, hidden),
                },
                attention_norm: norm("attention.output.LayerNorm"),
                feed_forward: FeedForward {
                    inner: Linear::new(name("intermediate.dense"), hidden, self.intermediate_size),
                    outer: Linear::new(name("output.dense"), self.intermediate_size, hidden),
                },
                feed_forward_norm: norm("output.LayerNorm"),
            }
        };
        Architecture {
            hidden_size: hidden,
            heads: self.num_attention_heads,
            max_tokens: self.max_position_embeddings,
            words: table("word", self.vocab_size),
            positions: Positions::Absolute { table: table("position", self.max_position_embeddings), offset: 0 },
            token_types: Some(table("token_type", self.type_vocab_size)),
            word_shapes: self.word_shape_size.map(|shapes| table("word_shape", shapes)),
            embedding_norm: norm("embeddings.LayerNorm"),
            layers: (0..self.num_hidden_layers).map(layer).collect(),
            normalization: Normalization::Post,
            checkpoint: NAMES,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |reason: String, hint: &'static str| Err(ConfigError::Value { reason, hint });
        let fixed = [
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
                return refuse(format!("`{key}` is `{value}`, not `{wanted}`"), hint);
            }
        }
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        if self.num_hidden_layers > MAX_LAYERS {
            let layers = self.num_hidden_layers;
            return refuse(format!("`num_hidden_layers` is {layers}"), "a model can have at most 1024 layers");
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (size, heads) = (self.hidden_size, self.num_attention_heads);
            return refuse(
                format!("`hidden_size` {size} cannot be divided into {heads} attention heads"),
                "`num_attention_heads` must divide `hidden_size`",
            );
        }
        if self.type_vocab_size < 2 {
            return refuse(
                "`type_vocab_size` is 1".to_owned(),
                "question and context need two token types; encoders like RoBERTa are not supported",
            );
        }
        if self.word_shape_size.is_some_and(|shapes| shapes != WordShape::COUNT) {
            return refuse(
                format!("`word_shape_size` is {}", self.word_shape_size.unwrap_or_default()),
                "this version tells eight shapes of words apart",
            );
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return refuse(format!("`layer_norm_eps` is {}", self.layer_norm_eps), "it must be between 0 and 1");
        }
        Ok(())
    }
}

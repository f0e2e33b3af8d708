//! BERT. In: its keys in the `config.json` of Hugging Face. Out: a [`BertConfig`] with consistent sizes, and its [`Architecture`] under the
//! names of the reference implementation. Encoders that differ from it in a few things are described by it too. It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{
    Activation, Architecture, Attention, CheckpointNames, Distances, DropoutRates, Layer, Normalization, Positions,
};
use crate::model::encoder::validation::{
    activation, check_absolute, check_dropout, check_epsilon, check_heads, check_layers, check_word_shapes,
};

/// How checkpoints name tensors. `cls.` are the heads of pretraining.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "bert.",
    bare: &["embeddings.", "encoder."],
    unused: &["pooler."],
    pretraining_heads: &["cls."],
    stacked: &[],
};

/// The dropout rate where the configuration does not say it.
const DROPOUT: f64 = 0.1;

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
    /// Activation of the feed-forward layer.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// Added to the variance in every layer normalization.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f32,
    /// Wordpieces in the vocabulary.
    pub vocab_size: usize,
    /// Longest input in tokens, question and special tokens counted.
    pub max_position_embeddings: usize,
    /// Number of token types. With one, all tokens have it.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Number of shapes of words that it is told; BERT itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_shape_size: Option<usize>,
    /// Type of position embedding; only `absolute` is supported.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Id of the padding token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<usize>,
    /// Dropout rate of embeddings and block outputs in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_dropout_prob: Option<f64>,
    /// Dropout rate of attention weights in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_probs_dropout_prob: Option<f64>,
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
        self.described(NAMES, self.hidden_size)
    }

    /// The description of an encoder with these names and vectors of tokens of width `embedding_size`, which is otherwise as BERT.
    pub(super) fn described(&self, names: CheckpointNames, embedding_size: usize) -> Architecture {
        let hidden = self.hidden_size;
        let prefix = names.prefix;
        let norm_of = |name: &str, width: usize| Norm {
            name: format!("{prefix}{name}"),
            width,
            epsilon: self.layer_norm_eps,
            has_bias: true,
        };
        let table = |name: &str, rows: usize| Table {
            name: format!("{prefix}embeddings.{name}_embeddings.weight"),
            rows,
            columns: embedding_size,
        };
        let layer = |number: usize| {
            let name = |part: &str| format!("{prefix}encoder.layer.{number}.{part}");
            let projection = |part: &str| Linear::new(name(&format!("attention.self.{part}")), hidden, hidden);
            let norm = |part: &str| norm_of(&format!("encoder.layer.{number}.{part}"), hidden);
            Layer {
                attention: Attention {
                    name: name("attention.self"),
                    query: projection("query"),
                    key: projection("key"),
                    value: projection("value"),
                    output: Linear::new(name("attention.output.dense"), hidden, hidden),
                    distances: Distances::Ignored,
                    reach: None,
                },
                attention_norm: Some(norm("attention.output.LayerNorm")),
                feed_forward: FeedForward {
                    inner: Linear::new(name("intermediate.dense"), hidden, self.intermediate_size),
                    outer: Linear::new(name("output.dense"), self.intermediate_size, hidden),
                },
                activation: activation("hidden_act", &self.hidden_act).unwrap_or(Activation::Gelu),
                gate: None,
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
            embedding_norm: norm_of("embeddings.LayerNorm", embedding_size),
            embedding_projection: None,
            relative: None,
            layers: (0..self.num_hidden_layers).map(layer).collect(),
            normalization: Normalization::Post,
            checkpoint: names,
            dropout: DropoutRates {
                hidden: self.hidden_dropout_prob.unwrap_or(DROPOUT),
                attention: self.attention_probs_dropout_prob.unwrap_or(DROPOUT),
            },
        }
    }

    /// Checks every key.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        activation("hidden_act", &self.hidden_act)?;
        check_absolute(&self.position_embedding_type)?;
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        check_layers("num_hidden_layers", self.num_hidden_layers)?;
        check_heads(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        check_word_shapes(self.word_shape_size)?;
        check_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        check_dropout("hidden_dropout_prob", self.hidden_dropout_prob)?;
        check_dropout("attention_probs_dropout_prob", self.attention_probs_dropout_prob)
    }
}

//! DistilBERT. In: its keys in the `config.json` of Hugging Face. Out: a [`DistilBertConfig`] with consistent sizes, and its [`Architecture`]:
//! BERT's under other names, without token types. It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{
    Activation, Architecture, Attention, CheckpointNames, Distances, DropoutRates, Layer, Normalization, Positions,
};
use crate::model::encoder::validation::{activation, check_dropout, check_heads, check_layers, check_word_shapes};

/// How checkpoints name tensors. `vocab_` begins the names of the head of pretraining.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "distilbert.",
    bare: &["embeddings.", "transformer."],
    unused: &[],
    pretraining_heads: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
    stacked: &[],
};

/// Added to the variance in every layer normalization.
const EPSILON: f32 = 1e-12;
/// The dropout rate where the configuration does not say it.
const DROPOUT: f64 = 0.1;

/// The configuration of a DistilBERT in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistilBertConfig {
    /// Width of a token's vector (h).
    pub dim: usize,
    /// Transformer layers.
    pub n_layers: usize,
    /// Attention heads in a layer; divides `dim`.
    pub n_heads: usize,
    /// Width of the feed-forward layer.
    pub hidden_dim: usize,
    /// Activation of the feed-forward layer.
    #[serde(default = "gelu")]
    pub activation: String,
    /// Wordpieces in the vocabulary.
    pub vocab_size: usize,
    /// Longest input in tokens, question and special tokens counted.
    pub max_position_embeddings: usize,
    /// Number of shapes of words that it is told; DistilBERT itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_shape_size: Option<usize>,
    /// Dropout rate of embeddings and block outputs in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Dropout rate of attention weights in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_dropout: Option<f64>,
}

fn gelu() -> String {
    "gelu".to_owned()
}

impl DistilBertConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        activation("activation", &config.activation)?;
        check_sizes(&[
            ("dim", config.dim),
            ("n_layers", config.n_layers),
            ("n_heads", config.n_heads),
            ("hidden_dim", config.hidden_dim),
            ("vocab_size", config.vocab_size),
            ("max_position_embeddings", config.max_position_embeddings),
        ])?;
        check_layers("n_layers", config.n_layers)?;
        check_heads(("dim", config.dim), ("n_heads", config.n_heads))?;
        check_word_shapes(config.word_shape_size)?;
        check_dropout("dropout", config.dropout)?;
        check_dropout("attention_dropout", config.attention_dropout)?;
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let hidden = self.dim;
        let prefix = NAMES.prefix;
        let norm = |name: String| Norm { name, width: hidden, epsilon: EPSILON, has_bias: true };
        let table = |name: &str, rows: usize| Table {
            name: format!("{prefix}embeddings.{name}_embeddings.weight"),
            rows,
            columns: hidden,
        };
        let layer = |number: usize| {
            let name = |part: &str| format!("{prefix}transformer.layer.{number}.{part}");
            let projection = |part: &str| Linear::new(name(&format!("attention.{part}_lin")), hidden, hidden);
            Layer {
                attention: Attention {
                    name: name("attention.projections"),
                    query: projection("q"),
                    key: projection("k"),
                    value: projection("v"),
                    output: projection("out"),
                    distances: Distances::Ignored,
                    reach: None,
                },
                attention_norm: Some(norm(name("sa_layer_norm"))),
                feed_forward: FeedForward {
                    inner: Linear::new(name("ffn.lin1"), hidden, self.hidden_dim),
                    outer: Linear::new(name("ffn.lin2"), self.hidden_dim, hidden),
                },
                activation: activation("activation", &self.activation).unwrap_or(Activation::Gelu),
                gate: None,
                feed_forward_norm: norm(name("output_layer_norm")),
            }
        };
        Architecture {
            hidden_size: hidden,
            heads: self.n_heads,
            max_tokens: self.max_position_embeddings,
            words: table("word", self.vocab_size),
            positions: Positions::Absolute { table: table("position", self.max_position_embeddings), offset: 0 },
            token_types: None,
            word_shapes: self.word_shape_size.map(|shapes| table("word_shape", shapes)),
            embedding_norm: norm(format!("{prefix}embeddings.LayerNorm")),
            embedding_projection: None,
            relative: None,
            layers: (0..self.n_layers).map(layer).collect(),
            normalization: Normalization::Post,
            checkpoint: NAMES,
            dropout: DropoutRates {
                hidden: self.dropout.unwrap_or(DROPOUT),
                attention: self.attention_dropout.unwrap_or(DROPOUT),
            },
        }
    }
}

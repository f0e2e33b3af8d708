//! ALBERT. In: its keys in the `config.json` of Hugging Face. Out: an [`AlbertConfig`] with consistent sizes, and its [`Architecture`]: layers
//! that share their tensors, and vectors of tokens that are narrower than the layers. It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{
    Activation, Architecture, Attention, CheckpointNames, Distances, DropoutRates, Layer, Normalization, Positions,
};
use crate::model::encoder::validation::{
    activation, check_absolute, check_dropout, check_epsilon, check_heads, check_layers, check_word_shapes, refuse,
};

/// How checkpoints name tensors. The others are the heads of pretraining.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "albert.",
    bare: &["embeddings.", "encoder."],
    unused: &["pooler."],
    pretraining_heads: &["predictions.", "sop_classifier."],
    stacked: &[],
};

/// The configuration of an ALBERT in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlbertConfig {
    /// Width of the vectors of tokens, positions and types (e).
    pub embedding_size: usize,
    /// Width of a token's vector in the layers (h).
    pub hidden_size: usize,
    /// Transformer layers, counted as often as they are computed.
    pub num_hidden_layers: usize,
    /// Groups of layers with tensors of their own.
    #[serde(default = "one")]
    pub num_hidden_groups: usize,
    /// Layers in a group.
    #[serde(default = "one")]
    pub inner_group_num: usize,
    /// Attention heads in a layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Activation of the feed-forward layer.
    #[serde(default = "gelu_new")]
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
    /// Number of shapes of words that it is told; ALBERT itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_shape_size: Option<usize>,
    /// Type of position embedding; only `absolute` is supported.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Dropout rate of embeddings and block outputs in training; 0 by default.
    #[serde(default)]
    pub hidden_dropout_prob: f64,
    /// Dropout rate of attention weights in training; 0 by default.
    #[serde(default)]
    pub attention_probs_dropout_prob: f64,
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn layer_norm_eps() -> f32 {
    1e-12
}

impl AlbertConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        activation("hidden_act", &config.hidden_act)?;
        check_absolute(&config.position_embedding_type)?;
        check_sizes(&[
            ("embedding_size", config.embedding_size),
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_hidden_groups", config.num_hidden_groups),
            ("inner_group_num", config.inner_group_num),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("vocab_size", config.vocab_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("type_vocab_size", config.type_vocab_size),
        ])?;
        check_layers("num_hidden_layers", config.num_hidden_layers)?;
        check_layers("inner_group_num", config.inner_group_num)?;
        if config.num_hidden_groups > config.num_hidden_layers {
            let (groups, layers) = (config.num_hidden_groups, config.num_hidden_layers);
            let reason = format!("`num_hidden_groups` is {groups}, but `num_hidden_layers` is {layers}");
            return refuse(reason, "a group has at least one layer");
        }
        check_heads(("hidden_size", config.hidden_size), ("num_attention_heads", config.num_attention_heads))?;
        check_word_shapes(config.word_shape_size)?;
        check_epsilon("layer_norm_eps", config.layer_norm_eps)?;
        check_dropout("hidden_dropout_prob", Some(config.hidden_dropout_prob))?;
        check_dropout("attention_probs_dropout_prob", Some(config.attention_probs_dropout_prob))?;
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let (size, hidden) = (self.embedding_size, self.hidden_size);
        let prefix = NAMES.prefix;
        let norm = |name: String, width: usize| Norm { name, width, epsilon: self.layer_norm_eps, has_bias: true };
        let table = |name: &str, rows: usize| Table {
            name: format!("{prefix}embeddings.{name}_embeddings.weight"),
            rows,
            columns: size,
        };
        let layer = |(group, inner): (usize, usize)| {
            let name = |part: &str| format!("{prefix}encoder.albert_layer_groups.{group}.albert_layers.{inner}.{part}");
            let projection = |part: &str| Linear::new(name(&format!("attention.{part}")), hidden, hidden);
            Layer {
                attention: Attention {
                    name: name("attention.projections"),
                    query: projection("query"),
                    key: projection("key"),
                    value: projection("value"),
                    output: projection("dense"),
                    distances: Distances::Ignored,
                    reach: None,
                },
                attention_norm: Some(norm(name("attention.LayerNorm"), hidden)),
                feed_forward: FeedForward {
                    inner: Linear::new(name("ffn"), hidden, self.intermediate_size),
                    outer: Linear::new(name("ffn_output"), self.intermediate_size, hidden),
                },
                activation: activation("hidden_act", &self.hidden_act).unwrap_or(Activation::GeluTanh),
                gate: None,
                feed_forward_norm: norm(name("full_layer_layer_norm"), hidden),
            }
        };
        // Layers are divided evenly among the groups, in order, and each of them is all layers of its group.
        let groups = (0..self.num_hidden_layers).map(|number| number * self.num_hidden_groups / self.num_hidden_layers);
        let layers = groups.flat_map(|group| (0..self.inner_group_num).map(move |inner| (group, inner)));
        Architecture {
            hidden_size: hidden,
            heads: self.num_attention_heads,
            max_tokens: self.max_position_embeddings,
            words: table("word", self.vocab_size),
            positions: Positions::Absolute { table: table("position", self.max_position_embeddings), offset: 0 },
            token_types: Some(table("token_type", self.type_vocab_size)),
            word_shapes: self.word_shape_size.map(|shapes| table("word_shape", shapes)),
            embedding_norm: norm(format!("{prefix}embeddings.LayerNorm"), size),
            embedding_projection: Some(Linear::new(
                format!("{prefix}encoder.embedding_hidden_mapping_in"),
                size,
                hidden,
            )),
            relative: None,
            layers: layers.map(layer).collect(),
            normalization: Normalization::Post,
            checkpoint: NAMES,
            dropout: DropoutRates { hidden: self.hidden_dropout_prob, attention: self.attention_probs_dropout_prob },
        }
    }
}

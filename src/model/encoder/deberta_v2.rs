//! DeBERTa in its versions 2 and 3, which have one `model_type`. In: its keys in the `config.json` of Hugging Face. Out: a [`DebertaV2Config`]
//! with consistent sizes, and its [`Architecture`]: attention with terms for the distance between tokens (He et al., arXiv 2006.03654 and
//! 2111.09543). It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{
    Activation, Architecture, Attention, CheckpointNames, Distances, DropoutRates, Layer, Normalization, Positions,
    RelativePositions,
};
use crate::model::encoder::validation::{
    activation, check_dropout, check_epsilon, check_heads, check_layers, check_word_shapes, refuse,
};

/// How checkpoints name tensors. `_weight` are copies that the original training has left in some of them.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "deberta.",
    bare: &["embeddings.", "encoder."],
    unused: &["pooler.", "embeddings.word_embeddings._weight", "embeddings.position_embeddings._weight"],
    pretraining_heads: &["cls.", "lm_predictions.", "mask_predictions.", "legacy_lm_head."],
    stacked: &[],
};
/// The same of an encoder whose input has no positions: a table of them in a checkpoint is not used.
const WITHOUT_POSITIONS: CheckpointNames = CheckpointNames {
    unused: &["pooler.", "embeddings.word_embeddings._weight", "embeddings.position_embeddings."],
    ..NAMES
};

/// The dropout rate where the configuration does not say it.
const DROPOUT: f64 = 0.1;

/// The configuration of a DeBERTa in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DebertaV2Config {
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
    /// Pieces in the vocabulary.
    pub vocab_size: usize,
    /// Longest input in tokens, question and special tokens counted.
    #[serde(default = "max_position_embeddings")]
    pub max_position_embeddings: usize,
    /// Number of token types; 0 if the encoder does not tell them apart.
    #[serde(default)]
    pub type_vocab_size: usize,
    /// Whether a vector of the position is added to a token's.
    #[serde(default = "yes")]
    pub position_biased_input: bool,
    /// Whether attention has terms for the distance.
    #[serde(default)]
    pub relative_attention: bool,
    /// The distances that are told apart; `max_position_embeddings` if less than 1.
    #[serde(default = "none")]
    pub max_relative_positions: i64,
    /// With buckets, distances beyond half of this number share rows, by their logarithm.
    #[serde(default = "none")]
    pub position_buckets: i64,
    /// `layer_norm` if the vectors of distances are normalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_rel_ebd: Option<String>,
    /// Whether vectors of distances are projected by the layers of queries and keys.
    #[serde(default)]
    pub share_att_key: bool,
    /// The terms: `c2p` (token to distance) and `p2c` (distance to token).
    #[serde(default)]
    pub pos_att_type: Terms,
    /// Width of the vectors of tokens; only `hidden_size` is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_size: Option<usize>,
    /// Width of an attention head; only `hidden_size` / `num_attention_heads` is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_head_size: Option<usize>,
    /// Width of a convolution after the first layer; only 0 (none) is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conv_kernel_size: Option<usize>,
    /// Number of shapes of words that it is told; DeBERTa itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_shape_size: Option<usize>,
    /// Dropout rate of embeddings and block outputs in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_dropout_prob: Option<f64>,
    /// Dropout rate of attention weights in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_probs_dropout_prob: Option<f64>,
}

/// The terms of attention, as configurations write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Terms {
    /// `c2p|p2c`.
    Joined(String),
    /// `["c2p", "p2c"]`.
    List(Vec<String>),
}

impl Default for Terms {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Terms {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Joined(names) => names.split('|').map(str::trim).filter(|name| !name.is_empty()).collect(),
            Self::List(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn layer_norm_eps() -> f32 {
    1e-7
}

fn max_position_embeddings() -> usize {
    512
}

const fn yes() -> bool {
    true
}

const fn none() -> i64 {
    -1
}

impl DebertaV2Config {
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        activation("hidden_act", &config.hidden_act)?;
        check_sizes(&[
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("vocab_size", config.vocab_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("type_vocab_size", config.type_vocab_size.max(1)),
            ("max_relative_positions", config.distances()),
            ("position_buckets", config.buckets().unwrap_or(1)),
        ])?;
        check_layers("num_hidden_layers", config.num_hidden_layers)?;
        check_heads(("hidden_size", config.hidden_size), ("num_attention_heads", config.num_attention_heads))?;
        let head_size = config.hidden_size / config.num_attention_heads;
        let convolution = "this program has no convolution, which only the largest DeBERTa v2 have";
        let fixed = [
            ("embedding_size", config.embedding_size, config.hidden_size, "it must be `hidden_size`"),
            ("attention_head_size", config.attention_head_size, head_size, "it must divide `hidden_size` evenly"),
            ("conv_kernel_size", config.conv_kernel_size, 0, convolution),
        ];
        for (key, value, wanted, hint) in fixed {
            if let Some(value) = value.filter(|value| *value != wanted) {
                return refuse(format!("`{key}` is {value}, not {wanted}"), hint);
            }
        }
        if let Some(name) = config.pos_att_type.names().into_iter().find(|name| !["c2p", "p2c"].contains(name)) {
            return refuse(format!("`pos_att_type` has `{name}`"), "only c2p and p2c are supported");
        }
        if config.relative_attention && config.buckets().is_some_and(|buckets| buckets < 4) {
            let buckets = config.position_buckets;
            return refuse(
                format!("`position_buckets` is {buckets}"),
                "there must be at least 4 buckets, or none (-1)",
            );
        }
        check_word_shapes(config.word_shape_size)?;
        check_epsilon("layer_norm_eps", config.layer_norm_eps)?;
        check_dropout("hidden_dropout_prob", config.hidden_dropout_prob)?;
        check_dropout("attention_probs_dropout_prob", config.attention_probs_dropout_prob)?;
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let hidden = self.hidden_size;
        let names = if self.position_biased_input { NAMES } else { WITHOUT_POSITIONS };
        let prefix = names.prefix;
        let norm = |name: &str| Norm {
            name: format!("{prefix}{name}"),
            width: hidden,
            epsilon: self.layer_norm_eps,
            has_bias: true,
        };
        let table = |name: &str, rows: usize| Table { name: format!("{prefix}{name}.weight"), rows, columns: hidden };
        let embedding = |name: &str, rows: usize| table(&format!("embeddings.{name}_embeddings"), rows);
        let terms = self.pos_att_type.names();
        let layer = |number: usize| {
            let name = |part: &str| format!("{prefix}encoder.layer.{number}.{part}");
            let projection = |part: &str| Linear::new(name(&format!("attention.self.{part}_proj")), hidden, hidden);
            let of_distance = |term: &str, shared: &str| {
                let own = if self.share_att_key { shared.to_owned() } else { format!("pos_{shared}") };
                terms.contains(&term).then(|| projection(&own))
            };
            let distances = if self.relative_attention {
                Distances::Disentangled { keys: of_distance("c2p", "key"), queries: of_distance("p2c", "query") }
            } else {
                Distances::Ignored
            };
            Layer {
                attention: Attention {
                    name: name("attention.self"),
                    query: projection("query"),
                    key: projection("key"),
                    value: projection("value"),
                    output: Linear::new(name("attention.output.dense"), hidden, hidden),
                    distances,
                    reach: None,
                },
                attention_norm: Some(norm(&format!("encoder.layer.{number}.attention.output.LayerNorm"))),
                feed_forward: FeedForward {
                    inner: Linear::new(name("intermediate.dense"), hidden, self.intermediate_size),
                    outer: Linear::new(name("output.dense"), self.intermediate_size, hidden),
                },
                activation: activation("hidden_act", &self.hidden_act).unwrap_or(Activation::Gelu),
                gate: None,
                feed_forward_norm: norm(&format!("encoder.layer.{number}.output.LayerNorm")),
            }
        };
        let normalized = self.norm_rel_ebd.as_ref().is_some_and(|norms| norms.contains("layer_norm"));
        let relative = self.relative_attention.then(|| RelativePositions {
            table: table("encoder.rel_embeddings", 2 * self.span()),
            norm: normalized.then(|| norm("encoder.LayerNorm")),
            rows: self.rows(),
        });
        let positions = embedding("position", self.max_position_embeddings);
        Architecture {
            hidden_size: hidden,
            heads: self.num_attention_heads,
            max_tokens: self.max_position_embeddings,
            words: embedding("word", self.vocab_size),
            positions: if self.position_biased_input {
                Positions::Absolute { table: positions, offset: 0 }
            } else {
                Positions::InAttention
            },
            token_types: (self.type_vocab_size > 0).then(|| embedding("token_type", self.type_vocab_size)),
            word_shapes: self.word_shape_size.map(|shapes| embedding("word_shape", shapes)),
            embedding_norm: norm("embeddings.LayerNorm"),
            embedding_projection: None,
            relative,
            layers: (0..self.num_hidden_layers).map(layer).collect(),
            normalization: Normalization::Post,
            checkpoint: names,
            dropout: DropoutRates {
                hidden: self.hidden_dropout_prob.unwrap_or(DROPOUT),
                attention: self.attention_probs_dropout_prob.unwrap_or(DROPOUT),
            },
        }
    }

    /// The number of distances that are told apart without buckets, in one direction.
    fn distances(&self) -> usize {
        usize::try_from(self.max_relative_positions)
            .ok()
            .filter(|&count| count > 0)
            .unwrap_or(self.max_position_embeddings)
    }

    fn buckets(&self) -> Option<usize> {
        usize::try_from(self.position_buckets).ok().filter(|&count| count > 0)
    }

    /// The number of rows for distances in one direction.
    fn span(&self) -> usize {
        self.buckets().unwrap_or_else(|| self.distances())
    }

    /// The row of each distance, from the most negative to the largest.
    fn rows(&self) -> Vec<usize> {
        let (longest, span) = (self.max_position_embeddings as i64 - 1, self.span() as i64);
        let row = |distance: i64| {
            let bucket = self.buckets().map_or(distance, |count| bucket(distance, count, self.distances()));
            (bucket + span).clamp(0, 2 * span - 1) as usize
        };
        (-longest..=longest).map(row).collect()
    }
}

/// The bucket of a distance: up to half of the number of buckets the distance itself, beyond that by its logarithm. `distances` is the number of
/// distances that buckets stand for. Computed in single precision, as models were trained with.
fn bucket(distance: i64, buckets: usize, distances: usize) -> i64 {
    let half = (buckets / 2) as i64;
    if distance.abs() <= half {
        return distance;
    }
    let ratio = |numerator: i64| (numerator as f32 / half as f32).ln();
    let beyond = (ratio(distance.abs()) / ratio(distances as i64 - 1) * (half - 1) as f32).ceil();
    (beyond as i64 + half) * distance.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures are those of `make_log_bucket_position` of `transformers`, with 256 buckets for 512 distances.
    #[test]
    fn far_distances_share_buckets() {
        let found = [1, 127, 128, 129, 130, 150, 200, 255, 256, 300, 400, 511, 512].map(|at| bucket(at, 256, 512));
        assert_eq!(found, BUCKETS);
        assert_eq!([-1, -128, -129, -511].map(|at| bucket(at, 256, 512)), [-1, -128, -129, -255]);
        assert_eq!((-511..=511_i64).map(|at| bucket(at, 256, 512) * (at + 512)).sum::<i64>(), SUM);
    }

    const BUCKETS: [i64; 13] = [1, 127, 128, 129, 130, 143, 169, 192, 192, 207, 233, 255, 256];
    const SUM: i64 = 54_914_426;
}

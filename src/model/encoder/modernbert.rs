//! ModernBERT (Warner et al., arXiv 2412.13663). In: its keys in the `config.json` of Hugging Face. Out: a [`ModernBertConfig`] with consistent
//! sizes, and its [`Architecture`]: rotary positions, local attention in most layers, gated feed-forward blocks, normalization before each
//! block. It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{
    Activation, Architecture, Attention, CheckpointNames, Distances, DropoutRates, Layer, Normalization, Positions,
};
use crate::model::encoder::validation::{
    activation, check_dropout, check_epsilon, check_heads, check_layers, check_word_shapes, refuse,
};

/// How checkpoints name tensors. They call the whole encoder `model`, which is read as a wrapper, so the prefix is our own. `Wqkv` are queries,
/// keys and values, `Wi` the inner layer and its gate.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "modernbert.",
    bare: &["embeddings.", "layers.", "final_norm."],
    unused: &[],
    pretraining_heads: &["head.", "decoder."],
    stacked: &[("attn.Wqkv", &["attn.query", "attn.key", "attn.value"]), ("mlp.Wi", &["mlp.inner", "mlp.gate"])],
};

const FULL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The configuration of a ModernBERT in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModernBertConfig {
    /// Width of a token's vector (h).
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads in a layer; divides `hidden_size` into even widths.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer and of its gate.
    pub intermediate_size: usize,
    /// Activation of the feed-forward layer.
    #[serde(default = "gelu")]
    pub hidden_activation: String,
    /// Added to the variance in every layer normalization.
    #[serde(default = "norm_eps")]
    pub norm_eps: f32,
    /// Whether normalizations have a shift.
    #[serde(default)]
    pub norm_bias: bool,
    /// Whether the layers of attention have a bias.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the layers of feed-forward blocks have a bias.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Longest input in tokens, question and special tokens counted.
    #[serde(default = "max_position_embeddings")]
    pub max_position_embeddings: usize,
    /// `full_attention` or `sliding_attention` for each layer; if absent, every `global_attn_every_n_layers`-th is full, from the first on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
    /// See `layer_types`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_attn_every_n_layers: Option<usize>,
    /// Tokens that a token with sliding attention attends to, half to each side.
    #[serde(default = "local_attention")]
    pub local_attention: usize,
    /// The angles of rotary positions by the type of a layer; newer configurations have it in place of the next two keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
    /// The base of the angles with full attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_rope_theta: Option<f32>,
    /// The base of the angles with sliding attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rope_theta: Option<f32>,
    /// Number of shapes of words that it is told; ModernBERT itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_shape_size: Option<usize>,
    /// Dropout rate of feed-forward blocks in training; 0 by default.
    #[serde(default)]
    pub mlp_dropout: f64,
    /// Dropout rate of attention weights in training; 0 by default.
    #[serde(default)]
    pub attention_dropout: f64,
}

/// The angles of rotary positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// With full attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_attention: Option<Rope>,
    /// With sliding attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_attention: Option<Rope>,
}

/// The angles of a type of layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Only `default` is supported.
    #[serde(default = "default_rope")]
    pub rope_type: String,
    /// The base of the angles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f32>,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn default_rope() -> String {
    "default".to_owned()
}

fn norm_eps() -> f32 {
    1e-5
}

fn max_position_embeddings() -> usize {
    8192
}

fn local_attention() -> usize {
    128
}

impl ModernBertConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        activation("hidden_activation", &config.hidden_activation)?;
        check_sizes(&[
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("vocab_size", config.vocab_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("local_attention", config.local_attention),
            ("global_attn_every_n_layers", config.global_attn_every_n_layers.unwrap_or(1)),
        ])?;
        check_layers("num_hidden_layers", config.num_hidden_layers)?;
        check_heads(("hidden_size", config.hidden_size), ("num_attention_heads", config.num_attention_heads))?;
        let head_size = config.hidden_size / config.num_attention_heads;
        if !head_size.is_multiple_of(2) {
            let reason = format!("`hidden_size` and `num_attention_heads` make heads of width {head_size}");
            return refuse(reason, "rotary positions need heads of an even width");
        }
        if let Some(types) = &config.layer_types {
            if let Some(other) = types.iter().find(|one| ![FULL, LOCAL].contains(&one.as_str())) {
                return refuse(
                    format!("`layer_types` has `{other}`"),
                    "full_attention and sliding_attention are supported",
                );
            }
            if types.len() != config.num_hidden_layers {
                let (types, layers) = (types.len(), config.num_hidden_layers);
                let reason = format!("`layer_types` has {types} entries for {layers} layers");
                return refuse(reason, "it must have one for each of `num_hidden_layers`");
            }
        }
        let ropes = config.rope_parameters.iter().flat_map(|ropes| [&ropes.full_attention, &ropes.sliding_attention]);
        if let Some(other) = ropes.flatten().find(|rope| rope.rope_type != "default") {
            let reason = format!("`rope_parameters` has `rope_type` `{}`", other.rope_type);
            return refuse(reason, "only the default angles of rotary positions are supported");
        }
        for local in [false, true] {
            let base = config.base(local);
            if !(base > 1.0 && base.is_finite()) {
                return refuse(format!("`rope_theta` is {base}"), "it must be greater than 1");
            }
        }
        check_word_shapes(config.word_shape_size)?;
        check_epsilon("norm_eps", config.norm_eps)?;
        check_dropout("mlp_dropout", Some(config.mlp_dropout))?;
        check_dropout("attention_dropout", Some(config.attention_dropout))?;
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let hidden = self.hidden_size;
        let prefix = NAMES.prefix;
        let norm = |name: String| Norm { name, width: hidden, epsilon: self.norm_eps, has_bias: self.norm_bias };
        let table = |name: &str, rows: usize| Table {
            name: format!("{prefix}embeddings.{name}_embeddings.weight"),
            rows,
            columns: hidden,
        };
        let layer = |number: usize| {
            let name = |part: &str| format!("{prefix}layers.{number}.{part}");
            let linear = |part: &str, inputs: usize, outputs: usize, has_bias: bool| Linear {
                has_bias,
                ..Linear::new(name(part), inputs, outputs)
            };
            let projection = |part: &str| linear(part, hidden, hidden, self.attention_bias);
            let inner = |part: &str| linear(part, hidden, self.intermediate_size, self.mlp_bias);
            let local = self.is_local(number);
            Layer {
                attention: Attention {
                    name: name("attn"),
                    query: projection("attn.query"),
                    key: projection("attn.key"),
                    value: projection("attn.value"),
                    output: projection("attn.Wo"),
                    distances: Distances::Rotary { base: self.base(local) },
                    reach: local.then_some(self.local_attention / 2),
                },
                // The first layer begins with the normalized vectors of tokens.
                attention_norm: (number > 0).then(|| norm(name("attn_norm"))),
                feed_forward: FeedForward {
                    inner: inner("mlp.inner"),
                    outer: linear("mlp.Wo", self.intermediate_size, hidden, self.mlp_bias),
                },
                activation: activation("hidden_activation", &self.hidden_activation).unwrap_or(Activation::Gelu),
                gate: Some(inner("mlp.gate")),
                feed_forward_norm: norm(name("mlp_norm")),
            }
        };
        Architecture {
            hidden_size: hidden,
            heads: self.num_attention_heads,
            max_tokens: self.max_position_embeddings,
            words: table("tok", self.vocab_size),
            positions: Positions::InAttention,
            token_types: None,
            word_shapes: self.word_shape_size.map(|shapes| table("word_shape", shapes)),
            embedding_norm: norm(format!("{prefix}embeddings.norm")),
            embedding_projection: None,
            relative: None,
            layers: (0..self.num_hidden_layers).map(layer).collect(),
            normalization: Normalization::Pre { last: norm(format!("{prefix}final_norm")) },
            checkpoint: NAMES,
            dropout: DropoutRates { hidden: self.mlp_dropout, attention: self.attention_dropout },
        }
    }

    /// Whether the attention of a layer is local.
    fn is_local(&self, layer: usize) -> bool {
        match self.layer_types.as_ref().and_then(|types| types.get(layer)) {
            Some(kind) => kind == LOCAL,
            None => !layer.is_multiple_of(self.global_attn_every_n_layers.unwrap_or(3)),
        }
    }

    /// The base of the angles of layers with local or full attention.
    fn base(&self, local: bool) -> f32 {
        let ropes = self.rope_parameters.as_ref();
        let rope =
            ropes.and_then(|ropes| if local { &ropes.sliding_attention } else { &ropes.full_attention }.as_ref());
        let (older, default) =
            if local { (self.local_rope_theta, 10_000.0) } else { (self.global_rope_theta, 160_000.0) };
        rope.and_then(|rope| rope.rope_theta).or(older).unwrap_or(default)
    }
}

//! The description of an encoder: its layers, their sizes, and the names of their tensors. In: values from a `config.json`. Out: an
//! [`Architecture`], and the names and shapes of all its tensors. It must not know which kind of encoder it describes.

use std::collections::BTreeMap;

use crate::model::blocks::{FeedForward, Linear, Norm, Table};

/// An encoder as the graph writer and the training network compute it. h = `hidden_size`, e = width of the vectors of tokens, which is h unless
/// there is an `embedding_projection`.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Width of a token's vector (h).
    pub hidden_size: usize,
    /// Attention heads in a layer; divides h.
    pub heads: usize,
    /// Longest input in tokens, special tokens counted.
    pub max_tokens: usize,
    /// The vectors of the vocabulary, `[words, e]`.
    pub words: Table,
    /// How a token's position enters.
    pub positions: Positions,
    /// The vectors of the token types (0 on the question, 1 on the context), `[types, e]`. A table of one row is the same for all tokens.
    /// `None`: the encoder does not tell them apart.
    pub token_types: Option<Table>,
    /// The vectors of the shapes of words ([`word_shape`](crate::text::word_shape)), `[shapes, e]`; `None`: the encoder is not told them.
    pub word_shapes: Option<Table>,
    /// Normalizes the sum of these vectors.
    pub embedding_norm: Norm,
    /// e → h, after that.
    pub embedding_projection: Option<Linear>,
    /// What [`Distances::Disentangled`] reads.
    pub relative: Option<RelativePositions>,
    /// The layers, first to last. Layers with the same names share their tensors.
    pub layers: Vec<Layer>,
    /// Where the layers normalize.
    pub normalization: Normalization,
    /// How its checkpoints name tensors.
    pub checkpoint: CheckpointNames,
    /// The rates that it is trained with.
    pub dropout: DropoutRates,
}

/// How a token's position enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// A vector of a table is added to the token's.
    Absolute {
        /// `[positions, e]`.
        table: Table,
        /// The row of the first token; the next token has the next row.
        offset: usize,
    },
    /// Only in attention, by [`Distances`].
    InAttention,
}

/// Vectors of distances between tokens, which all layers read.
#[derive(Debug, Clone, PartialEq)]
pub struct RelativePositions {
    /// `[rows, h]`.
    pub table: Table,
    /// Normalizes its rows.
    pub norm: Option<Norm>,
    /// The row of each distance from query to key position (query − key), from −(`max_tokens` − 1) to `max_tokens` − 1.
    pub rows: Vec<usize>,
}

/// The dropout rates of a training.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DropoutRates {
    /// Of the embeddings and each block's output.
    pub hidden: f64,
    /// Of attention weights.
    pub attention: f64,
}

/// Where a layer normalizes, once for its attention and once for its feed-forward block.
#[derive(Debug, Clone, PartialEq)]
pub enum Normalization {
    /// The sum of a block's output and its input: norm(block(x) + x).
    Post,
    /// A block's input: block(norm(x)) + x.
    Pre {
        /// Normalizes the output of the last layer.
        last: Norm,
    },
}

/// One layer: attention, then the feed-forward block.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Multi-head self-attention.
    pub attention: Attention,
    /// The normalization that belongs to it, if there is one.
    pub attention_norm: Option<Norm>,
    /// The feed-forward block.
    pub feed_forward: FeedForward,
    /// Its activation.
    pub activation: Activation,
    /// With a gate the block is outer(activation(inner(x)) · gate(x)).
    pub gate: Option<Linear>,
    /// The normalization that belongs to it.
    pub feed_forward_norm: Norm,
}

/// The activation of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x), by the error function.
    Gelu,
    /// Its approximation by the hyperbolic tangent: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// Multi-head self-attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// What `query`, `key` and `value` are called together; a graph that multiplies by all three at once names the matrix after it.
    pub name: String,
    /// h → h.
    pub query: Linear,
    /// h → h.
    pub key: Linear,
    /// h → h.
    pub value: Linear,
    /// h → h, over the heads' outputs side by side.
    pub output: Linear,
    /// What it knows of the distance between two tokens.
    pub distances: Distances,
    /// How many tokens to each side a token attends to; `None`: to all tokens.
    pub reach: Option<usize>,
}

/// What attention knows of the distance between two tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Distances {
    /// Nothing.
    Ignored,
    /// Query and key are rotated by angles that grow with their positions (Su et al., arXiv 2104.09864): the values i and i + d/2 of a head
    /// of width d by position · base^(−2i/d).
    Rotary {
        /// The base of the angles.
        base: f32,
    },
    /// Scores have terms of their own for the distance (He et al., arXiv 2006.03654). All terms are divided by √(d · number of terms). The
    /// vectors are those of [`Architecture::relative`].
    Disentangled {
        /// Query · key(vector of the distance).
        keys: Option<Linear>,
        /// Key · query(vector of the distance).
        queries: Option<Linear>,
    },
}

impl Attention {
    /// Query, key and value.
    pub fn projections(&self) -> [&Linear; 3] {
        [&self.query, &self.key, &self.value]
    }
}

/// How the checkpoints of an encoder name tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointNames {
    /// The beginning of the names of all its tensors in a model with heads.
    pub prefix: &'static str,
    /// The beginnings of the names in a checkpoint of the encoder alone, which have no prefix.
    pub bare: &'static [&'static str],
    /// The beginnings, after the prefix, of the names of tensors that token vectors do not depend on.
    pub unused: &'static [&'static str],
    /// The beginnings of the names of the heads that it was pretrained with.
    pub pretraining_heads: &'static [&'static str],
    /// Modules whose tensors are those of several layers, one below the other: the end of a module's name, and the ends in its place.
    pub stacked: &'static [(&'static str, &'static [&'static str])],
}

impl Architecture {
    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// By what the scores of a layer's attention are multiplied.
    pub fn attention_scale(&self, attention: &Attention) -> f32 {
        let terms = match &attention.distances {
            Distances::Disentangled { keys, queries } => 1 + keys.iter().count() + queries.iter().count(),
            Distances::Ignored | Distances::Rotary { .. } => 1,
        };
        1.0 / ((self.head_size() * terms) as f32).sqrt()
    }

    /// What its attention does that no fused operator of ONNX Runtime does; `None` if one computes it.
    pub fn beyond_fused_attention(&self) -> Option<&'static str> {
        let all = |holds: fn(&Attention) -> bool| self.layers.iter().all(|layer| holds(&layer.attention));
        if !all(|attention| !matches!(attention.distances, Distances::Disentangled { .. })) {
            Some("disentangled relative positions")
        } else if !all(|attention| !matches!(attention.distances, Distances::Rotary { .. })) {
            Some("rotary positions")
        } else if !all(|attention| attention.reach.is_none() && attention.projections().iter().all(|one| one.has_bias))
        {
            Some("local attention or projections without a bias")
        } else {
            None
        }
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let positions = match &self.positions {
            Positions::Absolute { table, .. } => Some(table),
            Positions::InAttention => None,
        };
        let relative = self.relative.as_ref();
        let tables = [&self.words].into_iter().chain(positions).chain(&self.token_types).chain(&self.word_shapes);
        let tables = tables.chain(relative.map(|relative| &relative.table));
        let mut shapes: BTreeMap<_, _> = tables.map(Table::shape).collect();
        shapes.extend(self.embedding_projection.iter().flat_map(Linear::shapes));
        let norms = [&self.embedding_norm].into_iter().chain(relative.and_then(|relative| relative.norm.as_ref()));
        shapes.extend(norms.flat_map(Norm::shapes));
        for Layer { attention, attention_norm, feed_forward, gate, feed_forward_norm, .. } in &self.layers {
            let FeedForward { inner, outer } = feed_forward;
            let distances = match &attention.distances {
                Distances::Disentangled { keys, queries } => [keys.as_ref(), queries.as_ref()],
                Distances::Ignored | Distances::Rotary { .. } => [None, None],
            };
            let linear = attention.projections().into_iter().chain([&attention.output, inner, outer]);
            let linear = linear.chain(gate).chain(distances.into_iter().flatten());
            shapes.extend(linear.flat_map(Linear::shapes));
            shapes.extend(attention_norm.iter().chain([feed_forward_norm]).flat_map(Norm::shapes));
        }
        if let Normalization::Pre { last } = &self.normalization {
            shapes.extend(last.shapes());
        }
        shapes
    }
}

#[cfg(test)]
mod tests {
    use crate::model::config::tests::tiny;

    #[test]
    fn layers_that_share_tensors_have_them_once() {
        let mut architecture = tiny().encoder.architecture();
        let two_layers = architecture.shapes().len();
        architecture.layers = vec![architecture.layers[0].clone(); 5];
        // Six linear layers and two normalizations of two tensors each.
        assert_eq!(architecture.shapes().len(), two_layers - 16);
    }
}

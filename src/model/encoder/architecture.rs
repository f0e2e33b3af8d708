//! The description of an encoder: its layers, their sizes, and the names of their tensors. In: values from [`super::bert`]. Out: an
//! [`Architecture`], and the names and shapes of all its tensors. It must not know which kind of encoder it describes.

use std::collections::BTreeMap;

use crate::model::blocks::{FeedForward, Linear, Norm, Table};

/// An encoder as the graph writer and the training network compute it. h = `hidden_size`.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Width of a token's vector (h).
    pub hidden_size: usize,
    /// Attention heads in a layer; divides h.
    pub heads: usize,
    /// Longest input in tokens, special tokens counted.
    pub max_tokens: usize,
    /// The vectors of the vocabulary, `[words, h]`.
    pub words: Table,
    /// How a token's position enters.
    pub positions: Positions,
    /// The vectors of the token types (0 on the question, 1 on the context), `[types, h]`; `None`: the encoder does not tell them apart.
    pub token_types: Option<Table>,
    /// The vectors of the shapes of words ([`word_shape`](crate::text::word_shape)), `[shapes, h]`; `None`: the encoder is not told them.
    pub word_shapes: Option<Table>,
    /// Normalizes the sum of these vectors.
    pub embedding_norm: Norm,
    /// The layers, first to last. Layers with the same names share their tensors.
    pub layers: Vec<Layer>,
    /// Where the layers normalize.
    pub normalization: Normalization,
    /// How its checkpoints name tensors.
    pub checkpoint: CheckpointNames,
}

/// How a token's position enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// A vector of a table is added to the token's.
    Absolute {
        /// `[positions, h]`.
        table: Table,
        /// The row of the first token; the next token has the next row.
        offset: usize,
    },
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
    /// The normalization that belongs to it.
    pub attention_norm: Norm,
    /// The feed-forward block.
    pub feed_forward: FeedForward,
    /// The normalization that belongs to it.
    pub feed_forward_norm: Norm,
}

/// Multi-head self-attention, in which each token attends to all tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl Architecture {
    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let Positions::Absolute { table: positions, .. } = &self.positions;
        let tables = [&self.words, positions].into_iter().chain(&self.token_types).chain(&self.word_shapes);
        let mut shapes: BTreeMap<_, _> = tables.map(Table::shape).collect();
        shapes.extend(self.embedding_norm.shapes());
        for layer in &self.layers {
            let FeedForward { inner, outer } = &layer.feed_forward;
            let linear = layer.attention.projections().into_iter().chain([&layer.attention.output, inner, outer]);
            shapes.extend(linear.flat_map(Linear::shapes));
            shapes.extend([&layer.attention_norm, &layer.feed_forward_norm].into_iter().flat_map(Norm::shapes));
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

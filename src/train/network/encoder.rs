//! Leaf tensors and the encoder on LibTorch. In: weights, the encoder's description, a batch. Out: token vectors, and gradients in the
//! leaves. It must not know the heads, or which kind of encoder it is.
//!
//! It computes the same function as the ONNX graph (`src/graph/encoder.rs`), plus dropout. With bf16, products are computed in bfloat16
//! over float32 leaves: each use casts, and the gradient of the cast is float32 again.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::encoder::architecture::{Architecture, Attention, Normalization, Positions};
use crate::model::weights::tensors::{self, Weights};
use crate::task::batch::BatchTensors;
use crate::train::network::dropout::Masks;

/// The weights of a model on a device.
#[derive(Debug)]
pub struct Leaves {
    /// float32 leaves that accumulate gradients, by the names of the descriptions.
    pub tensors: BTreeMap<String, Tensor>,
    /// The precision of products: `Float` or `BFloat16`.
    pub(crate) kind: Kind,
    pub(crate) device: Device,
    /// The random numbers of dropout.
    pub(crate) masks: Masks,
}

impl Leaves {
    /// Copies weights to a device. `kind` is the precision of products: `Float` or `BFloat16`.
    pub(crate) fn new(weights: &Weights, kind: Kind, device: Device) -> Self {
        let leaf = |(name, tensor): (&str, &tensors::Tensor)| {
            let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
            let leaf = Tensor::from_slice(&tensor.values).view(shape.as_slice()).to_device(device);
            (name.to_owned(), leaf.set_requires_grad(true))
        };
        Self { tensors: weights.iter().map(leaf).collect(), kind, device, masks: Masks::new(device) }
    }

    /// The leaf of this name.
    pub(crate) fn leaf(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    /// A leaf in the precision of products.
    pub(crate) fn cast(&self, name: &str) -> Tensor {
        self.leaf(name).to_kind(self.kind)
    }

    /// x Wᵀ + b, in the precision of products.
    pub(crate) fn linear(&self, input: &Tensor, layer: &Linear) -> Tensor {
        let (weight, bias) = (self.cast(&layer.weight()), self.cast(&layer.bias()));
        input.to_kind(self.kind).linear(&weight, Some(&bias))
    }

    /// Layer normalization, float32.
    fn norm(&self, input: &Tensor, norm: &Norm) -> Tensor {
        let (weight, bias) = (self.leaf(&norm.weight()), self.leaf(&norm.bias()));
        let size = [norm.width as i64];
        input.to_kind(Kind::Float).layer_norm(size, Some(weight), Some(bias), f64::from(norm.epsilon), false)
    }

    /// The vectors of ids, float32 `[.., columns]`.
    fn vectors(&self, table: &Table, ids: &Tensor) -> Tensor {
        Tensor::embedding(self.leaf(&table.name), ids, -1, false, false)
    }

    /// Token vectors, float32 `[rows, tokens, hidden]`. As in PyTorch's autocast, only products use the lower precision.
    pub(crate) fn encode(&self, architecture: &Architecture, inputs: &Inputs, dropout: f64) -> Tensor {
        let drop = |input: Tensor| self.masks.apply(&input, dropout);
        let normalized =
            |hidden: Tensor, norm: &Norm, block: &dyn Fn(&Tensor) -> Tensor| match &architecture.normalization {
                Normalization::Post => self.norm(&(block(&hidden) + hidden), norm),
                Normalization::Pre { .. } => block(&self.norm(&hidden, norm)) + hidden,
            };
        let mut hidden = drop(self.norm(&self.embed(architecture, inputs), &architecture.embedding_norm));
        for layer in &architecture.layers {
            hidden = normalized(hidden, &layer.attention_norm, &|input| {
                let context = self.attention(architecture, &layer.attention, input, &inputs.attention_mask, dropout);
                drop(self.linear(&context, &layer.attention.output))
            });
            hidden = normalized(hidden, &layer.feed_forward_norm, &|input| {
                let FeedForward { inner, outer } = &layer.feed_forward;
                drop(self.linear(&self.linear(input, inner).gelu("none"), outer))
            });
        }
        match &architecture.normalization {
            Normalization::Post => hidden,
            Normalization::Pre { last } => self.norm(&hidden, last),
        }
    }

    /// Vectors of words, positions, token types and word shapes, added.
    fn embed(&self, architecture: &Architecture, inputs: &Inputs) -> Tensor {
        let Positions::Absolute { table, offset } = &architecture.positions;
        let first = *offset as i64;
        let positions = Tensor::arange_start(first, first + inputs.ids.size()[1], (Kind::Int64, self.device));
        let words = self.vectors(&architecture.words, &inputs.ids);
        let typed = match &architecture.token_types {
            Some(types) => words + self.vectors(types, &inputs.types),
            None => words,
        };
        let shaped = match &architecture.word_shapes {
            Some(shapes) => typed + self.vectors(shapes, &inputs.shapes),
            None => typed,
        };
        shaped + self.vectors(table, &positions)
    }

    /// Multi-head self-attention without its output layer.
    fn attention(
        &self,
        architecture: &Architecture,
        attention: &Attention,
        hidden: &Tensor,
        mask: &Tensor,
        dropout: f64,
    ) -> Tensor {
        let (heads, width) = (architecture.heads as i64, architecture.head_size() as i64);
        let size = hidden.size();
        // One product for queries, keys and values.
        let joined = |part: fn(&Linear) -> String| {
            Tensor::cat(&attention.projections().map(|projection| self.cast(&part(projection))), 0)
        };
        let projected = hidden.to_kind(self.kind).linear(&joined(Linear::weight), Some(&joined(Linear::bias)));
        let split = projected.view([size[0], size[1], 3, heads, width]).permute([2, 0, 3, 1, 4]).unbind(0);
        let [query, key, value] = [&split[0], &split[1], &split[2]];
        let mixed = if self.device == Device::Cpu && dropout > 0.0 {
            // LibTorch's own operator computes in float32 here, step by step.
            let scores = (query / (width as f64).sqrt()).matmul(&key.transpose(2, 3));
            let excluded =
                Tensor::zeros_like(mask).to_kind(self.kind).masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
            let shares = (scores + excluded).softmax(-1, self.kind);
            self.masks.apply(&shares, dropout).matmul(value)
        } else {
            Tensor::scaled_dot_product_attention(query, key, value, Some(mask), dropout, false, None, false)
        };
        mixed.transpose(1, 2).reshape([size[0], size[1], heads * width])
    }
}

/// A batch on a device.
#[derive(Debug)]
pub struct Inputs {
    ids: Tensor,
    types: Tensor,
    shapes: Tensor,
    /// bool `[rows, 1, 1, tokens]`: true for tokens that attention includes.
    attention_mask: Tensor,
    /// bool `[rows, tokens]`.
    pub start_mask: Tensor,
    /// bool `[rows, tokens]`.
    pub end_mask: Tensor,
}

impl Inputs {
    /// Copies a batch to a device in a single transfer, since every copy to a GPU synchronizes.
    pub fn new(inputs: &BatchTensors, device: Device) -> Self {
        let shape = [inputs.rows as i64, inputs.tokens as i64];
        let integers =
            [&inputs.input_ids, &inputs.token_type_ids, &inputs.shape_ids, &inputs.attention_mask].into_iter();
        let integers = integers.flatten().copied();
        let masks = [&inputs.start_mask, &inputs.end_mask].into_iter().flatten().map(|&allowed| i64::from(allowed));
        let all: Vec<i64> = integers.chain(masks).collect();
        let all = Tensor::from_slice(&all).view([6, shape[0], shape[1]]).to_device(device);
        let mask = |index: i64| all.select(0, index).to_kind(Kind::Bool);
        Self {
            ids: all.select(0, 0),
            types: all.select(0, 1),
            shapes: all.select(0, 2),
            attention_mask: mask(3).view([shape[0], 1, 1, shape[1]]),
            start_mask: mask(4),
            end_mask: mask(5),
        }
    }
}

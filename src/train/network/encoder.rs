//! The encoder on LibTorch. In: leaf tensors, the encoder's description, a batch. Out: token vectors, and gradients in the leaves. It must not
//! know the heads, or which kind of encoder it is.
//!
//! It computes the same function as the ONNX graph (`src/graph/encoder.rs`), plus dropout.

mod attention;
mod leaves;

use tch::{Device, Kind, Tensor};

pub use crate::train::network::encoder::leaves::Leaves;

use crate::model::blocks::{FeedForward, Norm};
use crate::model::encoder::architecture::{
    Activation, Architecture, DropoutRates, Layer, Normalization, Positions, RelativePositions,
};
use crate::task::batch::BatchTensors;
use crate::train::network::encoder::attention::Shared;

impl Leaves {
    /// Token vectors, float32 `[rows, tokens, hidden]`. As in PyTorch's autocast, only products use the lower precision.
    pub(crate) fn encode(&self, architecture: &Architecture, inputs: &Inputs, dropout: DropoutRates) -> Tensor {
        let drop = |input: Tensor| self.masks.apply(&input, dropout.hidden);
        let normalized = |hidden: Tensor, norm: Option<&Norm>, block: &dyn Fn(&Tensor) -> Tensor| match &architecture
            .normalization
        {
            Normalization::Post => {
                let sum = block(&hidden) + hidden;
                match norm {
                    Some(norm) => self.norm(&sum, norm),
                    None => sum,
                }
            }
            Normalization::Pre { .. } => {
                let input = norm.map(|norm| self.norm(&hidden, norm));
                block(input.as_ref().unwrap_or(&hidden)) + hidden
            }
        };
        let vectors = architecture.relative.as_ref().map(|relative| self.distance_vectors(relative));
        let shared = Shared::new(architecture, vectors, &inputs.attention_mask, self.kind);
        let mut hidden = drop(self.norm(&self.embed(architecture, inputs), &architecture.embedding_norm));
        if let Some(projection) = &architecture.embedding_projection {
            hidden = self.linear(&hidden, projection).to_kind(Kind::Float);
        }
        for layer in &architecture.layers {
            hidden = normalized(hidden, layer.attention_norm.as_ref(), &|input| {
                let context = self.attention(architecture, &layer.attention, input, &shared, dropout.attention);
                drop(self.linear(&context, &layer.attention.output))
            });
            hidden = normalized(hidden, Some(&layer.feed_forward_norm), &|input| drop(self.feed_forward(input, layer)));
        }
        match &architecture.normalization {
            Normalization::Post => hidden,
            Normalization::Pre { last } => self.norm(&hidden, last),
        }
    }

    fn feed_forward(&self, input: &Tensor, layer: &Layer) -> Tensor {
        let FeedForward { inner, outer } = &layer.feed_forward;
        let product = self.linear(input, inner);
        let activated = match layer.activation {
            Activation::Gelu => product.gelu("none"),
            Activation::GeluTanh => product.gelu("tanh"),
            Activation::Relu => product.relu(),
        };
        match &layer.gate {
            Some(gate) => self.linear(&(activated * self.linear(input, gate)), outer),
            None => self.linear(&activated, outer),
        }
    }

    /// The vectors of distances, float32 `[rows, hidden]`.
    fn distance_vectors(&self, relative: &RelativePositions) -> Tensor {
        let table = self.leaf(&relative.table.name);
        relative.norm.as_ref().map_or_else(|| table.shallow_clone(), |norm| self.norm(table, norm))
    }

    /// Vectors of words, positions, token types and word shapes, added.
    fn embed(&self, architecture: &Architecture, inputs: &Inputs) -> Tensor {
        let mut sum = self.vectors(&architecture.words, &inputs.ids);
        if let Some(types) = &architecture.token_types {
            // One row is added to every token.
            let one = || self.leaf(&types.name).shallow_clone();
            sum += if types.rows == 1 { one() } else { self.vectors(types, &inputs.types) };
        }
        if let Some(shapes) = &architecture.word_shapes {
            sum += self.vectors(shapes, &inputs.shapes);
        }
        if let Positions::Absolute { table, offset } = &architecture.positions {
            let first = *offset as i64;
            let positions = Tensor::arange_start(first, first + inputs.ids.size()[1], (Kind::Int64, self.device));
            sum += self.vectors(table, &positions);
        }
        sum
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

//! The network: an encoder with the MRC heads. In: weights, a batch. Out: token vectors, logits, and gradients in the leaves. It must not
//! read files or know gold mentions.
//!
//! The heads compute the same function as those of the ONNX graph (`src/graph/heads.rs`), plus dropout.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::encoder::architecture::Architecture;
use crate::model::head::{Activation, MatchHead, MrcHead, TwoLayers};
use crate::model::weights::tensors;
use crate::model::weights::tensors::{Misfit, Weights};
use crate::train::network::encoder::{Inputs, Leaves};
use crate::train::network::failure::torch;

/// Dropout rates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropout {
    /// Of the embeddings, attention weights and each layer's two outputs.
    pub encoder: f64,
    /// Of the match head's activation.
    pub head: f64,
}

/// A model on a device.
#[derive(Debug)]
pub struct Network {
    /// Its weights.
    pub leaves: Leaves,
    architecture: Architecture,
    head: MrcHead,
    /// The match head of `head`.
    matching: TwoLayers,
}

impl Network {
    /// Copies weights to a device. `kind` is the precision of products: `Float` or `BFloat16`.
    ///
    /// # Errors
    /// [`Error::Engine`] if the match head is a single layer.
    pub fn new(weights: &Weights, kind: Kind, device: Device) -> Result<Self> {
        let (architecture, head) = (weights.encoder.architecture.clone(), weights.head.description.clone());
        let MatchHead::TwoLayers(matching) = head.matching.clone() else {
            return Err(Error::Engine { doing: "train".into(), source: "its match head is one linear layer".into() });
        };
        Ok(Self { leaves: Leaves::new(weights, kind, device), architecture, head, matching })
    }

    /// Draws and discards `count` random numbers: with one seed for all devices, each device then has its own dropout.
    pub fn skip_random(&self, count: usize) {
        for _ in 0..count {
            let _ = Tensor::rand([1], (Kind::Float, self.device()));
        }
    }

    /// The device.
    pub const fn device(&self) -> Device {
        self.leaves.device
    }

    /// A copy of the current weights on the CPU.
    pub fn weights(&self) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for (name, leaf) in &self.leaves.tensors {
            let shape = leaf.size().into_iter().map(|size| size as usize).collect();
            let flat = leaf.detach().to_device(Device::Cpu).flatten(0, -1);
            let values = Vec::<f32>::try_from(&flat).map_err(torch("copy weights"))?;
            tensors.insert(name.clone(), tensors::Tensor { shape, values });
        }
        self.check(tensors)
            .map_err(|misfit| Error::Engine { doing: "keep the weights".into(), source: misfit.reason.into() })
    }

    /// Weights of this network with other values.
    pub fn check(&self, tensors: BTreeMap<String, tensors::Tensor>) -> Result<Weights, Misfit> {
        Weights::new(self.architecture.clone(), self.head.clone(), tensors)
    }

    /// The name of the first tensor with a value that is not finite, if any.
    pub fn overflowed(&self) -> Result<Option<&str>> {
        for (name, leaf) in &self.leaves.tensors {
            if !bool::try_from(leaf.isfinite().all()).map_err(torch("check the weights"))? {
                return Ok(Some(name.as_str()));
            }
        }
        Ok(None)
    }

    /// Token vectors, float32 `[rows, tokens, hidden]`.
    pub fn encode(&self, inputs: &Inputs, dropout: f64) -> Tensor {
        self.leaves.encode(&self.architecture, inputs, dropout)
    }

    /// Start and end logits, float32 `[rows, tokens]` each.
    pub fn boundaries(&self, hidden: &Tensor) -> [Tensor; 2] {
        [&self.head.start, &self.head.end]
            .map(|layer| self.leaves.linear(hidden, layer).squeeze_dim(-1).to_kind(Kind::Float))
    }

    /// Prepares the match head for its candidates: tokens that are the start (or end) of a candidate are projected by their half of the
    /// first layer (W[hᵢ;hⱼ] = W₁hᵢ + W₂hⱼ), so that no matrix of tokens × tokens × width is allocated.
    pub fn match_candidates(&self, hidden: &Tensor, candidates: &Tensor) -> MatchCandidates {
        let (leaves, layers) = (&self.leaves, &self.matching);
        let size = hidden.size();
        let flat = hidden.to_kind(leaves.kind).reshape([-1, size[2]]);
        let weight = leaves.cast(&layers.hidden.weight());
        let bias = leaves.cast(&layers.hidden.bias());
        let half = |part: i64, bias: Option<&Tensor>| {
            let positions = candidates.select(1, 0) * size[1] + candidates.select(1, part + 1);
            let chosen = Tensor::zeros([size[0] * size[1]], (Kind::Bool, self.device())).index_fill(0, &positions, 1);
            let ranks = chosen.to_kind(Kind::Int64).cumsum(0, Kind::Int64) - 1;
            let vectors = flat.index_select(0, &chosen.nonzero().squeeze_dim(1));
            let projection = vectors.linear(&weight.narrow(1, part * size[2], size[2]), bias).to_kind(Kind::Float);
            (projection, ranks.index_select(0, &positions))
        };
        let (starts, start_rows) = half(0, Some(&bias));
        let (ends, end_rows) = half(1, None);
        let [weight, bias] =
            [layers.logit.weight(), layers.logit.bias()].map(|name| leaves.leaf(&name).shallow_clone());
        MatchCandidates { parts: [starts, ends, weight, bias], start_rows, end_rows, activation: layers.activation }
    }
}

/// The inputs of the match logits of some candidates.
#[derive(Debug)]
pub struct MatchCandidates {
    /// Projected starts `[s, width]` and ends `[e, width]`, the last layer's weight `[1, width]` and bias `[1]`, float32.
    pub parts: [Tensor; 4],
    start_rows: Tensor,
    end_rows: Tensor,
    activation: Activation,
}

impl MatchCandidates {
    /// Match logits, float32 `[count]`, of the candidates `from .. from + count`, computed from `parts`.
    pub fn logits(&self, parts: &[Tensor; 4], from: i64, count: i64, dropout: f64) -> Tensor {
        let [starts, ends, weight, bias] = parts;
        let pick = |rows: &Tensor, from_tokens: &Tensor| from_tokens.index_select(0, &rows.narrow(0, from, count));
        let sum = pick(&self.start_rows, starts) + pick(&self.end_rows, ends);
        let active = match self.activation {
            Activation::Gelu => sum.gelu("none"),
            Activation::Relu => sum.relu(),
            Activation::Tanh => sum.tanh(),
        };
        let active = if dropout > 0.0 { active.dropout(dropout, true) } else { active };
        active.linear(weight, Some(bias)).squeeze_dim(-1)
    }
}

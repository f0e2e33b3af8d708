//! BERT and the MRC heads on LibTorch. In: leaf tensors by name, a batch. Out: token vectors, logits, and gradients in the leaves. It
//! must not read files or know gold mentions.
//!
//! It computes the same function as the ONNX graph (`src/graph`), plus dropout. With bf16, products are computed in bfloat16 over float32
//! leaves: each use casts, and the gradient of the cast is float32 again.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::encoder::config::{Activation, BertConfig};
use crate::model::weights::tensors;
use crate::model::weights::tensors::Weights;
use crate::task::batch::BatchInputs;

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
    /// float32 leaves that accumulate gradients, by the names of the reference implementation.
    pub leaves: BTreeMap<String, Tensor>,
    config: BertConfig,
    kind: Kind,
    device: Device,
}

/// A batch on a device.
#[derive(Debug)]
pub struct Inputs {
    ids: Tensor,
    types: Tensor,
    /// bool `[rows, 1, 1, tokens]`: true for tokens that attention includes.
    attention_mask: Tensor,
    /// bool `[rows, tokens]`.
    pub start_mask: Tensor,
    /// bool `[rows, tokens]`.
    pub end_mask: Tensor,
}

impl Inputs {
    /// Copies a batch to a device in a single transfer, since every copy to a GPU synchronizes.
    pub fn new(inputs: &BatchInputs, device: Device) -> Self {
        let shape = [inputs.rows as i64, inputs.tokens as i64];
        let integers =
            [&inputs.input_ids, &inputs.token_type_ids, &inputs.attention_mask].into_iter().flatten().copied();
        let masks = [&inputs.start_mask, &inputs.end_mask].into_iter().flatten().map(|&allowed| i64::from(allowed));
        let all: Vec<i64> = integers.chain(masks).collect();
        let all = Tensor::from_slice(&all).view([5, shape[0], shape[1]]).to_device(device);
        let mask = |index: i64| all.select(0, index).to_kind(Kind::Bool);
        Self {
            ids: all.select(0, 0),
            types: all.select(0, 1),
            attention_mask: mask(2).view([shape[0], 1, 1, shape[1]]),
            start_mask: mask(3),
            end_mask: mask(4),
        }
    }
}

impl Network {
    /// Copies weights to a device. `kind` is the precision of products: `Float` or `BFloat16`.
    pub fn new(weights: &Weights, config: &BertConfig, kind: Kind, device: Device) -> Self {
        let leaf = |(name, tensor): (&str, &tensors::Tensor)| {
            let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
            let leaf = Tensor::from_slice(&tensor.values).view(shape.as_slice()).to_device(device);
            (name.to_owned(), leaf.set_requires_grad(true))
        };
        Self { leaves: weights.iter().map(leaf).collect(), config: config.clone(), kind, device }
    }

    /// Draws and discards `count` random numbers: with one seed for all devices, each device then has its own dropout.
    pub fn skip_random(&self, count: usize) {
        for _ in 0..count {
            let _ = Tensor::rand([1], (Kind::Float, self.device));
        }
    }

    /// The device.
    pub const fn device(&self) -> Device {
        self.device
    }

    /// A copy of the current weights on the CPU.
    pub fn weights(&self) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for (name, leaf) in &self.leaves {
            let shape = leaf.size().into_iter().map(|size| size as usize).collect();
            let flat = leaf.detach().to_device(Device::Cpu).flatten(0, -1);
            let values = Vec::<f32>::try_from(&flat).map_err(torch("copy weights"))?;
            tensors.insert(name.clone(), tensors::Tensor { shape, values });
        }
        Weights::check(tensors, &mut self.config.clone())
            .map_err(|misfit| Error::Engine { doing: "keep the weights".into(), source: misfit.reason.into() })
    }

    /// The name of the first tensor with a value that is not finite, if any.
    pub fn overflowed(&self) -> Result<Option<&str>> {
        for (name, leaf) in &self.leaves {
            if !bool::try_from(leaf.isfinite().all()).map_err(torch("check the weights"))? {
                return Ok(Some(name.as_str()));
            }
        }
        Ok(None)
    }

    fn leaf(&self, name: &str) -> &Tensor {
        &self.leaves[name]
    }

    /// A leaf in the precision of products.
    fn cast(&self, name: &str) -> Tensor {
        self.leaf(name).to_kind(self.kind)
    }

    fn linear(&self, input: &Tensor, name: &str) -> Tensor {
        let (weight, bias) = (self.cast(&format!("{name}.weight")), self.cast(&format!("{name}.bias")));
        input.to_kind(self.kind).linear(&weight, Some(&bias))
    }

    fn norm(&self, input: &Tensor, name: &str) -> Tensor {
        let (weight, bias) = (self.leaf(&format!("{name}.weight")), self.leaf(&format!("{name}.bias")));
        let (size, epsilon) = ([self.config.hidden_size as i64], f64::from(self.config.layer_norm_eps));
        input.to_kind(Kind::Float).layer_norm(size, Some(weight), Some(bias), epsilon, false)
    }

    /// Token vectors, float32 `[rows, tokens, hidden]`. As in PyTorch's autocast, only products use the lower precision.
    pub fn encode(&self, inputs: &Inputs, dropout: f64) -> Tensor {
        let drop = |input: Tensor| if dropout > 0.0 { input.dropout(dropout, true) } else { input };
        let table = |name: &str, ids: &Tensor| {
            Tensor::embedding(self.leaf(&format!("bert.embeddings.{name}_embeddings.weight")), ids, -1, false, false)
        };
        let tokens = inputs.ids.size()[1];
        let positions = Tensor::arange(tokens, (Kind::Int64, self.device));
        let sum = table("word", &inputs.ids) + table("token_type", &inputs.types) + table("position", &positions);
        let mut hidden = drop(self.norm(&sum, "bert.embeddings.LayerNorm"));
        for layer in 0..self.config.num_hidden_layers {
            let name = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
            let attention = self.attention(&hidden, &name("attention.self"), &inputs.attention_mask, dropout);
            let output = drop(self.linear(&attention, &name("attention.output.dense")));
            hidden = self.norm(&(output + hidden), &name("attention.output.LayerNorm"));
            let inner = self.linear(&hidden, &name("intermediate.dense")).gelu("none");
            let output = drop(self.linear(&inner, &name("output.dense")));
            hidden = self.norm(&(output + hidden), &name("output.LayerNorm"));
        }
        hidden
    }

    fn attention(&self, hidden: &Tensor, name: &str, mask: &Tensor, dropout: f64) -> Tensor {
        let (heads, width) = (self.config.num_attention_heads as i64, self.config.head_size() as i64);
        let size = hidden.size();
        // One product for queries, keys and values.
        let parts = ["query", "key", "value"];
        let joined = |end: &str| Tensor::cat(&parts.map(|part| self.cast(&format!("{name}.{part}.{end}"))), 0);
        let projected = hidden.to_kind(self.kind).linear(&joined("weight"), Some(&joined("bias")));
        let split = projected.view([size[0], size[1], 3, heads, width]).permute([2, 0, 3, 1, 4]).unbind(0);
        let mixed = Tensor::scaled_dot_product_attention(
            &split[0],
            &split[1],
            &split[2],
            Some(mask),
            dropout,
            false,
            None,
            false,
        );
        mixed.transpose(1, 2).reshape([size[0], size[1], heads * width])
    }

    /// Start and end logits, float32 `[rows, tokens]` each.
    pub fn boundaries(&self, hidden: &Tensor) -> [Tensor; 2] {
        ["start_outputs", "end_outputs"].map(|name| self.linear(hidden, name).squeeze_dim(-1).to_kind(Kind::Float))
    }

    /// Prepares the match head for its candidates: tokens that are the start (or end) of a candidate are projected by their half of the
    /// first layer (W[hᵢ;hⱼ] = W₁hᵢ + W₂hⱼ), so that no matrix of tokens × tokens × width is allocated.
    pub fn match_head(&self, hidden: &Tensor, candidates: &Tensor) -> MatchHead {
        let size = hidden.size();
        let flat = hidden.to_kind(self.kind).reshape([-1, size[2]]);
        let weight = self.cast("span_embedding.classifier1.weight");
        let bias = self.cast("span_embedding.classifier1.bias");
        let half = |part: i64, bias: Option<&Tensor>| {
            let positions = candidates.select(1, 0) * size[1] + candidates.select(1, part + 1);
            let chosen = Tensor::zeros([size[0] * size[1]], (Kind::Bool, self.device)).index_fill(0, &positions, 1);
            let ranks = chosen.to_kind(Kind::Int64).cumsum(0, Kind::Int64) - 1;
            let vectors = flat.index_select(0, &chosen.nonzero().squeeze_dim(1));
            let projection = vectors.linear(&weight.narrow(1, part * size[2], size[2]), bias).to_kind(Kind::Float);
            (projection, ranks.index_select(0, &positions))
        };
        let (starts, start_rows) = half(0, Some(&bias));
        let (ends, end_rows) = half(1, None);
        let [weight, bias] =
            ["weight", "bias"].map(|end| self.leaf(&format!("span_embedding.classifier2.{end}")).shallow_clone());
        MatchHead {
            parts: [starts, ends, weight, bias],
            start_rows,
            end_rows,
            activation: self.config.classifier_act_func,
        }
    }
}

/// The inputs of the match logits of some candidates.
#[derive(Debug)]
pub struct MatchHead {
    /// Projected starts `[s, width]` and ends `[e, width]`, the last layer's weight `[1, width]` and bias `[1]`, float32.
    pub parts: [Tensor; 4],
    start_rows: Tensor,
    end_rows: Tensor,
    activation: Activation,
}

impl MatchHead {
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

/// Converts a LibTorch error.
pub(crate) fn torch(doing: &str) -> impl Fn(tch::TchError) -> Error + '_ {
    move |source| Error::Engine { doing: doing.to_owned(), source: source.into() }
}

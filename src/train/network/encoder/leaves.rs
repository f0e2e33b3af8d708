//! Leaf tensors on LibTorch, and the layers that read them. In: weights. Out: tensors that accumulate gradients. It must not know the order of
//! the layers.
//!
//! With bf16, products are computed in bfloat16 over float32 leaves: each use casts, and the gradient of the cast is float32 again.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::model::blocks::{Linear, Norm, Table};
use crate::model::weights::tensors::{self, Weights};
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
        let bias = layer.has_bias.then(|| self.cast(&layer.bias()));
        input.to_kind(self.kind).linear(&self.cast(&layer.weight()), bias)
    }

    /// Layer normalization, float32.
    pub(crate) fn norm(&self, input: &Tensor, norm: &Norm) -> Tensor {
        let (weight, bias) = (self.leaf(&norm.weight()), norm.has_bias.then(|| self.leaf(&norm.bias())));
        let size = [norm.width as i64];
        input.to_kind(Kind::Float).layer_norm(size, Some(weight), bias, f64::from(norm.epsilon), false)
    }

    /// The vectors of ids, float32 `[.., columns]`.
    pub(super) fn vectors(&self, table: &Table, ids: &Tensor) -> Tensor {
        Tensor::embedding(self.leaf(&table.name), ids, -1, false, false)
    }
}

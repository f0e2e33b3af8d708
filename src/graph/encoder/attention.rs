//! Attention. In: token vectors `[batch × tokens, hidden]`, the description of a layer's attention. Out: the heads' outputs side by side, of the
//! same shape. It must not know the blocks around it.
//!
//! ONNX Runtime's fused operators compute plain attention. Attention that knows distances or is local is written in standard operators in
//! every variant; `Architecture::beyond_fused_attention` says why.

use crate::graph::encoder::distances::{MASKED, Places};
use crate::graph::layers::{Writer, stacked, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::Linear;
use crate::model::encoder::architecture::{Attention, Distances};
use crate::model::precision::{GraphVariant, Precision};

/// Values that several layers use.
pub(super) struct Shared {
    /// Standard operators: float `[batch, 1, 1, tokens]`, added to the scores. Fused int8: int32 `[batch, tokens]`. Other fused
    /// graphs: int32 `[batch]`, the number of tokens of each row before the padding. If CUDA uses memory-efficient attention
    /// (see [`Writer::memory_efficient`]): int32 `[3 × batch + 2]`, these lengths followed by two copies of the row
    /// offsets, including the end of the last row.
    mask: String,
    /// `[batch, tokens, -1]`.
    tokens_shape: String,
    /// `[batch, tokens, heads, head size]`.
    heads_shape: String,
    /// `[-1, hidden]`.
    flat_shape: String,
    /// What depends on where tokens stand.
    places: Places,
}

impl Shared {
    /// The name of `[batch, tokens, -1]`.
    pub(super) fn tokens_shape(&self) -> &str {
        &self.tokens_shape
    }

    /// The name of `[-1, hidden]`.
    pub(super) fn flat_shape(&self) -> &str {
        &self.flat_shape
    }
}

impl Writer<'_> {
    /// Writes what several layers use; `shape` is the name of `[batch, tokens]`.
    pub(super) fn shared_by_layers(&mut self, shape: &str) -> Shared {
        let architecture = self.architecture();
        let hidden = architecture.hidden_size as i64;
        let (heads, head) = (architecture.heads as i64, architecture.head_size() as i64);
        let (rest, per_head) = (self.graph.integers(&[-1]), self.graph.integers(&[heads, head]));
        let first = || vec![AttributeProto::integer("axis", 0)];
        Shared {
            mask: self.mask(shape),
            tokens_shape: self.graph.op_with("Concat", &[shape, &rest], first()),
            heads_shape: self.graph.op_with("Concat", &[shape, &per_head], first()),
            flat_shape: self.graph.integers(&[-1, hidden]),
            places: Places::new(shape),
        }
    }

    /// Whether attention is one operator of ONNX Runtime.
    fn fuses_attention(&self) -> bool {
        self.variant == GraphVariant::Fused && self.architecture().beyond_fused_attention().is_none()
    }

    /// Whether CUDA's `Attention` uses the memory-efficient kernel at every length. This kernel accepts padding only as the
    /// long mask; the other kernels would read the second part of that mask as the start of each row. (See `attention.cc`
    /// and `memory_efficient_attention.h` of ONNX Runtime. In fp32 that kernel is used only from 256 tokens on.)
    fn memory_efficient(&self) -> bool {
        self.precision == Precision::Fp16 && self.architecture().head_size().is_multiple_of(8)
    }

    fn mask(&mut self, shape: &str) -> String {
        let (efficient, fused) = (self.memory_efficient(), self.fuses_attention());
        let graph = &mut self.graph;
        match (fused, self.precision) {
            (false, _) => {
                let axes = graph.integers(&[1, 2]);
                let mask = graph.cast("attention_mask", graph.element());
                let mask = graph.op("Unsqueeze", &[&mask, &axes]);
                let (one, masked) = (graph.number(1.0), graph.number(MASKED));
                let padding = graph.op("Sub", &[&one, &mask]);
                graph.op("Mul", &[&padding, &masked])
            }
            (true, Precision::Int8) => graph.cast("attention_mask", ElementType::Int32),
            (true, _) => {
                let axis = graph.integers(&[1]);
                let no_axis = vec![AttributeProto::integer("keepdims", 0)];
                let lengths = graph.op_with("ReduceSum", &["attention_mask", &axis], no_axis);
                if !efficient {
                    return graph.cast(&lengths, ElementType::Int32);
                }
                let scalar = graph.integers(&[]);
                let [batch, length] = [0, 1].map(|axis| {
                    let axis = graph.integers(&[axis]);
                    let size = graph.op("Gather", &[shape, &axis]);
                    graph.op("Reshape", &[&size, &scalar])
                });
                let (zero, one) = (graph.integer(0), graph.integer(1));
                let borders = graph.op("Add", &[&batch, &one]);
                let borders = graph.op("Range", &[&zero, &borders, &one]);
                let borders = graph.op("Mul", &[&borders, &length]);
                let first = vec![AttributeProto::integer("axis", 0)];
                let mask = graph.op_with("Concat", &[&lengths, &borders, &borders], first);
                graph.cast(&mask, ElementType::Int32)
            }
        }
    }

    /// Multi-head self-attention without its output layer; input and output are `[batch × tokens, hidden]`.
    pub(super) fn attention(&mut self, tokens: &str, attention: &Attention, shared: &mut Shared) -> String {
        let projections = attention.projections();
        let hidden = self.architecture().hidden_size;
        let heads = vec![AttributeProto::integer("num_heads", self.architecture().heads as i64)];
        let context = match (self.fuses_attention(), self.precision) {
            (false, _) => return self.standard_attention(tokens, attention, shared),
            (true, Precision::Int8) => {
                let product = self.product(tokens, &projections, None);
                let bias = self.bias(&projections);
                let product = self.graph.op("Reshape", &[&product, &shared.tokens_shape]);
                let [query, key, value] = self.graph.split(&product, 2, hidden);
                let inputs = [&query, &key, &value, &bias, &shared.mask].map(String::as_str);
                self.graph.runtime("MultiHeadAttention", &inputs, heads)
            }
            (true, _) => {
                let matrix = stacked(&self.weights.encoder.tensors, &projections, Linear::weight);
                let (outputs, inputs) = (matrix.shape[0], matrix.shape[1]);
                let transposed = transpose(&matrix.values, outputs, inputs);
                let name = format!("{}.weight", attention.name);
                let weight = self.graph.weights(&name, &[inputs, outputs], &transposed);
                let bias = self.bias(&projections);
                let tokens = self.graph.op("Reshape", &[tokens, &shared.tokens_shape]);
                self.graph.runtime("Attention", &[&tokens, &weight, &bias, &shared.mask], heads)
            }
        };
        self.graph.op("Reshape", &[&context, &shared.flat_shape])
    }

    fn standard_attention(&mut self, tokens: &str, attention: &Attention, shared: &mut Shared) -> String {
        let architecture = self.architecture();
        let projections = attention.projections();
        let product = self.product(tokens, &projections, None);
        let biased = self.biased(&product, &projections);
        let parts: [String; 3] = self.graph.split(&biased, 1, architecture.hidden_size);
        // The query is scaled before the product, so that the scores fit into fp16.
        let scale = architecture.attention_scale(attention);
        let factor = self.graph.number(scale);
        let query = self.graph.op("Mul", &[&parts[0], &factor]);
        let angles = match attention.distances {
            Distances::Rotary { base } => Some(self.angles(base, &mut shared.places)),
            Distances::Ignored | Distances::Disentangled { .. } => None,
        };
        let plain = [0, 2, 1, 3];
        let parts = [(&query, plain, true), (&parts[1], [0, 2, 3, 1], true), (&parts[2], plain, false)];
        let [query, key, value] = parts.map(|(part, permutation, turns)| {
            let mut part = self.graph.op("Reshape", &[part, &shared.heads_shape]);
            if let Some(angles) = angles.as_ref().filter(|_| turns) {
                part = self.rotated(&part, angles);
            }
            self.permuted(&part, &permutation)
        });
        let mut scores = self.graph.op("MatMul", &[&query, &key]);
        if let Distances::Disentangled { keys, queries } = &attention.distances {
            let layers = [keys.as_ref(), queries.as_ref()];
            scores = self.distance_terms(&scores, [&query, &key], layers, scale, &mut shared.places);
        }
        let mask = match attention.reach {
            Some(reach) => self.local_mask(reach, &shared.mask, &mut shared.places),
            None => shared.mask.clone(),
        };
        let scores = self.graph.op("Add", &[&scores, &mask]);
        let probabilities = self.graph.op_with("Softmax", &[&scores], vec![AttributeProto::integer("axis", -1)]);
        let context = self.graph.op("MatMul", &[&probabilities, &value]);
        let context = self.permuted(&context, &plain);
        self.graph.op("Reshape", &[&context, &shared.flat_shape])
    }
}

//! Attention. In: token vectors `[batch × tokens, hidden]`, the description of a layer's attention. Out: the heads' outputs side by side, of the
//! same shape. It must not know the blocks around it.
//!
//! ONNX Runtime's fused operators compute plain attention. Attention that knows distances or is local is written in standard operators in
//! every variant; `Architecture::beyond_fused_attention` says why.

use std::collections::BTreeMap;

use crate::graph::layers::{Writer, stacked, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::Linear;
use crate::model::encoder::architecture::{Attention, Distances, RelativePositions};
use crate::model::precision::{GraphVariant, Precision};
use crate::model::weights::tensors::Tensors;

/// Added to the attention scores of padding; its exponential is exactly zero, and fp16 can represent it.
const MASKED: f32 = -10_000.0;

/// Values that several layers use.
pub(super) struct Shared {
    /// The name of `[batch, tokens]`.
    shape: String,
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
    /// Float `[batch, 1, tokens, tokens]` by reach: `mask`, and what lies beyond the reach.
    local_masks: BTreeMap<usize, String>,
    /// Cosines and sines `[tokens, 1, head size / 2]` by the bits of the base of the angles.
    angles: BTreeMap<u32, [String; 2]>,
    /// The row of distances of each pair of tokens, int64 `[batch, heads, tokens, tokens]`: that of query − key, and its transpose.
    relative: Option<[String; 2]>,
}

impl Shared {
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
            shape: shape.to_owned(),
            mask: self.mask(shape),
            tokens_shape: self.graph.op_with("Concat", &[shape, &rest], first()),
            heads_shape: self.graph.op_with("Concat", &[shape, &per_head], first()),
            flat_shape: self.graph.integers(&[-1, hidden]),
            local_masks: BTreeMap::new(),
            angles: BTreeMap::new(),
            relative: None,
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
            Distances::Rotary { base } => Some(self.angles(base, shared)),
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
            scores = self.distance_terms(&scores, [&query, &key], [keys.as_ref(), queries.as_ref()], scale, shared);
        }
        let mask = match attention.reach {
            Some(reach) => self.local_mask(reach, shared),
            None => shared.mask.clone(),
        };
        let scores = self.graph.op("Add", &[&scores, &mask]);
        let probabilities = self.graph.op_with("Softmax", &[&scores], vec![AttributeProto::integer("axis", -1)]);
        let context = self.graph.op("MatMul", &[&probabilities, &value]);
        let context = self.permuted(&context, &plain);
        self.graph.op("Reshape", &[&context, &shared.flat_shape])
    }

    fn permuted(&mut self, value: &str, permutation: &[i64]) -> String {
        self.graph.op_with("Transpose", &[value], vec![AttributeProto::integers("perm", permutation)])
    }

    /// The positions 0, 1, … of a row: int64 `[tokens]`.
    fn positions(&mut self, shared: &Shared) -> String {
        let length = self.columns(&shared.shape);
        let (zero, one) = (self.graph.integer(0), self.graph.integer(1));
        self.graph.op("Range", &[&zero, &length, &one])
    }

    /// The position of the first token less that of the second, for each pair: int64 `[tokens, tokens]`.
    fn differences(&mut self, shared: &Shared) -> String {
        let places = self.positions(shared);
        let (first, second) = (self.graph.integers(&[0]), self.graph.integers(&[1]));
        let (from, to) =
            (self.graph.op("Unsqueeze", &[&places, &second]), self.graph.op("Unsqueeze", &[&places, &first]));
        self.graph.op("Sub", &[&from, &to])
    }

    /// The mask of attention that reaches `reach` tokens to each side.
    fn local_mask(&mut self, reach: usize, shared: &mut Shared) -> String {
        if let Some(known) = shared.local_masks.get(&reach) {
            return known.clone();
        }
        let differences = self.differences(shared);
        let distances = self.graph.op("Abs", &[&differences]);
        let reaches = self.graph.integer(reach as i64);
        let beyond = self.graph.op("Greater", &[&distances, &reaches]);
        let (element, masked) = (self.graph.element(), self.graph.number(MASKED));
        let beyond = self.graph.cast(&beyond, element);
        let beyond = self.graph.op("Mul", &[&beyond, &masked]);
        let mask = self.graph.op("Add", &[&shared.mask, &beyond]);
        shared.local_masks.insert(reach, mask.clone());
        mask
    }

    /// Cosines and sines of rotary positions, computed in fp32 in every precision.
    fn angles(&mut self, base: f32, shared: &mut Shared) -> [String; 2] {
        if let Some(known) = shared.angles.get(&base.to_bits()) {
            return known.clone();
        }
        let size = self.architecture().head_size();
        let frequency = |number: usize| f64::from(base).powf(-2.0 * number as f64 / size as f64) as f32;
        let bytes = (0..size / 2).flat_map(|number| frequency(number).to_le_bytes()).collect();
        let frequencies =
            self.graph.constant(&format!("frequencies {base}"), ElementType::Float32, &[1, size / 2], bytes);
        let positions = self.positions(shared);
        let positions = self.graph.cast(&positions, ElementType::Float32);
        let second = self.graph.integers(&[1]);
        let positions = self.graph.op("Unsqueeze", &[&positions, &second]);
        let angles = self.graph.op("Mul", &[&positions, &frequencies]);
        let element = self.graph.element();
        let waves = ["Cos", "Sin"].map(|operator| {
            let wave = self.graph.op(operator, &[&angles]);
            let wave = if element == ElementType::Float32 { wave } else { self.graph.cast(&wave, element) };
            self.graph.op("Unsqueeze", &[&wave, &second])
        });
        shared.angles.insert(base.to_bits(), waves.clone());
        waves
    }

    /// `[batch, tokens, heads, head size]`, with the halves (x, y) of each head as x cos − y sin and y cos + x sin.
    fn rotated(&mut self, value: &str, [cosine, sine]: &[String; 2]) -> String {
        let half = self.architecture().head_size() / 2;
        let graph = &mut self.graph;
        let [x, y]: [String; 2] = graph.split(value, 3, half);
        let mut product = |left: &str, right: &str| graph.op("Mul", &[left, right]);
        let [xc, ys, yc, xs] = [product(&x, cosine), product(&y, sine), product(&y, cosine), product(&x, sine)];
        let (first, second) = (graph.op("Sub", &[&xc, &ys]), graph.op("Add", &[&yc, &xs]));
        graph.op_with("Concat", &[&first, &second], vec![AttributeProto::integer("axis", -1)])
    }

    /// Scores with the terms for the distance of each pair of tokens. `query` is `[batch, heads, tokens, head size]` and scaled, `key` is
    /// `[batch, heads, head size, tokens]`.
    fn distance_terms(
        &mut self,
        scores: &str,
        [query, key]: [&str; 2],
        [keys, queries]: [Option<&Linear>; 2],
        scale: f32,
        shared: &mut Shared,
    ) -> String {
        let Some([rows, transposed]) = self.relative(shared) else { return scores.to_owned() };
        let last = || vec![AttributeProto::integer("axis", -1)];
        let mut scores = scores.to_owned();
        if let Some(layer) = keys {
            let keys = self.distance_vectors(layer, 1.0);
            let all = self.graph.op("MatMul", &[query, &keys]);
            let term = self.graph.op_with("GatherElements", &[&all, &rows], last());
            scores = self.graph.op("Add", &[&scores, &term]);
        }
        if let Some(layer) = queries {
            let queries = self.distance_vectors(layer, scale);
            let keys = self.permuted(key, &[0, 1, 3, 2]);
            let all = self.graph.op("MatMul", &[&keys, &queries]);
            let term = self.graph.op_with("GatherElements", &[&all, &transposed], last());
            let term = self.permuted(&term, &[0, 1, 3, 2]);
            scores = self.graph.op("Add", &[&scores, &term]);
        }
        scores
    }

    /// The vectors of distances projected by a layer, times `scale`: `[heads, head size, rows]`. No input changes them, so they are computed here,
    /// and they are floats in every precision. (ONNX Runtime would compute them at every start, and version 1.31 crashes over it in fp16.)
    fn distance_vectors(&mut self, layer: &Linear, scale: f32) -> String {
        let architecture = self.architecture();
        let Some(relative) = &architecture.relative else { return String::new() };
        let tensors = &self.weights.encoder.tensors;
        let vectors = distances(relative, tensors);
        let weight = tensors.get(&layer.weight());
        let bias = layer.has_bias.then(|| tensors.get(&layer.bias()));
        let mut values = Vec::with_capacity(layer.outputs * vectors.len());
        for (output, weights) in weight.rows().enumerate() {
            let bias = bias.map_or(0.0, |bias| bias.values[output]);
            values.extend(vectors.iter().map(|vector| (dot(vector, weights) + bias) * scale));
        }
        let shape = [architecture.heads, architecture.head_size(), vectors.len()];
        self.graph.weights(&format!("{} of distances", layer.weight()), &shape, &values)
    }

    /// What [`Shared::relative`] holds, written at its first use.
    fn relative(&mut self, shared: &mut Shared) -> Option<[String; 2]> {
        if shared.relative.is_none() {
            let RelativePositions { rows, .. } = self.architecture().relative.as_ref()?;
            let bytes = rows.iter().flat_map(|&row| (row as i64).to_le_bytes()).collect();
            let rows_of = self.graph.constant("rows of distances", ElementType::Int64, &[rows.len()], bytes);
            let differences = self.differences(shared);
            let middle = self.graph.integer(rows.len() as i64 / 2);
            let places = self.graph.op("Add", &[&differences, &middle]);
            let rows = self.graph.op("Gather", &[&rows_of, &places]);
            let transposed = self.permuted(&rows, &[1, 0]);
            let last = self.graph.integers(&[1]);
            let (tokens, first) = (self.graph.op("Gather", &[&shared.shape, &last]), self.graph.integers(&[0]));
            let batch = self.graph.op("Gather", &[&shared.shape, &first]);
            let heads = self.graph.integers(&[self.architecture().heads as i64]);
            let all = vec![AttributeProto::integer("axis", 0)];
            let size = self.graph.op_with("Concat", &[&batch, &heads, &tokens, &tokens], all);
            let expanded = [rows, transposed].map(|rows| self.graph.op("Expand", &[&rows, &size]));
            shared.relative = Some(expanded);
        }
        shared.relative.clone()
    }
}

/// The vectors of distances, normalized, one of each row of the table.
fn distances(relative: &RelativePositions, tensors: &Tensors) -> Vec<Vec<f32>> {
    let table = tensors.get(&relative.table.name);
    let Some(norm) = &relative.norm else { return table.rows().map(<[f32]>::to_vec).collect() };
    let scale = &tensors.get(&norm.weight()).values;
    let shift = norm.has_bias.then(|| &tensors.get(&norm.bias()).values);
    let normalized = |row: &[f32]| -> Vec<f32> {
        let count = row.len() as f64;
        let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = row.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        let deviation = (variance + f64::from(norm.epsilon)).sqrt();
        let one = |(place, &value): (usize, &f32)| {
            let shift = shift.map_or(0.0, |shift| f64::from(shift[place]));
            ((f64::from(value) - mean) / deviation * f64::from(scale[place]) + shift) as f32
        };
        row.iter().enumerate().map(one).collect()
    };
    table.rows().map(normalized).collect()
}

/// The product of two vectors, in eight sums side by side, which processors add at once.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, rest) = left.as_chunks::<8>();
    let (right, other) = right.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = rest.iter().zip(other).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

//! What attention knows of where tokens stand. In: the shape of a batch, the description of a layer's attention. Out: masks of local attention,
//! rotated queries and keys, and terms for the distance of each pair. It must not know padding or probabilities.

use std::collections::BTreeMap;

use crate::graph::layers::Writer;
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::Linear;
use crate::model::encoder::architecture::RelativePositions;
use crate::model::weights::tensors::Tensors;

/// Added to the attention scores of tokens that do not count; its exponential is exactly zero, and fp16 can represent it.
pub(super) const MASKED: f32 = -10_000.0;

/// Values that several layers use, each written at its first use.
pub(super) struct Places {
    /// The name of `[batch, tokens]`.
    shape: String,
    /// Float `[batch, 1, tokens, tokens]` by reach: the mask of padding, and what lies beyond the reach.
    local_masks: BTreeMap<usize, String>,
    /// Cosines and sines `[tokens, 1, head size / 2]` by the bits of the base of the angles.
    angles: BTreeMap<u32, [String; 2]>,
    /// The row of distances of each pair of tokens, int64 `[batch, heads, tokens, tokens]`: that of query − key, and its transpose.
    relative: Option<[String; 2]>,
}

impl Places {
    /// Nothing is written yet; `shape` is the name of `[batch, tokens]`.
    pub(super) fn new(shape: &str) -> Self {
        Self { shape: shape.to_owned(), local_masks: BTreeMap::new(), angles: BTreeMap::new(), relative: None }
    }
}

impl Writer<'_> {
    /// The positions 0, 1, … of a row: int64 `[tokens]`.
    fn positions(&mut self, places: &Places) -> String {
        let length = self.columns(&places.shape);
        let (zero, one) = (self.graph.integer(0), self.graph.integer(1));
        self.graph.op("Range", &[&zero, &length, &one])
    }

    /// The position of the first token less that of the second, for each pair: int64 `[tokens, tokens]`.
    fn differences(&mut self, places: &Places) -> String {
        let positions = self.positions(places);
        let (first, second) = (self.graph.integers(&[0]), self.graph.integers(&[1]));
        let (from, to) =
            (self.graph.op("Unsqueeze", &[&positions, &second]), self.graph.op("Unsqueeze", &[&positions, &first]));
        self.graph.op("Sub", &[&from, &to])
    }

    /// The mask of attention that reaches `reach` tokens to each side.
    pub(super) fn local_mask(&mut self, reach: usize, mask: &str, places: &mut Places) -> String {
        if let Some(known) = places.local_masks.get(&reach) {
            return known.clone();
        }
        let differences = self.differences(places);
        let distances = self.graph.op("Abs", &[&differences]);
        let reaches = self.graph.integer(reach as i64);
        let beyond = self.graph.op("Greater", &[&distances, &reaches]);
        let (element, masked) = (self.graph.element(), self.graph.number(MASKED));
        let beyond = self.graph.cast(&beyond, element);
        let beyond = self.graph.op("Mul", &[&beyond, &masked]);
        let mask = self.graph.op("Add", &[mask, &beyond]);
        places.local_masks.insert(reach, mask.clone());
        mask
    }

    /// Cosines and sines of rotary positions, computed in fp32 in every precision.
    pub(super) fn angles(&mut self, base: f32, places: &mut Places) -> [String; 2] {
        if let Some(known) = places.angles.get(&base.to_bits()) {
            return known.clone();
        }
        let size = self.architecture().head_size();
        let frequency = |number: usize| f64::from(base).powf(-2.0 * number as f64 / size as f64) as f32;
        let bytes = (0..size / 2).flat_map(|number| frequency(number).to_le_bytes()).collect();
        let frequencies =
            self.graph.constant(&format!("frequencies {base}"), ElementType::Float32, &[1, size / 2], bytes);
        let positions = self.positions(places);
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
        places.angles.insert(base.to_bits(), waves.clone());
        waves
    }

    /// `[batch, tokens, heads, head size]`, with the halves (x, y) of each head as x cos − y sin and y cos + x sin.
    pub(super) fn rotated(&mut self, value: &str, [cosine, sine]: &[String; 2]) -> String {
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
    pub(super) fn distance_terms(
        &mut self,
        scores: &str,
        [query, key]: [&str; 2],
        [keys, queries]: [Option<&Linear>; 2],
        scale: f32,
        places: &mut Places,
    ) -> String {
        let Some([rows, transposed]) = self.relative(places) else { return scores.to_owned() };
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

    /// What [`Places::relative`] holds, written at its first use.
    fn relative(&mut self, places: &mut Places) -> Option<[String; 2]> {
        if places.relative.is_none() {
            let RelativePositions { rows, .. } = self.architecture().relative.as_ref()?;
            let bytes = rows.iter().flat_map(|&row| (row as i64).to_le_bytes()).collect();
            let rows_of = self.graph.constant("rows of distances", ElementType::Int64, &[rows.len()], bytes);
            let differences = self.differences(places);
            let middle = self.graph.integer(rows.len() as i64 / 2);
            let indices = self.graph.op("Add", &[&differences, &middle]);
            let rows = self.graph.op("Gather", &[&rows_of, &indices]);
            let transposed = self.permuted(&rows, &[1, 0]);
            let last = self.graph.integers(&[1]);
            let (tokens, first) = (self.graph.op("Gather", &[&places.shape, &last]), self.graph.integers(&[0]));
            let batch = self.graph.op("Gather", &[&places.shape, &first]);
            let heads = self.graph.integers(&[self.architecture().heads as i64]);
            let all = vec![AttributeProto::integer("axis", 0)];
            let size = self.graph.op_with("Concat", &[&batch, &heads, &tokens, &tokens], all);
            let expanded = [rows, transposed].map(|rows| self.graph.op("Expand", &[&rows, &size]));
            places.relative = Some(expanded);
        }
        places.relative.clone()
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

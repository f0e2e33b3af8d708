//! The encoder. In: the graph's inputs, the encoder's description and weights. Out: the last layer's token vectors,
//! `[batch × tokens, hidden]`. It must not know the heads, or which kind of encoder it is.

mod attention;
mod distances;
pub(crate) mod one_operator;

use crate::graph::layers::Writer;
use crate::graph::onnx::ElementType;
use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::encoder::architecture::{Activation, Layer, Normalization, Positions};
use crate::model::precision::Precision;
use crate::model::weights::safetensors_file::quantize_rows;

impl Writer<'_> {
    /// Writes the whole encoder; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn encoder(&mut self, shape: &str) -> String {
        let architecture = self.architecture();
        let mut shared = self.shared_by_layers(shape);
        let embedded = self.embeddings(shape);
        let mut tokens = match &architecture.embedding_projection {
            None => self.graph.op("Reshape", &[&embedded, shared.flat_shape()]),
            Some(projection) => {
                let flat_shape = self.graph.integers(&[-1, projection.inputs as i64]);
                let flat = self.graph.op("Reshape", &[&embedded, &flat_shape]);
                let product = self.product(&flat, &[projection], None);
                self.biased(&product, &[projection])
            }
        };
        if self.one_operator {
            let states = self.graph.op("Reshape", &[&tokens, shared.tokens_shape()]);
            let states = self.layers_in_one_operator(&states);
            return self.graph.op("Reshape", &[&states, shared.flat_shape()]);
        }
        for layer in &architecture.layers {
            tokens = self.normalized(&tokens, layer.attention_norm.as_ref(), |writer, input| {
                let context = writer.attention(input, &layer.attention, &mut shared);
                (writer.product(&context, &[&layer.attention.output], None), &layer.attention.output)
            });
            tokens = self.normalized(&tokens, Some(&layer.feed_forward_norm), |writer, input| {
                (writer.feed_forward(input, layer), &layer.feed_forward.outer)
            });
        }
        match &architecture.normalization {
            Normalization::Post => tokens,
            Normalization::Pre { last } => self.layer_norm(&tokens, last),
        }
    }

    /// The feed-forward block of a layer without the bias of its last layer.
    fn feed_forward(&mut self, input: &str, layer: &Layer) -> String {
        let Layer { feed_forward: FeedForward { inner, outer }, gate, activation, .. } = layer;
        let Some(gate) = gate else {
            let product = self.product(input, &[inner], None);
            let activated = self.bias_activation(&product, inner, *activation);
            return self.product(&activated, &[outer], Some(minimum(*activation)));
        };
        let product = self.product(input, &[inner, gate], None);
        let [opened, passed] = self.graph.split(&product, 1, inner.outputs);
        let opened = self.bias_activation(&opened, inner, *activation);
        let passed = self.biased(&passed, &[gate]);
        let product = self.graph.op("Mul", &[&opened, &passed]);
        self.product(&product, &[outer], None)
    }

    /// A block with its residual connection and its normalization. `block` writes it without the bias of its last layer, which it returns
    /// too.
    fn normalized<'l>(
        &mut self,
        tokens: &str,
        norm: Option<&Norm>,
        block: impl FnOnce(&mut Self, &str) -> (String, &'l Linear),
    ) -> String {
        match (&self.architecture().normalization, norm) {
            (Normalization::Post, Some(norm)) => {
                let (product, last) = block(self, tokens);
                self.add_and_norm(&product, last, tokens, norm)
            }
            (_, norm) => {
                let normalized = norm.map(|norm| self.layer_norm(tokens, norm));
                let (product, last) = block(self, normalized.as_deref().unwrap_or(tokens));
                self.add(&product, last, tokens)
            }
        }
    }

    /// Vectors of words, positions, token types and word shapes, added and normalized: `[batch, tokens, e]`.
    fn embeddings(&mut self, shape: &str) -> String {
        let architecture = self.architecture();
        let words = self.word_vectors(&architecture.words);
        let positions = match &architecture.positions {
            Positions::InAttention => None,
            Positions::Absolute { table, offset } => {
                let last = self.graph.integers(&[-1]);
                let length = self.graph.op("Gather", &[shape, &last]);
                let start = self.graph.integers(&[*offset as i64]);
                let end = if *offset == 0 { length } else { self.graph.op("Add", &[&length, &start]) };
                Some((self.tensor(&table.name), start, end))
            }
        };
        let types = architecture.token_types.as_ref().map(|types| (self.tensor(&types.name), types.rows));
        let positions = positions.map(|(table, start, end)| self.graph.op("Slice", &[&table, &start, &end]));
        let mut sum = words;
        if let Some((types, rows)) = types {
            // One row is added to every token.
            let types = if rows == 1 { types } else { self.graph.op("Gather", &[&types, "token_type_ids"]) };
            sum = self.graph.op("Add", &[&sum, &types]);
        }
        if let Some(shapes) = &architecture.word_shapes {
            let shapes = self.tensor(&shapes.name);
            let shapes = self.graph.op("Gather", &[&shapes, "shape_ids"]);
            sum = self.graph.op("Add", &[&sum, &shapes]);
        }
        if let Some(positions) = positions {
            sum = self.graph.op("Add", &[&sum, &positions]);
        }
        self.layer_norm(&sum, &architecture.embedding_norm)
    }

    /// The word vectors. Their table is the largest matrix, so int8 graphs keep it in int8 and scale only the rows of a batch.
    fn word_vectors(&mut self, words: &Table) -> String {
        let name = words.name.as_str();
        if self.precision != Precision::Int8 {
            let table = self.tensor(name);
            return self.graph.op("Gather", &[&table, "input_ids"]);
        }
        let quantized = quantize_rows(self.weights.encoder.tensors.get(name));
        let integers = quantized.integers.into_iter().map(i8::cast_unsigned).collect();
        let integers = self.graph.constant(name, ElementType::Int8, &[words.rows, words.columns], integers);
        let scales = self.graph.weights(&format!("{name}.scale"), &[words.rows, 1], &quantized.scales);
        let rows = self.graph.op("Gather", &[&integers, "input_ids"]);
        let rows = self.graph.cast(&rows, ElementType::Float32);
        let scales = self.graph.op("Gather", &[&scales, "input_ids"]);
        self.graph.op("Mul", &[&rows, &scales])
    }
}

/// A lower bound of an activation. The minimum of gelu is -0.169971, that of its approximation -0.170041, which rounds to the same integer.
const fn minimum(activation: Activation) -> f32 {
    match activation {
        Activation::Gelu | Activation::GeluTanh => -0.17,
        Activation::Relu => 0.0,
    }
}

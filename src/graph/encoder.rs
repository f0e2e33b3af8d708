//! The encoder. In: the graph's inputs, the encoder's description and weights. Out: the last layer's token vectors,
//! `[batch × tokens, hidden]`. It must not know the heads, or which kind of encoder it is.

use crate::graph::layers::{GELU_MINIMUM, Writer, stacked, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::{FeedForward, Linear, Norm, Table};
use crate::model::encoder::architecture::{Architecture, Attention, Normalization, Positions};
use crate::model::precision::{GraphVariant, Precision};
use crate::model::weights::safetensors_file::quantize_rows;

/// Added to the attention scores of padding; its exponential is exactly zero, and fp16 can represent it.
const MASKED: f32 = -10_000.0;

/// Values that every layer uses.
struct Shared {
    /// Portable: float `[batch, 1, 1, tokens]`, added to the scores. Fused int8: int32 `[batch, tokens]`. Other fused
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
}

impl<'a> Writer<'a> {
    /// Writes the whole encoder; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn encoder(&mut self, shape: &str) -> String {
        let architecture = self.architecture();
        let hidden = architecture.hidden_size as i64;
        let (heads, head) = (architecture.heads as i64, architecture.head_size() as i64);
        let (rest, per_head) = (self.graph.integers(&[-1]), self.graph.integers(&[heads, head]));
        let first = || vec![AttributeProto::integer("axis", 0)];
        let shared = Shared {
            mask: self.mask(shape),
            tokens_shape: self.graph.op_with("Concat", &[shape, &rest], first()),
            heads_shape: self.graph.op_with("Concat", &[shape, &per_head], first()),
            flat_shape: self.graph.integers(&[-1, hidden]),
        };
        let embedded = self.embeddings(shape);
        let mut tokens = self.graph.op("Reshape", &[&embedded, &shared.flat_shape]);
        for layer in &architecture.layers {
            tokens = self.normalized(&tokens, &layer.attention_norm, |writer, input| {
                let context = writer.attention(input, &layer.attention, &shared);
                (writer.product(&context, &[&layer.attention.output], None), &layer.attention.output)
            });
            tokens = self.normalized(&tokens, &layer.feed_forward_norm, |writer, input| {
                let FeedForward { inner, outer } = &layer.feed_forward;
                let product = writer.product(input, &[inner], None);
                let activated = writer.bias_gelu(&product, inner);
                (writer.product(&activated, &[outer], Some(GELU_MINIMUM)), outer)
            });
        }
        match &architecture.normalization {
            Normalization::Post => tokens,
            Normalization::Pre { last } => self.layer_norm(&tokens, last),
        }
    }

    fn architecture(&self) -> &'a Architecture {
        &self.weights.encoder.architecture
    }

    /// A block with its residual connection and its normalization. `block` writes it without the bias of its last layer, which it returns
    /// too.
    fn normalized<'l>(
        &mut self,
        tokens: &str,
        norm: &Norm,
        block: impl FnOnce(&mut Self, &str) -> (String, &'l Linear),
    ) -> String {
        match &self.architecture().normalization {
            Normalization::Post => {
                let (product, last) = block(self, tokens);
                self.add_and_norm(&product, last, tokens, norm)
            }
            Normalization::Pre { .. } => {
                let input = self.layer_norm(tokens, norm);
                let (product, last) = block(self, &input);
                self.add(&product, last, tokens)
            }
        }
    }

    /// Vectors of words, positions, token types and word shapes, added and normalized: `[batch, tokens, hidden]`.
    fn embeddings(&mut self, shape: &str) -> String {
        let architecture = self.architecture();
        let Positions::Absolute { table: positions, offset } = &architecture.positions;
        let words = self.word_vectors(&architecture.words);
        let last = self.graph.integers(&[-1]);
        let length = self.graph.op("Gather", &[shape, &last]);
        let start = self.graph.integers(&[*offset as i64]);
        let end = if *offset == 0 { length } else { self.graph.op("Add", &[&length, &start]) };
        let positions = self.tensor(&positions.name);
        let types = architecture.token_types.as_ref().map(|types| self.tensor(&types.name));
        let positions = self.graph.op("Slice", &[&positions, &start, &end]);
        let mut sum = words;
        if let Some(types) = types {
            let types = self.graph.op("Gather", &[&types, "token_type_ids"]);
            sum = self.graph.op("Add", &[&sum, &types]);
        }
        if let Some(shapes) = &architecture.word_shapes {
            let shapes = self.tensor(&shapes.name);
            let shapes = self.graph.op("Gather", &[&shapes, "shape_ids"]);
            sum = self.graph.op("Add", &[&sum, &shapes]);
        }
        let sum = self.graph.op("Add", &[&sum, &positions]);
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

    /// Whether CUDA's `Attention` uses the memory-efficient kernel at every length. This kernel accepts padding only as the
    /// long mask; the other kernels would read the second part of that mask as the start of each row. (See `attention.cc`
    /// and `memory_efficient_attention.h` of ONNX Runtime. In fp32 that kernel is used only from 256 tokens on.)
    fn memory_efficient(&self) -> bool {
        self.precision == Precision::Fp16 && self.architecture().head_size().is_multiple_of(8)
    }

    fn mask(&mut self, shape: &str) -> String {
        let efficient = self.memory_efficient();
        let graph = &mut self.graph;
        match (self.variant, self.precision) {
            (GraphVariant::Portable, _) => {
                let axes = graph.integers(&[1, 2]);
                let mask = graph.cast("attention_mask", graph.element());
                let mask = graph.op("Unsqueeze", &[&mask, &axes]);
                let (one, masked) = (graph.number(1.0), graph.number(MASKED));
                let padding = graph.op("Sub", &[&one, &mask]);
                graph.op("Mul", &[&padding, &masked])
            }
            (GraphVariant::Fused, Precision::Int8) => graph.cast("attention_mask", ElementType::Int32),
            (GraphVariant::Fused, _) => {
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
    fn attention(&mut self, tokens: &str, attention: &Attention, shared: &Shared) -> String {
        let projections = attention.projections();
        let hidden = self.architecture().hidden_size;
        let heads = vec![AttributeProto::integer("num_heads", self.architecture().heads as i64)];
        let context = match (self.variant, self.precision) {
            (GraphVariant::Portable, _) => return self.portable_attention(tokens, &projections, shared),
            (GraphVariant::Fused, Precision::Int8) => {
                let product = self.product(tokens, &projections, None);
                let bias = self.bias(&projections);
                let product = self.graph.op("Reshape", &[&product, &shared.tokens_shape]);
                let [query, key, value] = self.graph.split(&product, 2, hidden);
                let inputs = [&query, &key, &value, &bias, &shared.mask].map(String::as_str);
                self.graph.runtime("MultiHeadAttention", &inputs, heads)
            }
            (GraphVariant::Fused, _) => {
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

    fn portable_attention(&mut self, tokens: &str, projections: &[&Linear; 3], shared: &Shared) -> String {
        let architecture = self.architecture();
        let product = self.product(tokens, projections, None);
        let bias = self.bias(projections);
        let biased = self.graph.op("Add", &[&product, &bias]);
        let parts: [String; 3] = self.graph.split(&biased, 1, architecture.hidden_size);
        // The query is scaled before the product, so that the scores fit into fp16.
        let scale = self.graph.number(1.0 / (architecture.head_size() as f32).sqrt());
        let query = self.graph.op("Mul", &[&parts[0], &scale]);
        let [query, key, value] = [(&query, [0, 2, 1, 3]), (&parts[1], [0, 2, 3, 1]), (&parts[2], [0, 2, 1, 3])].map(
            |(part, permutation)| {
                let part = self.graph.op("Reshape", &[part, &shared.heads_shape]);
                self.graph.op_with("Transpose", &[&part], vec![AttributeProto::integers("perm", &permutation)])
            },
        );
        let scores = self.graph.op("MatMul", &[&query, &key]);
        let scores = self.graph.op("Add", &[&scores, &shared.mask]);
        let probabilities = self.graph.op_with("Softmax", &[&scores], vec![AttributeProto::integer("axis", -1)]);
        let context = self.graph.op("MatMul", &[&probabilities, &value]);
        let context =
            self.graph.op_with("Transpose", &[&context], vec![AttributeProto::integers("perm", &[0, 2, 1, 3])]);
        self.graph.op("Reshape", &[&context, &shared.flat_shape])
    }
}

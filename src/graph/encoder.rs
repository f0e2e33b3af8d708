//! The BERT encoder. In: the graph's inputs and the encoder's weights. Out: the last layer's token vectors,
//! `[batch × tokens, hidden]`. It must not know the heads.

use crate::graph::layers::{GELU_MINIMUM, Writer, stacked, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
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

impl Writer<'_> {
    /// Writes the whole encoder; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn encoder(&mut self, shape: &str) -> String {
        let hidden = self.config.hidden_size as i64;
        let (heads, head) = (self.config.num_attention_heads as i64, self.config.head_size() as i64);
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
        for layer in 0..self.config.num_hidden_layers {
            let name = format!("bert.encoder.layer.{layer}");
            let context = self.attention(&tokens, &format!("{name}.attention.self"), &shared);
            let linear = format!("{name}.attention.output.dense");
            let product = self.product(&context, std::slice::from_ref(&linear), None);
            let attended = self.add_and_norm(&product, &linear, &tokens, &format!("{name}.attention.output.LayerNorm"));
            let linear = format!("{name}.intermediate.dense");
            let product = self.product(&attended, std::slice::from_ref(&linear), None);
            let inner = self.bias_gelu(&product, &linear);
            let linear = format!("{name}.output.dense");
            let product = self.product(&inner, std::slice::from_ref(&linear), Some(GELU_MINIMUM));
            tokens = self.add_and_norm(&product, &linear, &attended, &format!("{name}.output.LayerNorm"));
        }
        tokens
    }

    /// Word, position and token type vectors, added and normalized: `[batch, tokens, hidden]`.
    fn embeddings(&mut self, shape: &str) -> String {
        let words = self.word_vectors();
        let last = self.graph.integers(&[-1]);
        let length = self.graph.op("Gather", &[shape, &last]);
        let start = self.graph.integers(&[0]);
        let [positions, types] = ["position", "token_type"].map(|table| {
            let name = format!("bert.embeddings.{table}_embeddings.weight");
            let tensor = self.weights.tensor(&name);
            self.graph.weights(&name, &tensor.shape, &tensor.values)
        });
        let positions = self.graph.op("Slice", &[&positions, &start, &length]);
        let types = self.graph.op("Gather", &[&types, "token_type_ids"]);
        let sum = self.graph.op("Add", &[&words, &types]);
        let sum = self.graph.op("Add", &[&sum, &positions]);
        self.layer_norm(&sum, "bert.embeddings.LayerNorm")
    }

    /// The word vectors. Their table is the largest matrix, so int8 graphs keep it in int8 and scale only the rows of a batch.
    fn word_vectors(&mut self) -> String {
        let name = "bert.embeddings.word_embeddings.weight";
        let table = self.weights.tensor(name);
        if self.precision != Precision::Int8 {
            let table = self.graph.weights(name, &table.shape, &table.values);
            return self.graph.op("Gather", &[&table, "input_ids"]);
        }
        let quantized = quantize_rows(table);
        let integers = quantized.integers.into_iter().map(i8::cast_unsigned).collect();
        let integers = self.graph.constant(name, ElementType::Int8, &table.shape, integers);
        let scales = self.graph.weights(&format!("{name}.scale"), &[table.shape[0], 1], &quantized.scales);
        let rows = self.graph.op("Gather", &[&integers, "input_ids"]);
        let rows = self.graph.cast(&rows, ElementType::Float32);
        let scales = self.graph.op("Gather", &[&scales, "input_ids"]);
        self.graph.op("Mul", &[&rows, &scales])
    }

    /// Whether CUDA's `Attention` uses the memory-efficient kernel at every length. This kernel accepts padding only as the
    /// long mask; the other kernels would read the second part of that mask as the start of each row. (See `attention.cc`
    /// and `memory_efficient_attention.h` of ONNX Runtime. In fp32 that kernel is used only from 256 tokens on.)
    fn memory_efficient(&self) -> bool {
        self.precision == Precision::Fp16 && self.config.head_size().is_multiple_of(8)
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
    fn attention(&mut self, tokens: &str, name: &str, shared: &Shared) -> String {
        let names = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        let hidden = self.config.hidden_size;
        let heads = || vec![AttributeProto::integer("num_heads", self.config.num_attention_heads as i64)];
        let context = match (self.variant, self.precision) {
            (GraphVariant::Portable, _) => return self.portable_attention(tokens, &names, shared),
            (GraphVariant::Fused, Precision::Int8) => {
                let attributes = heads();
                let product = self.product(tokens, &names, None);
                let bias = self.bias(&names);
                let product = self.graph.op("Reshape", &[&product, &shared.tokens_shape]);
                let [query, key, value] = self.graph.split(&product, 2, hidden);
                let inputs = [&query, &key, &value, &bias, &shared.mask].map(String::as_str);
                self.graph.runtime("MultiHeadAttention", &inputs, attributes)
            }
            (GraphVariant::Fused, _) => {
                let attributes = heads();
                let matrix = stacked(self.weights, &names, "weight");
                let (outputs, inputs) = (matrix.shape[0], matrix.shape[1]);
                let transposed = transpose(&matrix.values, outputs, inputs);
                let weight = self.graph.weights(&format!("{name}.weight"), &[inputs, outputs], &transposed);
                let bias = self.bias(&names);
                let tokens = self.graph.op("Reshape", &[tokens, &shared.tokens_shape]);
                self.graph.runtime("Attention", &[&tokens, &weight, &bias, &shared.mask], attributes)
            }
        };
        self.graph.op("Reshape", &[&context, &shared.flat_shape])
    }

    fn portable_attention(&mut self, tokens: &str, names: &[String; 3], shared: &Shared) -> String {
        let product = self.product(tokens, names, None);
        let bias = self.bias(names);
        let biased = self.graph.op("Add", &[&product, &bias]);
        let parts: [String; 3] = self.graph.split(&biased, 1, self.config.hidden_size);
        // The query is scaled before the product, so that the scores fit into fp16.
        let scale = self.graph.number(1.0 / (self.config.head_size() as f32).sqrt());
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

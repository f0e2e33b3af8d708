//! The heads over single tokens: of a tagger, and of question answering. In: token vectors `[batch × tokens, hidden]`, the head's description and
//! weights. Out: a logit per token and tag, or a start and an end logit per token. It must not know words.

use crate::graph::layers::{Writer, gelu, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::Linear;
use crate::model::head::{Activation, Classifier, QaHead, TaggerHead};

impl Writer<'_> {
    /// Writes the logits of tags; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn tag_logits(&mut self, head: &TaggerHead, tokens: &str, shape: &str) {
        let values = match &head.classifier {
            Classifier::Linear(layer) => self.token_layer(tokens, layer),
            Classifier::TwoLayers(layers) => {
                let hidden = self.token_layer(tokens, &layers.hidden);
                let active = match layers.activation {
                    Activation::Gelu => gelu(&mut self.graph, self.variant, &hidden),
                    Activation::Relu => self.graph.op("Relu", &[&hidden]),
                    Activation::Tanh => self.graph.op("Tanh", &[&hidden]),
                };
                self.token_layer(&active, &layers.logit)
            }
        };
        let logits = self.by_row(&values, shape);
        let tags = head.tags.len().to_string();
        self.graph.output(&logits, "logits", ElementType::Float32, &["batch", "tokens", &tags]);
    }

    /// Writes start and end logits; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn answer_logits(&mut self, head: &QaHead, tokens: &str, shape: &str) {
        let values = self.token_layer(tokens, &head.outputs);
        let values = self.graph.cast(&values, ElementType::Float32);
        let sides: [String; 2] = self.graph.split(&values, 1, 1);
        for (name, side) in ["start_logits", "end_logits"].into_iter().zip(sides) {
            let logits = self.graph.op("Reshape", &[&side, shape]);
            self.graph.output(&logits, name, ElementType::Float32, &["batch", "tokens"]);
        }
    }

    /// x Wᵀ + b of a layer of the head, which is in floats in every precision.
    fn token_layer(&mut self, input: &str, layer: &Linear) -> String {
        let tensors = &self.weights.head.tensors;
        let (weight, bias) = (tensors.get(&layer.weight()), tensors.get(&layer.bias()));
        let transposed = transpose(&weight.values, layer.outputs, layer.inputs);
        let weight = self.graph.weights(&layer.weight(), &[layer.inputs, layer.outputs], &transposed);
        let bias = self.graph.weights(&layer.bias(), &bias.shape, &bias.values);
        let product = self.graph.op("MatMul", &[input, &weight]);
        self.graph.op("Add", &[&product, &bias])
    }

    /// Values `[batch × tokens, width]` as float32 `[batch, tokens, width]`.
    fn by_row(&mut self, values: &str, shape: &str) -> String {
        let values = self.graph.cast(values, ElementType::Float32);
        let rest = self.graph.integers(&[-1]);
        let by_row = self.graph.op_with("Concat", &[shape, &rest], vec![AttributeProto::integer("axis", 0)]);
        self.graph.op("Reshape", &[&values, &by_row])
    }
}

//! The heads over single tokens: of a tagger, and of question answering. In: token vectors `[batch × tokens, hidden]`, the head's description and
//! weights. Out: a logit per token and tag, or a start and an end logit per token. It must not know words.

use crate::graph::layers::{Writer, gelu, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::Linear;
use crate::model::head::{Activation, Classifier, PredictionLayer, QaHead, TaggerHead};

impl Writer<'_> {
    /// Writes the logits of tags; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn tag_logits(&mut self, head: &TaggerHead, tokens: &str, shape: &str) {
        let tokens = self.predicted(head.prediction.as_ref(), tokens);
        let values = match &head.classifier {
            Classifier::Linear(layer) => self.token_layer(&tokens, layer),
            Classifier::TwoLayers(layers) => {
                let hidden = self.token_layer(&tokens, &layers.hidden);
                let active = self.activated(layers.activation, &hidden);
                self.token_layer(&active, &layers.logit)
            }
        };
        let logits = self.by_row(&values, shape);
        let tags = head.tags.count().to_string();
        self.graph.output(&logits, "logits", ElementType::Float32, &["batch", "tokens", &tags]);
    }

    /// Writes start and end logits; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn answer_logits(&mut self, head: &QaHead, tokens: &str, shape: &str) {
        let tokens = self.predicted(head.prediction.as_ref(), tokens);
        let values = self.token_layer(&tokens, &head.outputs);
        let values = self.graph.cast(&values, ElementType::Float32);
        let sides: [String; 2] = self.graph.split(&values, 1, 1);
        for (name, side) in ["start_logits", "end_logits"].into_iter().zip(sides) {
            let logits = self.graph.op("Reshape", &[&side, shape]);
            self.graph.output(&logits, name, ElementType::Float32, &["batch", "tokens"]);
        }
    }

    /// What the classifier reads: token vectors, behind the layer before it if there is one.
    fn predicted(&mut self, layer: Option<&PredictionLayer>, tokens: &str) -> String {
        let Some(PredictionLayer { dense, activation, norm }) = layer else { return tokens.to_owned() };
        let hidden = self.token_layer(tokens, dense);
        let active = self.activated(*activation, &hidden);
        let names = [norm.weight()].into_iter().chain(norm.has_bias.then(|| norm.bias()));
        let parameters: Vec<String> = names.map(|name| self.head_vector(&name)).collect();
        let inputs: Vec<&str> = [active.as_str()].into_iter().chain(parameters.iter().map(String::as_str)).collect();
        let attributes = vec![AttributeProto::integer("axis", -1), AttributeProto::float("epsilon", norm.epsilon)];
        self.graph.op_with("LayerNormalization", &inputs, attributes)
    }

    fn activated(&mut self, activation: Activation, values: &str) -> String {
        match activation {
            Activation::Gelu => gelu(&mut self.graph, self.variant, values),
            Activation::Relu => self.graph.op("Relu", &[values]),
            Activation::Tanh => self.graph.op("Tanh", &[values]),
        }
    }

    /// A tensor of the head with one axis.
    fn head_vector(&mut self, name: &str) -> String {
        let tensor = self.weights.head.tensors.get(name);
        self.graph.weights(name, &tensor.shape, &tensor.values)
    }

    /// x Wᵀ, with b if there is one, of a layer of the head, which is in floats in every precision.
    fn token_layer(&mut self, input: &str, layer: &Linear) -> String {
        let weight = self.weights.head.tensors.get(&layer.weight());
        let transposed = transpose(&weight.values, layer.outputs, layer.inputs);
        let weight = self.graph.weights(&layer.weight(), &[layer.inputs, layer.outputs], &transposed);
        let bias = layer.has_bias.then(|| self.head_vector(&layer.bias()));
        let product = self.graph.op("MatMul", &[input, &weight]);
        match bias {
            Some(bias) => self.graph.op("Add", &[&product, &bias]),
            None => product,
        }
    }

    /// Values `[batch × tokens, width]` as float32 `[batch, tokens, width]`.
    fn by_row(&mut self, values: &str, shape: &str) -> String {
        let values = self.graph.cast(values, ElementType::Float32);
        let rest = self.graph.integers(&[-1]);
        let by_row = self.graph.op_with("Concat", &[shape, &rest], vec![AttributeProto::integer("axis", 0)]);
        self.graph.op("Reshape", &[&values, &by_row])
    }
}

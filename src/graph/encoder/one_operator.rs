//! The layers of an encoder as one operator of `kernels/`. In: token vectors and the attention mask. Out: the last layer's token vectors. It must
//! not know how the operator computes.
//!
//! Its inputs are listed in `kernels/src/operator.rs`. Weights have the integers and scales that the products of other int8 graphs have, each row
//! of activations has its own scale, and integer sums are exact, so both graphs give the same logits up to the rounding of floats.

use quarry_kernels::{Shape, operator};

use crate::graph::integer_weights::quantize_for_products;
use crate::graph::layers::Writer;
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::{Linear, Norm};
use crate::model::encoder::architecture::{Activation, Architecture, Layer, Normalization};

/// Whether the operator computes the layers of this encoder: those of BERT, all with the same sizes.
pub(crate) fn fits(architecture: &Architecture) -> bool {
    let Some(first) = architecture.layers.first() else { return false };
    let (epsilon, shape) = (first.feed_forward_norm.epsilon, sizes(architecture, first));
    let as_first =
        |norm: Option<&Norm>| norm.is_some_and(|norm| norm.has_bias && norm.epsilon.to_bits() == epsilon.to_bits());
    let of_bert = |layer: &Layer| {
        let norms = [layer.attention_norm.as_ref(), Some(&layer.feed_forward_norm)];
        layer.gate.is_none()
            && layer.activation == Activation::Gelu
            && norms.into_iter().all(as_first)
            && linears(layer).iter().all(|linear| linear.has_bias)
            && sizes(architecture, layer) == shape
    };
    architecture.normalization == Normalization::Post
        && architecture.beyond_fused_attention().is_none()
        && architecture.layers.iter().all(of_bert)
        && shape.check().is_ok()
}

fn linears(layer: &Layer) -> [&Linear; 6] {
    let [query, key, value] = layer.attention.projections();
    [query, key, value, &layer.attention.output, &layer.feed_forward.inner, &layer.feed_forward.outer]
}

fn sizes(architecture: &Architecture, layer: &Layer) -> Shape {
    let Architecture { hidden_size: hidden, heads, .. } = *architecture;
    Shape { hidden, heads, feed_forward: layer.feed_forward.inner.outputs }
}

impl Writer<'_> {
    /// The layers as one operator. `states` and the result are `[batch, tokens, hidden]`.
    pub(super) fn layers_in_one_operator(&mut self, states: &str) -> String {
        let architecture = self.architecture();
        let mut inputs = vec![states.to_owned(), "attention_mask".to_owned()];
        for layer in &architecture.layers {
            for linear in linears(layer) {
                inputs.extend(self.integers_of(linear));
            }
            for norm in layer.attention_norm.iter().chain([&layer.feed_forward_norm]) {
                inputs.extend([norm.weight(), norm.bias()].map(|name| self.tensor(&name)));
            }
        }
        let epsilon = architecture.layers[0].feed_forward_norm.epsilon;
        let attributes = vec![
            AttributeProto::integer("heads", architecture.heads as i64),
            AttributeProto::float("epsilon", epsilon),
        ];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.graph.of_domain(operator::DOMAIN, operator::NAME, &inputs, attributes)
    }

    /// Weights `[outputs, inputs]`, scales and biases `[outputs]`.
    fn integers_of(&mut self, linear: &Linear) -> [String; 3] {
        let name = linear.weight();
        let matrix = self.weights.encoder.tensors.get(&name);
        let quantized = quantize_for_products(matrix);
        let integers = quantized.integers.into_iter().map(i8::cast_unsigned).collect();
        let weights = self.graph.constant(&name, ElementType::Int8, &matrix.shape, integers);
        let scales = self.graph.weights(&format!("{name}.scale"), &[linear.outputs], &quantized.scales);
        [weights, scales, self.bias(&[linear])]
    }
}

//! The MRC heads of early interaction. In: token vectors `[batch × tokens, hidden]`, the masks, the head's description and weights. Out:
//! the graph's four outputs. It must not build a tensor of size tokens × tokens × width: pairs are booleans until they are candidates.

use crate::graph::layers::Writer;
use crate::graph::match_head::{MatchTensors, hidden_part};
use crate::graph::onnx::ElementType;
use crate::model::blocks::Linear;
use crate::model::head::{MatchHead, MrcHead};
use crate::model::weights::tensors::Tensor;

impl<'a> Writer<'a> {
    /// Writes all heads; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn heads(&mut self, head: &MrcHead, tokens: &str, shape: &str) {
        let [starts, ends] = self.boundaries(head, tokens, shape);
        let length = self.columns(shape);
        let [row, start, end] = self.pairs(&starts, &ends, &length);
        self.span_index(&[&row, &start, &end]);
        let base = self.graph.op("Mul", &[&row, &length]);
        let (hidden, matching) = self.match_tensors(head);
        let (width, outputs) = (hidden.columns() / 2, hidden.shape[0]);
        let part = |part: usize| hidden_part(hidden, part, width);
        let starts = self.side(tokens, &starts, [&base, &start], "match.start", &part(0), outputs);
        let ends = self.side(tokens, &ends, [&base, &end], "match.end", &part(1), outputs);
        let logits = matching.logits(&mut self.graph, &[starts, ends]);
        self.graph.output(&logits, "span_logits", ElementType::Float32, &["candidates"]);
    }

    /// Writes start and end logits, and returns which tokens pass: bool `[batch, tokens]` each.
    fn boundaries(&mut self, head: &MrcHead, tokens: &str, shape: &str) -> [String; 2] {
        let tensors = &self.weights.head.tensors;
        [("start", &head.start), ("end", &head.end)].map(|(side, layer)| {
            let graph = &mut self.graph;
            let values = |name: &str| tensors.get(name).values.as_slice();
            let (weight, bias) = (layer.weight(), layer.bias());
            let weight = graph.weights(&weight, &[layer.inputs, 1], values(&weight));
            let bias = graph.weights(&bias, &[1], values(&bias));
            let product = graph.op("MatMul", &[tokens, &weight]);
            let sum = graph.op("Add", &[&product, &bias]);
            let logits = graph.cast(&sum, ElementType::Float32);
            let logits = graph.op("Reshape", &[&logits, shape]);
            graph.output(&logits, &format!("{side}_logits"), ElementType::Float32, &["batch", "tokens"]);
            let above = graph.op("Greater", &[&logits, "boundary_logit"]);
            graph.op("And", &[&above, &format!("{side}_mask")])
        })
    }

    /// W `[width, 2h]` of the match head's first layer, and its other tensors.
    fn match_tensors(&self, head: &MrcHead) -> (&'a Tensor, MatchTensors<'a>) {
        let (variant, tensors) = (self.variant, &self.weights.head.tensors);
        let of = |layer: &Linear| (tensors.get(&layer.weight()), tensors.get(&layer.bias()));
        match &head.matching {
            MatchHead::OneLayer(layer) => {
                let (hidden, bias) = of(layer);
                (hidden, MatchTensors { variant, bias: Some(bias), logit: None })
            }
            MatchHead::TwoLayers(layers) => {
                let ((hidden, bias), (weight, logit_bias)) = (of(&layers.hidden), of(&layers.logit));
                let logit = Some((layers.activation, weight, logit_bias));
                (hidden, MatchTensors { variant, bias: Some(bias), logit })
            }
        }
    }
}

//! The heads of late interaction. In: token vectors `[rows × tokens, hidden]` of questions or of windows, the head's description and weights. Out:
//! the vectors of questions, or the logits of windows. It must not build a tensor of tokens × tokens for a question that has no start or
//! no end in a window.

use crate::graph::layers::{Writer, gelu, transpose};
use crate::graph::match_head::{MatchTensors, Side, hidden_part};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::{FeedForward, Linear};
use crate::model::head::LateHead;
use crate::model::precision::GraphVariant;
use crate::task::late::QUESTION_OUTPUTS;

/// The names of the vectors that the graph of questions gives and the graph of windows takes.
const STARTS: &str = QUESTION_OUTPUTS[0];
const ENDS: &str = QUESTION_OUTPUTS[1];
const MATCHES: &str = QUESTION_OUTPUTS[2];

/// The lanes that can have candidates. A lane is one question on one row.
struct Lanes {
    /// The rows of the lanes: int64 `[lanes]`.
    rows: String,
    /// Their questions: int64 `[lanes]`.
    types: String,
    /// Which tokens pass as starts and as ends: bool `[lanes, tokens]` each.
    passing: [String; 2],
}

impl Writer<'_> {
    /// Writes the vectors of questions; `shape` is the name of `[questions, tokens]`.
    pub(crate) fn question_vectors(&mut self, head: &LateHead, tokens: &str, shape: &str) {
        let graph = &mut self.graph;
        let (rest, zero) = (graph.integers(&[-1]), graph.integer(0));
        let by_row = graph.op_with("Concat", &[shape, &rest], vec![AttributeProto::integer("axis", 0)]);
        let states = graph.op("Reshape", &[tokens, &by_row]);
        let questions = graph.op_with("Gather", &[&states, &zero], vec![AttributeProto::integer("axis", 1)]);
        let size = head.boundary_size();
        let scale = self.graph.number(1.0 / (size as f32).sqrt());
        for (name, boundary) in [(STARTS, &head.start), (ENDS, &head.end)] {
            let vectors = self.head_network(&questions, &boundary.question);
            let vectors = self.graph.op("Mul", &[&vectors, &scale]);
            self.graph.output(&vectors, name, ElementType::Float32, &["questions", &size.to_string()]);
        }
        let layer = &head.matching.hidden;
        let hidden = self.weights.head.tensors.get(&layer.weight());
        let inputs = layer.inputs / 3;
        let weight = self.graph.weights("match.question", &[inputs, layer.outputs], &hidden_part(hidden, 2, inputs));
        let product = self.graph.op("MatMul", &[&questions, &weight]);
        let bias = self.head_bias(layer);
        let sums = self.graph.op("Add", &[&product, &bias]);
        self.graph.output(&sums, MATCHES, ElementType::Float32, &["questions", &layer.outputs.to_string()]);
    }

    /// Declares the vectors of questions as inputs.
    pub(crate) fn question_inputs(&mut self, head: &LateHead) {
        let (size, width) = (head.boundary_size().to_string(), head.matching.hidden.outputs.to_string());
        for (name, columns) in [(STARTS, &size), (ENDS, &size), (MATCHES, &width)] {
            self.graph.input(name, ElementType::Float32, &["types", columns]);
        }
    }

    /// Writes the heads over windows; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn late_heads(&mut self, head: &LateHead, tokens: &str, shape: &str) {
        let passing = self.late_boundaries(head, tokens, shape);
        let length = self.columns(shape);
        let lanes = self.lanes(&passing, shape);
        let [lane, start, end] = self.pairs(&lanes.passing[0], &lanes.passing[1], &length);
        let graph = &mut self.graph;
        let [row, kind] = [&lanes.rows, &lanes.types].map(|of_lane| graph.op("Gather", &[of_lane, &lane]));
        self.span_index(&[&row, &kind, &start, &end]);
        let base = self.graph.op("Mul", &[&row, &length]);
        // A token is projected once, whatever the number of questions that it passes for.
        let any = passing.map(|passing| self.any(&passing, 1));
        let tensors = &self.weights.head.tensors;
        let layers = &head.matching;
        let hidden = tensors.get(&layers.hidden.weight());
        let (width, outputs) = (layers.hidden.inputs / 3, layers.hidden.outputs);
        let part = |part: usize| hidden_part(hidden, part, width);
        let starts = self.side(tokens, &any[0], [&base, &start], "match.start", &part(0), outputs);
        let ends = self.side(tokens, &any[1], [&base, &end], "match.end", &part(1), outputs);
        let questions = Side { projection: self.in_element(MATCHES), rows: kind };
        let logit = (layers.activation, tensors.get(&layers.logit.weight()), tensors.get(&layers.logit.bias()));
        let matching = MatchTensors { variant: self.variant, bias: None, logit: Some(logit) };
        let logits = matching.logits(&mut self.graph, &[starts, ends, questions]);
        self.graph.output(&logits, "span_logits", ElementType::Float32, &["candidates"]);
    }

    /// Writes start and end logits, and returns which tokens pass: bool `[batch, T, tokens]` each.
    fn late_boundaries(&mut self, head: &LateHead, tokens: &str, shape: &str) -> [String; 2] {
        let biases = &self.weights.head.tensors.get(head.boundary_bias()).values;
        let (rest, second) = (self.graph.integers(&[-1]), self.graph.integers(&[1]));
        let by_row = self.graph.op_with("Concat", &[shape, &rest], vec![AttributeProto::integer("axis", 0)]);
        [("start", &head.start, STARTS), ("end", &head.end, ENDS)].map(|(side, boundary, questions)| {
            let vectors = self.head_network(tokens, &boundary.token);
            let questions = self.in_element(questions);
            let graph = &mut self.graph;
            let questions = graph.op_with("Transpose", &[&questions], vec![AttributeProto::integers("perm", &[1, 0])]);
            let product = graph.op("MatMul", &[&vectors, &questions]);
            let bias =
                graph.weights(&format!("boundary.{side}.bias"), &[1], &biases[usize::from(side == "end")..][..1]);
            let sum = graph.op("Add", &[&product, &bias]);
            let logits = graph.cast(&sum, ElementType::Float32);
            let logits = graph.op("Reshape", &[&logits, &by_row]);
            let logits = graph.op_with("Transpose", &[&logits], vec![AttributeProto::integers("perm", &[0, 2, 1])]);
            graph.output(&logits, &format!("{side}_logits"), ElementType::Float32, &["batch", "types", "tokens"]);
            let above = graph.op("Greater", &[&logits, "boundary_logit"]);
            let mask = graph.op("Unsqueeze", &[&format!("{side}_mask"), &second]);
            graph.op("And", &[&above, &mask])
        })
    }

    /// The lanes with at least one start and one end, from which tokens pass as each: bool `[batch, T, tokens]`. `shape` is the name of
    /// `[batch, tokens]`.
    fn lanes(&mut self, passing: &[String; 2], shape: &str) -> Lanes {
        let [starts, ends] = passing.each_ref().map(|passing| self.any(passing, 2));
        let both = self.graph.op("And", &[&starts, &ends]);
        let all = self.graph.op("Shape", &[&both]);
        let questions = self.columns(&all);
        let graph = &mut self.graph;
        let found = graph.op("NonZero", &[&both]);
        let [rows, types] = [0, 1].map(|part| {
            let part = graph.integer(part);
            graph.op_with("Gather", &[&found, &part], vec![AttributeProto::integer("axis", 0)])
        });
        let base = graph.op("Mul", &[&rows, &questions]);
        let places = graph.op("Add", &[&base, &types]);
        let (rest, second) = (graph.integers(&[-1]), graph.integers(&[1]));
        let tokens = graph.op("Gather", &[shape, &second]);
        let by_lane = graph.op_with("Concat", &[&rest, &tokens], vec![AttributeProto::integer("axis", 0)]);
        let passing = passing.each_ref().map(|passing| {
            let flat = graph.op("Reshape", &[passing, &by_lane]);
            graph.op("Gather", &[&flat, &places])
        });
        Lanes { rows, types, passing }
    }

    /// Whether any boolean along an axis is true; the axis goes away.
    fn any(&mut self, values: &str, axis: i64) -> String {
        let graph = &mut self.graph;
        // A sum takes its axis as an input in every operator set; a maximum only since 18.
        let axis = graph.integers(&[axis]);
        let numbers = graph.cast(values, ElementType::Float32);
        let count = graph.op_with("ReduceSum", &[&numbers, &axis], vec![AttributeProto::integer("keepdims", 0)]);
        graph.cast(&count, ElementType::Bool)
    }

    /// A float32 value in the graph's element type.
    fn in_element(&mut self, value: &str) -> String {
        match self.graph.element() {
            ElementType::Float32 => value.to_owned(),
            element => self.graph.cast(value, element),
        }
    }

    /// Two layers of the head with the exact gelu between them, on `[rows, inputs]`.
    fn head_network(&mut self, input: &str, network: &FeedForward) -> String {
        let product = self.head_product(input, &network.inner);
        let bias = self.head_bias(&network.inner);
        let activated = if self.variant == GraphVariant::Fused {
            self.graph.runtime("BiasGelu", &[&product, &bias], vec![])
        } else {
            let sum = self.graph.op("Add", &[&product, &bias]);
            gelu(&mut self.graph, self.variant, &sum)
        };
        let product = self.head_product(&activated, &network.outer);
        let bias = self.head_bias(&network.outer);
        self.graph.op("Add", &[&product, &bias])
    }

    /// The product x Wᵀ of a layer of the head, which is in floats in every precision.
    fn head_product(&mut self, input: &str, layer: &Linear) -> String {
        let name = layer.weight();
        let weight = self.weights.head.tensors.get(&name);
        let transposed = transpose(&weight.values, layer.outputs, layer.inputs);
        let weight = self.graph.weights(&name, &[layer.inputs, layer.outputs], &transposed);
        self.graph.op("MatMul", &[input, &weight])
    }

    fn head_bias(&mut self, layer: &Linear) -> String {
        let name = layer.bias();
        let bias = self.weights.head.tensors.get(&name);
        self.graph.weights(&name, &bias.shape, &bias.values)
    }
}

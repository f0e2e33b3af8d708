//! The MRC heads. In: token vectors `[batch × tokens, hidden]`, the masks, the head's description and weights. Out: the graph's four
//! outputs. It must not build a tensor of size tokens × tokens × width: pairs are booleans until they are candidates.

use crate::graph::builder::{Builder, tensor};
use crate::graph::layers::{Writer, gelu, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::blocks::Linear;
use crate::model::head::{Activation, MatchHead};
use crate::model::precision::{GraphVariant, Precision};
use crate::model::weights::tensors::Tensor;

/// The number of candidates per round of the match head in the fused variant. An untrained model makes millions of candidates; this
/// limits memory to this many rows of the head's width. A batch of a trained model needs only one round.
const ROUND: i64 = 8192;

/// The candidates of one side (starts or ends).
struct Side {
    /// Projections of all tokens that are the start (or end) of a candidate: `[selected tokens, width]`.
    projection: String,
    /// The row of each candidate in `projection`: int64 `[k]`.
    rows: String,
}

/// The tensors of the match head.
struct MatchTensors<'a> {
    variant: GraphVariant,
    /// `[width, 2h]`.
    hidden: &'a Tensor,
    bias: &'a Tensor,
    /// Activation, weight and bias of the output layer; `None` for the paper's single layer.
    logit: Option<(Activation, &'a Tensor, &'a Tensor)>,
}

impl<'a> Writer<'a> {
    /// Writes all heads; `shape` is the name of `[batch, tokens]`.
    pub(crate) fn heads(&mut self, tokens: &str, shape: &str) {
        let [starts, ends] = self.boundaries(tokens, shape);
        let graph = &mut self.graph;
        // One boolean per pair: start ≤ end, both logits above the boundary, both allowed by the masks.
        let length = {
            let (last, scalar) = (graph.integers(&[1]), graph.integers(&[]));
            let length = graph.op("Gather", &[shape, &last]);
            graph.op("Reshape", &[&length, &scalar])
        };
        let (zero, one) = (graph.integer(0), graph.integer(1));
        let (first, second, third) = (graph.integers(&[0]), graph.integers(&[1]), graph.integers(&[2]));
        let places = graph.op("Range", &[&zero, &length, &one]);
        let (from, to) = (graph.op("Unsqueeze", &[&places, &second]), graph.op("Unsqueeze", &[&places, &first]));
        let later = graph.op("Greater", &[&from, &to]);
        let forward = graph.op("Not", &[&later]);
        let (from, to) = (graph.op("Unsqueeze", &[&starts, &third]), graph.op("Unsqueeze", &[&ends, &second]));
        let to = graph.op("And", &[&to, &forward]);
        let pairs = graph.op("And", &[&from, &to]);
        let found = graph.op("NonZero", &[&pairs]);
        let index = graph.op_with("Transpose", &[&found], vec![AttributeProto::integers("perm", &[1, 0])]);
        graph.output(&index, "span_index", ElementType::Int64, &["candidates", "3"]);
        let axis = || vec![AttributeProto::integer("axis", 0)];
        let [row, start, end] = [0, 1, 2].map(|part| {
            let part = graph.integer(part);
            graph.op_with("Gather", &[&found, &part], axis())
        });
        let base = graph.op("Mul", &[&row, &length]);
        let head = self.match_tensors();
        let hidden = head.hidden;
        let width = hidden.columns() / 2;
        let columns = |range: std::ops::Range<usize>| -> Vec<f32> {
            let part: Vec<f32> = hidden.rows().flat_map(|row| &row[range.clone()]).copied().collect();
            transpose(&part, hidden.shape[0], width)
        };
        let starts = self.side(tokens, &starts, [&base, &start], "match.start", &columns(0..width), hidden.shape[0]);
        let ends = self.side(tokens, &ends, [&base, &end], "match.end", &columns(width..2 * width), hidden.shape[0]);
        let logits = head.logits(&mut self.graph, &starts, &ends);
        self.graph.output(&logits, "span_logits", ElementType::Float32, &["candidates"]);
    }

    /// Writes start and end logits, and returns which tokens pass: bool `[batch, tokens]` each.
    fn boundaries(&mut self, tokens: &str, shape: &str) -> [String; 2] {
        let head = &self.weights.head;
        [("start", &head.description.start), ("end", &head.description.end)].map(|(side, layer)| {
            let graph = &mut self.graph;
            let values = |name: &str| head.tensors.get(name).values.as_slice();
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

    fn match_tensors(&self) -> MatchTensors<'a> {
        let (variant, head) = (self.variant, &self.weights.head);
        let of = |layer: &Linear| (head.tensors.get(&layer.weight()), head.tensors.get(&layer.bias()));
        match &head.description.matching {
            MatchHead::OneLayer(layer) => {
                let (hidden, bias) = of(layer);
                MatchTensors { variant, hidden, bias, logit: None }
            }
            MatchHead::TwoLayers(layers) => {
                let ((hidden, bias), (weight, logit_bias)) = (of(&layers.hidden), of(&layers.logit));
                MatchTensors { variant, hidden, bias, logit: Some((layers.activation, weight, logit_bias)) }
            }
        }
    }

    /// Projects the boundary tokens with their half of W (W[hᵢ;hⱼ] = W₁hᵢ + W₂hⱼ): each token once, regardless of the number
    /// of its candidates.
    fn side(
        &mut self,
        tokens: &str,
        passing: &str,
        place: [&str; 2],
        name: &str,
        transposed: &[f32],
        outputs: usize,
    ) -> Side {
        let graph = &mut self.graph;
        let weight = graph.weights(name, &[transposed.len() / outputs, outputs], transposed);
        let (flat, zero) = (graph.integers(&[-1]), graph.integer(0));
        let passing = graph.op("Reshape", &[passing, &flat]);
        let taken = graph.op("NonZero", &[&passing]);
        let taken = graph.op("Reshape", &[&taken, &flat]);
        let vectors = graph.op("Gather", &[tokens, &taken]);
        let projection = graph.op("MatMul", &[&vectors, &weight]);
        let counts = graph.cast(&passing, ElementType::Int64);
        // The index of each selected token among the selected tokens. The values at other tokens are never read.
        let ranks = if (self.variant, self.precision) == (GraphVariant::Portable, Precision::Fp32) {
            // OpenVINO runs this graph; with ScatterElements it splits it into subgraphs that run one after another (1.24.1).
            graph.op_with("CumSum", &[&counts, &zero], vec![AttributeProto::integer("exclusive", 1)])
        } else {
            // The selected tokens are in order, so a range gives their indices. CUDA's CumSum takes time quadratic in the tokens of a batch.
            let (scalar, one) = (graph.integers(&[]), graph.integer(1));
            let number = graph.op("Shape", &[&taken]);
            let number = graph.op("Reshape", &[&number, &scalar]);
            let order = graph.op("Range", &[&zero, &number, &one]);
            graph.op_with("ScatterElements", &[&counts, &taken, &order], vec![AttributeProto::integer("axis", 0)])
        };
        let places = graph.op("Add", &place);
        let rows = graph.op("Gather", &[&ranks, &places]);
        Side { projection, rows }
    }
}

impl MatchTensors<'_> {
    /// The match logit of every candidate: in the portable variant all at once, in the fused variant [`ROUND`] at a time. (OpenVINO
    /// does not compile a loop into one subgraph with the nodes around it.)
    fn logits(&self, graph: &mut Builder, starts: &Side, ends: &Side) -> String {
        match self.variant {
            GraphVariant::Portable => self.at_once(graph, starts, ends, [&starts.rows, &ends.rows]),
            GraphVariant::Fused => self.in_rounds(graph, starts, ends),
        }
    }

    fn in_rounds(&self, graph: &mut Builder, starts: &Side, ends: &Side) -> String {
        let (scalar, one, round) = (graph.integers(&[]), graph.integers(&[1]), graph.integers(&[ROUND]));
        let before = graph.integers(&[ROUND - 1]);
        let count = graph.op("Shape", &[&starts.rows]);
        let size = graph.op("Min", &[&count, &round]);
        let rounds = graph.op("Add", &[&count, &before]);
        let rounds = graph.op("Div", &[&rounds, &round]);
        let rounds = graph.op("Max", &[&rounds, &one]);
        // The last round is padded with row 0; the logits of this padding are sliced off below.
        let filled = graph.op("Mul", &[&rounds, &size]);
        let missing = graph.op("Sub", &[&filled, &count]);
        let zero = AttributeProto::tensor("value", tensor(ElementType::Int64, &[1], 0_i64.to_le_bytes().to_vec()));
        let filling = graph.op_with("ConstantOfShape", &[&missing], vec![zero]);
        let axis = || vec![AttributeProto::integer("axis", 0)];
        let start_rows = graph.op_with("Concat", &[&starts.rows, &filling], axis());
        let end_rows = graph.op_with("Concat", &[&ends.rows, &filling], axis());
        let rounds = graph.op("Reshape", &[&rounds, &scalar]);
        let yes = graph.constant("yes", ElementType::Bool, &[], vec![1]);

        let mut body = Builder::new("match", graph.element());
        body.input("match/round", ElementType::Int64, &[]);
        body.input("match/continue", ElementType::Bool, &[]);
        let next = body.integers(&[1]);
        let number = body.op("Reshape", &["match/round", &next]);
        let from = body.op("Mul", &[&number, &size]);
        let to = body.op("Add", &[&from, &size]);
        let start_rows = body.op("Slice", &[&start_rows, &from, &to]);
        let end_rows = body.op("Slice", &[&end_rows, &from, &to]);
        let logits = self.at_once(&mut body, starts, ends, [&start_rows, &end_rows]);
        body.output("match/continue", "match/go_on", ElementType::Bool, &[]);
        body.output(&logits, "match/logits", ElementType::Float32, &["round"]);

        let body = vec![AttributeProto::graph("body", body.finish())];
        let logits = graph.op_with("Loop", &[&rounds, &yes], body);
        let (flat, first) = (graph.integers(&[-1]), graph.integers(&[0]));
        let logits = graph.op("Reshape", &[&logits, &flat]);
        graph.op("Slice", &[&logits, &first, &count])
    }

    /// Applies the head to the projections in these rows: float `[rows]`.
    fn at_once(&self, graph: &mut Builder, starts: &Side, ends: &Side, rows: [&str; 2]) -> String {
        let start_part = graph.op("Gather", &[&starts.projection, rows[0]]);
        let end_part = graph.op("Gather", &[&ends.projection, rows[1]]);
        let bias = graph.weights("hidden.bias", &self.bias.shape, &self.bias.values);
        let start_part = graph.op("Add", &[&start_part, &bias]);
        let mut logits = graph.op("Add", &[&start_part, &end_part]);
        if let Some((activation, weight, bias)) = self.logit {
            logits = match activation {
                Activation::Gelu => gelu(graph, self.variant, &logits),
                Activation::Relu => graph.op("Relu", &[&logits]),
                Activation::Tanh => graph.op("Tanh", &[&logits]),
            };
            let weight = graph.weights("logit.weight", &[weight.columns(), 1], &weight.values);
            let bias = graph.weights("logit.bias", &[1], &bias.values);
            let product = graph.op("MatMul", &[&logits, &weight]);
            logits = graph.op("Add", &[&product, &bias]);
        }
        let logits = graph.cast(&logits, ElementType::Float32);
        let flat = graph.integers(&[-1]);
        graph.op("Reshape", &[&logits, &flat])
    }
}

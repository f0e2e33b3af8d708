//! The match heads. In: token vectors, the tokens that are the start or end of a candidate, the candidates, and the tensors of the head. Out:
//! a logit per candidate. It must not know how candidates are found.

use crate::graph::builder::{Builder, tensor};
use crate::graph::layers::{Writer, gelu, transpose};
use crate::graph::onnx::{AttributeProto, ElementType};
use crate::model::head::Activation;
use crate::model::precision::{GraphVariant, Precision};
use crate::model::weights::tensors::Tensor;

/// The number of candidates per round of the match head, except in the portable variant. An untrained model makes millions of candidates; this
/// limits memory to this many rows of the head's width. On the CPU the rows of a round stay in its cache: of 1,000 types with 11,000 candidates on
/// 1,024 tokens the head took 24 ms with it and 102 ms with [`GPU_ROUND`] (one thread, AVX-512).
const CPU_ROUND: i64 = 512;

/// The same for graphs in fp16, which GPUs run: a batch of a trained model needs only one round.
const GPU_ROUND: i64 = 8192;

/// One addend of the first layer's output: that of the candidates' starts, ends or questions.
pub(crate) struct Side {
    /// Projections of all tokens that are the start (or end) of a candidate, `[selected tokens, width]`; or of all questions.
    pub(crate) projection: String,
    /// The row of each candidate in `projection`: int64 `[k]`.
    pub(crate) rows: String,
}

/// The tensors of the match head.
pub(crate) struct MatchTensors<'a> {
    /// The variant of the graph.
    pub(crate) variant: GraphVariant,
    /// The bias of the first layer, `[width]`; `None` if a side already has it.
    pub(crate) bias: Option<&'a Tensor>,
    /// Activation, weight and bias of the output layer; `None` for the paper's single layer.
    pub(crate) logit: Option<(Activation, &'a Tensor, &'a Tensor)>,
}

/// The part of a match head's first matrix W `[width, n × h]` that one of its n vectors is multiplied by, transposed: `[h, width]`.
pub(crate) fn hidden_part(hidden: &Tensor, part: usize, h: usize) -> Vec<f32> {
    let values: Vec<f32> = hidden.rows().flat_map(|row| &row[part * h..(part + 1) * h]).copied().collect();
    transpose(&values, hidden.shape[0], h)
}

impl Writer<'_> {
    /// Projects the boundary tokens with their part of W (W[hᵢ;hⱼ] = W₁hᵢ + W₂hⱼ): each token once, regardless of the number
    /// of its candidates. `tokens` is `[batch × tokens, h]`, `passing` is bool `[batch, tokens]`, and the sum of the two of `place` is the
    /// row of each candidate in `tokens`.
    pub(crate) fn side(
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
    /// The match logit of every candidate: in the portable variant all at once, in the others a round at a time. (OpenVINO
    /// does not compile a loop into one subgraph with the nodes around it.)
    pub(crate) fn logits(&self, graph: &mut Builder, sides: &[Side]) -> String {
        match self.variant {
            GraphVariant::Portable => {
                let rows: Vec<String> = sides.iter().map(|side| side.rows.clone()).collect();
                self.at_once(graph, sides, &rows)
            }
            GraphVariant::Fused | GraphVariant::Kernels => self.in_rounds(graph, sides),
        }
    }

    fn in_rounds(&self, graph: &mut Builder, sides: &[Side]) -> String {
        let round = if graph.element() == ElementType::Float16 { GPU_ROUND } else { CPU_ROUND };
        let before = graph.integers(&[round - 1]);
        let (scalar, one, round) = (graph.integers(&[]), graph.integers(&[1]), graph.integers(&[round]));
        let count = graph.op("Shape", &[&sides[0].rows]);
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
        let filled: Vec<String> =
            sides.iter().map(|side| graph.op_with("Concat", &[&side.rows, &filling], axis())).collect();
        let rounds = graph.op("Reshape", &[&rounds, &scalar]);
        let yes = graph.constant("yes", ElementType::Bool, &[], vec![1]);

        let mut body = Builder::subgraph("match", graph.element());
        body.input("match/round", ElementType::Int64, &[]);
        body.input("match/continue", ElementType::Bool, &[]);
        let next = body.integers(&[1]);
        let number = body.op("Reshape", &["match/round", &next]);
        let from = body.op("Mul", &[&number, &size]);
        let to = body.op("Add", &[&from, &size]);
        let rows: Vec<String> = filled.iter().map(|rows| body.op("Slice", &[rows, &from, &to])).collect();
        let logits = self.at_once(&mut body, sides, &rows);
        body.output("match/continue", "match/go_on", ElementType::Bool, &[]);
        body.output(&logits, "match/logits", ElementType::Float32, &["round"]);

        let body = vec![AttributeProto::graph("body", body.finish())];
        let logits = graph.op_with("Loop", &[&rounds, &yes], body);
        let (flat, first) = (graph.integers(&[-1]), graph.integers(&[0]));
        let logits = graph.op("Reshape", &[&logits, &flat]);
        graph.op("Slice", &[&logits, &first, &count])
    }

    /// Applies the head to the projections in these rows: float `[rows]`.
    fn at_once(&self, graph: &mut Builder, sides: &[Side], rows: &[String]) -> String {
        let gather = |(side, rows): (&Side, &String)| graph.op("Gather", &[&side.projection, rows]);
        let addends: Vec<String> = sides.iter().zip(rows).map(gather).collect();
        let mut logits = addends[0].clone();
        if let Some(bias) = self.bias {
            let bias = graph.weights("hidden.bias", &bias.shape, &bias.values);
            logits = graph.op("Add", &[&logits, &bias]);
        }
        for addend in &addends[1..] {
            logits = graph.op("Add", &[&logits, addend]);
        }
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

//! The two graphs of late interaction, on an encoder that is not a BERT, give the logits and candidates of a plain forward pass.

use std::collections::{BTreeMap, BTreeSet};

use ort::session::SessionInputValue;
use ort::value::TensorRef;
use quarry::graph;
use quarry::model::head::{Head, HeadConfig, Interaction};
use quarry::model::precision::{GraphPart, GraphVariant, Precision};
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::weights::tensors::Weights;

use crate::second_architecture::{Forward, HIDDEN, dot, gelu, random_weights};
use crate::support::Random;

/// The width of boundary vectors (d).
const BOUNDARY: usize = 10;
/// The width of the match head's hidden layer (m).
const MATCH: usize = 14;
/// A start or end logit must be above this.
const THRESHOLD: f32 = 0.1;
/// Tokens of the longest window.
const TOKENS: usize = 17;

fn head() -> Head {
    let config = HeadConfig {
        classifier_intermediate_hidden_size: Some(MATCH),
        interaction: Interaction::Late,
        boundary_size: Some(BOUNDARY),
        ..HeadConfig::default()
    };
    config.head(HIDDEN)
}

/// A shape for each word.
fn shapes(ids: &[i64]) -> Vec<i64> {
    ids.iter().map(|id| id % 8).collect()
}

/// Rows of token ids of different lengths, the longest of `tokens`, padded with 0.
struct Rows {
    tokens: usize,
    ids: Vec<i64>,
    attended: Vec<i64>,
    lengths: Vec<usize>,
}

impl Rows {
    fn new(lengths: &[usize], random: &mut Random) -> Self {
        let tokens = *lengths.iter().max().unwrap();
        let mut rows = Self { tokens, ids: Vec::new(), attended: Vec::new(), lengths: lengths.to_vec() };
        for length in lengths {
            rows.ids
                .extend((0..tokens).map(|place| if place < *length { 1 + (random.unit() * 69.0) as i64 } else { 0 }));
            rows.attended.extend((0..tokens).map(|place| i64::from(place < *length)));
        }
        rows
    }

    fn row(&self, row: usize) -> &[i64] {
        &self.ids[row * self.tokens..][..self.lengths[row]]
    }

    /// Only one of these rows, without its padding.
    fn alone(&self, row: usize) -> Self {
        let (ids, length) = (self.row(row).to_vec(), self.lengths[row]);
        Self { tokens: length, ids, attended: vec![1; length], lengths: vec![length] }
    }
}

/// Windows with what the masks allow.
struct Windows {
    rows: Rows,
    starts: Vec<bool>,
    ends: Vec<bool>,
}

impl Windows {
    fn new(random: &mut Random) -> Self {
        let rows = Rows::new(&[11, TOKENS, 3, 8], random);
        let mut mask =
            || -> Vec<bool> { rows.attended.iter().map(|attended| *attended == 1 && random.unit() < 0.7).collect() };
        let (starts, ends) = (mask(), mask());
        Self { rows, starts, ends }
    }
}

/// The vectors of questions: starts `[T, d]`, ends `[T, d]` and matches `[T, m]`.
#[derive(Debug, Clone, PartialEq)]
struct Questions([Vec<f32>; 3]);

impl Questions {
    fn count(&self) -> usize {
        self.0[0].len() / BOUNDARY
    }

    fn select(&self, types: &[usize]) -> Self {
        let part = |(values, width): (&Vec<f32>, usize)| {
            types.iter().flat_map(|kind| values[kind * width..][..width].to_vec()).collect()
        };
        Self([(&self.0[0], BOUNDARY), (&self.0[1], BOUNDARY), (&self.0[2], MATCH)].map(part))
    }

    fn difference(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(left, right)| difference(left, right)).fold(0.0, f32::max)
    }
}

/// What is known of windows after the second graph.
struct Answers {
    /// Start and end logits, `[batch, T, tokens]` each.
    boundaries: [Vec<f32>; 2],
    /// Row, type, start and end of each candidate.
    index: Vec<[usize; 4]>,
    spans: Vec<f32>,
}

fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

/// A graph on ONNX Runtime.
struct Graph(ort::session::Session);

impl Graph {
    fn new(weights: &Weights, part: GraphPart, variant: GraphVariant) -> Self {
        let library = Library::load(None, Distribution::Cpu).unwrap();
        let mut builder = ort::session::Session::builder(library.environment()).unwrap();
        let bytes = graph::write_part(weights, part, variant).unwrap();
        Self(builder.commit_from_memory(&bytes).unwrap())
    }

    fn rows(rows: &Rows) -> Vec<(&'static str, SessionInputValue<'_>)> {
        let shape = [rows.lengths.len(), rows.tokens];
        vec![
            ("input_ids", TensorRef::from_array_view((shape, rows.ids.as_slice())).unwrap().into()),
            ("attention_mask", TensorRef::from_array_view((shape, rows.attended.as_slice())).unwrap().into()),
            ("shape_ids", ort::value::Tensor::from_array((shape, shapes(&rows.ids))).unwrap().into()),
        ]
    }

    fn questions(&mut self, rows: &Rows) -> Questions {
        let outputs = self.0.run(Self::rows(rows)).unwrap();
        let read = |name: &str, width: usize| {
            let (shape, values) = outputs[name].try_extract_tensor::<f32>().unwrap();
            assert_eq!(shape.as_ref(), [rows.lengths.len() as i64, width as i64], "{name}");
            values.to_vec()
        };
        let widths = [("question_starts", BOUNDARY), ("question_ends", BOUNDARY), ("question_matches", MATCH)];
        Questions(widths.map(|(name, width)| read(name, width)))
    }

    fn answers(&mut self, windows: &Windows, questions: &Questions, threshold: f32) -> Answers {
        let (batch, tokens, count) = (windows.rows.lengths.len(), windows.rows.tokens, questions.count());
        let mut inputs = Self::rows(&windows.rows);
        for (name, mask) in [("start_mask", &windows.starts), ("end_mask", &windows.ends)] {
            let mask = TensorRef::from_array_view(([batch, tokens], mask.as_slice())).unwrap();
            inputs.push((name, mask.into()));
        }
        inputs
            .push(("boundary_logit", ort::value::Tensor::from_array(([0_usize; 0], vec![threshold])).unwrap().into()));
        let names = [("question_starts", BOUNDARY), ("question_ends", BOUNDARY), ("question_matches", MATCH)];
        for ((name, width), values) in names.into_iter().zip(&questions.0) {
            let values = TensorRef::from_array_view(([count, width], values.as_slice())).unwrap();
            inputs.push((name, values.into()));
        }
        let outputs = self.0.run(inputs).unwrap();
        let boundaries = ["start_logits", "end_logits"].map(|name| {
            let (shape, values) = outputs[name].try_extract_tensor::<f32>().unwrap();
            assert_eq!(shape.as_ref(), [batch, count, tokens].map(|size| size as i64), "{name}");
            values.to_vec()
        });
        let found = outputs["span_index"].shape()[0];
        assert_eq!(outputs["span_index"].shape().as_ref(), [found, 4]);
        assert_eq!(outputs["span_logits"].shape().as_ref(), [found]);
        if found == 0 {
            // The runtime gives no address for an empty tensor.
            return Answers { boundaries, index: Vec::new(), spans: Vec::new() };
        }
        let index = outputs["span_index"].try_extract_tensor::<i64>().unwrap().1;
        let index = index.as_chunks::<4>().0.iter().map(|span| span.map(|part| part as usize)).collect();
        Answers { boundaries, index, spans: outputs["span_logits"].try_extract_tensor::<f32>().unwrap().1.to_vec() }
    }
}

/// The forward pass of the head, by the names of its tensors.
struct Plain<'weights>(Forward<'weights>);

impl Plain<'_> {
    fn network(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let inner = self.0.linear(&format!("{name}.inner"), input);
        self.0.linear(&format!("{name}.outer"), &inner.into_iter().map(gelu).collect::<Vec<_>>())
    }

    fn boundary(&self, side: usize, token: &[f32], question: &[f32]) -> f32 {
        let name = ["start", "end"][side];
        let token = self.network(&format!("boundary.{name}.token"), token);
        let question = self.network(&format!("boundary.{name}.question"), question);
        dot(&token, &question) / (BOUNDARY as f32).sqrt() + self.0.tensor("boundary.bias").values[side]
    }

    fn span(&self, start: &[f32], end: &[f32], question: &[f32]) -> f32 {
        let hidden = self.0.linear("match.hidden", &[start, end, question].concat());
        self.0.linear("match.logit", &hidden.into_iter().map(gelu).collect::<Vec<_>>())[0]
    }
}

struct Case {
    weights: Weights,
    questions: Rows,
    windows: Windows,
}

fn case() -> Case {
    let mut random = Random(22);
    let made_up = random_weights(&head());
    let mut tensors: BTreeMap<_, _> = made_up.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    // About half of the starts and half of the ends pass.
    let biases = &mut tensors.get_mut("boundary.bias").unwrap().values;
    biases.iter_mut().zip([-2.5, 2.0]).for_each(|(bias, shift)| *bias += shift);
    let weights = Weights::new(made_up.encoder.architecture, made_up.head.description, tensors).unwrap();
    Case { weights, questions: Rows::new(&[4, 7, 5], &mut random), windows: Windows::new(&mut random) }
}

#[test]
fn the_graphs_give_the_logits_of_a_plain_forward_pass() {
    let Case { weights, questions, windows } = case();
    let plain = Plain(Forward(&weights));
    let vectors = |rows: &Rows| -> Vec<_> {
        (0..rows.lengths.len()).map(|row| plain.0.token_vectors(rows.row(row), &shapes(rows.row(row)))).collect()
    };
    let (types, texts) = (vectors(&questions), vectors(&windows.rows));
    for variant in GraphVariant::ALL {
        let asked = Graph::new(&weights, GraphPart::Questions, variant).questions(&questions);
        let mut graph = Graph::new(&weights, GraphPart::Windows(Precision::Fp32), variant);
        let answers = graph.answers(&windows, &asked, THRESHOLD);
        let (mut largest, mut expected) = (0_f32, Vec::new());
        for (row, tokens) in texts.iter().enumerate() {
            for (kind, question) in types.iter().enumerate() {
                let question = &question[0];
                let place = |token: usize| (row * types.len() + kind) * windows.rows.tokens + token;
                for (token, vector) in tokens.iter().enumerate() {
                    for side in [0, 1] {
                        let logit = plain.boundary(side, vector, question);
                        largest = largest.max((logit - answers.boundaries[side][place(token)]).abs());
                    }
                }
                let passes = |side: usize, mask: &[bool], token: usize| {
                    mask[row * windows.rows.tokens + token] && answers.boundaries[side][place(token)] > THRESHOLD
                };
                for start in (0..tokens.len()).filter(|start| passes(0, &windows.starts, *start)) {
                    for end in (start..tokens.len()).filter(|end| passes(1, &windows.ends, *end)) {
                        expected.push(([row, kind, start, end], plain.span(&tokens[start], &tokens[end], question)));
                    }
                }
            }
        }
        let (index, spans): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
        assert_eq!(answers.index, index, "{variant}");
        assert!(index.len() > 20, "{} candidates", index.len());
        for kind in 0..types.len() {
            assert!(index.iter().any(|span| span[1] == kind), "no candidate of type {kind}");
        }
        let lanes: BTreeSet<_> = index.iter().map(|[row, kind, ..]| (row, kind)).collect();
        assert!(lanes.len() < texts.len() * types.len(), "no type has no candidate in a window");
        largest = largest.max(difference(&answers.spans, &spans));
        eprintln!("{variant}: {} candidates, largest difference {largest}", index.len());
        assert!(largest < 1e-4, "{variant}: {largest}");
    }
}

#[test]
fn a_type_gets_the_same_logits_alone_and_among_others() {
    let Case { weights, questions, windows } = case();
    for variant in GraphVariant::ALL {
        let mut ask = Graph::new(&weights, GraphPart::Questions, variant);
        let mut graph = Graph::new(&weights, GraphPart::Windows(Precision::Fp32), variant);
        let together = ask.questions(&questions);
        let all = graph.answers(&windows, &together, THRESHOLD);
        let (batch, tokens) = (windows.rows.lengths.len(), windows.rows.tokens);
        for kind in 0..together.count() {
            let alone = ask.questions(&questions.alone(kind));
            let change = together.select(&[kind]).difference(&alone);
            assert!(change < 1e-6, "{variant}: the vectors of type {kind} change by {change}");
            let own = graph.answers(&windows, &alone, THRESHOLD);
            for (all, own) in all.boundaries.iter().zip(&own.boundaries) {
                let among: Vec<f32> = (0..batch)
                    .flat_map(|row| all[(row * together.count() + kind) * tokens..][..tokens].to_vec())
                    .collect();
                let change = difference(&among, own);
                assert!(change < 1e-6, "{variant}: the logits of type {kind} change by {change}");
            }
            let among = all.index.iter().zip(&all.spans).filter(|(span, _)| span[1] == kind);
            let (index, spans): (Vec<_>, Vec<f32>) =
                among.map(|([row, _, start, end], logit)| ([*row, 0, *start, *end], *logit)).unzip();
            assert_eq!(own.index, index, "{variant}");
            let change = difference(&own.spans, &spans);
            assert!(change < 1e-6, "{variant}: the match logits of type {kind} change by {change}");
        }
    }
}

#[test]
fn every_precision_gives_about_the_same_logits_and_no_candidates_where_none_pass() {
    let Case { weights, questions, windows } = case();
    let mut exact = None;
    for (variant, precision) in GraphVariant::ALL
        .into_iter()
        .flat_map(|variant| [Precision::Fp32, Precision::Fp16, Precision::Int8].map(|precision| (variant, precision)))
    {
        let asked = Graph::new(&weights, GraphPart::Questions, variant).questions(&questions);
        let mut graph = Graph::new(&weights, GraphPart::Windows(precision), variant);
        let none = graph.answers(&windows, &asked, 1000.0);
        assert_eq!((none.index.len(), none.spans.len()), (0, 0), "{variant} {precision}");
        let answers = graph.answers(&windows, &asked, THRESHOLD);
        assert!(!answers.index.is_empty(), "{variant} {precision}");
        let exact = exact.get_or_insert_with(|| answers.boundaries.clone());
        for (exact, rounded) in exact.iter().zip(&answers.boundaries) {
            let change = difference(exact, rounded);
            eprintln!("{variant} {precision}: boundary logits differ by {change}");
            assert!(change < 0.2, "{variant} {precision}: boundary logits differ by {change}");
        }
    }
}

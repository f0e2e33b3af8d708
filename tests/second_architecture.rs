//! A made-up encoder that is not a BERT: two layers that normalize before their blocks, no token types, word shapes, positions from row 2,
//! names of its own. Its graph gives the logits that a plain forward pass computes; `tests/train.rs` compares the network in training with the graph.

use quarry::graph;
use quarry::model::blocks::{FeedForward, Linear, Norm, Table};
use quarry::model::encoder::architecture::{
    Activation, Architecture, Attention, CheckpointNames, Distances, DropoutRates, Layer, Normalization, Positions,
};
use quarry::model::head::{Head, HeadConfig};
use quarry::model::precision::{GraphVariant, Precision};
use quarry::model::runtime::device::Device;
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::runtime::session::{Session, SessionOptions};
use quarry::model::weights::tensors::{Tensor, Weights};
use quarry::model::weights::vocabulary::{TokenizerConfig, tokenizer_from_vocabulary};
use quarry::task::batch::Batch;
use quarry::task::input::Questions;
use quarry::task::kind::Kind;
use quarry::task::mrc::decode::Logits;
use quarry::text::document::Document;
use quarry::text::tokens::{Tokenizer, Words};
use quarry::text::window::{WindowRule, Windows};
use quarry::text::word_shape::WordShape;

use crate::support::{Dir, Random, project};

pub(crate) const HIDDEN: usize = 12;
const HEADS: usize = 3;
const LAYERS: usize = 2;
const EPSILON: f32 = 1e-5;
/// The row of the position table for the first token.
const OFFSET: usize = 2;

fn architecture() -> Architecture {
    let norm = |name: String| Norm { name, width: HIDDEN, epsilon: EPSILON, has_bias: true };
    let table = |name: &str, rows: usize| Table { name: format!("trial.{name}"), rows, columns: HIDDEN };
    let layer = |number: usize| {
        let name = |part: &str| format!("trial.layers.{number}.{part}");
        let square = |part: &str| Linear::new(name(part), HIDDEN, HIDDEN);
        Layer {
            attention: Attention {
                name: name("projections"),
                query: square("query"),
                key: square("key"),
                value: square("value"),
                output: square("output"),
                distances: Distances::Ignored,
                reach: None,
            },
            attention_norm: Some(norm(name("first_norm"))),
            feed_forward: FeedForward {
                inner: Linear::new(name("inner"), HIDDEN, 20),
                outer: Linear::new(name("outer"), 20, HIDDEN),
            },
            activation: Activation::Gelu,
            gate: None,
            feed_forward_norm: norm(name("second_norm")),
        }
    };
    Architecture {
        hidden_size: HIDDEN,
        heads: HEADS,
        max_tokens: 48,
        words: table("words", 70),
        positions: Positions::Absolute { table: table("positions", 48 + OFFSET), offset: OFFSET },
        token_types: None,
        word_shapes: Some(table("shapes", WordShape::COUNT)),
        embedding_norm: norm("trial.embedding_norm".into()),
        embedding_projection: None,
        relative: None,
        layers: (0..LAYERS).map(layer).collect(),
        normalization: Normalization::Pre { last: norm("trial.last_norm".into()) },
        checkpoint: CheckpointNames { prefix: "trial.", bare: &[], unused: &[], pretraining_heads: &[], stacked: &[] },
        dropout: DropoutRates::default(),
    }
}

/// The encoder with MRC heads and random weights.
pub(crate) fn weights() -> Weights {
    random_weights(&HeadConfig::default().head(HIDDEN))
}

/// The encoder with a head and random weights.
pub(crate) fn random_weights(head: &Head) -> Weights {
    let architecture = architecture();
    let mut random = Random(11);
    let shapes = architecture.shapes().into_iter().chain(head.shapes());
    let tensors = shapes.map(|(name, shape)| {
        let shift = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let count: usize = shape.iter().product();
        let values = (0..count).map(|_| (random.unit() as f32 - 0.5) * 1.2 + shift).collect();
        (name, Tensor { shape, values })
    });
    Weights::new(architecture.clone(), head.clone(), tensors.collect()).unwrap()
}

/// Queries of different lengths in one batch.
pub(crate) fn batch() -> Batch {
    let folder = project().join("tests/fixtures/tiny-checkpoint");
    let path = folder.join("vocab.txt");
    let json = tokenizer_from_vocabulary(&path, &TokenizerConfig::default()).unwrap().to_string(false).unwrap();
    let tokenizer = Tokenizer::from_bytes(json.as_bytes(), &path, Words::default()).unwrap();
    let schema = quarry::job::read_schema(&folder.join("schema.toml")).unwrap();
    let questions = Questions::new(&schema, &tokenizer).unwrap();
    let mut queries = Vec::new();
    for text in ["Captain Anna Bergmann left the port of Ternoy in 1892.", "Olsen", "It came from the sea."] {
        for window in Windows::new(&tokenizer, WindowRule { tokens: 24, overlap: 0, words: None }, Document { text }) {
            queries.extend(questions.ask(0, &window.unwrap()));
        }
    }
    Batch { inputs: queries }
}

/// What the graph of these weights answers; a candidate's boundary logits are above 0.
pub(crate) fn served(weights: &Weights, variant: GraphVariant, batch: &Batch) -> Logits {
    let dir = Dir::new();
    let path = dir.path("trial.onnx");
    std::fs::write(&path, graph::write(weights, variant, Precision::Fp32).unwrap()).unwrap();
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };
    Session::open(&library, &path, Kind::Mrc, options).unwrap().logits(batch, 0.0).unwrap()
}

/// The forward pass of the made-up encoder for one query, by the names of its tensors.
pub(crate) struct Forward<'weights>(pub(crate) &'weights Weights);

impl Forward<'_> {
    pub(crate) fn tensor(&self, name: &str) -> &Tensor {
        self.0.iter().find(|(known, _)| *known == name).unwrap().1
    }

    pub(crate) fn linear(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        weight.rows().zip(&bias.values).map(|(row, bias)| dot(row, input) + bias).collect()
    }

    fn norm(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let (scale, shift) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let mean = input.iter().sum::<f32>() / HIDDEN as f32;
        let variance = input.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / HIDDEN as f32;
        let parameters = scale.values.iter().zip(&shift.values);
        let normal = |value: &f32| (value - mean) / (variance + EPSILON).sqrt();
        input.iter().zip(parameters).map(|(value, (scale, shift))| normal(value) * scale + shift).collect()
    }

    /// The context of one token: for each head, the values weighted by a softmax.
    fn attend(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
        let size = HIDDEN / HEADS;
        let head = |number: usize| {
            let columns = number * size..(number + 1) * size;
            let score =
                |key: &Vec<f32>| (dot(&query[columns.clone()], &key[columns.clone()]) / (size as f32).sqrt()).exp();
            let scores: Vec<f32> = keys.iter().map(score).collect();
            let sum: f32 = scores.iter().sum();
            let mixed =
                |column: usize| scores.iter().zip(values).map(|(score, value)| score * value[column]).sum::<f32>();
            columns.clone().map(|column| mixed(column) / sum).collect::<Vec<_>>()
        };
        (0..HEADS).flat_map(head).collect()
    }

    fn layer(&self, number: usize, tokens: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let name = |part: &str| format!("trial.layers.{number}.{part}");
        let normal: Vec<_> = tokens.iter().map(|token| self.norm(&name("first_norm"), token)).collect();
        let [queries, keys, values] = ["query", "key", "value"]
            .map(|part| normal.iter().map(|token| self.linear(&name(part), token)).collect::<Vec<_>>());
        let contexts = queries.iter().map(|query| self.linear(&name("output"), &Self::attend(query, &keys, &values)));
        let attended = contexts.zip(tokens).map(|(context, token)| sum(&context, token));
        let fed = |token: Vec<f32>| {
            let inner = self.linear(&name("inner"), &self.norm(&name("second_norm"), &token));
            let active: Vec<f32> = inner.into_iter().map(gelu).collect();
            sum(&self.linear(&name("outer"), &active), &token)
        };
        attended.map(fed).collect()
    }

    pub(crate) fn token_vectors(&self, ids: &[i64], shapes: &[i64]) -> Vec<Vec<f32>> {
        let [words, positions, shape_vectors] =
            ["words", "positions", "shapes"].map(|table| self.tensor(&format!("trial.{table}")));
        let row = |table: &Tensor, row: usize| table.rows().nth(row).unwrap().to_vec();
        let embedded = |(place, (id, shape)): (usize, (&i64, &i64))| {
            let vectors = sum(&row(words, *id as usize), &row(positions, place + OFFSET));
            self.norm("trial.embedding_norm", &sum(&vectors, &row(shape_vectors, *shape as usize)))
        };
        let embedded: Vec<_> = ids.iter().zip(shapes).enumerate().map(embedded).collect();
        let last = (0..LAYERS).fold(embedded, |tokens, number| self.layer(number, &tokens));
        last.iter().map(|token| self.norm("trial.last_norm", token)).collect()
    }

    fn match_logit(&self, start: &[f32], end: &[f32]) -> f32 {
        let hidden = self.linear("span_embedding.classifier1", &[start, end].concat());
        self.linear("span_embedding.classifier2", &hidden.into_iter().map(gelu).collect::<Vec<_>>())[0]
    }
}

pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn sum(left: &[f32], right: &[f32]) -> Vec<f32> {
    left.iter().zip(right).map(|(left, right)| left + right).collect()
}

/// x·Φ(x), with formula 7.1.26 of Abramowitz and Stegun, which is exact to 1.5e-7.
pub(crate) fn gelu(value: f32) -> f32 {
    let x = f64::from(value.abs()) / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = series.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    let error = (1.0 - polynomial * (-x * x).exp()).copysign(f64::from(value));
    (f64::from(value) * 0.5 * (1.0 + error)) as f32
}

#[test]
fn its_graph_gives_the_logits_of_a_plain_forward_pass() {
    let (weights, batch) = (weights(), batch());
    let (forward, inputs) = (Forward(&weights), batch.tensors());
    let lengths: Vec<usize> = batch.inputs.iter().map(quarry::task::input::ModelInput::len).collect();
    assert!(lengths.iter().min() < lengths.iter().max(), "no row is padded");
    let vectors: Vec<_> = (lengths.iter().enumerate())
        .map(|(row, length)| {
            let of_row = |ids: &'_ Vec<i64>| ids[row * inputs.tokens..][..*length].to_vec();
            forward.token_vectors(&of_row(&inputs.input_ids), &of_row(&inputs.shape_ids))
        })
        .collect();
    for variant in GraphVariant::ALL {
        let served = served(&weights, variant, &batch);
        let mut largest: f32 = 0.0;
        for (row, tokens) in vectors.iter().enumerate() {
            for (place, token) in tokens.iter().enumerate() {
                let place = row * inputs.tokens + place;
                for (name, logits) in [("start_outputs", &served.start), ("end_outputs", &served.end)] {
                    largest = largest.max((forward.linear(name, token)[0] - logits[place]).abs());
                }
            }
        }
        assert!(served.span.len() > 20, "{} candidates", served.span.len());
        for ([row, start, end], logit) in served.span_index.iter().zip(&served.span) {
            let tokens = &vectors[*row];
            largest = largest.max((forward.match_logit(&tokens[*start], &tokens[*end]) - logit).abs());
        }
        eprintln!("{variant}: {} candidates, largest difference {largest}", served.span.len());
        assert!(largest < 1e-4, "{variant}: {largest}");
    }
}

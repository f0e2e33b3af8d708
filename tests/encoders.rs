//! Encoders of every architecture: states, logits and gradients against those that `transformers` computes (`tests/fixtures/encoders.py`), and
//! exports in every precision. The weights are made up by the rule of that script, under the names that checkpoints have.

#[cfg(feature = "train")]
mod gradients;
mod tokenizers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::bf16;
use quarry::graph;
use quarry::model::config::ModelConfig;
use quarry::model::head::{Head, HeadConfig};
use quarry::model::precision::{GraphVariant, Precision};
use quarry::model::runtime::device::Device;
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::runtime::session::{Session, SessionOptions};
use quarry::model::weights::checkpoint::Checkpoint;
use quarry::model::weights::tensors::{Tensor, Weights};
use quarry::task::batch::BatchTensors;
use quarry::task::kind::Kind;
use quarry::task::mrc::decode::Logits;
use quarry::task::mrc::{fixed, logits};
use quarry::task::tensor::{Tensors, Values};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use crate::support::{Dir, project};

const LENGTHS: [usize; 2] = [24, 17];
/// The figures have the states of every fifth token.
const EACH: usize = 5;
const HIDDEN: usize = 32;
/// Every start and end that the masks allow is a candidate.
const ALL: f32 = -1e9;
const OPTIONS: SessionOptions = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };

/// The figures of one encoder.
#[derive(Deserialize)]
struct Figures {
    config: serde_json::Value,
    states: [Vec<f32>; 2],
    start_logits: [Vec<f32>; 2],
    end_logits: [Vec<f32>; 2],
    span_logits: Vec<f32>,
    #[cfg_attr(not(feature = "train"), allow(dead_code, reason = "only training has gradients"))]
    gradients: BTreeMap<String, [f64; 3]>,
}

fn figures() -> BTreeMap<String, Figures> {
    let path = project().join("tests/fixtures/encoders.json");
    let found: BTreeMap<String, Figures> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(found.len(), 9);
    found
}

/// The made-up numbers of a name, in -0.5 .. 0.5.
fn sequence(name: &str, count: usize) -> Vec<f64> {
    let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1_u32 << 24) - 0.5
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn made_up(name: &str, shape: Vec<usize>) -> Tensor {
    let shift = if name.to_lowercase().ends_with("norm.weight") { 1.0 } else { 0.0 };
    let values = sequence(name, shape.iter().product()).into_iter().map(|value| value as f32 * 0.4 + shift);
    Tensor { values: values.collect(), shape }
}

impl Figures {
    /// The configuration, with the width of the match head.
    fn config(&self) -> ModelConfig {
        ModelConfig::parse(Path::new("config.json"), self.config_json().as_bytes()).unwrap()
    }

    fn config_json(&self) -> String {
        let mut config = self.config.clone();
        config["classifier_intermediate_hidden_size"] = 12.into();
        config.to_string()
    }

    /// The tensors of encoder and heads under the names of `transformers`: the encoder's without a prefix.
    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let config = self.config();
        let architecture = config.encoder.architecture();
        let stacked = architecture.checkpoint.stacked;
        let mut found = BTreeMap::new();
        for (name, mut shape) in architecture.shapes() {
            let mut name = name.strip_prefix(architecture.checkpoint.prefix).unwrap().to_owned();
            for (module, layers) in stacked {
                if let Some(number) = layers.iter().position(|layer| name.contains(&format!(".{layer}."))) {
                    name = name.replace(layers[number], module);
                    shape[0] *= layers.len();
                    break;
                }
            }
            found.insert(name.clone(), made_up(&name, shape));
        }
        let heads = config.head.two_layers(architecture.hidden_size).shapes();
        found.extend(heads.into_iter().map(|(name, shape)| (name.clone(), made_up(&name, shape))));
        found
    }

    /// Writes the checkpoint, with `prefix` before the encoder's names, in single precision or in bfloat16.
    fn write(&self, folder: &Path, prefix: &str, dtype: Dtype) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("config.json"), self.config_json()).unwrap();
        let heads = self.config().head.two_layers(HIDDEN).shapes();
        let tensors = self.tensors().into_iter().map(|(name, tensor)| {
            let of_head = heads.contains_key(&name);
            let bytes: Vec<u8> = match dtype {
                Dtype::BF16 => tensor.values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
                _ => tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            };
            (if of_head { name } else { format!("{prefix}{name}") }, tensor.shape, bytes)
        });
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors.collect();
        let views =
            tensors.iter().map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    }

    fn weights(&self) -> Weights {
        let dir = Dir::new();
        self.write(&dir.path("encoder"), "", Dtype::F32);
        Checkpoint::open(&dir.path("encoder"), None).unwrap().weights
    }
}

/// The batch of the script. Ids of padding do not matter.
fn batch() -> BatchTensors {
    let (rows, tokens) = (LENGTHS.len(), LENGTHS[0]);
    let mut batch = BatchTensors::zeros(rows, tokens);
    for (row, length) in LENGTHS.into_iter().enumerate() {
        for token in 0..length {
            let place = row * tokens + token;
            let context = (6..length - 1).contains(&token);
            batch.input_ids[place] = ((row * 7 + token * 3) % 60 + 4) as i64;
            batch.attention_mask[place] = 1;
            batch.token_type_ids[place] = i64::from(token >= 5);
            batch.start_mask[place] = context && token % 3 != 2;
            batch.end_mask[place] = context && token % 3 != 1;
        }
    }
    batch
}

/// What a graph of these weights answers to the batch.
fn served(library: &Library, dir: &Dir, weights: &Weights, variant: GraphVariant, precision: Precision) -> Logits {
    let path = dir.path("encoder.onnx");
    std::fs::write(&path, graph::write(weights, variant, precision).unwrap()).unwrap();
    let mut session = Session::open(library, &path, Kind::Mrc, OPTIONS).unwrap();
    let batch = batch();
    let shape = [batch.rows, batch.tokens];
    let given = Tensors::default()
        .with("input_ids", &shape, Values::I64(batch.input_ids))
        .with("attention_mask", &shape, Values::I64(batch.attention_mask))
        .with("token_type_ids", &shape, Values::I64(batch.token_type_ids))
        .with("start_mask", &shape, Values::Bool(batch.start_mask))
        .with("end_mask", &shape, Values::Bool(batch.end_mask));
    logits(session.run(&[&given, &fixed(ALL)]).unwrap()).unwrap()
}

fn largest<'v>(found: impl IntoIterator<Item = &'v f32>, expected: impl IntoIterator<Item = &'v f32>) -> f32 {
    let (found, expected): (Vec<&f32>, Vec<&f32>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|value| value.is_finite()));
    found.iter().zip(&expected).map(|(found, expected)| (**found - **expected).abs()).fold(0.0, f32::max)
}

/// The largest difference of a logit from the figures.
fn difference(found: &Logits, figures: &Figures) -> f32 {
    let spans = largest(&found.span, &figures.span_logits);
    let rows = LENGTHS.into_iter().enumerate().map(|(row, length)| {
        let place = row * LENGTHS[0]..row * LENGTHS[0] + length;
        let starts = largest(&found.start[place.clone()], &figures.start_logits[row]);
        starts.max(largest(&found.end[place], &figures.end_logits[row]))
    });
    rows.fold(spans, f32::max)
}

/// Weights whose start and end heads give two of the encoder's values.
fn with_heads_for(weights: &Weights, values: [usize; 2]) -> Weights {
    let heads = ["start_outputs", "end_outputs"];
    let tensors = weights.iter().map(|(name, tensor)| {
        let mut tensor = tensor.clone();
        if let Some(side) = heads.iter().position(|head| name.starts_with(head)) {
            tensor.values.fill(0.0);
            if name.ends_with("weight") {
                tensor.values[values[side]] = 1.0;
            }
        }
        (name.to_owned(), tensor)
    });
    Weights::new(weights.encoder.architecture.clone(), weights.head.description.clone(), tensors.collect()).unwrap()
}

/// The largest difference of a value of a state from the figures.
fn state_difference(library: &Library, dir: &Dir, weights: &Weights, variant: GraphVariant, figures: &Figures) -> f32 {
    let mut most: f32 = 0.0;
    for first in (0..HIDDEN).step_by(2) {
        let weights = with_heads_for(weights, [first, first + 1]);
        let found = served(library, dir, &weights, variant, Precision::Fp32);
        for (row, length) in LENGTHS.into_iter().enumerate() {
            for (side, values) in [&found.start, &found.end].into_iter().enumerate() {
                let found = (0..length).step_by(EACH).map(|token| &values[row * LENGTHS[0] + token]);
                let expected = figures.states[row].iter().skip(first + side).step_by(HIDDEN);
                most = most.max(largest(found, expected));
            }
        }
    }
    most
}

#[test]
fn graphs_give_the_states_and_logits_of_transformers() {
    let (library, dir) = (Library::load(None, Distribution::Cpu).unwrap(), Dir::new());
    for (name, figures) in figures() {
        let weights = figures.weights();
        for variant in GraphVariant::ALL {
            let logits = difference(&served(&library, &dir, &weights, variant, Precision::Fp32), &figures);
            let states = state_difference(&library, &dir, &weights, variant, &figures);
            eprintln!("{name}, {variant}: largest difference of a logit {logits:.7}, of a state {states:.7}");
            assert!(logits < 1e-4 && states < 1e-4, "{name}, {variant}: {logits}, {states}");
        }
    }
}

/// How far fp16 and int8 may be from fp32: logits here are about 1.
#[test]
fn other_precisions_are_close_to_the_figures() {
    let (library, dir) = (Library::load(None, Distribution::Cpu).unwrap(), Dir::new());
    for (name, figures) in figures() {
        let weights = figures.weights();
        for (variant, precision, most) in [
            (GraphVariant::Portable, Precision::Fp16, 0.02),
            (GraphVariant::Fused, Precision::Fp16, 0.02),
            (GraphVariant::Portable, Precision::Int8, 0.1),
            (GraphVariant::Fused, Precision::Int8, 0.1),
            (GraphVariant::Kernels, Precision::Int8, 0.1),
        ] {
            let found = difference(&served(&library, &dir, &weights, variant, precision), &figures);
            eprintln!("{name}, {variant} {precision}: largest difference of a logit {found:.5}");
            assert!(found < most, "{name}, {variant} {precision}: {found}");
        }
    }
}

/// Of an encoder alone, of a model with a head, and in bfloat16.
#[test]
fn checkpoints_have_names_with_and_without_a_prefix() {
    for (name, figures) in figures() {
        let dir = Dir::new();
        let architecture = figures.config().encoder.architecture();
        // ModernBERT calls its encoder so.
        let prefix = if name == "modernbert" { "model." } else { architecture.checkpoint.prefix };
        figures.write(&dir.path("whole"), prefix, Dtype::F32);
        figures.write(&dir.path("short"), prefix, Dtype::BF16);
        let open = |folder: &str| Checkpoint::open(&dir.path(folder), None).unwrap().weights;
        let weights = figures.weights();
        assert_eq!(open("whole"), weights, "{name}");
        for ((tensor, found), (_, exact)) in open("short").iter().zip(weights.iter()) {
            let rounded = exact.values.iter().map(|&value| bf16::from_f32(value).to_f32());
            assert!(found.values.iter().copied().eq(rounded), "{name}: {tensor}");
        }
    }
}

#[test]
fn sizes_that_differ_from_bert_are_known() {
    let of = |name: &str| figures()[name].config().encoder.architecture();
    // The first two of 130 positions are those of padding and of nothing.
    assert_eq!((of("roberta").max_tokens, of("xlm-roberta").max_tokens, of("bert").max_tokens), (128, 128, 128));
    let (albert, bert) = (of("albert"), of("bert"));
    assert_eq!((albert.layers.len(), albert.dropout.hidden, albert.dropout.attention), (8, 0.0, 0.0));
    assert!((bert.dropout.hidden - 0.1).abs() < 1e-12 && (bert.dropout.attention - 0.1).abs() < 1e-12);
    // Two groups of two layers, and what is there once.
    assert_eq!(albert.shapes().len(), 2 * 2 * 16 + 3 + 2 + 2);
}

/// What no fused operator computes is named.
#[test]
fn attention_that_cannot_be_fused_is_named() {
    for (name, figures) in figures() {
        let expected = match name.as_str() {
            "deberta-v2" | "deberta-v3" => Some("disentangled relative positions"),
            "modernbert" => Some("rotary positions"),
            _ => None,
        };
        assert_eq!(figures.config().encoder.architecture().beyond_fused_attention(), expected, "{name}");
    }
}

/// A model directory of each kind of encoder, by the program, with the report on its graphs; and a run that uses it.
#[test]
fn models_of_every_encoder_are_exported_and_answer() {
    for (name, figures) in figures() {
        let dir = Dir::new();
        let folder: PathBuf = dir.path("encoder");
        figures.write(&folder, "", Dtype::F32);
        let json = match name.as_str() {
            "roberta" | "modernbert" => tokenizers::byte_level(name == "modernbert"),
            "xlm-roberta" | "albert" | "deberta-v2" | "deberta-v3" => tokenizers::unigram(),
            _ => tokenizers::wordpiece(),
        };
        std::fs::write(folder.join("tokenizer.json"), json).unwrap();
        let exported = dir.quarry(&["export", "encoder", "model"]).ended(0);
        let report = exported.stdout();
        for graph in ["fused-fp32", "portable-fp16", "portable-int8", "fused-int8"] {
            assert!(report.contains(graph), "{name}: {report}");
        }
        eprintln!("{name}\n{report}");
        let text = "Ada Lovelace met Charles Babbage in Zürich 🎉, in 1843.";
        let found = dir.quarry(&["try", text, "--model", "model", "--types", "person,place"]).ended(0);
        assert!(found.stderr().is_empty() || !found.stderr().contains("error"), "{name}: {}", found.stderr());
        let doctor = dir.quarry(&["doctor", "--within", "60", "--model", "model"]).stdout();
        let standard = figures.config().encoder.architecture().beyond_fused_attention();
        assert_eq!(doctor.contains("attention in standard operators"), standard.is_some(), "{name}: {doctor}");
    }
}

/// The head that figures are of.
#[test]
fn the_head_of_the_figures_has_two_layers() {
    for figures in figures().into_values() {
        let Head::Early(head) = figures.weights().head.description else { panic!("early interaction") };
        let config = HeadConfig { classifier_intermediate_hidden_size: Some(12), ..HeadConfig::default() };
        assert_eq!(head, config.two_layers(HIDDEN));
    }
}

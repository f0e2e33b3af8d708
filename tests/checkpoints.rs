//! Token classifiers and question answering of every architecture, as Hugging Face's library saves them: logits and mentions against those that
//! `transformers` computes (`tests/fixtures/checkpoints.py`), directly from the folder and as model directories, and what is refused. The weights
//! are made up by the rule of that script.

#[cfg(feature = "train")]
mod network;
mod refused;

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use quarry::extract::extractor::Extractor;
use quarry::extract::settings::{ExtractionSettings, RuntimeSettings};
use quarry::graph::cache;
use quarry::machine::hash::hexadecimal;
use quarry::model::config::ModelConfig;
use quarry::model::package::directory::ModelDirectory;
use quarry::model::precision::{GraphVariant, Precision};
use quarry::model::runtime::device::{Device, DeviceChoice};
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::runtime::session::{Session, SessionOptions};
use quarry::model::weights::checkpoint::Checkpoint;
use quarry::task::entity_schema::{EntitySchema, EntityType, Nesting};
use quarry::task::kind::Kind;
use quarry::task::tensor::{Tensors, Values};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::encoders::made_up;
use crate::support::{Dir, project};

/// The text and the questions of the figures.
const TEXT: &str = "Ada L. Byron left Zürich, and Nyon (1843).";
const TYPES: [(&str, &str); 2] = [("PER", "Who left?"), ("LOC", "Where to?")];

const OPTIONS: SessionOptions = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };

/// All that the script computed.
#[derive(Deserialize)]
struct Fixture {
    tokenizers: Vec<Value>,
    checkpoints: BTreeMap<String, Figures>,
}

/// The figures of a checkpoint.
#[derive(Deserialize)]
struct Figures {
    config: Value,
    /// A hash of the names and shapes that `save_pretrained` writes.
    tensors: String,
    /// The index of its tokenizer.json.
    tokenizer: usize,
    /// The text alone, or with each question.
    rows: Vec<Row>,
    /// The logits of the last two tokens of an input of 512.
    #[serde(default)]
    longest: Vec<f32>,
}

#[derive(Deserialize)]
struct Row {
    input_ids: Vec<i64>,
    /// Of each token one logit per tag, or start and end.
    logits: Vec<f32>,
    /// Type, start and end in characters, score.
    mentions: Vec<(String, usize, usize, f32)>,
}

/// A checkpoint with its name (`roberta tagger`) and its tokenizer.
struct Case {
    name: String,
    figures: Figures,
    tokenizer: Value,
}

fn cases() -> Vec<Case> {
    let path = project().join("tests/fixtures/checkpoints.json");
    let Fixture { tokenizers, checkpoints } = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(checkpoints.len(), 20);
    let case =
        |(name, figures): (String, Figures)| Case { tokenizer: tokenizers[figures.tokenizer].clone(), name, figures };
    checkpoints.into_iter().map(case).collect()
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// Names, shapes and values as `save_pretrained` writes them.
type Saved = Vec<(String, Vec<usize>, Vec<f32>)>;

impl Case {
    fn saved(&self) -> Saved {
        let config = self.figures.config.to_string();
        let config = ModelConfig::parse(Path::new("config.json"), config.as_bytes()).unwrap();
        let architecture = config.encoder.architecture();
        let mut shapes = config.head.head(architecture.hidden_size).shapes();
        for (name, mut shape) in architecture.shapes() {
            let mut name = name.replace("modernbert.", "model.");
            for (module, layers) in architecture.checkpoint.stacked {
                if let Some(number) = layers.iter().position(|layer| name.contains(&format!(".{layer}."))) {
                    name = name.replace(layers[number], module);
                    shape[0] *= layers.len();
                    break;
                }
            }
            shapes.insert(name, shape);
        }
        let saved = shapes.into_iter().map(|(name, shape)| {
            let values = made_up(&name, shape.clone()).values;
            (name, shape, values)
        });
        saved.collect()
    }

    /// Writes the folder, with the weights in files of these formats.
    fn write(&self, dir: &Dir, folder: &str, weights: &Saved, files: &[(&str, Dtype)]) {
        dir.write(&format!("{folder}/config.json"), &self.figures.config.to_string());
        dir.write(&format!("{folder}/tokenizer.json"), &self.tokenizer.to_string());
        let each = weights.len().div_ceil(files.len());
        let mut map = BTreeMap::new();
        for ((file, dtype), part) in files.iter().zip(weights.chunks(each)) {
            let bytes = |values: &[f32]| -> Vec<u8> {
                match dtype {
                    Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
                    _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                }
            };
            let part: Vec<_> = part.iter().map(|(name, shape, values)| (name, shape, bytes(values))).collect();
            let views = part
                .iter()
                .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(*dtype, (*shape).clone(), bytes).unwrap()));
            std::fs::write(dir.path(&format!("{folder}/{file}")), safetensors::serialize(views, None).unwrap())
                .unwrap();
            map.extend(part.iter().map(|(name, ..)| ((*name).clone(), *file)));
        }
        if files.len() > 1 {
            dir.write(&format!("{folder}/model.safetensors.index.json"), &json!({ "weight_map": map }).to_string());
        }
    }

    /// Writes the folder as `save_pretrained` does.
    fn checkpoint(&self, dir: &Dir, folder: &str) {
        self.write(dir, folder, &self.saved(), &[("model.safetensors", Dtype::F32)]);
    }

    fn kind(&self) -> &str {
        self.name.split_once(' ').unwrap().1
    }

    fn is_tagger(&self) -> bool {
        self.kind() == "tagger"
    }

    /// The logits of a graph for one input with token types as its tokenizer gives them.
    fn logits(&self, session: &mut Session, ids: &[i64], types: &[i64]) -> Vec<f32> {
        let shape = [1, ids.len()];
        let given = Tensors::default()
            .with("input_ids", &shape, Values::I64(ids.to_vec()))
            .with("attention_mask", &shape, Values::I64(vec![1; ids.len()]))
            .with("token_type_ids", &shape, Values::I64(types.to_vec()));
        let outputs = session.run(&[&given, &Tensors::default()]).unwrap();
        let of = |name: &str| match outputs.get(name).map(|tensor| &tensor.values) {
            Some(Values::F32(values)) => values.clone(),
            other => panic!("{name} is {other:?}"),
        };
        if self.is_tagger() {
            return of("logits");
        }
        of("start_logits").into_iter().zip(of("end_logits")).flat_map(|(start, end)| [start, end]).collect()
    }

    /// The ids and token types of the rows, by the tokenizer's own post-processor.
    fn encoded(&self) -> Vec<[Vec<i64>; 2]> {
        let tokenizer = tokenizers::Tokenizer::from_bytes(self.tokenizer.to_string()).unwrap();
        let encodings = if self.is_tagger() {
            vec![tokenizer.encode(TEXT, true).unwrap()]
        } else {
            TYPES.map(|(_, question)| tokenizer.encode((question, TEXT), true).unwrap()).into()
        };
        let integers = |values: &[u32]| values.iter().map(|&value| i64::from(value)).collect();
        encodings.iter().map(|one| [integers(one.get_ids()), integers(one.get_type_ids())]).collect()
    }

    /// The largest difference of a logit from the figures.
    fn difference(
        &self,
        library: &Library,
        model: &ModelDirectory,
        variant: GraphVariant,
        precision: Precision,
    ) -> f32 {
        let kind = if self.is_tagger() { Kind::Tagger } else { Kind::Qa };
        let mut session =
            Session::open(library, &cache::derive(model, variant, precision).unwrap(), kind, OPTIONS).unwrap();
        let mut most: f32 = 0.0;
        for (row, [ids, types]) in self.figures.rows.iter().zip(self.encoded()) {
            assert_eq!(ids, row.input_ids, "{}", self.name);
            most = most.max(largest(&self.logits(&mut session, &ids, &types), &row.logits));
        }
        most
    }

    /// Fails unless mentions are those of the figures.
    fn check_mentions(&self, found: &[(String, usize, usize, f32)]) {
        let sorted = |mentions: Vec<(String, usize, usize, f32)>| {
            let mut mentions: Vec<_> =
                mentions.into_iter().map(|(name, start, end, score)| ((start, end, name), score)).collect();
            mentions.sort_by(|one, other| one.0.cmp(&other.0));
            mentions
        };
        let found = sorted(found.to_vec());
        let expected = sorted(self.figures.rows.iter().flat_map(|row| row.mentions.clone()).collect());
        let places = |mentions: &[((usize, usize, String), f32)]| -> Vec<_> {
            mentions.iter().map(|(place, _)| place.clone()).collect()
        };
        assert_eq!(places(&found), places(&expected), "{}", self.name);
        for ((place, found), (_, expected)) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{}, {place:?}: {found}, expected {expected}", self.name);
        }
    }
}

/// The mentions that a model finds in the text, in fp32.
fn mentions(folder: &Path) -> Vec<(String, usize, usize, f32)> {
    let types = TYPES.map(|(name, question)| EntityType::new(name, question)).to_vec();
    let schema = EntitySchema { nested: Nesting::Nested, types };
    let settings = ExtractionSettings {
        threshold: Some(1e-6),
        precision: Some(Precision::Fp32),
        ..ExtractionSettings::new(folder, schema)
    };
    let (spec, model) = settings.resolve().unwrap();
    let runtime =
        RuntimeSettings { device: DeviceChoice::Named(Device::Cpu.into()), library: None, batch_tokens: Some(512) };
    let found = Extractor::with_model(&spec, &model, &runtime).unwrap().extract(TEXT).unwrap();
    let found =
        found.iter().map(|one| (TYPES[one.entity_type].0.to_owned(), one.chars.start, one.chars.end, one.score));
    found.collect()
}

fn largest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|value| value.is_finite()));
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
}

#[test]
fn names_and_shapes_are_those_that_transformers_saves() {
    for case in cases() {
        let lines: Vec<String> = case.saved().iter().map(|(name, shape, _)| format!("{name} {shape:?}\n")).collect();
        let lines = lines.concat();
        let hash = hexadecimal(&Sha256::digest(&lines));
        assert_eq!(hash, case.figures.tensors, "{}\n{lines}", case.name);
    }
}

#[test]
fn a_folder_gives_the_logits_and_mentions_of_transformers() {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let mut count = 0;
    for case in cases() {
        let dir = Dir::new();
        case.checkpoint(&dir, "checkpoint");
        let model = ModelDirectory::open(&dir.path("checkpoint")).unwrap();
        for variant in GraphVariant::ALL {
            let logits = case.difference(&library, &model, variant, Precision::Fp32);
            eprintln!("{}, {variant}: largest difference of a logit {logits:.7}", case.name);
            assert!(logits < 1e-4, "{}, {variant}: {logits}", case.name);
        }
        let found = mentions(&dir.path("checkpoint"));
        count += found.len();
        case.check_mentions(&found);
    }
    assert!(count > 60, "{count}");
}

/// What the report says of a graph: the largest and mean difference of a logit, mentions, gained, lost, the difference in a batch.
fn reported(report: &str, graph: &str) -> [f32; 6] {
    let line = report.lines().find(|line| line.contains(graph)).unwrap_or_else(|| panic!("no {graph}: {report}"));
    let numbers: Vec<f32> = line.split_whitespace().filter_map(|cell| cell.replace(' ', "").parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|numbers| panic!("{numbers:?}: {line}"))
}

/// Logits are about 1. What a precision may cost is what it costs the encoders of `tests/encoders.rs`.
#[test]
fn an_exported_model_passes_its_parity_report_and_gives_the_same_mentions() {
    for case in cases() {
        let dir = Dir::new();
        case.checkpoint(&dir, "checkpoint");
        let report = dir.quarry(&["export", "checkpoint", "model"]).ended(0).stdout();
        for (graph, most) in
            [("fused-fp32", 1e-4), ("portable-fp16", 0.02), ("portable-int8", 0.1), ("fused-int8", 0.1)]
        {
            let [logit, mean, _, gained, lost, batch] = reported(&report, graph);
            eprintln!(
                "{}, {graph}: largest {logit}, mean {mean}, gained {gained}, lost {lost}, batch {batch}",
                case.name
            );
            assert!(logit < most && mean < most / 4.0 && batch < most, "{}, {graph}: {report}", case.name);
            assert!(graph != "fused-fp32" || gained + lost < 0.5, "{}: {report}", case.name);
        }
        let direct = Checkpoint::open(&dir.path("checkpoint"), None).unwrap();
        let model = ModelDirectory::open(&dir.path("model")).unwrap();
        assert_eq!(model.weights().unwrap(), direct.weights, "{}", case.name);
        assert_eq!(serde_json::to_value(model.manifest().kind).unwrap(), case.kind(), "{}", case.name);
        case.check_mentions(&mentions(&dir.path("model")));
        // A model directory is a checkpoint too.
        let again = Checkpoint::open(&dir.path("model"), None).unwrap();
        assert_eq!((again.weights, again.config), (direct.weights, direct.config), "{}", case.name);
    }
}

#[test]
fn bfloat16_and_shards_are_read() {
    for case in cases() {
        let dir = Dir::new();
        let saved = case.saved();
        case.write(&dir, "whole", &saved, &[("model.safetensors", Dtype::F32)]);
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        case.write(&dir, "shards", &saved, &shards.map(|file| (file, Dtype::F32)));
        let mut short = self::case(&case.name);
        short.figures.config["torch_dtype"] = "bfloat16".into();
        short.write(&dir, "short", &saved, &shards.map(|file| (file, Dtype::BF16)));
        let open = |folder: &str| ModelDirectory::open(&dir.path(folder)).unwrap().weights().unwrap();
        let whole = open("whole");
        assert_eq!(open("shards"), whole, "{}", case.name);
        for ((tensor, found), (_, exact)) in open("short").iter().zip(whole.iter()) {
            let rounded = exact.values.iter().map(|&value| bf16::from_f32(value).to_f32());
            assert!(found.values.iter().copied().eq(rounded), "{}: {tensor}", case.name);
        }
    }
}

/// XLM-RoBERTa has 514 positions, of which inputs can use 512.
#[test]
fn the_longest_input_reaches_the_last_position() {
    let (dir, case) = (Dir::new(), case("xlm-roberta tagger"));
    case.checkpoint(&dir, "checkpoint");
    let model = ModelDirectory::open(&dir.path("checkpoint")).unwrap();
    assert_eq!(
        (case.figures.config["max_position_embeddings"].as_u64(), model.manifest().max_length),
        (Some(514), 512)
    );
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let graph = cache::derive(&model, GraphVariant::Fused, Precision::Fp32).unwrap();
    let mut session = Session::open(&library, &graph, Kind::Tagger, OPTIONS).unwrap();
    let ids: Vec<i64> = (0..512).map(|number| number % 40 + 5).collect();
    let logits = case.logits(&mut session, &ids, &vec![0; ids.len()]);
    let last = &logits[logits.len() - case.figures.longest.len()..];
    assert!(!last.is_empty() && largest(last, &case.figures.longest) < 1e-4, "{last:?}");
    // A document that is longer is read in windows that fit.
    let text = "Ada left Zürich. ".repeat(200);
    let job = json!(["try", text, "--model", "checkpoint", "--device", "cpu", "--json"]);
    let arguments: Vec<&str> = job.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    dir.quarry(&arguments).ended(0);
}

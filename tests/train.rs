//! Training as a user does it: a small nested task is trained, run and scored, and the trained network equals the exported graph.

mod calibration;
mod formats;
mod kinds;
mod lineage;
mod numbers;
mod output;
mod stops;
mod wrong;

use std::fmt::Write;

use quarry::machine::hash::sha256_of;
use quarry::model::encoder::config::EncoderConfig;
use quarry::model::precision::{GraphVariant, Precision};
use quarry::task::batch::Batch;
use quarry::task::mrc::decode::Logits;
use quarry::train::network::heads::Network;
use quarry::train::training_loop::dev::logits;

use crate::hub::{self, Hub};
use crate::parity::Model;
use crate::second_architecture;
use crate::support::{Dir, Finished, Random};

const CITIES: [&str; 6] = ["alma", "brest", "cadiz", "delft", "essen", "fano"];
const PEOPLE: [&str; 5] = ["otto", "ida", "karl", "nora", "vera"];
const OTHER: [&str; 8] = ["the", "saw", "old", "river", "and", "left", "in", "met"];
const KINDS: [&str; 2] = ["university", "bank"];

/// Sentences in which "university of CITY" is an organization and its city a place; cities and people stand alone too.
fn corpus(dir: &Dir, name: &str, documents: usize, seed: u64) {
    let mut random = Random(seed);
    let mut pick = |words: &[&'static str]| words[(random.next() % words.len() as u64) as usize];
    let (mut rows, mut gold) = (String::new(), String::new());
    for number in 0..documents {
        let mut text = String::new();
        for _ in 0..3 {
            let mut mention = |text: &mut String, words: &str, entity_type: &str, whole: usize| {
                text.push_str(words);
                let end = text.len();
                writeln!(
                    gold,
                    r#"{{"doc_id": "{name}{number}", "entity_type": "{entity_type}", "start_char": {}, "end_char": {end}}}"#,
                    end - whole
                )
                .unwrap();
            };
            match pick(&["org", "city", "person"]) {
                "org" => {
                    let (kind, city) = (pick(&KINDS), pick(&CITIES));
                    text += &format!("{kind} of ");
                    mention(&mut text, city, "LOC", city.len());
                    mention(&mut text, "", "ORG", kind.len() + 4 + city.len());
                }
                "city" => {
                    let city = pick(&CITIES);
                    mention(&mut text, city, "LOC", city.len());
                }
                _ => {
                    let person = pick(&PEOPLE);
                    mention(&mut text, person, "PER", person.len());
                }
            }
            text += &format!(" {} {} ", pick(&OTHER), pick(&OTHER));
        }
        writeln!(rows, r#"{{"doc_id": "{name}{number}", "text": "{}"}}"#, text.trim_end()).unwrap();
    }
    dir.write(&format!("{name}/documents.jsonl"), &rows);
    dir.write(&format!("{name}/gold.jsonl"), &gold);
}

/// An encoder small enough to be trained from random weights, and the schema.
fn encoder(dir: &Dir) {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "where", "which", "organization", "of"];
    let words: Vec<&str> = special.into_iter().chain(CITIES).chain(PEOPLE).chain(OTHER).chain(KINDS).collect();
    dir.write("encoder/vocab.txt", &(words.join("\n") + "\n"));
    let config = r#"{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "vocab_size": 40, "max_position_embeddings": 64}"#;
    dir.write("encoder/config.json", config);
    let architecture = EncoderConfig::parse(config.as_bytes()).unwrap().architecture();
    let mut random = Random(5);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = architecture
        .shapes()
        .into_iter()
        .map(|(name, shape)| {
            let value = |random: &mut Random| match name.as_str() {
                norm if norm.ends_with("LayerNorm.weight") => 1.0_f32,
                bias if bias.ends_with("bias") => 0.0,
                _ => (random.unit() as f32 - 0.5) * 0.3,
            };
            let count: usize = shape.iter().product();
            let bytes = (0..count).flat_map(|_| value(&mut random).to_le_bytes()).collect();
            (name.trim_start_matches("bert.").to_owned(), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(dir.path("encoder/model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let question = |name: &str, words: &str| format!("[[type]]\nname = '{name}'\nquestion = '{words}'\n");
    let types = [question("PER", "who"), question("LOC", "where"), question("ORG", "which organization")].concat();
    dir.write("types.toml", &format!("nested = true\n{types}"));
}

fn job(dir: &Dir, name: &str, recipe: &str) -> String {
    let text = format!(
        "[data]\ntrain = 'train'\ndev = 'dev'\ntest = 'test'\n[entities]\nschema = 'types.toml'\n[encoder]\npath = 'encoder'\n[output]\npath = '{name}'\n\
         [recipe]\nmax_length = 48\nlr = 3e-3\nbatch_size = 16\nwarmup_steps = 20\nclassifier_intermediate_hidden_size = 32\nweight_span = 1.0\n\
         gradient_clip_val = 1.0\nseed = 1\ndevice = 'cpu'\nthreads = 1\n{recipe}\n"
    );
    dir.write(&format!("{name}.toml"), &text);
    format!("{name}.toml")
}

fn task() -> Dir {
    let dir = Dir::new();
    encoder(&dir);
    corpus(&dir, "train", 600, 1);
    corpus(&dir, "dev", 250, 2);
    corpus(&dir, "test", 60, 3);
    dir
}

fn train(dir: &Dir, job: &str) -> Finished {
    dir.quarry(&["train", job])
}

/// Replaces `from` by `to` in a file.
fn replace(dir: &Dir, name: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(dir.path(name)).unwrap();
    dir.write(name, &text.replace(from, to));
}

/// The manifest of a trained model.
fn manifest(dir: &Dir, name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(dir.path(name).join("quarry.json")).unwrap()).unwrap()
}

/// The lines of its metrics.
fn metrics(dir: &Dir, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.path(&format!("{name}/training/metrics.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The loss of each step.
fn losses(dir: &Dir, name: &str) -> Vec<f64> {
    let lines = metrics(dir, name);
    let steps = lines.iter().filter(|line| line["kind"] == "step");
    steps.map(|line| line["loss"].as_f64().unwrap_or(f64::NAN)).collect()
}

/// How many steps its metrics have, also while it is trained.
fn steps(dir: &Dir, name: &str) -> usize {
    let text = std::fs::read_to_string(dir.path(&format!("{name}/training/metrics.jsonl"))).unwrap_or_default();
    text.matches("\"kind\":\"step\"").count()
}

/// Runs the model `model` over a split into the store `store`; the F1 it has there.
fn run(dir: &Dir, split: &str) -> f64 {
    let text = format!(
        "[input]\ndocuments = '{split}/documents.jsonl'\nid = 'doc_id'\ntext = 'text'\ngold = '{split}/gold.jsonl'\n[entities]\n\
         schema = 'types.toml'\n[model]\npath = 'model'\ndevice = 'cpu'\nprecision = 'fp32'\n[store]\npath = 'store'\n"
    );
    dir.write("run.toml", &text);
    dir.quarry(&["run", "run.toml"]).ended(0);
    dir.rows("store", "metrics", "value", "WHERE name = 'f1' AND scope = 'all'")[0].parse().unwrap()
}

#[test]
fn a_nested_task_is_learned_run_and_scored() {
    let dir = task();
    // Every word is between white space, so the task is the same with either kind of words.
    let model = job(&dir, "model", "max_epochs = 30\npatience = 5\nwords = 'whitespace'");
    replace(&dir, &model, "[output]", "[output]\nwindow_tokens = 32");
    let trained = train(&dir, &model).ended(0);
    assert!(trained.stdout().contains("F1 on test"), "{}", trained.stdout());
    let manifest = manifest(&dir, "model");
    assert_eq!(manifest["scores"]["test"]["f1"], 1.0, "{}", trained.stdout());
    assert_eq!(manifest["types"][2]["question"], "which organization");
    assert_eq!(manifest["window_tokens"], 32);
    assert_eq!(manifest["words"], "whitespace");
    // The main job has the same score as training.
    assert!(run(&dir, "test") > 1.0 - 1e-9);
    let served: serde_json::Value = serde_json::from_str(&dir.rows("store", "runs", "job", "")[0]).unwrap();
    assert_eq!(served["spec"]["words"], "whitespace");
    let nested = dir.rows("store", "current_entities", "count(*) > 30", "WHERE entity_type = 'ORG'");
    assert_eq!(nested, ["true"]);
    for file in ["training/metrics.jsonl", "training/curves.svg"] {
        assert!(dir.path(&format!("model/{file}")).exists(), "{file}");
    }
    assert!(!dir.path("model/training/position.json").exists(), "what only an unfinished training needs is gone");
    let again = train(&dir, "model.toml").ended(1);
    assert!(again.error().contains("it holds a finished model"), "{}", again.error());
}

#[test]
fn all_types_are_learned_in_one_pass() {
    let dir = task();
    let recipe = "max_epochs = 30\npatience = 5\ninteraction = 'late'\nboundary_size = 32\nwords = 'whitespace'";
    train(&dir, &job(&dir, "model", recipe)).ended(0);
    let manifest = manifest(&dir, "model");
    assert_eq!(manifest["kind"], "late");
    let f1 = manifest["scores"]["test"]["f1"].as_f64().unwrap();
    assert!(f1 > 0.99, "{f1}");
    // The main job finds the same with the two graphs of the model, and so does a written copy.
    assert!((run(&dir, "test") - f1).abs() < 1e-9);
    // Also with the vectors of the questions from the cache.
    std::fs::remove_dir_all(dir.path("store")).unwrap();
    assert!((run(&dir, "test") - f1).abs() < 1e-9);
    let parity = dir.quarry(&["export", "model", "copy", "--graph", "fused-int8"]).ended(0).stdout();
    assert!(parity.contains("model-questions-fused.onnx") && parity.contains("fused-int8"), "{parity}");
}

#[test]
fn capitals_are_learned_by_an_encoder_that_folds_them() {
    let dir = Dir::new();
    encoder(&dir);
    for (split, documents) in [("train", 300), ("dev", 60), ("test", 60)] {
        let (mut rows, mut gold) = (String::new(), String::new());
        for number in 0..documents {
            // Only the capital says who is a person.
            let word = if number % 3 == 0 { "otto" } else { "Otto" };
            writeln!(rows, r#"{{"doc_id": "{number}", "text": "the old {word} left"}}"#).unwrap();
            if word == "Otto" {
                writeln!(gold, r#"{{"doc_id": "{number}", "entity_type": "PER", "start_char": 8, "end_char": 12}}"#)
                    .unwrap();
            }
        }
        dir.write(&format!("{split}/documents.jsonl"), &rows);
        dir.write(&format!("{split}/gold.jsonl"), &gold);
    }
    let f1 = |name: &str, shapes: bool| {
        let path = job(&dir, name, "max_epochs = 12\nhead_lr = 6e-3");
        replace(&dir, &path, "path = 'encoder'", &format!("path = 'encoder'\nword_shape = {shapes}"));
        train(&dir, &path).ended(0);
        let config = std::fs::read_to_string(dir.path(name).join("config.json")).unwrap();
        assert_eq!(config.contains("\"word_shape_size\": 8"), shapes);
        manifest(&dir, name)["scores"]["test"]["f1"].as_f64().unwrap()
    };
    assert!(f1("folded", false) < 0.9);
    let told = f1("told", true);
    assert!(told > 1.0 - 1e-9, "{told}");
}

#[test]
fn a_corpus_with_fewer_types_gets_fewer_queries() {
    let dir = task();
    corpus(&dir, "people", 300, 4);
    replace(&dir, "people/gold.jsonl", "\"PER\"", "\"human\"");
    let gold = std::fs::read_to_string(dir.path("people/gold.jsonl")).unwrap();
    let with = |extra: &str| {
        let recipe = format!("max_epochs = 1\n[[data.extra]]\npath = 'people'\n{extra}");
        train(&dir, &job(&dir, "model", &recipe))
    };
    let text = with("types = ['SHIP']").ended(1).error();
    assert!(text.contains("the schema has no type `SHIP`") && text.contains("data.extra.types"), "{text}");
    let text = with("").ended(1).error();
    assert!(text.contains("the schema has no question for human"), "{text}");
    with("types = ['PER']\nrename = { human = 'PER' }").ended(0);
    let manifest = manifest(&dir, "model");
    let (learned, people) = (&manifest["recipe"]["train"], gold.matches("\"human\"").count());
    let own = std::fs::read_to_string(dir.path("train/gold.jsonl")).unwrap().lines().count();
    assert_eq!(learned["documents"], 900);
    // Three questions of each of the first, one of each of the others.
    assert_eq!(learned["queries"], 600 * 3 + 300);
    assert!(people > 200, "{people}");
    assert_eq!(learned["mentions"], own + people);
}

#[test]
fn the_main_corpus_can_have_fewer_types_than_the_schema() {
    let dir = task();
    // Its organizations are labelled, but not by these annotators.
    let of = |types: &str| {
        let path = job(&dir, "model", "max_epochs = 30\npatience = 5\ninteraction = 'late'\nboundary_size = 32");
        replace(&dir, &path, "[entities]", &format!("types = {types}\n[[data.extra]]\npath = 'train'\n[entities]"));
        train(&dir, &path)
    };
    let text = of("['PER', 'SHIP']").ended(1).error();
    assert!(text.contains("the schema has no type `SHIP`") && text.contains("data.types"), "{text}");
    of("['PER']").ended(0);
    let manifest = manifest(&dir, "model");
    let (scores, own) = (&manifest["scores"]["test"], manifest["recipe"]["train"]["mentions"].as_u64().unwrap());
    assert!(scores["f1"].as_f64().unwrap() > 0.99, "{scores}");
    let gold = |label: &str| {
        let rows = std::fs::read_to_string(dir.path("train/gold.jsonl")).unwrap();
        rows.matches(&format!("\"{label}\"")).count() as u64
    };
    // Of the first corpus only persons, of the second all.
    assert_eq!(own, 2 * gold("PER") + gold("ORG") + gold("LOC"));
    let types: Vec<&str> =
        manifest["types"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(types.len(), 3, "{types:?}");
}

#[test]
fn an_encoder_of_the_hub_is_fetched_once() {
    let dir = task();
    let hub = Hub::start(&dir.path("encoder"));
    let of = |name: &str| {
        let job = job(&dir, name, "max_epochs = 1");
        replace(&dir, &job, "path = 'encoder'", "path = 'hf://some-one/tiny'");
        job
    };
    let said = hub::run(&dir, &hub.endpoint, &["train", &of("first")]).ended(0).stderr();
    assert!(said.contains("fetching hf://some-one/tiny from the hub, once"), "{said}");
    // The metadata of the model, and its three files.
    assert_eq!(hub.asked(), 4);
    hub::run(&dir, "http://127.0.0.1:9", &["train", &of("second")]).ended(0);
    let weights = |name: &str| sha256_of(&dir.path(name).join("model.safetensors")).unwrap();
    assert_eq!(weights("first"), weights("second"));
    let encoder = manifest(&dir, "second")["encoder"].clone();
    assert_eq!(encoder, "hf://some-one/tiny@0123456789abcdef0123456789abcdef01234567", "its name with the commit");
    let left: Vec<String> = std::fs::read_dir(dir.path("first/training"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "metrics.jsonl" && name != "curves.svg")
        .collect();
    assert!(left.is_empty(), "what only an unfinished training needs: {left:?}");
}

/// The network in training and the ONNX graph give the same logits, for every activation of the head.
#[test]
fn the_network_and_the_graph_give_the_same_logits() {
    let dir = Dir::new();
    let path = dir.small_model();
    for activation in ["gelu", "relu", "tanh"] {
        let file = path.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config["classifier_act_func"] = activation.into();
        std::fs::write(&file, config.to_string()).unwrap();
        // The manifest knows the file as it was.
        let _ = std::fs::remove_file(path.join("quarry.json"));
        let model = Model::open(&path);
        let inputs = model
            .queries("Ms Lovelace went from London to the University of Turin with Mr Babbage, in 1840. She wrote.");
        let batch = Batch { inputs };
        let weights = model.directory.weights().unwrap();
        let network = Network::new(&weights, tch::Kind::Float, tch::Device::Cpu, &batch.tensors()).unwrap();
        let trained = logits(&network, &batch).unwrap();
        for form in [GraphVariant::Portable, GraphVariant::Fused] {
            let served = model.session(form, Precision::Fp32).logits(&batch, 0.0).unwrap();
            let largest = largest_difference(&trained, &served);
            assert!(largest < 1e-3, "{activation} {form}: {largest}");
        }
    }
}

/// The same for an encoder that is not a BERT.
#[test]
fn the_network_and_the_graph_of_another_architecture_give_the_same_logits() {
    let (weights, batch) = (second_architecture::weights(), second_architecture::batch());
    let network = Network::new(&weights, tch::Kind::Float, tch::Device::Cpu, &batch.tensors()).unwrap();
    let trained = logits(&network, &batch).unwrap();
    for form in [GraphVariant::Portable, GraphVariant::Fused] {
        let largest = largest_difference(&trained, &second_architecture::served(&weights, form, &batch));
        eprintln!("{form}: largest difference {largest}");
        assert!(largest < 1e-4, "{form}: {largest}");
    }
}

/// The largest difference between the logits of a network and those of a graph, which must have the same candidates.
fn largest_difference(trained: &Logits, served: &Logits) -> f32 {
    assert_eq!(trained.span_index, served.span_index);
    assert!(trained.span_index.len() > 3, "{}", trained.span_index.len());
    let pairs = [(&trained.start, &served.start), (&trained.end, &served.end), (&trained.span, &served.span)];
    let differences = pairs.into_iter().flat_map(|(trained, served)| {
        assert_eq!(trained.len(), served.len());
        trained.iter().zip(served).map(|(trained, served)| (trained - served).abs())
    });
    differences.fold(0.0, f32::max)
}

#[test]
fn two_devices_train_like_one_that_accumulates() {
    let dir = task();
    let recipe = "max_epochs = 1\nbert_dropout = 0.0\nmrc_dropout = 0.0\n";
    train(&dir, &job(&dir, "one", &format!("{recipe}accumulate_grad_batches = 2"))).ended(0);
    let two = job(&dir, "two", recipe);
    replace(&dir, &two, "device = 'cpu'", "device = 'cpu,cpu'");
    train(&dir, &two).ended(0);
    let (one, two) = (losses(&dir, "one"), losses(&dir, "two"));
    assert!(one.len() > 20 && one.len() == two.len(), "{} {}", one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() < 1e-3, "{one} {two}");
    }
}

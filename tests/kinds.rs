//! Taggers and models that answer questions: checkpoints of Hugging Face's library give the logits that the library computes, run from their
//! folder, as model directories and as ready graphs, and what does not fit is refused before work.

use std::collections::BTreeMap;
use std::path::Path;

use quarry::graph;
use quarry::graph::cache;
use quarry::model::config::ModelConfig;
use quarry::model::package::directory::ModelDirectory;
use quarry::model::precision::{GraphVariant, Precision};
use quarry::model::runtime::device::Device;
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::runtime::session::{Session, SessionOptions};
use quarry::task::batch::Batch;
use quarry::task::input::{ModelInput, Questions};
use quarry::task::kind::Kind;
use quarry::task::tensor::{Tensor, Tensors, Values};
use quarry::text::document::Document;
use quarry::text::window::{WindowRule, Windows};
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Dir, project};

/// What `tests/fixtures/kinds.py` computed with `transformers`.
#[derive(Deserialize)]
struct Reference {
    config: Value,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    context: String,
    input_ids: Vec<i64>,
    /// Of each token one logit per tag, or start and end.
    logits: Vec<Vec<f32>>,
}

fn reference(kind: &str) -> Reference {
    let text = std::fs::read(project().join("tests/fixtures/kinds.json")).unwrap();
    serde_json::from_slice::<BTreeMap<String, Reference>>(&text).unwrap().remove(kind).unwrap()
}

/// The weights that belong to a configuration, by the rule of `tests/fixtures/kinds.py`.
fn tensors(config: &Value) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let config = ModelConfig::parse(Path::new("config.json"), config.to_string().as_bytes()).unwrap();
    let architecture = config.encoder.architecture();
    let mut shapes = architecture.shapes();
    shapes.extend(config.head.head(architecture.hidden_size).shapes());
    let mut state = 1_u64;
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let shift = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let value = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((((state >> 40) as f64) / f64::from(1_u32 << 24) - 0.5) * 0.8 + shift) as f32
        };
        let bytes = (0..shape.iter().product()).map(value).flat_map(f32::to_le_bytes).collect();
        (name, shape, bytes)
    });
    tensors.collect()
}

fn written(path: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A folder as `save_pretrained` leaves it, with a vocabulary for a tokenizer.
fn checkpoint(dir: &Dir, name: &str, config: &Value, weights: &Value) {
    dir.write(&format!("{name}/config.json"), &config.to_string());
    std::fs::copy(project().join("tests/fixtures/tiny-checkpoint/vocab.txt"), dir.path(&format!("{name}/vocab.txt")))
        .unwrap();
    written(&dir.path(&format!("{name}/model.safetensors")), &tensors(weights));
}

fn session(graph: &Path, kind: Kind) -> Session {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };
    Session::open(&library, graph, kind, options).unwrap()
}

/// The inputs for the texts of the figures, in their order, in one batch.
fn batch(model: &ModelDirectory, reference: &Reference) -> Batch {
    let tokenizer = model.tokenizer(None).unwrap();
    let schema = quarry::job::read_schema(&project().join("tests/fixtures/tiny-checkpoint/schema.toml")).unwrap();
    let questions = Questions::new(&schema, &tokenizer).unwrap();
    let mut texts: Vec<&str> = reference.answers.iter().map(|answer| answer.context.as_str()).collect();
    texts.dedup();
    let mut inputs = Vec::new();
    for text in texts {
        for window in Windows::new(&tokenizer, WindowRule { tokens: 30, overlap: 0, words: None }, Document { text }) {
            let window = window.unwrap();
            match model.manifest().kind {
                Kind::Tagger => inputs.push(ModelInput::alone(0, &window, tokenizer.frame())),
                _ => inputs.extend(questions.ask(0, &window)),
            }
        }
    }
    Batch { inputs }
}

/// The largest difference between the logits of a graph and those of the figures.
fn difference(graph: &Path, model: &ModelDirectory, reference: &Reference) -> f32 {
    let (batch, kind) = (batch(model, reference), model.manifest().kind);
    let given = kind.tensors(&batch);
    let outputs = session(graph, kind).run(&[&given, &Tensors::default()]).unwrap();
    let of = |name: &str| match outputs.get(name) {
        Some(Tensor { values: Values::F32(values), .. }) => values.clone(),
        other => panic!("{name} is {other:?}"),
    };
    let columns: Vec<Vec<f32>> = if kind == Kind::Tagger {
        let logits = of("logits");
        let count = logits.len() / batch.padded_tokens();
        (0..count).map(|tag| logits.iter().skip(tag).step_by(count).copied().collect()).collect()
    } else {
        vec![of("start_logits"), of("end_logits")]
    };
    assert_eq!(batch.inputs.len(), reference.answers.len());
    let ids = batch.tensors().input_ids;
    let mut largest = 0_f32;
    for (row, answer) in reference.answers.iter().enumerate() {
        let base = row * batch.tokens();
        assert_eq!(ids[base..base + batch.inputs[row].len()], answer.input_ids, "{}", answer.context);
        for (token, logits) in answer.logits.iter().enumerate() {
            assert_eq!(logits.len(), columns.len());
            for (column, logit) in columns.iter().zip(logits) {
                largest = largest.max((column[base + token] - logit).abs());
            }
        }
    }
    largest
}

#[test]
fn checkpoints_give_the_logits_of_transformers() {
    for kind in ["tagger", "qa"] {
        let (dir, reference) = (Dir::new(), reference(kind));
        checkpoint(&dir, "model", &reference.config, &reference.config);
        let model = ModelDirectory::open(&dir.path("model")).unwrap();
        for (variant, precision) in GraphVariant::ALL.into_iter().flat_map(|variant| {
            [Precision::Fp32, Precision::Fp16, Precision::Int8].map(|precision| (variant, precision))
        }) {
            let graph = cache::derive(&model, variant, precision).unwrap();
            let largest = difference(&graph, &model, &reference);
            eprintln!("{kind}, {variant}, {precision}: largest difference of a logit {largest}");
            let limit = if precision == Precision::Fp32 { 1e-4 } else { 0.2 };
            assert!(largest < limit, "{kind}, {variant}, {precision}: {largest}");
        }
    }
}

#[test]
fn shards_and_ready_graphs_give_the_same_logits() {
    for kind in ["tagger", "qa"] {
        let (dir, reference) = (Dir::new(), reference(kind));
        checkpoint(&dir, "model", &reference.config, &reference.config);
        let whole = ModelDirectory::open(&dir.path("model")).unwrap();
        // The same weights in two shards.
        let all = tensors(&reference.config);
        let (first, second) = all.split_at(all.len() / 2);
        let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let map: BTreeMap<&str, &str> = [first, second]
            .into_iter()
            .zip(names)
            .flat_map(|(part, file)| part.iter().map(move |(name, ..)| (name.as_str(), file)))
            .collect();
        dir.write("shards/model.safetensors.index.json", &json!({ "weight_map": map }).to_string());
        for (part, file) in [first, second].into_iter().zip(names) {
            written(&dir.path(&format!("shards/{file}")), part);
        }
        for file in ["config.json", "vocab.txt"] {
            std::fs::copy(dir.path(&format!("model/{file}")), dir.path(&format!("shards/{file}"))).unwrap();
        }
        let shards = ModelDirectory::open(&dir.path("shards")).unwrap();
        assert_eq!(shards.weights().unwrap(), whole.weights().unwrap());
        assert_ne!(shards.model_hash(), whole.model_hash());
        std::fs::write(dir.path(&format!("shards/{}", names[1])), "other").unwrap();
        assert_ne!(ModelDirectory::open(&dir.path("shards")).unwrap().model_hash(), shards.model_hash());
        // A graph without weights, on an encoder that cannot be exported.
        let mut config = reference.config.clone();
        config["model_type"] = "unheard-of".into();
        dir.write("ready/config.json", &config.to_string());
        std::fs::copy(dir.path("model/vocab.txt"), dir.path("ready/vocab.txt")).unwrap();
        let graph = graph::write(&whole.weights().unwrap(), GraphVariant::Portable, Precision::Fp32).unwrap();
        std::fs::write(dir.path("ready/model.onnx"), graph).unwrap();
        let ready = ModelDirectory::open(&dir.path("ready")).unwrap();
        assert_eq!(ready.manifest().kind, whole.manifest().kind);
        let largest = difference(&ready.foreign_graph().unwrap(), &ready, &reference);
        assert!(largest < 1e-4, "{kind}: {largest}");
    }
}

/// A job over two documents with the model in a folder.
fn job(dir: &Dir, model: &str, store: &str, types: &[&str]) -> String {
    dir.documents(
        "docs.parquet",
        &[
            (Some("a"), Some("Captain Anna Bergmann left the port of Ternoy in 1892. Olsen wrote a letter.")),
            (Some("b"), Some("The Northern Star was lost at night by the lighthouse of Old Bay.")),
        ],
    );
    let one = |name: &&str| format!("[[type]]\nname = '{name}'\nquestion = 'Who is named?'\n");
    dir.write("types.toml", &format!("nested = true\n{}", types.iter().map(one).collect::<String>()));
    let sections = format!(
        "[entities]\nschema = '{}'\n[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n[extract]\nthreshold = 0.000001\n\
         null_threshold = -20.0\nbatch_tokens = 512\n",
        dir.path("types.toml").display(),
        dir.path(model).display()
    );
    dir.job("docs.parquet", store, &sections).display().to_string()
}

#[test]
fn a_checkpoint_runs_from_its_folder_and_as_a_model_directory() {
    for (kind, note) in
        [("tagger", "is read as a tagger: its tags are BIO"), ("qa", "is read as a model that answers questions")]
    {
        let (dir, reference) = (Dir::new(), reference(kind));
        checkpoint(&dir, "checkpoint", &reference.config, &reference.config);
        let types = ["SAILOR", "SHIP", "PORT"];
        let path = job(&dir, "checkpoint", "store", &types);
        let doctor = dir.quarry(&["doctor", "--within", "60", &path]).ended(0).stdout();
        assert!(doctor.contains(kind), "{doctor}");
        let explained: Value =
            serde_json::from_str(&dir.quarry(&["run", &path, "--explain", "--json"]).ended(0).stdout()).unwrap();
        let inputs = if kind == "tagger" { 2 } else { 6 };
        assert_eq!(
            (explained["windows"].as_u64(), explained["queries"].as_u64()),
            (Some(2), Some(inputs)),
            "{explained}"
        );
        let said = dir.quarry(&["run", &path]).ended(0).stderr();
        assert!(said.contains(note), "{said}");
        let columns = "doc_id, entity_type, start_char, end_char, text, round(score, 4)";
        let direct = dir.rows("store", "current_entities", columns, "");
        assert!(!direct.is_empty(), "no mention to compare");
        let exported = dir.quarry(&["export", "checkpoint", "exported", "--weights", "fp32"]).ended(0);
        assert!(exported.stderr().contains(note), "{}", exported.stderr());
        assert!(exported.stdout().contains("fused-int8"), "{}", exported.stdout());
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(dir.path("exported/quarry.json")).unwrap()).unwrap();
        assert_eq!(manifest["kind"], kind);
        let named = manifest["types"].as_array().unwrap().len();
        assert_eq!(named, if kind == "tagger" { 3 } else { 0 });
        let said = dir.quarry(&["run", &job(&dir, "exported", "second", &types)]).ended(0).stderr();
        assert!(!said.contains("is read as"), "{said}");
        assert_eq!(dir.rows("second", "current_entities", columns, ""), direct);
        // Fewer types: the same rows of these.
        dir.quarry(&["run", &job(&dir, "exported", "third", &["SHIP"])]).ended(0);
        let ships: Vec<String> = direct.iter().filter(|row| row.contains("|SHIP|")).cloned().collect();
        assert_eq!(dir.rows("third", "current_entities", columns, ""), ships);
        dir.write("gold.jsonl", r#"{"doc_id": "a", "entity_type": "SHIP", "start_char": 8, "end_char": 12}"#);
        let measured = dir.quarry(&["evaluate", "store", "gold.jsonl", "--json"]).ended(0).stdout();
        assert!(measured.contains("\"SHIP\""), "{measured}");
        dir.quarry(&["report", "store", "page.html"]).ended(0);
        let mut arguments = vec!["try", "Olsen left the port", "--model", "exported", "--device", "cpu", "--json"];
        if kind == "qa" {
            arguments.extend(["--types", "ship"]);
        }
        let tried = dir.quarry(&arguments).ended(0).stdout();
        serde_json::from_str::<Value>(&tried).unwrap();
    }
}

#[test]
fn question_answering_gives_a_document_one_mention_of_a_type() {
    let (dir, reference) = (Dir::new(), reference("qa"));
    checkpoint(&dir, "checkpoint", &reference.config, &reference.config);
    let path = job(&dir, "checkpoint", "store", &["SAILOR", "SHIP", "PORT"]);
    let text = std::fs::read_to_string(&path).unwrap();
    // Several windows.
    std::fs::write(&path, text.replace("batch_tokens", "window_tokens = 8\noverlap_tokens = 2\nbatch_tokens")).unwrap();
    dir.quarry(&["run", &path]).ended(0);
    let many = dir.rows("store", "documents", "max(n_windows) > 1", "");
    assert_eq!(many, ["true"]);
    let rows = dir.rows("store", "current_entities", "doc_id, entity_type", "");
    let mut distinct = rows.clone();
    distinct.sort();
    distinct.dedup();
    assert!(!rows.is_empty() && distinct.len() == rows.len(), "{rows:?}");
}

#[test]
fn a_type_that_a_tagger_does_not_know_is_refused_with_those_it_knows() {
    let (dir, reference) = (Dir::new(), reference("tagger"));
    checkpoint(&dir, "checkpoint", &reference.config, &reference.config);
    let path = job(&dir, "checkpoint", "store", &["SHIP", "RIVER"]);
    for command in [
        &["run", &path][..],
        &["run", &path, "--explain"],
        &["try", "Olsen", "--model", "checkpoint", "--types", "river"],
    ] {
        let text = dir.quarry(command).ended(1).error();
        assert!(text.to_lowercase().contains("the model is a tagger, which has no tag for the type `river`"), "{text}");
        assert!(text.contains("it knows SAILOR, SHIP, PORT"), "{text}");
    }
    let doctor = dir.quarry(&["doctor", "--within", "60", &path]).stdout();
    assert!(doctor.contains("has no tag for the type `RIVER`"), "{doctor}");
    assert!(!dir.path("store").exists());
}

#[test]
fn what_does_not_fit_is_refused_before_work() {
    let (tagger, qa) = (reference("tagger").config, reference("qa").config);
    let with = |config: &Value, key: &str, value: Value| {
        let mut config = config.clone();
        if value.is_null() {
            config.as_object_mut().unwrap().remove(key);
        } else {
            config[key] = value;
        }
        config
    };
    let numbered = json!({"0": "LABEL_0", "1": "LABEL_1"});
    let five = json!({"0": "O", "1": "B-SAILOR", "2": "I-SAILOR", "3": "B-SHIP", "4": "I-SHIP"});
    for (config, weights, reason, hint) in [
        (
            with(&tagger, "id2label", numbered),
            &tagger,
            "`id2label` is no scheme of tags: `LABEL_0` names no type",
            "the tags are O, and for each type B- and I- (BIO)",
        ),
        (with(&tagger, "id2label", Value::Null), &tagger, "`id2label` is missing", "the tags are O"),
        (
            with(&tagger, "num_labels", 5.into()),
            &tagger,
            "`num_labels` is 5, but `id2label` has 7 tags",
            "the tags are O",
        ),
        (
            with(&tagger, "id2label", json!({"0": "O", "2": "B-SHIP"})),
            &tagger,
            "`id2label` has 2 tags, but no tag 1",
            "the tags are O",
        ),
        (
            with(&tagger, "id2label", five),
            &tagger,
            "`id2label` in config.json names 5 tags, but `classifier.weight` has 7 rows",
            "name the tags in the order of the rows",
        ),
        (
            tagger.clone(),
            &qa,
            "config.json says `BertForTokenClassification` as `architectures`, but its head is `qa_outputs`",
            "say `architectures`: [\"BertForQuestionAnswering\"]",
        ),
        (
            qa.clone(),
            &tagger,
            "config.json says `BertForQuestionAnswering` as `architectures`, but its head is `classifier`",
            "say `architectures`: [\"BertForTokenClassification\"]",
        ),
        (
            with(&tagger, "architectures", Value::Null),
            &tagger,
            "it has no heads that find mentions, only others: `classifier.bias`",
            "`architectures` in config.json",
        ),
    ] {
        let dir = Dir::new();
        checkpoint(&dir, "checkpoint", &config, weights);
        let path = job(&dir, "checkpoint", "store", &["SHIP"]);
        for command in [&["export", "checkpoint", "out"][..], &["run", &path]] {
            let text = dir.quarry(command).ended(1).error();
            assert!(text.contains(reason), "{text}");
            assert!(text.contains(hint) && text.contains("checkpoint"), "{text}");
        }
        assert!(!dir.path("store").exists() && !dir.path("out").exists());
    }
}

#[test]
fn a_description_that_contradicts_its_configuration_is_refused() {
    let (dir, reference) = (Dir::new(), reference("qa"));
    checkpoint(&dir, "model", &reference.config, &reference.config);
    dir.write("model/quarry.json", r#"{"kind": "tagger", "encoder": "", "max_length": 48}"#);
    let text = dir.quarry(&["try", "Olsen", "--model", "model"]).ended(1).error();
    assert!(text.contains("quarry.json says the kind \"tagger\", but config.json has a head of kind \"qa\""), "{text}");
    // A ready graph whose tags nobody names, and one with other tags than its configuration.
    let tagger = self::reference("tagger");
    checkpoint(&dir, "tagger", &tagger.config, &tagger.config);
    let weights = ModelDirectory::open(&dir.path("tagger")).unwrap().weights().unwrap();
    let graph = graph::write(&weights, GraphVariant::Portable, Precision::Fp32).unwrap();
    std::fs::create_dir_all(dir.path("ready")).unwrap();
    std::fs::write(dir.path("ready/model.onnx"), graph).unwrap();
    std::fs::copy(dir.path("tagger/vocab.txt"), dir.path("ready/vocab.txt")).unwrap();
    let path = job(&dir, "ready", "store", &["SHIP"]);
    dir.write("ready/quarry.json", r#"{"kind": "tagger", "encoder": "", "max_length": 48}"#);
    let text = dir.quarry(&["run", &path]).ended(1).error();
    assert!(text.contains("there is no config.json that names its tags"), "{text}");
    let mut config = tagger.config;
    config["id2label"] = json!({"0": "O", "1": "SHIP"});
    dir.write("ready/config.json", &config.to_string());
    let text = dir.quarry(&["run", &path]).ended(1).error();
    assert!(text.contains("7]") && text.contains("the model's configuration names 2 tags"), "{text}");
    assert!(text.contains("name the tags in the order of the graph's logits"), "{text}");
    // A graph of the other kind.
    dir.write("ready/config.json", &reference.config.to_string());
    dir.write("ready/quarry.json", r#"{"kind": "qa", "encoder": "", "max_length": 48}"#);
    let text = dir.quarry(&["run", &path]).ended(1).error();
    assert!(
        text.contains("the graph has no output `start_logits`, but `logits`") && text.contains("kind = \"tagger\""),
        "{text}"
    );
}

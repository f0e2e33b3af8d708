//! Training as a user does it: a small nested task is learned, run and scored; a killed training ends in the same weights.

use std::fmt::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use quarry::model::config::BertConfig;
use quarry::model::flavour::{Flavour, Form};
use quarry::model::hash::sha256_of;
use quarry::mrc::batch::QueryBatch;
use quarry::train::dev::logits;
use quarry::train::network::Network;

use crate::hub::{self, Hub};
use crate::parity::Model;
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

/// An encoder small enough to be trained from nothing, and the schema.
fn encoder(dir: &Dir) {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "where", "which", "organization", "of"];
    let words: Vec<&str> = special.into_iter().chain(CITIES).chain(PEOPLE).chain(OTHER).chain(KINDS).collect();
    dir.write("encoder/vocab.txt", &(words.join("\n") + "\n"));
    let config = r#"{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "vocab_size": 40, "max_position_embeddings": 64}"#;
    dir.write("encoder/config.json", config);
    let config: BertConfig = serde_json::from_str(config).unwrap();
    let mut random = Random(5);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = quarry::model::weights::expected_shapes(&config, false)
        .into_iter()
        .filter(|(name, _)| name.starts_with("bert."))
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

#[test]
fn a_nested_task_is_learned_run_and_scored() {
    let dir = task();
    let trained = train(&dir, &job(&dir, "model", "max_epochs = 30\npatience = 5")).ended(0);
    assert!(trained.stdout().contains("F1 on test"), "{}", trained.stdout());
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path("model/quarry.json")).unwrap()).unwrap();
    assert_eq!(manifest["scores"]["test"]["f1"], 1.0, "{}", trained.stdout());
    assert_eq!(manifest["types"][2]["question"], "which organization");
    // What training scored, the main job scores too.
    dir.write(
        "run.toml",
        "[input]\ndocuments = 'test/documents.jsonl'\nid = 'doc_id'\ntext = 'text'\ngold = 'test/gold.jsonl'\n[entities]\nschema = 'types.toml'\n\
         [model]\npath = 'model'\ndevice = 'cpu'\nflavour = 'fp32'\n[extract]\nwindow_tokens = 32\noverlap_tokens = 8\n[store]\npath = 'store'\n",
    );
    dir.quarry(&["run", "run.toml"]).ended(0);
    assert_eq!(dir.rows("store", "metrics", "value", "WHERE name = 'f1' AND scope = 'all'"), ["1.0"]);
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
fn a_source_that_labels_less_is_asked_less() {
    let dir = task();
    corpus(&dir, "people", 300, 4);
    let gold = std::fs::read_to_string(dir.path("people/gold.jsonl")).unwrap().replace("\"PER\"", "\"human\"");
    dir.write("people/gold.jsonl", &gold);
    let with = |extra: &str| {
        let job = job(&dir, "model", "max_epochs = 1");
        let text = std::fs::read_to_string(dir.path(&job)).unwrap();
        dir.write(&job, &format!("{text}[[data.extra]]\npath = 'people'\n{extra}\n"));
        train(&dir, &job)
    };
    let text = with("types = ['SHIP']").ended(1).error();
    assert!(text.contains("the schema has no type `SHIP`") && text.contains("data.extra.types"), "{text}");
    let text = with("").ended(1).error();
    assert!(text.contains("the schema has no question for human"), "{text}");
    with("types = ['PER']\nrename = { human = 'PER' }").ended(0);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path("model/quarry.json")).unwrap()).unwrap();
    let (learned, people) = (&manifest["recipe"]["train"], gold.matches("\"human\"").count());
    let own = std::fs::read_to_string(dir.path("train/gold.jsonl")).unwrap().lines().count();
    assert_eq!(learned["documents"], 900);
    // Three questions of each of the first, one of each of the others.
    assert_eq!(learned["queries"], 600 * 3 + 300);
    assert!(people > 200, "{people}");
    assert_eq!(learned["mentions"], own + people);
}

#[test]
fn an_encoder_of_the_hub_is_fetched_once() {
    let dir = task();
    let hub = Hub::start(&dir.path("encoder"));
    let of = |name: &str| {
        let job = job(&dir, name, "max_epochs = 1");
        let text = std::fs::read_to_string(dir.path(&job)).unwrap();
        dir.write(&job, &text.replace("path = 'encoder'", "path = 'hf://some-one/tiny'"));
        job
    };
    let said = hub::run(&dir, &hub.endpoint, &["train", &of("first")]).ended(0).stderr();
    assert!(said.contains("fetching hf://some-one/tiny from the hub, once"), "{said}");
    // What the hub says of the model, and its three files.
    assert_eq!(hub.asked(), 4);
    hub::run(&dir, "http://127.0.0.1:9", &["train", &of("second")]).ended(0);
    let weights = |name: &str| sha256_of(&dir.path(name).join("model.safetensors")).unwrap();
    assert_eq!(weights("first"), weights("second"));
    let left: Vec<String> = std::fs::read_dir(dir.path("first/training"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "metrics.jsonl" && name != "curves.svg")
        .collect();
    assert!(left.is_empty(), "what only an unfinished training needs: {left:?}");
}

/// What is trained is what is served: the network in training and the ONNX graph answer alike, whatever the head's activation.
#[test]
fn the_network_answers_as_the_graph_does() {
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
        let queries = model
            .queries("Ms Lovelace went from London to the University of Turin with Mr Babbage, in 1840. She wrote.");
        let batch = QueryBatch { queries };
        let (weights, config) = model.directory.weights().unwrap();
        let network = Network::new(&weights, &config, tch::Kind::Float, tch::Device::Cpu);
        let trained = logits(&network, &batch).unwrap();
        for form in [Form::Portable, Form::Fused] {
            let served = model.session(form, Flavour::Fp32).answer(&batch, 0.0).unwrap();
            assert_eq!(trained.span_index, served.span_index, "{activation} {form}");
            assert!(trained.span_index.len() > 3, "{}", trained.span_index.len());
            let pairs = [(&trained.start, &served.start), (&trained.end, &served.end), (&trained.span, &served.span)];
            for (trained, served) in pairs {
                let largest = trained.iter().zip(served).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest < 1e-3, "{activation} {form}: {largest}");
            }
        }
    }
}

#[test]
fn a_killed_training_ends_in_the_same_weights() {
    let dir = task();
    // Dropout is on: its random numbers must be drawn again as they were.
    let recipe = "max_epochs = 6\nval_check_interval = 0.34\naccumulate_grad_batches = 2\nspan_loss_candidates = 'pred_gold_random'";
    train(&dir, &job(&dir, "whole", recipe)).ended(0);
    let wanted = sha256_of(&dir.path("whole/model.safetensors")).unwrap();
    let killed_job = job(&dir, "killed", recipe);
    let (mut kills, mut wait) = (0, 400);
    loop {
        let mut child =
            dir.command(&["train", &killed_job]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() > Duration::from_millis(wait) => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // Longer each time, so that it ends however slow the machine is.
        wait += 150;
        assert!(kills < 200, "it never ends");
    }
    eprintln!("killed {kills} times");
    assert_eq!(sha256_of(&dir.path("killed/model.safetensors")).unwrap(), wanted);
    let lines = |name: &str| {
        let text = std::fs::read_to_string(dir.path(&format!("{name}/training/metrics.jsonl"))).unwrap();
        text.lines().filter(|line| line.contains("\"step\"")).count()
    };
    assert_eq!(lines("killed"), lines("whole"), "no step is there twice or missing");
}

#[test]
fn two_devices_learn_as_one_that_accumulates() {
    let dir = task();
    let recipe = "max_epochs = 1\nbert_dropout = 0.0\nmrc_dropout = 0.0\n";
    train(&dir, &job(&dir, "one", &format!("{recipe}accumulate_grad_batches = 2"))).ended(0);
    let two = job(&dir, "two", recipe);
    let text = std::fs::read_to_string(dir.path(&two)).unwrap().replace("device = 'cpu'", "device = 'cpu,cpu'");
    std::fs::write(dir.path(&two), text).unwrap();
    train(&dir, &two).ended(0);
    let losses = |name: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(dir.path(&format!("{name}/training/metrics.jsonl"))).unwrap();
        let values = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        values.filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (one, two) = (losses("one"), losses("two"));
    assert!(one.len() > 20 && one.len() == two.len(), "{} {}", one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() < 1e-3, "{one} {two}");
    }
}

#[test]
fn a_signal_saves_and_stops() {
    let dir = task();
    let path = job(&dir, "model", "max_epochs = 2000");
    let stopped = dir.stopped_after(Duration::from_secs(3), &["train", &path]).ended(143);
    assert!(stopped.error().contains("stopped by SIGTERM"), "{}", stopped.error());
    assert!(dir.path("model/training/position.json").exists());
    let other = job(&dir, "model", "max_epochs = 2000\nweight_decay = 0.5");
    let refused = train(&dir, &other).ended(1);
    assert!(refused.error().contains("unfinished training with other settings"), "{}", refused.error());
    // What is done about a loss that is no number changes nothing that was learned, nor does a test split more or less.
    let same = job(&dir, "model", "max_epochs = 2000\nnot_a_number = 'skip'");
    let text = std::fs::read_to_string(dir.path(&same)).unwrap().replace("test = 'test'\n", "");
    dir.write(&same, &text);
    let again = dir.stopped_after(Duration::from_secs(3), &["train", &same]).ended(143);
    assert!(again.stderr().contains("going on after step"), "{}", again.stderr());
    // One training at a time.
    let mut first = dir.command(&["train", &same]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = || {
        let lock = std::fs::File::open(dir.path("model/training/lock")).unwrap();
        matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
    };
    while !held() {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = train(&dir, &same).ended(1).error();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.contains("another training is under way there"), "{second}");
}

#[test]
fn bad_input_is_named() {
    let dir = task();
    let error = |dir: &Dir, recipe: &str| {
        let path = job(dir, "model", recipe);
        train(dir, &path).ended(1).error()
    };
    // A loss that is no number ends the training, or is left out and counted.
    let hot = |name: &str, more: &str| {
        let path = job(&dir, name, &format!("max_epochs = 3\noptimizer = 'sgd'\n{more}"));
        let text = std::fs::read_to_string(dir.path(&path)).unwrap().replace("lr = 3e-3", "lr = 1e30");
        std::fs::write(dir.path(&path), text.replace("gradient_clip_val = 1.0", "gradient_clip_val = 0.0")).unwrap();
        train(&dir, &path)
    };
    let text = hot("hot", "").ended(1).error();
    assert!(text.contains("cannot go on training: the loss of step"), "{text}");
    let summary = hot("skipping", "not_a_number = 'skip'").ended(0).stdout();
    assert!(summary.contains("steps left out"), "{summary}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "SHIP", "start_char": 0, "end_char": 3}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("the schema has no question for SHIP"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "PER", "start_char": 0, "end_char": 3000}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("a mention of `dev0` ends at 3000, but its text has"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "nowhere", "entity_type": "PER", "start_char": 0, "end_char": 3}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("1 of its doc_ids are no documents with a text, such as `nowhere`"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "PER", "start_char": 0, "end_char": 1}"#);
    let path = job(&dir, "model", "max_epochs = 1");
    let text =
        std::fs::read_to_string(dir.path(&path)).unwrap().replace("[entities]", "misaligned = 'stop'\n[entities]");
    std::fs::write(dir.path(&path), text).unwrap();
    let text = train(&dir, &path).ended(1).error();
    assert!(text.contains("1 of 1 gold mentions begin or end inside a word"), "{text}");
    dir.write("dev/documents.jsonl", "{\"doc_id\": \"dev0\", \"text\": null}\n");
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("there is no document with a text"), "{text}");
}

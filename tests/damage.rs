//! Model directories with random damage: a clear error or a working model; never a panic, never a hang.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use quarry::error::{Error, Result};
use quarry::model::package::directory::ModelDirectory;
use quarry::task::entity_schema::{EntitySchema, EntityType, Nesting};
use quarry::task::input::Questions;
use quarry::text::document::Document;
use quarry::text::tokens::{Tokenizer, Words};
use quarry::text::window::{WindowRule, Windows};
use serde_json::{Value, json};

use crate::support::{Dir, Random, project};

/// Longer than this is a hang: on an idle machine it takes milliseconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// Opens a model directory and prepares it as a run does before the first session.
fn load(root: &Path) -> Result<()> {
    let model = ModelDirectory::open(root)?;
    let path = model.tokenizer_path();
    let json = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
    for words in [Words::Tokenizer, Words::Whitespace] {
        let tokenizer = Tokenizer::from_bytes(&json, &path, words)?;
        let person = EntityType::new("PER", "Which people are named?");
        let schema = EntitySchema { nested: Nesting::Flat, types: vec![person] };
        let refused = |reject: quarry::text::document::Reject| Error::Tokenizer {
            path: path.clone(),
            source: reject.detail.into(),
        };
        Questions::new(&schema, &tokenizer).map_err(refused)?;
        let text = "Ada met Mr. Babbage in Zürich 🎉 , x".repeat(3) + " 👩\u{200d}👧 e\u{301}\u{0} [SEP]\n\n½ İstanbul";
        let rule = WindowRule { tokens: 16, overlap: 4, words: None };
        for window in Windows::new(&tokenizer, rule, Document { text: &text }) {
            window.map_err(refused)?;
        }
    }
    if model.config().is_some() {
        model.weights()?;
    }
    Ok(())
}

/// The result, or that there was none in time.
fn outcome(root: &Path) -> std::result::Result<Result<()>, &'static str> {
    let (root, (done, answer)) = (root.to_owned(), mpsc::channel());
    std::thread::spawn(move || done.send(load(&root)));
    match answer.recv_timeout(PATIENCE) {
        Ok(outcome) => Ok(outcome),
        Err(mpsc::RecvTimeoutError::Timeout) => Err("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("it panics"),
    }
}

/// Tokenizers of all the kinds that `tokenizer.json` knows, each of a few words.
fn tokenizers() -> Vec<Value> {
    let text = std::fs::read_to_string(project().join("models/default/tokenizer.json")).unwrap();
    let mut pieces: Value = serde_json::from_str(&text).unwrap();
    let words = pieces["model"]["vocab"].as_object_mut().unwrap();
    words.retain(|_, id| id.as_u64().is_some_and(|id| id < 160));
    let with = |model: Value, normalizer: Value, pre_tokenizer: Value| {
        let mut other = pieces.clone();
        (other["model"], other["normalizer"], other["pre_tokenizer"]) = (model, normalizer, pre_tokenizer);
        other
    };
    let words = json!({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "d": 5, "A": 6, "ad": 7});
    let pairs: Vec<Value> =
        words.as_object().unwrap().keys().map(|word| json!([word, -1.5 - word.len() as f64])).collect();
    vec![
        pieces.clone(),
        with(
            json!({"type": "BPE", "vocab": words, "merges": ["a d"], "unk_token": "[UNK]", "dropout": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false}),
            json!({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"},
                {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}]}),
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        ),
        with(
            json!({"type": "Unigram", "unk_id": 1, "vocab": pairs, "byte_fallback": false}),
            json!({"type": "NFKC"}),
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        ),
        with(
            json!({"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}),
            Value::Null,
            json!({"type": "Split", "pattern": {"Regex": "\\s+|\\w+"}, "behavior": "Isolated", "invert": false}),
        ),
    ]
}

/// Changes one value somewhere in `value`.
fn change(value: &mut Value, random: &mut Random) {
    let junk = |random: &mut Random| {
        let values = [
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(16_777_216),
            json!(3),
            json!(0.5),
            json!(""),
            json!("x"),
            json!("[UNK]"),
            json!("Isolated"),
            json!("("),
            json!([]),
            json!({}),
            json!([null]),
            json!({"type": "x"}),
        ];
        values[random.next() as usize % values.len()].clone()
    };
    let stop = random.next().is_multiple_of(3);
    match value {
        Value::Object(fields) if !stop && !fields.is_empty() => {
            let key = fields.keys().nth(random.next() as usize % fields.len()).unwrap().clone();
            match random.next() % 8 {
                0 => drop(fields.remove(&key)),
                1 => {
                    let moved = fields.remove(&key).unwrap();
                    fields.insert("other".into(), moved);
                }
                _ => change(&mut fields[&key], random),
            }
        }
        Value::Array(elements) if !stop && !elements.is_empty() => {
            let at = random.next() as usize % elements.len();
            match random.next() % 8 {
                0 => drop(elements.remove(at)),
                1 => elements.push(elements[at].clone()),
                _ => change(&mut elements[at], random),
            }
        }
        _ => *value = junk(random),
    }
}

/// A file's bytes, changed at a place or two.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.next() % 2 {
        let at = random.next() as usize % (bytes.len() + 1);
        match random.next() % 4 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => bytes.splice(at..at, std::iter::repeat_n(b"[{\"0-e"[random.next() as usize % 6], 400)).for_each(drop),
            _ if at < bytes.len() => bytes[at] = random.next() as u8,
            _ => bytes.clear(),
        }
    }
    bytes
}

/// A model directory that loads, and the content of its files of text.
fn sound(dir: &Dir) -> (std::path::PathBuf, Vec<(&'static str, Value)>) {
    let root = dir.tiny_model();
    let read = |name: &'static str| (name, serde_json::from_slice(&std::fs::read(root.join(name)).unwrap()).unwrap());
    let files = ["config.json", "quarry.json", "tokenizer.json"].map(read).to_vec();
    (root, files)
}

fn holds(root: &Path, what: &str) -> std::result::Result<(), TestCaseError> {
    match outcome(root) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            prop_assert!(!error.to_string().is_empty() && error.hint().is_some(), "{}: {:?}", what, error);
            prop_assert_eq!(error.exit_code(), 1, "{}: {:?}", what, error);
            Ok(())
        }
        Err(failure) => Err(TestCaseError::fail(format!("{failure}: {what}"))),
    }
}

#[test]
fn a_damaged_model_directory_is_an_error_or_works() {
    let dir = Dir::new();
    let (root, files) = sound(&dir);
    outcome(&root).unwrap().unwrap();
    proptest!(ProptestConfig::with_cases(400), |(seed: u64, file in 0_usize..3, as_text: bool)| {
        let mut random = Random(seed);
        let (name, mut value) = files[file].clone();
        let bytes = if as_text {
            damaged(&serde_json::to_vec(&value).unwrap(), &mut random)
        } else {
            change(&mut value, &mut random);
            serde_json::to_vec(&value).unwrap()
        };
        // Mismatched hashes would be reported before the file is parsed.
        for (other, value) in &files {
            let mut value = value.clone();
            if *other == "quarry.json" {
                value["files"] = json!({});
            }
            std::fs::write(root.join(other), serde_json::to_vec(&value).unwrap()).unwrap();
        }
        std::fs::write(root.join(name), &bytes).unwrap();
        holds(&root, &format!("{name}: {}", String::from_utf8_lossy(&bytes)))?;
    });
}

#[test]
fn a_damaged_tokenizer_of_any_kind_is_an_error_or_works() {
    let dir = Dir::new();
    let (root, _) = sound(&dir);
    std::fs::remove_file(root.join("quarry.json")).unwrap();
    let kinds = tokenizers();
    for (number, kind) in kinds.iter().enumerate() {
        std::fs::write(root.join("tokenizer.json"), serde_json::to_vec(kind).unwrap()).unwrap();
        outcome(&root).unwrap().unwrap_or_else(|error| panic!("{number}: {error:?}"));
    }
    // A prefix longer than the word parts from which the library subtracts it.
    let mut bpe = kinds.iter().find(|kind| kind["model"]["type"] == "BPE").unwrap().clone();
    bpe["model"]["continuing_subword_prefix"] = json!("[UNK]");
    std::fs::write(root.join("tokenizer.json"), serde_json::to_vec(&bpe).unwrap()).unwrap();
    holds(&root, "a long prefix").unwrap();
    proptest!(ProptestConfig::with_cases(800), |(seed: u64, kind in 0..kinds.len())| {
        let mut random = Random(seed);
        let mut tokenizer = kinds[kind].clone();
        for _ in 0..=random.next() % 3 {
            change(&mut tokenizer, &mut random);
        }
        std::fs::write(root.join("tokenizer.json"), serde_json::to_vec(&tokenizer).unwrap()).unwrap();
        holds(&root, &tokenizer.to_string())?;
    });
}

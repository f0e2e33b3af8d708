//! Folders that do not fit: an error before work that names the file, the key and the way out.

use std::path::Path;

use serde_json::{Value, json};

use super::{exported, figures};
use crate::support::Dir;

/// What a run with the model `name` says; it leaves no store behind.
fn refusal(dir: &Dir, name: &str, sections: &str) -> String {
    dir.documents("docs.parquet", &[(Some("a"), Some(figures().texts[0].as_str()))]);
    let sections = format!(
        "[entities]\nnested = false\n[[entities.type]]\nname = 'person'\n[model]\npath = '{}'\ndevice = 'cpu'\n{sections}",
        dir.path(name).display()
    );
    let job = dir.job("docs.parquet", "store", &sections).display().to_string();
    let said = dir.quarry(&["run", &job]).ended(1).error();
    assert!(!dir.path("store").exists());
    said
}

fn check(what: &str, said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{what}: `{part}` is not in {said}");
    }
}

/// Changes a JSON file of a model.
fn change(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

#[test]
fn a_configuration_of_another_kind_of_model_is_named() {
    let cases = [
        (
            "labels_encoder",
            json!("BAAI/bge-small"),
            "`labels_encoder` is set: the model has a second encoder for types",
        ),
        ("labels_decoder", json!("gpt2"), "`labels_decoder` is set: the model writes its types with a decoder"),
        ("relations_layer", json!("biaffine"), "`relations_layer` is set: the model also finds relations"),
        ("model_type", json!("gliner_streaming_span"), "`model_type` is `gliner_streaming_span`"),
        ("precomputed_prompts_mode", json!(true), "`precomputed_prompts_mode` is true"),
        ("words_splitter_type", json!("spacy"), "`words_splitter_type` is `spacy`, which is not supported"),
        ("subtoken_pooling", json!("sum"), "`subtoken_pooling` is `sum`"),
        (
            "span_mode",
            json!("markerV1"),
            "`span_mode` is `markerV1`, whose scores depend on the other texts of a batch",
        ),
        ("max_len", json!(0), "`max_len` is 0, which is not from 1 to 65536"),
        ("max_width", json!(5000), "`max_width` is 5000, which is not from 1 to 1024"),
        ("class_token_index", json!(7), "`class_token_index` is 7, but `<<ENT>>` has the id"),
        ("ent_token", json!("[ENT]"), "it has no special token `[ENT]`, which is `ent_token` in gliner_config.json"),
        (
            "sep_token",
            json!("<<END>>"),
            "it has no special token `<<END>>`, which is `sep_token` in gliner_config.json",
        ),
        ("vocab_size", json!(10), "but its weights have only 10 word vectors"),
    ];
    let dir = Dir::new();
    for (key, value, expected) in cases {
        let config = exported(&dir, "span").join("gliner_config.json");
        change(&config, |config| config[key] = value);
        let file =
            if ["ent_token", "sep_token", "vocab_size"].contains(&key) { "tokenizer" } else { "gliner_config.json" };
        check(key, &refusal(&dir, "span", ""), &[expected, file, "hint: "]);
    }
    std::fs::write(exported(&dir, "span").join("gliner_config.json"), "{").unwrap();
    check("damaged", &refusal(&dir, "span", ""), &["cannot parse `DIR/span/gliner_config.json`", "export_to_onnx"]);
}

#[test]
fn a_missing_file_is_named_with_the_way_to_it() {
    let dir = Dir::new();
    let model = exported(&dir, "span");
    std::fs::remove_file(model.join("model.onnx")).unwrap();
    let expected = "there is gliner_config.json, but none of model.onnx, onnx/model.onnx, model_quantized.onnx";
    check(
        "graph",
        &refusal(&dir, "span", ""),
        &[expected, "GLiNER.from_pretrained(\"MODEL\").export_to_onnx(\"FOLDER\")"],
    );
    let model = exported(&dir, "span");
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    let expected = "there is gliner_config.json, but no tokenizer.json";
    check("tokenizer", &refusal(&dir, "span", ""), &[expected, "transformer_tokenizer.save_pretrained"]);
}

#[test]
fn a_graph_of_the_other_mode_is_named() {
    let dir = Dir::new();
    let (span, token) = (exported(&dir, "span"), exported(&dir, "token"));
    let graphs = [&span, &token].map(|model| std::fs::read(model.join("model.onnx")).unwrap());
    std::fs::write(span.join("model.onnx"), &graphs[1]).unwrap();
    std::fs::write(token.join("model.onnx"), &graphs[0]).unwrap();
    let expected = "gliner_config.json says `span_mode` \"markerV0\", but the graph has no input `span_idx`";
    check("span", &refusal(&dir, "span", ""), &["model.onnx", expected, "hint: export the model"]);
    let expected = "gliner_config.json says `span_mode` \"token_level\", but the graph has an unknown input `span_idx`";
    check("token", &refusal(&dir, "token", ""), &["model.onnx", expected, "hint: export the model"]);
    // Another width than that of the graph shows when it runs on a trial.
    exported(&dir, "span");
    change(&span.join("gliner_config.json"), |config| config["max_width"] = 3.into());
    let said = refusal(&dir, "span", "");
    check("width", &said, &["model.onnx", "it cannot answer a trial text", "its `max_width`"]);
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let dir = Dir::new();
    let model = exported(&dir, "token-bert");
    let said = refusal(&dir, "token-bert", "[extract]\nwords = 'whitespace'");
    check("words", &said, &["extract.words", "which has words of its own"]);
    let said = refusal(&dir, "token-bert", "[extract]\nwindow_tokens = 70");
    check("window", &said, &["extract.window_tokens", "and the model takes 72", "hint: the maximum is "]);
    change(&model.join("tokenizer_config.json"), |config| config["model_max_length"] = 12.into());
    let said = refusal(&dir, "token-bert", "");
    check("question", &said, &["question", "that of type `person` leaves", "of the model's 12 tokens"]);
    dir.write("token-bert/quarry.json", r#"{"kind": "mrc", "encoder": "", "max_length": 512}"#);
    check(
        "kind",
        &refusal(&dir, "token-bert", ""),
        &["quarry.json says the kind \"mrc\", but there is a gliner_config.json"],
    );
}

#[test]
fn such_a_model_cannot_be_exported() {
    let dir = Dir::new();
    exported(&dir, "span");
    let said = dir.quarry(&["export", "span", "out"]).ended(1).error();
    check("export", &said, &["`span`: there is a gliner_config.json", "export_to_onnx"]);
}

#[test]
fn a_model_that_is_asked_questions_needs_them() {
    let dir = Dir::new();
    let model = dir.small_model();
    let said = refusal(&dir, model.file_name().unwrap().to_str().unwrap(), "");
    check("question", &said, &["type.question", "the type `person` has none, and the model is asked questions"]);
}

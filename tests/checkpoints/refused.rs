//! Checkpoints that do not fit, of every architecture: an error before work that names the file, the key and the way out.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::{Case, TEXT, case, cases};
use crate::support::Dir;

const FILE: &[(&str, Dtype)] = &[("model.safetensors", Dtype::F32)];

/// What export and a run say of the folder `checkpoint`; neither leaves anything behind.
fn refusals(dir: &Dir) -> [String; 2] {
    dir.documents("docs.parquet", &[(Some("a"), Some(TEXT))]);
    dir.write("types.toml", "nested = false\n[[type]]\nname = 'PER'\nquestion = 'Who left?'\n");
    let sections = format!(
        "[entities]\nschema = '{}'\n[model]\npath = '{}'\ndevice = 'cpu'\n",
        dir.path("types.toml").display(),
        dir.path("checkpoint").display()
    );
    let job = dir.job("docs.parquet", "store", &sections).display().to_string();
    let said =
        [&["export", "checkpoint", "out"][..], &["run", &job]].map(|command| dir.quarry(command).ended(1).error());
    assert!(!dir.path("store").exists() && !dir.path("out").exists());
    said
}

fn check(dir: &Dir, name: &str, parts: &[&str]) {
    for said in refusals(dir) {
        for part in parts.iter().chain(&["checkpoint"]) {
            assert!(said.contains(part), "{name}: `{part}` is not in {said}");
        }
    }
}

impl Case {
    /// The case with another value of a key in its configuration.
    fn with(mut self, key: &str, value: Value) -> Self {
        self.figures.config[key] = value;
        self
    }
}

/// The other kind of the same architecture.
fn other(of: &Case) -> Case {
    let (architecture, kind) = of.name.split_once(' ').unwrap();
    case(&format!("{architecture} {}", if kind == "tagger" { "qa" } else { "tagger" }))
}

#[test]
fn a_head_of_the_other_kind_is_named() {
    for case in cases() {
        let (dir, other) = (Dir::new(), other(&case));
        case.write(&dir, "checkpoint", &other.saved(), FILE);
        let class = |case: &Case| case.figures.config["architectures"][0].as_str().unwrap().to_owned();
        let layer = if other.is_tagger() || case.name.starts_with("modernbert") { "classifier" } else { "qa_outputs" };
        let parts = [
            "model.safetensors",
            &format!("config.json says `{}` as `architectures`, but its head is `{layer}`", class(&case)),
            &format!("say `architectures`: [\"{}\"] in config.json", class(&other)),
        ];
        check(&dir, &case.name, &parts);
    }
}

#[test]
fn a_class_that_says_nothing_of_the_head_is_named() {
    for case in cases() {
        let dir = Dir::new();
        let class = case.figures.config["architectures"][0].as_str().unwrap().to_owned();
        let (base, _) = class.split_once("For").unwrap();
        let tensor = match (base, case.is_tagger()) {
            ("ModernBert", _) => "head.dense.weight",
            (_, true) => "classifier.bias",
            (_, false) => "qa_outputs.bias",
        };
        let parts = [
            "it has no heads that find mentions, only others",
            &format!("`{tensor}`"),
            &format!("`architectures` in config.json must say so: [\"{base}ForTokenClassification\"]"),
        ];
        let saved = case.saved();
        let name = case.name.clone();
        case.with("architectures", json!([format!("{base}Model")])).write(&dir, "checkpoint", &saved, FILE);
        check(&dir, &name, &parts);
    }
}

#[test]
fn an_unknown_activation_or_architecture_is_named_with_those_that_are_supported() {
    for case in cases().into_iter().filter(Case::is_tagger) {
        let (dir, saved, name) = (Dir::new(), case.saved(), case.name.clone());
        let key = match name.as_str() {
            "distilbert tagger" => "activation",
            "modernbert tagger" => "hidden_activation",
            _ => "hidden_act",
        };
        case.with(key, "silu".into()).write(&dir, "checkpoint", &saved, FILE);
        let expected = format!("`{key}` is `silu`, which is not supported");
        check(&dir, &name, &["config.json", &expected, "gelu (exact), gelu_new", "relu are supported"]);
    }
    let (dir, case) = (Dir::new(), case("bert qa"));
    let saved = case.saved();
    let case = case.with("model_type", "longformer".into());
    case.with("architectures", json!(["LongformerForQuestionAnswering"])).write(&dir, "checkpoint", &saved, FILE);
    let parts =
        ["config.json", "`model_type` is `longformer`, which is not supported", "roberta, xlm-roberta, camembert"];
    check(&dir, "longformer", &parts);
}

#[test]
fn the_layer_before_the_classifier_of_modernbert_needs_its_activation() {
    for name in ["modernbert tagger", "modernbert qa"] {
        let (dir, mut case) = (Dir::new(), case(name));
        let saved = case.saved();
        case.figures.config.as_object_mut().unwrap().remove("classifier_activation");
        case.write(&dir, "checkpoint", &saved, FILE);
        let parts = ["model.safetensors", "it has `head.dense.weight`", "add `classifier_activation` to config.json"];
        check(&dir, name, &parts);
        case.with("classifier_activation", "silu".into()).write(&dir, "checkpoint", &saved, FILE);
        let parts = ["config.json", "`classifier_activation` is `silu`", "gelu (exact), relu and tanh are supported"];
        check(&dir, name, &parts);
    }
}

#[test]
fn a_tokenizer_that_does_not_belong_to_the_weights_is_named() {
    for case in cases().into_iter().filter(Case::is_tagger) {
        let (dir, name) = (Dir::new(), case.name.clone());
        let case = case.with("vocab_size", 20.into());
        case.checkpoint(&dir, "checkpoint");
        check(&dir, &name, &["its tokenizer has id", "its weights have only 20 word vectors", "must belong together"]);
        // The configuration of another model than that of the weights.
        let saved = case.saved();
        case.with("vocab_size", 300.into()).write(&dir, "checkpoint", &saved, FILE);
        let parts =
            ["model.safetensors", "has shape [20, ", "expected [300, ", "`vocab_size` and the widths in config.json"];
        check(&dir, &name, &parts);
    }
}

#[test]
fn a_tokenizer_without_its_fast_form_is_refused_with_the_way_to_it() {
    for (name, files) in [
        ("roberta tagger", &["merges.txt", "vocab.json"][..]),
        ("xlm-roberta qa", &["sentencepiece.bpe.model"]),
        ("camembert tagger", &["sentencepiece.bpe.model"]),
        ("albert qa", &["spiece.model"]),
        ("deberta-v3 tagger", &["spm.model"]),
        // A vocabulary of wordpieces is enough only for an encoder that has them.
        ("roberta qa", &["vocab.txt"]),
        ("modernbert tagger", &[]),
    ] {
        let (dir, case) = (Dir::new(), case(name));
        case.checkpoint(&dir, "checkpoint");
        std::fs::remove_file(dir.path("checkpoint/tokenizer.json")).unwrap();
        for file in files {
            dir.write(&format!("checkpoint/{file}"), "");
        }
        if files.is_empty() {
            check(&dir, name, &["there is no tokenizer.json", "copy the encoder's tokenizer.json beside config.json"]);
            continue;
        }
        let mut parts = vec!["there is no tokenizer.json, only its slow form: ", "save_pretrained"];
        parts.extend(files);
        check(&dir, name, &parts);
    }
}

#[test]
fn labels_that_are_no_scheme_are_refused_for_every_architecture() {
    for case in cases().into_iter().filter(Case::is_tagger) {
        let (dir, saved, name) = (Dir::new(), case.saved(), case.name.clone());
        let labels = json!({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2", "3": "LABEL_3", "4": "LABEL_4"});
        case.with("id2label", labels).write(&dir, "checkpoint", &saved, FILE);
        check(
            &dir,
            &name,
            &["config.json", "`id2label` is no scheme of tags: `LABEL_0` names no type", "B- and I- (BIO)"],
        );
    }
}

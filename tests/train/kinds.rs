//! Taggers and question answering are trained, run and scored as a user does it.

use super::{job, manifest, metrics, replace, run, task, train};
use crate::support::Dir;

/// The task without places: of persons and organizations none overlap.
fn flat() -> Dir {
    let dir = task();
    for split in ["train", "dev", "test"] {
        let name = format!("{split}/gold.jsonl");
        let gold = std::fs::read_to_string(dir.path(&name)).unwrap();
        let kept: Vec<&str> = gold.lines().filter(|line| !line.contains("\"LOC\"")).collect();
        dir.write(&name, &kept.join("\n"));
    }
    dir
}

#[test]
fn a_tagger_is_learned_run_exported_and_continued() {
    let dir = flat();
    for (name, recipe) in [("model", "scheme = 'bioes'\ntagger_head = 'two_layers'"), ("linear", "scheme = 'bio'")] {
        let recipe = format!("max_epochs = 20\npatience = 4\nkind = 'tagger'\nwords = 'whitespace'\n{recipe}");
        train(&dir, &job(&dir, name, &recipe)).ended(0);
        let manifest = manifest(&dir, name);
        assert_eq!((&manifest["kind"], &manifest["nested"]), (&"tagger".into(), &false.into()));
        let f1 = manifest["scores"]["test"]["f1"].as_f64().unwrap();
        assert!(f1 > 0.99, "{name}: {f1}");
    }
    let config = std::fs::read_to_string(dir.path("linear/config.json")).unwrap();
    assert!(config.contains("\"BertForTokenClassification\"") && config.contains("\"2\": \"I-PER\""), "{config}");
    // The main job finds the same.
    let f1 = manifest(&dir, "model")["scores"]["test"]["f1"].as_f64().unwrap();
    assert!((run(&dir, "test") - f1).abs() < 1e-4);
    let parity = dir.quarry(&["export", "model", "copy", "--graph", "fused-int8"]).ended(0).stdout();
    assert!(parity.contains("model-int8-fused.onnx") && parity.contains("portable-fp16"), "{parity}");
    // A kept head has its tags, and a job of another kind does not fit it.
    let kept = job(&dir, "kept", "max_epochs = 1\nkind = 'tagger'\nwords = 'whitespace'");
    replace(&dir, &kept, "path = 'encoder'", "path = 'model'\nheads = 'keep'");
    train(&dir, &kept).ended(0);
    assert!(std::fs::read_to_string(dir.path("kept/config.json")).unwrap().contains("S-PER"));
    assert!(manifest(&dir, "kept")["scores"]["test"]["f1"].as_f64().unwrap() > 0.99);
    let other = job(&dir, "other", "max_epochs = 1");
    replace(&dir, &other, "path = 'encoder'", "path = 'model'\nheads = 'keep'");
    let text = train(&dir, &other).ended(1).error();
    assert!(text.contains("the kept head is of kind tagger, not mrc"), "{text}");
}

#[test]
fn a_tagger_learns_the_longest_of_nested_mentions_and_of_several_corpora_what_each_labels() {
    let dir = task();
    let path = job(&dir, "model", "max_epochs = 20\npatience = 4\nkind = 'tagger'");
    // The second corpus labels only persons: its other words can be anything else.
    replace(&dir, &path, "[entities]", "[[data.extra]]\npath = 'train'\ntypes = ['PER']\n[entities]");
    let said = train(&dir, &path).ended(0).stderr();
    assert!(said.contains("gold mentions overlap a longer one"), "{said}");
    // Cities inside of organizations are missed, everything else is found.
    run(&dir, "test");
    let figure = |name: &str| -> f64 {
        dir.rows("store", "metrics", "value", &format!("WHERE name = '{name}' AND scope = 'all'"))[0].parse().unwrap()
    };
    let gold = std::fs::read_to_string(dir.path("test/gold.jsonl")).unwrap();
    let (all, nested) = (gold.lines().count() as f64, gold.matches("\"ORG\"").count() as f64);
    let (precision, recall) = (figure("precision"), figure("recall"));
    assert!(precision > 0.98, "{precision}");
    assert!(nested > 0.0 && (recall - (1.0 - nested / all)).abs() < 0.02, "{recall}, {nested} of {all} are nested");
}

#[test]
fn question_answering_is_learned_and_run() {
    let dir = flat();
    let said =
        train(&dir, &job(&dir, "model", "max_epochs = 20\npatience = 4\nkind = 'qa'\nwords = 'whitespace'")).ended(0);
    assert!(said.stderr().contains("mentions are not the first of their type in a window"), "{}", said.stderr());
    let manifest = manifest(&dir, "model");
    assert_eq!(manifest["kind"], "qa");
    let scores = &manifest["scores"]["test"];
    // It finds one mention of a type in a document, and that is right.
    assert!(scores["precision"].as_f64().unwrap() > 0.98, "{scores}");
    assert!((run(&dir, "test") - scores["f1"].as_f64().unwrap()).abs() < 1e-4);
    let last = metrics(&dir, "model").into_iter().rfind(|line| line["kind"] == "step").unwrap();
    assert!(last["start_loss"].as_f64().unwrap() > 0.0 && last["match_loss"] == 0.0, "{last}");
}

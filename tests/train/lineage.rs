//! Training that continues from another model: with its heads, with the provenance of both, and with early stopping.

use super::{job, losses, manifest, metrics, replace, task, train};
use crate::support::Dir;

/// A model, and the job of a training that continues from it.
fn continued(recipe: &str) -> (Dir, String) {
    let dir = task();
    train(&dir, &job(&dir, "learned", "max_epochs = 8")).ended(0);
    let path = job(&dir, "model", recipe);
    replace(&dir, &path, "path = 'encoder'", "path = 'learned'\nheads = 'keep'");
    (dir, path)
}

#[test]
fn training_continues_with_the_heads_of_a_model() {
    let (dir, path) = continued("max_epochs = 1\nclassifier_act_func = 'relu'");
    replace(&dir, &path, "classifier_intermediate_hidden_size = 32", "classifier_intermediate_hidden_size = 64");
    train(&dir, &path).ended(0);
    let (learned, model) = (manifest(&dir, "learned"), manifest(&dir, "model"));
    assert_eq!((&learned["encoder"], &learned["recipe"]["heads"]), (&"encoder".into(), &"new".into()));
    assert!(learned["recipe"].get("before").is_none(), "{}", learned["recipe"]);
    assert_eq!((&model["encoder"], &model["recipe"]["heads"]), (&"encoder".into(), &"keep".into()));
    assert_eq!(model["recipe"]["before"], learned["recipe"]);
    // The settings of the kept head, not those in the job.
    let settings = &model["recipe"]["settings"];
    assert_eq!(settings["classifier_intermediate_hidden_size"], 32);
    assert_eq!(settings["classifier_act_func"], "gelu");
    let [learned, model] = ["learned", "model"].map(|name| losses(&dir, name)[0]);
    assert!(model < learned / 2.0, "{model} {learned}");
}

#[test]
fn training_stops_early_and_keeps_the_best_weights() {
    let recipe = "max_epochs = 2\nlr_scheduler = 'linear'\nval_check_interval = 2.0\npatience = 4";
    let (dir, path) = continued(recipe);
    // The learning rate rises until it destroys what was learned.
    replace(&dir, &path, "lr = 3e-3", "lr = 1.0");
    replace(&dir, &path, "warmup_steps = 20", "warmup_steps = 100");
    replace(&dir, &path, "test = 'test'", "test = 'dev'");
    let said = train(&dir, &path).ended(0).stderr();
    assert!(said.contains("no better F1 in 4 scorings: early stopping"), "{said}");
    let (model, lines) = (manifest(&dir, "model"), metrics(&dir, "model"));
    let scorings: Vec<_> = lines.iter().filter(|line| line["kind"] == "scoring").collect();
    let best = scorings.iter().rposition(|scoring| scoring["best"] == true).unwrap();
    assert_eq!(scorings.len(), best + 1 + 4);
    assert_eq!(model["scores"]["dev"]["step"], scorings[best]["step"]);
    let [best, last] = [best, scorings.len() - 1].map(|place| scorings[place]["f1"].as_f64().unwrap());
    assert!(last < best - 0.01, "{best} {last}");
    // Both with the thresholds that were fitted to these weights.
    let scores = &model["scores"];
    assert_eq!(
        scores["test"]["f1"], scores["dev"]["f1_calibrated"],
        "the weights that are given are the best, not the last"
    );
}

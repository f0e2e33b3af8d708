//! What a training does with its data beside training: it calibrates on dev, and it can take a share of the documents.

use serde_json::Value;

use super::{job, manifest, replace, run, steps, task, train};

#[test]
fn a_training_keeps_the_calibration_of_its_dev_set() {
    let dir = task();
    // A fifth of the dev mentions is not labelled, so four of five sure answers are right.
    let gold = std::fs::read_to_string(dir.path("dev/gold.jsonl")).unwrap();
    let kept: Vec<&str> =
        gold.lines().enumerate().filter(|(number, _)| number % 5 != 0).map(|(_, line)| line).collect();
    dir.write("dev/gold.jsonl", &(kept.join("\n") + "\n"));
    let recipe = "max_epochs = 12\npatience = 3\nwords = 'whitespace'";
    let trained = train(&dir, &job(&dir, "model", recipe)).ended(0);
    assert!(trained.stdout().contains("calibration error on dev"), "{}", trained.stdout());
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let own = manifest(&dir, "model");
    let error = &own["scores"]["dev"]["calibration_error"];
    assert!(number(&error["before"]) > 0.1 && number(&error["after"]) < 0.05, "{own:#}");
    assert!(number(&error["held_out"]) < 0.08, "{own:#}");
    // A job finds the same with the graphs of the model, and its scores on test are those of the training.
    dir.write(
        "dev.toml",
        "[input]\ndocuments = 'dev/documents.jsonl'\nid = 'doc_id'\ntext = 'text'\ngold = 'dev/gold.jsonl'\n[entities]\n\
         schema = 'types.toml'\n[model]\npath = 'model'\ndevice = 'cpu'\nprecision = 'fp32'\n[store]\npath = 'unused'\n",
    );
    let found: Value =
        serde_json::from_str(&dir.quarry(&["evaluate", "--json", "--calibrate", "dev.toml"]).ended(0).stdout())
            .unwrap();
    let types = own["types"].as_array().unwrap();
    for (own, one) in types.iter().zip(found["types"].as_array().unwrap()) {
        assert!(number(&one["temperature"]) > 1.5, "{one}");
        assert!((number(&own["temperature"]) / number(&one["temperature"]) - 1.0).abs() < 0.01, "{own} {one}");
        assert!((number(&own["threshold"]) - number(&one["threshold"])).abs() < 0.01, "{own} {one}");
    }
    assert!((run(&dir, "test") - number(&own["scores"]["test"]["f1"])).abs() < 1e-4);
    let plain = job(&dir, "plain", "max_epochs = 1");
    replace(&dir, &plain, "[output]", "[output]\ncalibrate = false");
    train(&dir, &plain).ended(0);
    let plain = manifest(&dir, "plain");
    assert!(plain["types"][0]["temperature"].is_null() && plain["scores"]["dev"]["calibration_error"].is_null());
}

#[test]
fn a_share_of_the_documents_is_another_training() {
    let dir = task();
    let with = |name: &str, recipe: &str, share: f64| {
        let path = job(&dir, name, recipe);
        replace(&dir, &path, "[entities]", &format!("share = {share}\n[entities]"));
        path
    };
    let said = train(&dir, &with("model", "max_epochs = 4", 0.05)).ended(0).stderr();
    assert!(said.contains("train: 30 of 600 documents with "), "{said}");
    let trained = manifest(&dir, "model")["recipe"]["train"].clone();
    assert_eq!((trained["documents"].as_u64(), trained["share"].as_f64()), (Some(30), Some(0.05)), "{trained}");
    let long = with("killed", "max_epochs = 2000", 0.5);
    dir.stopped_when(&["train", &long], |_| steps(&dir, "killed") > 2).ended(143);
    let other = train(&dir, &with("killed", "max_epochs = 2000", 0.25)).ended(1).error();
    assert!(other.contains("an unfinished training with other settings, data or encoder"), "{other}");
    for share in [0.0, 1.5] {
        let refused = train(&dir, &with("none", "max_epochs = 1", share)).ended(1).error();
        assert!(refused.contains(&format!("`data.share`: {share} is not above 0 and at most 1")), "{refused}");
    }
}

//! Calibration: what it promises, a run with its values does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{DOCUMENTS, Mention, counted, evaluate, mention, write};
use crate::promises::corpus;
use crate::support::{Dir, Random, project, shared};

/// The questions of the small model in these tests.
const QUESTIONS: [(&str, &str); 2] = [("PER", "Who?"), ("LOC", "Where is it?")];

/// The small model with types in its manifest.
fn model(dir: &Dir) -> String {
    let model = dir.small_model().display().to_string();
    change_manifest(dir, |manifest| {
        let types = QUESTIONS.map(|(name, question)| json!({"name": name, "question": question}));
        manifest["types"] = json!(types);
    });
    model
}

fn change_manifest(dir: &Dir, change: impl Fn(&mut Value)) {
    let mut manifest = manifest(dir);
    change(&mut manifest);
    dir.write("small-model/quarry.json", &manifest.to_string());
}

fn manifest(dir: &Dir) -> Value {
    serde_json::from_slice(&std::fs::read(dir.path("small-model/quarry.json")).unwrap()).unwrap()
}

/// A job of the small model with its questions, and a boundary that many starts and ends pass.
fn job(dir: &Dir, model: &str, nested: bool, store: &str, more: &str) -> String {
    let types =
        QUESTIONS.map(|(name, question)| format!("[[entities.type]]\nname = '{name}'\nquestion = '{question}'\n"));
    let sections = format!(
        "gold = 'gold.parquet'\n[entities]\nnested = {nested}\n{}[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'fp32'\n[extract]\nboundary_threshold = 0.1\n{more}",
        types.concat()
    );
    dir.job("docs.parquet", store, &sections).display().to_string()
}

/// Documents, and as gold the mentions of a run that score high, and some that score low.
fn labelled(dir: &Dir, nested: bool) -> String {
    corpus(dir, "docs.parquet", 0, 400, &mut Random(6));
    let model = model(dir);
    write(dir, "gold.parquet", &[]);
    dir.quarry(&["run", &job(dir, &model, nested, "first", "threshold = 0.2")]).ended(0);
    let mut random = Random(2);
    let mut gold = BTreeSet::new();
    for row in dir.rows("first", "entities", "doc_id, entity_type, start_char, end_char, score", "") {
        let parts: Vec<&str> = row.split('|').collect();
        let score: f64 = parts[4].parse().unwrap();
        if random.unit() < (score - 0.3) * 1.1 {
            gold.insert(mention(parts[0], parts[1], parts[2].parse().unwrap(), parts[3].parse().unwrap()));
        }
    }
    let gold: Vec<Mention> = gold.into_iter().collect();
    assert!(gold.len() > 200, "{}", gold.len());
    write(dir, "gold.parquet", &gold);
    model
}

/// The mentions of a store that are right, wrong and missed.
fn scored(dir: &Dir, store: &str) -> (usize, usize, usize) {
    counted(&evaluate(dir, &[store, "gold.parquet", "--no-metrics"])["micro"])
}

#[test]
fn a_model_keeps_its_calibration_and_runs_with_it() {
    for nested in [true, false] {
        keeps_and_runs(nested);
    }
}

fn keeps_and_runs(nested: bool) {
    let dir = Dir::new();
    let model = labelled(&dir, nested);
    let calibrate = |more: &[&str]| {
        let job = job(&dir, &model, nested, "job", "");
        evaluate(&dir, &[&["--calibrate", &job, "gold.parquet"], more].concat())
    };
    let found = calibrate(&[]);
    assert!(manifest(&dir)["types"][0]["threshold"].is_null(), "nothing is written without --write");
    dir.quarry(&["run", &job(&dir, &model, nested, "before", "")]).ended(0);
    assert_eq!(counted(&found["before"]), scored(&dir, "before"));
    // Without nesting temperatures also decide which of two overlapping mentions is written.
    if nested {
        let [after, before] = ["after", "before"].map(|part| &found[part]);
        assert!(after["f1"].as_f64() >= before["f1"].as_f64(), "{found:#}");
        assert!(after["log_loss_of_pairs"].as_f64() < before["log_loss_of_pairs"].as_f64(), "{found:#}");
    }
    assert!(found["held_out"]["f1"].is_f64(), "{found:#}");
    let written = calibrate(&["--write"]);
    assert_eq!(written["after"], found["after"]);
    let types = manifest(&dir)["types"].clone();
    for (own, one) in types.as_array().unwrap().iter().zip(found["types"].as_array().unwrap()) {
        let number = |value: &Value| value.as_f64().unwrap();
        assert!((number(&own["threshold"]) - number(&one["threshold"])).abs() < 1e-6, "{own} {one}");
        assert!((number(&own["temperature"]) - number(&one["temperature"])).abs() < 1e-6, "{own} {one}");
        assert!((number(&own["threshold"]) - 0.5).abs() > 1e-3, "{own}");
    }
    // A run that leaves the thresholds open has those of the model, and finds what was promised.
    dir.quarry(&["run", &job(&dir, &model, nested, "after", "")]).ended(0);
    assert_eq!(counted(&found["after"]), scored(&dir, "after"));
    for one in types.as_array().unwrap() {
        let (name, threshold) = (one["name"].as_str().unwrap(), &one["threshold"]);
        let below = format!("WHERE entity_type = '{name}' AND score < {threshold} - 1e-6");
        assert_eq!(dir.rows("after", "entities", "count(*)", &below), ["0"], "{name}");
    }
    // Calibrated again, nothing changes: the fit is to the model's own logits.
    assert_eq!(calibrate(&[])["after"], found["after"]);
    // The job comes before the model; the store holds another specification then.
    let other = dir.quarry(&["run", &job(&dir, &model, nested, "after", "threshold = 0.5")]).ended(1).error();
    assert!(other.contains("threshold of PER "), "{other}");
    let explained = dir.quarry(&["run", &job(&dir, &model, nested, "new", ""), "--explain"]).ended(0).stdout();
    assert!(explained.contains("thresholds=[PER ") && explained.contains("temperatures=[PER "), "{explained}");
}

#[test]
fn types_that_gold_does_not_label_stay_as_they_are() {
    let dir = Dir::new();
    let model = labelled(&dir, true);
    let places = "WHERE entity_type = 'LOC'";
    let gold: Vec<Mention> = dir
        .sql(
            None,
            &[("gold", &dir.path("gold.parquet"))],
            &format!("SELECT doc_id, start_char, end_char FROM gold {places}"),
        )
        .iter()
        .map(|row| row.split('|').collect::<Vec<_>>())
        .map(|row| mention(row[0], "LOC", row[1].parse().unwrap(), row[2].parse().unwrap()))
        .collect();
    write(&dir, "gold.parquet", &gold);
    let job = job(&dir, &model, true, "job", "");
    let said = dir.quarry(&["evaluate", "--calibrate", &job, "--write", "--json"]).ended(0);
    assert!(said.stderr().contains("without a gold mention stay as they are: PER"), "{}", said.stderr());
    let found: Value = serde_json::from_str(&said.stdout()).unwrap();
    assert_eq!(found["types"].as_array().unwrap().len(), 1, "{found:#}");
    let types = manifest(&dir)["types"].clone();
    assert!(types[0]["threshold"].is_null() && types[1]["threshold"].is_f64(), "{types:#}");
    // The figures are those of a run, for this type.
    dir.quarry(&["run", &job]).ended(0);
    let only_places = dir.rows("job", "entities", "count(*)", places);
    let (right, wrong, _) = counted(&found["after"]);
    assert_eq!(only_places, [(right + wrong).to_string()]);
    write(&dir, "gold.parquet", &[mention("0", "EVENT", 0, 3)]);
    let refused = dir.quarry(&["evaluate", "--calibrate", &job]).ended(1).error();
    assert!(refused.contains("none of them has a type of the schema"), "{refused}");
}

#[test]
fn a_precision_can_be_asked_for() {
    let dir = Dir::new();
    let model = labelled(&dir, true);
    let job = job(&dir, &model, true, "job", "");
    let found = evaluate(&dir, &["--calibrate", &job, "--precision", "0.6"]);
    for one in found["types"].as_array().unwrap() {
        let (right, wrong, _) = counted(&one["after"]);
        let precision = right as f64 / (right + wrong) as f64;
        // The threshold is rounded.
        assert!(one["met"] == true && precision > 0.59, "{one}");
    }
    assert!(found["after"]["f1"].as_f64() < evaluate(&dir, &["--calibrate", &job])["after"]["f1"].as_f64());
    let kept = evaluate(&dir, &["--calibrate", &job, "--keep-thresholds", "--write"]);
    assert_eq!((&kept["goal"], &found["goal"]["precision"]), (&json!("kept"), &json!(0.6)));
    let [before, after] = ["before", "after"].map(|part| counted(&kept[part]));
    // Scores change, and no decision does: a temperature leaves 0.5 where it is.
    assert_eq!(before, after);
    assert!(kept["after"]["log_loss_of_pairs"].as_f64() < kept["before"]["log_loss_of_pairs"].as_f64(), "{kept:#}");
    for one in manifest(&dir)["types"].as_array().unwrap() {
        assert!(one["temperature"].is_f64() && one["threshold"].is_null(), "{one}");
    }
    let never = dir.quarry(&["evaluate", "--calibrate", &job, "--precision", "1"]).ended(0).stdout();
    assert!(never.contains("No threshold meets the goal for PER, LOC: theirs is kept."), "{never}");
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    let dir = Dir::new();
    let model = model(&dir);
    dir.documents("docs.parquet", &[(Some("a"), Some("Ada met Babbage in London ."))]);
    write(&dir, "gold.parquet", &[mention("a", "PER", 0, 3)]);
    let refused = |arguments: &[&str]| dir.quarry(&[&["evaluate", "--calibrate"], arguments].concat()).ended(1).error();
    let text = refused(&["gold.parquet", "gold.parquet", "--documents", "docs.parquet"]);
    assert!(text.contains("`gold.parquet` is neither a model directory nor a job file"), "{text}");
    let text = refused(&[&model, "gold.parquet"]);
    assert!(text.ends_with("hint: add --documents FILE"), "{text}");
    let text = refused(&[&[model.as_str(), "gold.parquet"], &DOCUMENTS[..]].concat());
    assert!(text.contains("too few of the model's candidates in 1 documents"), "{text}");
    let text = refused(&[&model, "gold.parquet", "--precision", "1.5"]);
    assert!(text.contains("`1.5` is not a share above 0 and at most 1"), "{text}");
    change_manifest(&dir, |manifest| manifest["types"][1]["threshold"] = json!(1.5));
    let text = refused(&[&[model.as_str(), "gold.parquet"], &DOCUMENTS[..]].concat());
    assert!(text.contains("type `LOC` has the threshold 1.5, which is not a probability between 0 and 1"), "{text}");
}

/// Documents of the dev set that the quick check reads; `QUARRY_FULL_TESTS=1` reads all 216.
const QUICK: usize = 24;

#[test]
fn the_default_model_is_calibrated_on_real_data() {
    let Some(dev) = shared("data/conll2003/eng.testa") else { return };
    let dir = Dir::new();
    let text = std::fs::read_to_string(dev).unwrap();
    let full = std::env::var_os("QUARRY_FULL_TESTS").is_some();
    let documents: Vec<&str> = text.split("-DOCSTART-").skip(1).take(if full { usize::MAX } else { QUICK }).collect();
    let part = format!("-DOCSTART-{}", documents.join("-DOCSTART-"));
    dir.write("dev.txt", &part);
    dir.quarry(&["prepare", "conll", "dev.txt", "dev", "--unit", "document"]).ended(0);
    let model = project().join("models/default").display().to_string();
    let schema = std::fs::read_to_string(project().join("schemas/conll03.toml")).unwrap();
    // In int8, whose scores do not depend on the batch: a threshold lies between two of them.
    let job = |store: &str, schema: &str| {
        let text = format!(
            "[input]\ndocuments = 'dev/documents.parquet'\nid = 'doc_id'\ntext = 'text'\ngold = 'dev/gold.parquet'\n[entities]\n\
             schema = '{schema}'\n[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'int8'\n[store]\npath = '{store}'\n"
        );
        dir.write(&format!("{store}.toml"), &text).display().to_string()
    };
    dir.write("types.toml", &schema);
    let found = evaluate(&dir, &["--calibrate", &job("plain", "types.toml")]);
    assert_eq!(found["documents"].as_u64(), Some(documents.len() as u64));
    let loss = |part: &str| found[part]["log_loss_of_pairs"].as_f64().unwrap();
    assert!(loss("after") <= loss("before"), "{found:#}");
    if full {
        let error = |part: &str| found[part]["calibration_error"].as_f64().unwrap();
        assert!(error("after") <= 0.02, "{found:#}");
    }
    // The values in a schema: a run with it has the figures of the calibration.
    let mut calibrated = schema;
    for one in found["types"].as_array().unwrap() {
        let name = format!("name = \"{}\"\n", one["name"].as_str().unwrap());
        let more = format!("{name}threshold = {}\ntemperature = {}\n", one["threshold"], one["temperature"]);
        assert!(calibrated.contains(&name));
        calibrated = calibrated.replace(&name, &more);
    }
    dir.write("calibrated.toml", &calibrated);
    dir.quarry(&["run", &job("store", "calibrated.toml")]).ended(0);
    let run = evaluate(&dir, &["store", "dev/gold.parquet", "--no-metrics"]);
    assert_eq!(counted(&run["micro"]), counted(&found["after"]));
}

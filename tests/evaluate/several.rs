//! Several systems side by side: each as if it were evaluated alone, and their differences.

use serde_json::Value;

use super::by_hand::{damaged, invented};
use super::{DOCUMENTS, counted, evaluate, example, write};
use crate::promises::corpus;
use crate::support::{Dir, Random};

#[test]
fn each_system_is_scored_as_if_alone() {
    let dir = Dir::new();
    let gold = invented(80, 3);
    write(&dir, "gold.parquet", &gold);
    write(&dir, "good.parquet", &damaged(&gold, 1));
    write(&dir, "bad.parquet", &damaged(&damaged(&gold, 1), 2));
    write(&dir, "other/good.parquet", &damaged(&gold, 1));
    let all =
        ["--compare", "good.parquet", "bad.parquet", "other/good.parquet", "--gold", "gold.parquet", "--seed", "4"];
    let found = evaluate(&dir, &all);
    let systems = found["systems"].as_array().unwrap();
    let names: Vec<&str> = systems.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["good (1)", "bad", "good (3)"]);
    for (system, file) in systems.iter().zip(["good.parquet", "bad.parquet", "other/good.parquet"]) {
        let alone = evaluate(&dir, &[file, "gold.parquet", "--seed", "4"]);
        assert_eq!(counted(&system["micro"]), counted(&alone["micro"]), "{file}");
        assert_eq!(system["interval"], alone["micro"]["interval"], "{file}");
        assert_eq!(system["macro_average"]["f1"], alone["macro_average"]["f1"], "{file}");
        for part in ["types", "nesting"] {
            let f1 =
                |rows: &Value| -> Vec<Value> { rows.as_array().unwrap().iter().map(|one| one["f1"].clone()).collect() };
            assert_eq!(f1(&system[part]), f1(&alone[part]), "{file}");
            assert!(!f1(&system[part]).is_empty());
        }
    }
    // The same test as of two systems, seen from the other side, and adjusted for two comparisons.
    let two = evaluate(&dir, &["good.parquet", "gold.parquet", "--against", "bad.parquet", "--seed", "4"]);
    let (of_two, bad, same) = (&two["comparison"]["difference"], &systems[1]["difference"], &systems[2]["difference"]);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&of_two["f1"]) + number(&bad["f1"])).abs() < 1e-12, "{bad}");
    assert!((number(&of_two["p_value"]) - number(&bad["p_value"])).abs() < 1e-12, "{bad}");
    assert!((number(&bad["adjusted_p_value"]) - 2.0 * number(&bad["p_value"])).abs() < 1e-12, "{bad}");
    assert!(number(&same["p_value"]) > 0.999 && number(&same["adjusted_p_value"]) > 0.999, "{same}");
    assert!(systems[0]["difference"].is_null());
    assert_eq!(found["gold_mentions"].as_u64(), Some(gold.len() as u64));
}

#[test]
fn a_store_and_a_model_have_a_speed() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 300, &mut Random(6));
    let model = dir.small_model().display().to_string();
    let sections = format!("[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'fp32'\n[extract]\nthreshold = 0.6");
    let job = dir.job("docs.parquet", "store", &sections).display().to_string();
    dir.quarry(&["run", &job]).ended(0);
    let schema = crate::support::project().join("schemas/conll03.toml").display().to_string();
    let systems =
        [&["--compare", "store", &model, &job, "--gold", "store", "--schema", &schema], &DOCUMENTS[..]].concat();
    let found = evaluate(&dir, &systems);
    let [store, model, job] = found["systems"].as_array().unwrap().as_slice() else { panic!("{found}") };
    let (right, wrong, missed) = counted(&store["micro"]);
    assert!(right > 30 && wrong == 0 && missed == 0, "{store}");
    assert_eq!(counted(&job["micro"]), (right, 0, 0));
    // The model accepts at 0.5, and finds more.
    let (same, more, _) = counted(&model["micro"]);
    assert!(same * 10 > right * 8 && more > 0, "{model}");
    for one in [store, model] {
        assert!(one["speed"]["tokens_per_second"].as_f64().unwrap() > 1.0, "{one}");
        assert!(one["speed"]["seconds_per_type"].as_f64().unwrap() > 0.0, "{one}");
        assert_eq!(one["speed"]["types"].as_u64(), Some(4));
    }
    assert!(store["speed"]["measured"].as_str().unwrap().starts_with("run "), "{store}");
    assert!(model["speed"]["measured"].as_str().unwrap().starts_with("here, cpu"), "{model}");
}

#[test]
fn the_comparison_on_the_screen_and_its_errors() {
    let dir = Dir::new();
    example(&dir);
    let compare = ["evaluate", "--compare", "predicted.parquet", "other.parquet", "--gold", "gold.parquet"];
    let shown = dir.quarry(&compare).ended(0).stdout();
    for part in [
        "│ F1 against predicted",
        "not significant at 0.05",
        "adjusted for the number of comparisons (1) by Holm's method",
        "│ flat",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let refused = |arguments: &[&str]| dir.quarry(&[&["evaluate"], arguments].concat()).ended(1).error();
    let text = refused(&["--compare", "predicted.parquet", "other.parquet"]);
    assert!(text.contains("no gold mentions are named") && text.ends_with("hint: add --gold MENTIONS"), "{text}");
    let model = dir.small_model().display().to_string();
    let text = refused(&["--compare", "predicted.parquet", &model, "--gold", "gold.parquet"]);
    assert!(text.contains("a model needs texts") && text.ends_with("hint: add --documents FILE"), "{text}");
    let named = [&["--compare", "predicted.parquet", &model, "--gold", "gold.parquet"], &DOCUMENTS[..]].concat();
    let text = refused(&named);
    assert!(
        text.contains("the model's quarry.json has no types") && text.ends_with("hint: add --schema FILE"),
        "{text}"
    );
    refused(&["--compare", "predicted.parquet"]);
}

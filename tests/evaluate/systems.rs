//! Two systems, stores and jobs as systems, and the reference's way of counting.

use std::path::Path;

use serde_json::Value;

use super::by_hand::{damaged, invented};
use super::{DOCUMENTS, Mention, counted, evaluate, mention, write};
use crate::promises::corpus;
use crate::support::{Dir, project};

#[test]
fn two_systems_differ_or_do_not() {
    let dir = Dir::new();
    let gold = invented(80, 3);
    write(&dir, "gold.parquet", &gold);
    write(&dir, "good.parquet", &damaged(&gold, 1));
    write(&dir, "bad.parquet", &damaged(&damaged(&gold, 1), 2));
    let compare = |other: &str| evaluate(&dir, &["good.parquet", "gold.parquet", "--against", other, "--seed", "4"]);
    let same = compare("good.parquet");
    assert_eq!(same["comparison"]["difference"]["p_value"].as_f64(), Some(1.0));
    assert_eq!(same["comparison"]["changes"].as_array().unwrap().len(), 0);
    let worse = compare("bad.parquet");
    let difference = &worse["comparison"]["difference"];
    let (here, there) = (&worse["micro"]["f1"], &worse["comparison"]["against"]["f1"]);
    let apart = here.as_f64().unwrap() - there.as_f64().unwrap();
    assert!((difference["f1"].as_f64().unwrap() - apart).abs() < 1e-12 && apart > 0.05);
    assert!(difference["p_value"].as_f64().unwrap() < 0.01, "{difference}");
    assert!(difference["interval"]["low"].as_f64().unwrap() > 0.0, "{difference}");
    assert_eq!(compare("bad.parquet"), worse, "the seed decides");
}

#[test]
fn the_reference_count_excludes_truncated_mentions() {
    let dir = Dir::new();
    // 40 words of one wordpiece each.
    let text = vec!["day"; 40].join(" ");
    dir.documents("docs.parquet", &[(Some("a"), Some(&text))]);
    let words: Vec<Mention> = (0..40).map(|word| mention("a", "PER", word * 4, word * 4 + 3)).collect();
    write(&dir, "gold.parquet", &words);
    dir.write("types.toml", "nested = true\n[[type]]\nname = 'PER'\nquestion = 'who is it'\n");
    let model = project().join("models/default").display().to_string();
    let arguments = |counting: &str| {
        let named =
            ["gold.parquet", "gold.parquet", "--schema", "types.toml", "--model", &model, "--counting", counting];
        let found = evaluate(&dir, &[&named[..], &DOCUMENTS].concat());
        counted(&found["micro"])
    };
    assert_eq!(arguments("all"), (40, 0, 0));
    // [CLS] who is it [SEP] leaves 15 of 20: the last is overwritten, so it can be missed but not found.
    assert_eq!(arguments("reference:20"), (14, 0, 1));
    assert_eq!(arguments("reference:46"), (40, 0, 0));
    assert_eq!(arguments("reference:45"), (39, 0, 1));
}

#[test]
fn a_store_and_its_job_are_scored_as_the_run_scored_them() {
    let dir = Dir::new();
    let merkel = "Angela Merkel met Emmanuel Macron in Berlin on Monday .";
    dir.documents("docs.parquet", &[(Some("a"), Some(merkel)), (Some("b"), Some("It rained ."))]);
    let gold = [
        mention("a", "PER", 0, 13),
        mention("a", "LOC", 37, 43),
        mention("a", "ORG", 47, 53),
        mention("z", "PER", 0, 1),
    ];
    write(&dir, "gold.parquet", &gold);
    let job = dir.job("docs.parquet", "store", &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let job = job.display().to_string();
    dir.quarry(&["run", &job]).ended(0);
    let run =
        dir.rows("store", "metrics", "scope, name, value", "WHERE name IN ('f1', 'true_positives') ORDER BY 1, 2");
    let found = evaluate(&dir, &[&job]);
    let (right, _, missed) = counted(&found["micro"]);
    // The document z is not in the store.
    assert_eq!(right + missed, 3);
    assert!(right >= 2, "{}", found["micro"]);
    let recorded =
        "WHERE name IN ('f1', 'true_positives') AND run_id LIKE 'evaluate-%' AND scope NOT LIKE '%:%' ORDER BY 1, 2";
    assert_eq!(dir.rows("store", "metrics", "scope, name, value", recorded), run);
    // The store itself, its gold named.
    assert_eq!(counted(&evaluate(&dir, &["store", "gold.parquet", "--no-metrics"])["micro"]), counted(&found["micro"]));
    let count = dir.rows("store", "metrics", "count(DISTINCT run_id)", "");
    assert_eq!(count, ["2"]);
    assert!(Path::new(&job).exists());
    // The documents only give context and can be missing; the other system can be a job, too.
    std::fs::remove_file(dir.path("docs.parquet")).unwrap();
    let again = evaluate(&dir, &[&job, "--no-metrics", "--against", &job]);
    assert_eq!((&again["micro"], &again["comparison"]["against"]["f1"]), (&found["micro"], &found["micro"]["f1"]));
}

#[test]
fn stores_of_different_specifications_are_compared() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 800, &mut crate::support::Random(6));
    let model = dir.small_model().display().to_string();
    for (store, threshold) in [("loose", 0.5), ("strict", 0.7)] {
        let sections = format!("[model]\npath = '{model}'\ndevice = 'cpu'\n[extract]\nthreshold = {threshold}");
        dir.quarry(&["run", &dir.job("docs.parquet", store, &sections).display().to_string()]).ended(0);
    }
    let mentions = |store: &str| dir.rows(store, "entities", "doc_id", "").len();
    let (loose, strict) = (mentions("loose"), mentions("strict"));
    assert!(loose > strict && strict > 0, "{loose} and {strict} mentions");
    let said = dir.quarry(&["evaluate", "strict", "loose", "--against", "loose", "--no-metrics", "--json"]).ended(0);
    let found: Value = serde_json::from_str(&said.stdout()).unwrap();
    let documents = dir.rows("loose", "documents", "doc_id", "").len() as u64;
    assert_eq!(found["documents"].as_u64(), Some(documents), "{found}");
    assert_eq!(counted(&found["micro"]), (strict, 0, loose - strict));
    let changes = found["comparison"]["changes"].as_array().unwrap();
    let lost: u64 = changes.iter().map(|one| one["lost"].as_u64().unwrap()).sum();
    assert_eq!(lost, (loose - strict) as u64);
}

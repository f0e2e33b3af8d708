//! The reference checkpoint on the CoNLL-2003 test set: the mentions and the F1 stated on its page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::Value;

use crate::parity::exported;
use crate::support::{Dir, shared};

/// Sentences the quick check reads; `QUARRY_FULL_TESTS=1` reads all 3,452.
const QUICK: i64 = 250;

fn sentences() -> i64 {
    if std::env::var_os("QUARRY_FULL_TESTS").is_some() { i64::MAX } else { QUICK }
}

type Labelled = BTreeSet<(i64, String, i64, i64)>;

/// The sentences of the test set, by number.
fn contexts() -> Option<BTreeMap<i64, String>> {
    let items: Vec<Value> =
        serde_json::from_slice(&std::fs::read(shared("data/conll2003/mrc-ner.test")?).unwrap()).unwrap();
    let number = |item: &Value| item["qas_id"].as_str().unwrap().split_once('.').unwrap().0.parse::<i64>().unwrap();
    let limit = sentences();
    Some(
        items
            .iter()
            .map(|item| (number(item), item["context"].as_str().unwrap().to_owned()))
            .filter(|(number, _)| *number < limit)
            .collect(),
    )
}

/// The mentions the checkpoint's page lists, by sentence.
fn listed() -> Option<Labelled> {
    let text = std::fs::read_to_string(shared("checkpoints/conll03-minilm/mentions-test.jsonl")?).unwrap();
    let limit = sentences();
    let one = |line: &str| {
        let item: Value = serde_json::from_str(line).unwrap();
        let integer = |name: &str| item[name].as_i64().unwrap();
        (integer("item") / 4, item["type"].as_str().unwrap().to_owned(), integer("start"), integer("end"))
    };
    Some(text.lines().map(one).filter(|(sentence, ..)| *sentence < limit).collect())
}

fn job(dir: &Dir, model: &str, precision: &str) -> String {
    let schema = std::fs::read_to_string(crate::support::project().join("schemas/conll03.toml")).unwrap();
    let schema = dir.write("nested.toml", &schema.replace("nested = false", "nested = true"));
    let sections = format!(
        "[entities]\nschema = '{}'\n[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = '{precision}'\n[extract]\nwindow_tokens = 400\noverlap_tokens = 0",
        schema.display()
    );
    dir.job("docs.parquet", precision, &sections).display().to_string()
}

fn found(dir: &Dir, precision: &str) -> Labelled {
    let rows = dir.rows(precision, "entities", "doc_id, entity_type, start_char, end_char", "");
    let one = |row: String| {
        let parts: Vec<&str> = row.split('|').collect();
        (parts[0].parse().unwrap(), parts[1].to_owned(), parts[2].parse().unwrap(), parts[3].parse().unwrap())
    };
    rows.into_iter().map(one).collect()
}

#[test]
fn the_mentions_are_those_of_the_reference() {
    let dir = Dir::new();
    let Some(model) = exported(&dir) else { return };
    let (Some(contexts), Some(listed)) = (contexts(), listed()) else { return };
    let ids: ArrayRef = Arc::new(contexts.keys().copied().collect::<Int64Array>());
    let texts: ArrayRef = Arc::new(contexts.values().map(|text| Some(text.as_str())).collect::<StringArray>());
    dir.parquet("docs.parquet", &RecordBatch::try_from_iter([("id", ids), ("body", texts)]).unwrap());
    dir.quarry(&["run", &job(&dir, &model.display().to_string(), "fp32")]).ended(0);
    let exact = found(&dir, "fp32");
    let odd: Vec<_> = exact.symmetric_difference(&listed).collect();
    assert!(listed.len() > 400);
    // A logit within float rounding of a decision can fall on either side.
    assert!(odd.len() * 2000 <= listed.len(), "{} of {} differ: {odd:?}", odd.len(), listed.len());

    dir.quarry(&["run", &job(&dir, &model.display().to_string(), "int8")]).ended(0);
    let quantized = found(&dir, "int8");
    let same = quantized.intersection(&exact).count();
    assert!(same * 100 > exact.len().max(quantized.len()) * 96, "{same} of {} and {}", exact.len(), quantized.len());
}

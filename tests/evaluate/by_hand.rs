//! Compares every count of the program with a brute-force count over all pairs.

use std::collections::{BTreeMap, BTreeSet};

use quarry::random::Random;
use serde_json::Value;

use super::{Counted, Mention, counted, evaluate, mention, write};
use crate::support::{Dir, shared};

/// Nested mentions of three types in `documents` documents, drawn by a seeded generator.
pub(super) fn invented(documents: usize, seed: u64) -> Vec<Mention> {
    let mut random = Random::new(seed, 0);
    let mut found = BTreeSet::new();
    for document in 0..documents {
        for _ in 0..random.below(9) {
            let start = random.below(90) as i64;
            let end = start + 1 + random.below(12) as i64;
            found.insert(mention(&format!("d{document}"), ["A", "B", "C"][random.below(3)], start, end));
        }
    }
    found.into_iter().collect()
}

/// Gold as a bad system would predict it: mentions missing, moved, renamed, invented, repeated.
pub(super) fn damaged(gold: &[Mention], seed: u64) -> Vec<Mention> {
    let mut random = Random::new(seed, 1);
    let types: Vec<&String> = gold.iter().map(|one| &one.1).collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = Vec::new();
    for one in gold {
        let mut other = one.clone();
        match random.below(10) {
            0 => continue,
            1 => other.2 = (other.2 - 2).max(0),
            2 => other.3 += 3,
            3 => other.1.clone_from(types[random.below(types.len())]),
            4 => {
                other.2 += 40;
                other.3 += 40;
                found.push(one.clone());
            }
            5 => found.push(one.clone()),
            _ => {}
        }
        found.push(other);
    }
    found
}

/// The counts of the program, computed over all pairs.
struct ByHand {
    predicted: Vec<Mention>,
    gold: Vec<Mention>,
}

impl ByHand {
    fn new(predicted: &[Mention], gold: &[Mention]) -> Self {
        let once = |mentions: &[Mention]| mentions.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        Self { predicted: once(predicted), gold: once(gold) }
    }

    fn strict(&self, of: impl Fn(&Mention) -> bool) -> Counted {
        let right = self.predicted.iter().filter(|one| of(one) && self.gold.contains(one)).count();
        let wrong = self.predicted.iter().filter(|one| of(one) && !self.gold.contains(one)).count();
        let missed = self.gold.iter().filter(|one| of(one) && !self.predicted.contains(one)).count();
        (right, wrong, missed)
    }

    fn nested(&self, one: &Mention) -> bool {
        let table = if self.gold.contains(one) { &self.gold } else { &self.predicted };
        table.iter().any(|other| other != one && overlap(one, other) > 0)
    }

    fn spans(&self) -> Counted {
        let places =
            |mentions: &[Mention]| mentions.iter().map(|one| (one.0.clone(), one.2, one.3)).collect::<BTreeSet<_>>();
        let (predicted, gold) = (places(&self.predicted), places(&self.gold));
        let right = predicted.intersection(&gold).count();
        (right, predicted.len() - right, gold.len() - right)
    }

    /// Pairs of the remaining mentions, the largest overlap first.
    fn partial(&self) -> usize {
        let place = |one: &Mention| (one.0.clone(), one.2, one.3, one.1.clone());
        let left = |from: &[Mention], other: &[Mention]| {
            let mut left: Vec<Mention> = from.iter().filter(|one| !other.contains(one)).cloned().collect();
            left.sort_by_key(place);
            left
        };
        let mut wrong = left(&self.predicted, &self.gold);
        let mut missed = left(&self.gold, &self.predicted);
        let mut pairs = 0;
        loop {
            let mut best: Option<(i64, usize, usize)> = None;
            for (first, one) in wrong.iter().enumerate() {
                for (second, other) in missed.iter().enumerate() {
                    let shared = if one.1 == other.1 { overlap(one, other) } else { 0 };
                    if shared > best.map_or(0, |(best, ..)| best) {
                        best = Some((shared, first, second));
                    }
                }
            }
            let Some((_, first, second)) = best else { return pairs };
            wrong.remove(first);
            missed.remove(second);
            pairs += 1;
        }
    }
}

fn overlap(one: &Mention, other: &Mention) -> i64 {
    if one.0 == other.0 { (one.3.min(other.3) - one.2.max(other.2)).max(0) } else { 0 }
}

fn rows(value: &Value) -> BTreeMap<String, Counted> {
    let rows = value.as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), counted(row))).collect()
}

/// Compares every count of the program with the brute-force count.
fn agrees(dir: &Dir, gold: &[Mention], predicted: &[Mention], pairs: bool) {
    write(dir, "gold.parquet", gold);
    write(dir, "predicted.parquet", predicted);
    let found = evaluate(dir, &["predicted.parquet", "gold.parquet", "--resamples", "0"]);
    let hand = ByHand::new(predicted, gold);
    let (right, wrong, missed) = hand.strict(|_| true);
    assert!(right > 0 && wrong > 0 && missed > 0);
    assert_eq!(counted(&found["micro"]), (right, wrong, missed));
    let f1 = 2.0 * right as f64 / (2 * right + wrong + missed) as f64;
    assert!((found["micro"]["f1"].as_f64().unwrap() - f1).abs() < 1e-12);
    let types: BTreeSet<&str> = gold.iter().chain(predicted).map(|one| one.1.as_str()).collect();
    let by_type = types.iter().map(|name| ((*name).to_owned(), hand.strict(|one| one.1 == *name))).collect();
    assert_eq!(rows(&found["types"]), by_type);
    let mean = found["types"].as_array().unwrap().iter().map(|row| row["f1"].as_f64().unwrap()).sum::<f64>()
        / types.len() as f64;
    assert!((found["macro_average"]["f1"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(counted(&found["span"]), hand.spans());
    let nesting = rows(&found["nesting"]);
    assert_eq!(nesting["nested"], hand.strict(|one| hand.nested(one)));
    assert_eq!(nesting["flat"], hand.strict(|one| !hand.nested(one)));
    let short = hand.strict(|one| (5..=8).contains(&(one.3 - one.2)));
    assert_eq!(rows(&found["characters"])["5 to 8"], short);
    if pairs {
        let partial = usize::try_from(found["partial"]["partial"].as_u64().unwrap()).unwrap();
        assert_eq!(partial, hand.partial());
        let precision = (right as f64 + partial as f64 / 2.0) / (right + wrong) as f64;
        assert!((found["partial"]["precision"].as_f64().unwrap() - precision).abs() < 1e-12);
    }
    // The confusion table has every mention once.
    let cells = found["confusion"].as_array().unwrap();
    let sum = |side: &str| -> usize {
        let named = cells.iter().filter(|cell| !cell[side].as_str().unwrap().is_empty());
        named.map(|cell| usize::try_from(cell["mentions"].as_u64().unwrap()).unwrap()).sum()
    };
    assert_eq!((sum("predicted"), sum("gold")), (right + wrong, right + missed));
    let errors = found["errors"].as_array().unwrap().iter();
    assert_eq!(errors.map(|class| class["mentions"].as_u64().unwrap() as usize).sum::<usize>(), wrong + missed);
}

#[test]
fn counts_equal_those_over_all_pairs_on_damaged_gold() {
    for seed in 0..3 {
        let dir = Dir::new();
        let gold = invented(60, seed);
        agrees(&dir, &gold, &damaged(&gold, seed), true);
    }
}

#[test]
fn counts_equal_those_over_all_pairs_on_genia() {
    let Some(path) = shared("data/genia/genia_test.jsonl") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut gold = Vec::new();
    for (number, line) in text.lines().enumerate().take(400) {
        let sentence: Value = serde_json::from_str(line).unwrap();
        for entity in sentence["entities"].as_array().unwrap() {
            let place = |name: &str| entity[name].as_i64().unwrap();
            gold.push(mention(&number.to_string(), entity["type"].as_str().unwrap(), place("start"), place("end")));
        }
    }
    agrees(&Dir::new(), &gold, &damaged(&gold, 5), false);
}

#[test]
fn a_perfect_system_and_one_that_finds_nothing() {
    let dir = Dir::new();
    let gold = invented(5, 9);
    write(&dir, "gold.parquet", &gold);
    write(&dir, "none.parquet", &[]);
    let found = evaluate(&dir, &["gold.parquet", "gold.parquet"]);
    assert_eq!(counted(&found["micro"]), (gold.len(), 0, 0));
    assert_eq!(found["micro"]["interval"]["low"].as_f64(), Some(1.0));
    assert_eq!(counted(&evaluate(&dir, &["none.parquet", "gold.parquet"])["micro"]), (0, 0, gold.len()));
    assert_eq!(counted(&evaluate(&dir, &["gold.parquet", "none.parquet"])["micro"]), (0, gold.len(), 0));
    let nothing = evaluate(&dir, &["none.parquet", "none.parquet"]);
    assert_eq!((counted(&nothing["micro"]), nothing["micro"]["f1"].as_f64()), ((0, 0, 0), Some(0.0)));
}

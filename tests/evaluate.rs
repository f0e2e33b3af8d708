//! `quarry evaluate`: equal to counts made by hand on damaged gold, and clear about whatever is wrong with a table.

mod edges;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use insta::assert_snapshot;
use quarry::mrc::random::Random;
use serde_json::Value;

use crate::promises::corpus;
use crate::support::{Dir, project, shared};

/// Document, type, start, end.
type Mention = (String, String, i64, i64);

/// Mentions as Parquet, ids as strings.
fn write(dir: &Dir, name: &str, mentions: &[Mention]) -> PathBuf {
    let ids: ArrayRef = Arc::new(mentions.iter().map(|one| Some(one.0.as_str())).collect::<StringArray>());
    dir.parquet(name, &batch(ids, mentions))
}

fn batch(ids: ArrayRef, mentions: &[Mention]) -> RecordBatch {
    let types: ArrayRef = Arc::new(mentions.iter().map(|one| Some(one.1.as_str())).collect::<StringArray>());
    let starts: ArrayRef = Arc::new(mentions.iter().map(|one| one.2).collect::<Int64Array>());
    let ends: ArrayRef = Arc::new(mentions.iter().map(|one| one.3).collect::<Int64Array>());
    let columns = [("doc_id", ids), ("entity_type", types), ("start_char", starts), ("end_char", ends)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap()
}

fn mention(document: &str, entity_type: &str, start: i64, end: i64) -> Mention {
    (document.to_owned(), entity_type.to_owned(), start, end)
}

fn evaluate(dir: &Dir, arguments: &[&str]) -> Value {
    let all = [&["evaluate", "--json"], arguments].concat();
    serde_json::from_str(&dir.quarry(&all).ended(0).stdout()).unwrap()
}

/// Nested mentions of three types in `documents` documents, drawn by a seeded generator.
fn invented(documents: usize, seed: u64) -> Vec<Mention> {
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

/// Gold as a bad system would find it: mentions lost, moved, renamed, invented, said twice.
fn damaged(gold: &[Mention], seed: u64) -> Vec<Mention> {
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

/// True positives, false positives, false negatives.
type Counted = (usize, usize, usize);

/// What the program counts, counted by going through all pairs.
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

    /// Pairs of what is left, the largest overlap first.
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

fn counted(value: &Value) -> Counted {
    let number = |name: &str| usize::try_from(value[name].as_u64().unwrap()).unwrap();
    (number("true_positives"), number("false_positives"), number("false_negatives"))
}

fn rows(value: &Value) -> BTreeMap<String, Counted> {
    let rows = value.as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), counted(row))).collect()
}

/// Compares every count of the program with one made by hand.
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
    // Every mention stands in the confusion table once.
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
fn counts_are_those_made_by_hand_on_damaged_gold() {
    for seed in 0..3 {
        let dir = Dir::new();
        let gold = invented(60, seed);
        agrees(&dir, &gold, &damaged(&gold, seed), true);
    }
}

#[test]
fn counts_are_those_made_by_hand_on_genia() {
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

#[test]
fn rows_that_are_no_mentions_do_not_count_and_are_told() {
    let dir = Dir::new();
    write(&dir, "gold.parquet", &[mention("1", "A", 0, 3), mention("2", "A", 0, 3)]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(2), Some(2)]));
    let rows = [("A", 0, 3), ("A", 0, 3), ("A", 0, 3), ("A", 4, 4), ("A", 7, 5)];
    let rows: Vec<Mention> = rows.iter().map(|&(name, start, end)| mention("", name, start, end)).collect();
    dir.parquet("predicted.parquet", &batch(ids, &rows));
    let finished = dir.quarry(&["evaluate", "--json", "predicted.parquet", "gold.parquet"]).ended(0);
    let found: Value = serde_json::from_str(&finished.stdout()).unwrap();
    assert_eq!(counted(&found["micro"]), (1, 0, 1));
    let said = finished.stderr();
    for sentence in [
        "`predicted.parquet`: 1 row(s) with a null in",
        "`predicted.parquet`: 2 row(s) whose end is not behind",
        "`predicted.parquet`: 1 row(s) that repeat another",
        "ids are integers in `predicted.parquet` and strings in `gold.parquet`: they are compared as text",
    ] {
        assert!(said.contains(sentence), "{sentence} is not in\n{said}");
    }
}

#[test]
fn tables_that_cannot_be_used() {
    let dir = Dir::new();
    write(&dir, "gold.parquet", &[mention("1", "A", 0, 3)]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    dir.parquet("short.parquet", &RecordBatch::try_from_iter([("doc_id", Arc::clone(&numbers))]).unwrap());
    let reals: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["A"]));
    let columns =
        [("doc_id", numbers), ("entity_type", names), ("start_char", Arc::clone(&reals)), ("end_char", reals)];
    dir.parquet("reals.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    dir.write("broken.parquet", "this is no Parquet");
    dir.write("empty.parquet", "");
    std::fs::create_dir(dir.path("nothing")).unwrap();
    let error = |arguments: &[&str]| dir.quarry(&[&["evaluate"], arguments].concat()).ended(1).error();
    assert_snapshot!(error(&["short.parquet", "gold.parquet"]), @r##"
    error: cannot use the predicted mentions at `short.parquet`: there is no column `entity_type`, only doc_id
    hint: a table of mentions has doc_id, entity_type, start_char and end_char (code points, half-open), and may have text and score
    "##);
    assert_snapshot!(error(&["gold.parquet", "reals.parquet"]), @r##"
    error: cannot use the gold mentions at `reals.parquet`: column `start_char` is Float64, expected an integer
    hint: a table of mentions has doc_id, entity_type, start_char and end_char (code points, half-open), and may have text and score
    "##);
    assert_snapshot!(error(&["none.parquet", "gold.parquet"]), @r##"
    error: cannot use the predicted mentions at `none.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
    assert_snapshot!(error(&["gold.parquet", "nothing"]), @r##"
    error: cannot use the gold mentions at `nothing`: there is no Parquet, JSON Lines or CSV file
    hint: files are known by their ending: .parquet, .jsonl, .ndjson, .json or .csv
    "##);
    assert_snapshot!(error(&["gold.parquet", "empty.parquet"]), @r##"
    error: cannot use the gold mentions at `empty.parquet`: the file `empty.parquet` is empty
    hint: even a table without rows has columns: write it again
    "##);
    assert!(
        error(&["gold.parquet", "broken.parquet"])
            .starts_with("error: cannot use the gold mentions at `broken.parquet`")
    );
    assert_snapshot!(error(&["gold.parquet"]), @r##"
    error: evaluate: `gold`: no gold mentions are named
    hint: say quarry evaluate PREDICTED GOLD
    "##);
    assert_snapshot!(error(&["gold.parquet", "gold.parquet", "--counting", "reference:128"]), @r##"
    error: evaluate: `model`: this way of counting needs the model's tokenizer
    hint: add --model FOLDER
    "##);
    assert_snapshot!(error(&["gold.parquet", "gold.parquet", "--documents", "gold.parquet"]), @r##"
    error: cannot use the documents at `gold.parquet`: there is no column `text`, only doc_id, entity_type, start_char, end_char
    hint: name the columns with --id and --text
    "##);
}

const TEXT: &str = "Ada Lovelace of London met Émile Zola of Paris .";

/// A document, its gold, two systems.
fn example(dir: &Dir) {
    dir.documents("docs.parquet", &[(Some("a"), Some(TEXT)), (Some("b"), Some("Nobody came .")), (Some("c"), None)]);
    let gold = [
        mention("a", "PER", 0, 12),
        mention("a", "LOC", 16, 22),
        mention("a", "PER", 27, 37),
        mention("a", "LOC", 41, 46),
    ];
    write(dir, "gold.parquet", &gold);
    let predicted = [
        mention("a", "PER", 0, 12),
        mention("a", "ORG", 16, 22),
        mention("a", "PER", 33, 37),
        mention("b", "PER", 0, 6),
        mention("x", "PER", 0, 6),
    ];
    write(dir, "predicted.parquet", &predicted);
    write(dir, "other.parquet", &[mention("a", "LOC", 16, 22), mention("b", "PER", 0, 6)]);
}

const DOCUMENTS: [&str; 6] = ["--documents", "docs.parquet", "--id", "id", "--text", "body"];

#[test]
fn the_report_as_a_person_reads_it() {
    let dir = Dir::new();
    example(&dir);
    let arguments = [&["evaluate", "predicted.parquet", "gold.parquet", "--against", "other.parquet"][..], &DOCUMENTS];
    assert_snapshot!(dir.quarry(&arguments.concat()).ended(0).stdout(), @r##"
    ┌─────────────────────────────────────────────────────────────────────┐
    │ predicted: predicted.parquet                             4 mentions │
    │ gold: gold.parquet                                       4 mentions │
    │ against: other.parquet                                   2 mentions │
    │ documents                                                         3 │
    │ intervals                      1 000 resamples of documents, seed 1 │
    └─────────────────────────────────────────────────────────────────────┘
    ┌─────────────────────────────────────────────────────────────────────────────────────────────────────┐
    │                                 F1      95 % interval   precision   recall   right   wrong   missed │
    ╞═════════════════════════════════════════════════════════════════════════════════════════════════════╡
    │ strict, micro               0.2500   0.0000 to 0.2857      0.2500   0.2500       1       3        3 │
    │ strict, macro               0.1333   0.0000 to 0.1667      0.1111   0.1667                          │
    │   LOC                       0.0000   0.0000 to 0.0000      0.0000   0.0000       0       0        2 │
    │   ORG                       0.0000   0.0000 to 0.0000      0.0000   0.0000       0       1        0 │
    │   PER                       0.4000   0.0000 to 0.5000      0.3333   0.5000       1       2        1 │
    │ span, whatever its type     0.5000                         0.5000   0.5000       2       2        2 │
    │ partial: overlap counts ½   0.3750                         0.3750   0.3750                          │
    │ overlap counts 1            0.5000                         0.5000   0.5000                          │
    └─────────────────────────────────────────────────────────────────────────────────────────────────────┘
    ┌────────────────────────────────────────────────────────────────────────────────┐
    │                               F1   precision   recall   right   wrong   missed │
    ╞════════════════════════════════════════════════════════════════════════════════╡
    │ by nesting                                                                     │
    │   flat                    0.2500      0.2500   0.2500       1       3        3 │
    │ by length in words                                                             │
    │   1                       0.0000      0.0000   0.0000       0       3        2 │
    │   2                       0.6667      1.0000   0.5000       1       0        1 │
    │ by length in characters                                                        │
    │   1 to 4                  0.0000      0.0000   0.0000       0       1        0 │
    │   5 to 8                  0.0000      0.0000   0.0000       0       2        2 │
    │   9 to 16                 0.6667      1.0000   0.5000       1       0        1 │
    └────────────────────────────────────────────────────────────────────────────────┘
    ┌────────────────────────────────────────────┐
    │ what the other table has    wrong   missed │
    ╞════════════════════════════════════════════╡
    │ right place, another type       1        1 │
    │ right type, other ends          1        1 │
    │ overlaps another type           0        0 │
    │ nothing there                   1        1 │
    └────────────────────────────────────────────┘
    types in the same place (rows are gold, columns predicted)
    ┌─────────────────────────────────────┐
    │           LOC   ORG   PER   nothing │
    ╞═════════════════════════════════════╡
    │ LOC         0     1     0         1 │
    │ ORG         0     0     0         0 │
    │ PER         0     0     1         1 │
    │ nothing     0     0     2           │
    └─────────────────────────────────────┘
    documents with most errors
    ┌────────────────────────────────────────────┐
    │ document       F1   right   wrong   missed │
    ╞════════════════════════════════════════════╡
    │ a          0.2857       1       2        3 │
    │ b          0.0000       0       1        0 │
    └────────────────────────────────────────────┘
    ┌─────────────────────────────────────────────────────────────────────────┐
    │ changed mentions   now right   now missed   now wrong   no longer wrong │
    ╞═════════════════════════════════════════════════════════════════════════╡
    │ all                        1            1           2                 0 │
    │   LOC                      0            1           0                 0 │
    │   ORG                      0            0           1                 0 │
    │   PER                      1            0           1                 0 │
    └─────────────────────────────────────────────────────────────────────────┘
    F1 0.2500 here, 0.3333 of `other.parquet`: a difference of -0.0833 (95 % interval -0.1143 to +0.0000), not significant at 0.05 (approximate randomization, p = 1.0000, 1 000 resamples, seed 1)
    "##);
}

#[test]
fn every_error_is_a_row_with_its_context() {
    let dir = Dir::new();
    example(&dir);
    let arguments = [
        &["evaluate", "predicted.parquet", "gold.parquet", "--against", "other.parquet", "--out", "out"][..],
        &DOCUMENTS,
    ];
    dir.quarry(&arguments.concat()).ended(0);
    let table =
        |name: &str, sql: &str| dir.sql(None, &[(name, &dir.path(&format!("out/{name}.parquet")))], sql).join("\n");
    assert_snapshot!(table(
        "errors",
        "SELECT kind, reason, doc_id, entity_type, start_char, end_char, text, nested, other_type, other_start, other_end, before, after FROM errors"
    ), @r##"
    false_negative|type|a|LOC|16|22|London|false|ORG|16|22|Ada Lovelace of | met Émile Zola of Paris .
    false_positive|type|a|ORG|16|22|London|false|LOC|16|22|Ada Lovelace of | met Émile Zola of Paris .
    false_negative|boundary|a|PER|27|37|Émile Zola|false|PER|33|37|Ada Lovelace of London met | of Paris .
    false_positive|boundary|a|PER|33|37|Zola|false|PER|27|37|Ada Lovelace of London met Émile | of Paris .
    false_negative|nothing_there|a|LOC|41|46|Paris|false||||Ada Lovelace of London met Émile Zola of | .
    false_positive|nothing_there|b|PER|0|6|Nobody|false||||| came .
    "##);
    assert_snapshot!(table("documents", "SELECT * FROM documents"), @r##"
    a|1|2|3
    b|0|1|0
    "##);
    assert_snapshot!(table("changes", "SELECT change, doc_id, entity_type, start_char, end_char, text FROM changes"), @r##"
    found|a|PER|0|12|Ada Lovelace
    lost|a|LOC|16|22|London
    new_error|a|ORG|16|22|London
    new_error|a|PER|33|37|Zola
    "##);
    assert_eq!(table("scores", "SELECT value FROM scores WHERE scope = 'all' AND name = 'true_positives'"), "1.0");
    // Nothing wrong is still a table.
    dir.quarry(&["evaluate", "gold.parquet", "gold.parquet", "--out", "all right [50%]"]).ended(0);
    std::fs::rename(dir.path("all right [50%]"), dir.path("perfect")).unwrap();
    let errors = dir.path("perfect/errors.parquet");
    assert_eq!(dir.sql(None, &[("errors", &errors)], "SELECT count(*) FROM errors"), ["0"]);
}

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
fn the_reference_counts_what_it_has_not_cut() {
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
    // The documents only give context, and may be gone; the other system may be a job, too.
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

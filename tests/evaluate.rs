//! `quarry evaluate`: counts equal to brute force on damaged gold, and clear errors for invalid tables.

mod by_hand;
mod calibrate;
mod edges;
mod several;
mod systems;
mod wrong;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use insta::assert_snapshot;
use serde_json::Value;

use crate::support::Dir;

/// Document, type, start, end.
type Mention = (String, String, i64, i64);

/// True positives, false positives, false negatives.
type Counted = (usize, usize, usize);

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

fn counted(value: &Value) -> Counted {
    let number = |name: &str| usize::try_from(value[name].as_u64().unwrap()).unwrap();
    (number("true_positives"), number("false_positives"), number("false_negatives"))
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
fn the_report_on_the_screen() {
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
    ┌──────────────────────────────────────────────────────────────────────────────────────────────┐
    │                          F1      95 % interval   precision   recall   right   wrong   missed │
    ╞══════════════════════════════════════════════════════════════════════════════════════════════╡
    │ strict, micro        0.2500   0.0000 to 0.2857      0.2500   0.2500       1       3        3 │
    │ strict, macro        0.1333   0.0000 to 0.1667      0.1111   0.1667                          │
    │   LOC                0.0000   0.0000 to 0.0000      0.0000   0.0000       0       0        2 │
    │   ORG                0.0000   0.0000 to 0.0000      0.0000   0.0000       0       1        0 │
    │   PER                0.4000   0.0000 to 0.5000      0.3333   0.5000       1       2        1 │
    │ span, any type       0.5000                         0.5000   0.5000       2       2        2 │
    │ partial (credit ½)   0.3750                         0.3750   0.3750                          │
    │ overlap (credit 1)   0.5000                         0.5000   0.5000                          │
    └──────────────────────────────────────────────────────────────────────────────────────────────┘
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
    ┌──────────────────────────────────────────────┐
    │ error class                   wrong   missed │
    ╞══════════════════════════════════════════════╡
    │ same span, other type             1        1 │
    │ same type, other boundaries       1        1 │
    │ overlaps another type             0        0 │
    │ no overlapping mention            1        1 │
    └──────────────────────────────────────────────┘
    confusion matrix of types (rows: gold, columns: predicted)
    ┌───────────────────────────────┐
    │        LOC   ORG   PER   none │
    ╞═══════════════════════════════╡
    │ LOC      0     1     0      1 │
    │ ORG      0     0     0      0 │
    │ PER      0     0     1      1 │
    │ none     0     0     2        │
    └───────────────────────────────┘
    documents with the most errors
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
    F1 0.2500 here, 0.3333 for `other.parquet`: difference -0.0833 (95 % interval -0.1143 to +0.0000), not significant at 0.05 (approximate randomization, p = 1.0000, 1 000 resamples, seed 1)
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
    // Without errors the table is empty, but exists.
    dir.quarry(&["evaluate", "gold.parquet", "gold.parquet", "--out", "all right [50%]"]).ended(0);
    std::fs::rename(dir.path("all right [50%]"), dir.path("perfect")).unwrap();
    let errors = dir.path("perfect/errors.parquet");
    assert_eq!(dir.sql(None, &[("errors", &errors)], "SELECT count(*) FROM errors"), ["0"]);
}

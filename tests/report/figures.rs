//! The page's figures are the store's own, and with gold they are those of `quarry evaluate`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::browser::visit;
use super::{GOLD, Page, TEXTS, gold, report, store};
use crate::promises::{corpus, job};
use crate::support::{Dir, Random};

#[test]
fn the_page_has_the_stores_own_rows() {
    let dir = Dir::new();
    store(&dir, &TEXTS, "");
    let page = report(&dir, &["store", "page.html"]);
    // Every mention of the table, at offsets where its text is.
    let mut expected = BTreeSet::new();
    for row in dir.rows("store", "entities", "doc_id, entity_type, text", "") {
        let cells: Vec<&str> = row.split('|').collect();
        expected.insert((cells[0].to_owned(), cells[1].to_owned(), cells[2].to_owned()));
    }
    let found: BTreeSet<_> = page.mentions().into_iter().map(|(id, name, text, _)| (id, name, text)).collect();
    assert!(expected.len() > 5, "{expected:?}");
    assert_eq!(found, expected);
    for row in page.documents["rows"].as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        let text = TEXTS.iter().find(|(own, _)| *own == Some(id)).and_then(|(_, text)| *text);
        assert_eq!(row["text"].as_str(), text, "{id}");
    }
    // The figures are those of the tables.
    let totals = &page.summary["totals"];
    let count = |table: &str| dir.rows("store", table, "count(*)", "")[0].parse::<u64>().unwrap();
    assert_eq!(totals["documents"].as_u64(), Some(count("documents")));
    assert_eq!(totals["mentions"].as_u64(), Some(count("entities")));
    assert_eq!(totals["rejects"].as_u64(), Some(count("rejects")));
    let figures = page.summary["figures"].as_array().unwrap();
    assert_eq!(figures.len() as u64, count("metrics"));
    for one in page.summary["types"].as_array().unwrap() {
        let sum: u64 = one["scores"].as_array().unwrap().iter().map(|bin| bin.as_u64().unwrap()).sum();
        assert_eq!(Some(sum), one["mentions"].as_u64());
    }
    let types = page.summary["types"].as_array().unwrap().iter();
    let types: Vec<String> = types.map(|one| format!("{} {} {}", one["name"], one["mentions"], one["names"])).collect();
    assert_snapshot!(types.join("\n").replace('\u{308}', "¨"), @r##"
    "ORG" 0 []
    "PER" 6 [["Emmanuel Macron",3,3],["Angela Merkel",1,1],["Barack Obama",1,1],["Zoe¨ Kravitz",1,1]]
    "LOC" 6 [["Berlin",1,1],["Chicago",1,1],["London",1,1],["Paris",1,1],["Switzerland",1,1],["Zürich",1,1]]
    "MISC" 0 []
    "##);
    let rejects = page.summary["rejects"].as_array().unwrap().iter();
    let rejects: Vec<String> =
        rejects.map(|one| format!("{} {} {}", one["reason"], one["count"], one["examples"][0][3])).collect();
    assert_snapshot!(rejects.join("\n"), @r##"
    "empty_text" 1 "the text has 0 bytes, all white space"
    "null_text" 1 "the text is null"
    "##);
}

#[test]
fn with_gold_the_page_counts_as_evaluate_does() {
    let dir = Dir::new();
    gold(&dir, "gold.parquet", &GOLD);
    let job = store(&dir, &TEXTS, &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let evaluated: Value =
        serde_json::from_str(&dir.quarry(&["evaluate", "--json", "--no-metrics", &job]).ended(0).stdout()).unwrap();
    // The store names the gold of its run.
    for operand in [job.as_str(), "store"] {
        let page = report(&dir, &[operand, "page.html"]);
        let quality = &page.summary["quality"];
        for name in ["precision", "recall", "f1", "true_positives", "false_positives", "false_negatives"] {
            assert!(evaluated["micro"][name].is_number(), "{name}");
            assert_eq!(quality["all"][name], evaluated["micro"][name], "{name}");
        }
        let confusion = evaluated["confusion"].as_array().unwrap().iter();
        let confusion: Vec<Value> =
            confusion.map(|one| json!([one["gold"], one["predicted"], one["mentions"]])).collect();
        assert_eq!(quality["confusion"], json!(confusion));
        let errors = evaluated["errors"].as_array().unwrap().iter();
        let errors: Vec<Value> = errors.map(|one| json!([one["kind"], one["reason"], one["mentions"]])).collect();
        assert_eq!(quality["kinds"], json!(errors));
        let states = |state| page.mentions().iter().filter(|one| one.3 == state).count();
        assert_eq!(json!(states(1)), quality["all"]["true_positives"]);
        assert_eq!(json!(states(2)), quality["all"]["false_positives"]);
        assert_eq!(json!(states(3)), quality["all"]["false_negatives"]);
        let right: u64 = page.summary["types"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|one| one["right"].as_array().unwrap().iter())
            .map(|bin| bin.as_u64().unwrap())
            .sum();
        assert_eq!(json!(right), quality["all"]["true_positives"]);
        // The document with most errors is the first.
        assert_eq!(page.documents["rows"][0]["id"], "🎉 d");
    }
    // Without gold the run's own scores are left, and the page says why.
    std::fs::remove_file(dir.path("gold.parquet")).unwrap();
    let page = report(&dir, &["store", "page.html"]);
    let quality = &page.summary["quality"];
    assert_eq!((&quality["joined"], &quality["all"]["f1"]), (&json!(false), &evaluated["micro"]["f1"]));
    assert!(page.summary["quality_remark"].as_str().unwrap().contains("no longer available"));
    assert_snapshot!(dir.quarry(&["report", &job, "page.html"]).ended(1).error(), @r##"
    error: cannot use the gold mentions at `DIR/gold.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
}

#[test]
fn a_part_of_the_store() {
    let dir = Dir::new();
    let texts: Vec<(String, String)> = (0..40)
        .map(|number| (format!("{number:02}"), format!("Angela Merkel met number {number} in Berlin .")))
        .collect();
    let texts: Vec<(Option<&str>, Option<&str>)> =
        texts.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    let job = store(&dir, &texts[..30], "");
    dir.documents("docs.parquet", &texts);
    dir.quarry(&["run", &job]).ended(0);
    dir.quarry(&["run", &job]).ended(0);
    let ids = |page: &Page| {
        page.documents["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // The last run found nothing new: the figures are those of the run before.
    let page = report(&dir, &["store", "page.html", "--limit", "8"]);
    assert_eq!(ids(&page), ["00", "05", "10", "15", "20", "25", "30", "35"]);
    assert_eq!((&page.documents["rule"], page.summary["runs"].as_array().unwrap().len()), (&json!("even"), 3));
    assert!(page.summary["run"].is_string());
    assert_eq!(page.summary["run"], page.summary["runs"][1]["id"]);
    let page = report(&dir, &["store", "page.html", "--limit", "0"]);
    assert_eq!(ids(&page).len(), 0);
    // A run can be named by a prefix of its id.
    let runs = dir.rows("store", "runs", "run_id", "ORDER BY started_at");
    let is_one = |beginning: &&str| runs.iter().filter(|id| id.starts_with(*beginning)).count() == 1;
    let beginning = (1..36).map(|length| &runs[0][..length]).find(is_one).unwrap();
    let page = report(&dir, &["store", "page.html", "--run", beginning]);
    assert_eq!((page.summary["totals"]["documents"].as_u64(), &page.documents["rule"]), (Some(30), &json!("all")));
    let page = report(&dir, &["store", "page.html", "--type", "LOC"]);
    assert!(page.mentions().len() > 5 && page.mentions().iter().all(|one| one.1 == "LOC"), "{:?}", page.mentions());
    assert_eq!(page.summary["types"].as_array().unwrap().len(), 1);
    let error = |arguments: &[&str]| dir.quarry(&[&["report"], arguments].concat()).ended(1).error();
    let unknown = error(&["store", "page.html", "--run", "none"]);
    assert!(unknown.starts_with("error: DIR/store/: `run`: no run has the id `none`\nhint: the latest: "), "{unknown}");
    let several = error(&["store", "page.html", "--run", &beginning[..1]]);
    assert!(several.contains("`run`: 3 runs have ids that begin with `"), "{several}");
    assert_snapshot!(error(&["nothing", "page.html"]), @r##"
    error: the store `DIR/nothing/` has no table `runs`
    hint: check the path; `quarry run` makes a store where there is none
    "##);
    assert_snapshot!(dir.quarry(&["report", "store", "nowhere/page.html"]).ended(1).error(), @r##"
    error: cannot write `nowhere/page.html`
      caused by: No such file or directory (os error 2)
    hint: check that the folder exists, that you may write there and that the disk is not full
    "##);
}

#[test]
fn a_store_of_rejects_only() {
    let dir = Dir::new();
    store(&dir, &[(Some("a"), None), (Some("b"), Some(" ")), (None, Some("text"))], "");
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!((&page.summary["totals"]["documents"], &page.summary["totals"]["rejects"]), (&json!(0), &json!(3)));
    let steps = [
        json!({"key": "j"}),
        json!({"key": "k"}),
        json!({"eval": "document.getElementById('rejects').querySelectorAll('tbody tr').length"}),
    ];
    let Some(seen) = visit(&dir.path("page.html"), &steps) else { return };
    assert_eq!(seen.values[2], json!(3));
    seen.quiet_but(&[]);
}

/// The scores of a type on a page.
fn of_type(page: &Page, name: &str) -> Value {
    let types = page.summary["quality"]["types"].as_array().unwrap();
    types.iter().find(|one| one["name"] == name).unwrap().clone()
}

#[test]
fn a_type_has_the_same_scores_alone_as_among_others() {
    let dir = Dir::new();
    gold(&dir, "gold.parquet", &GOLD);
    let job = store(&dir, &TEXTS, &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let counts = ["true_positives", "false_positives", "false_negatives", "precision", "recall", "f1"];
    let whole = report(&dir, &[&job, "page.html"]);
    // Nothing is found for the first two types, so only gold says which documents have them.
    for (name, documents) in [("ORG", 1), ("MISC", 1), ("PER", 5)] {
        let page = report(&dir, &[&job, "page.html", "--type", name]);
        for count in counts {
            assert!(of_type(&whole, name)[count].is_number(), "{name}: {count}");
            assert_eq!(page.summary["quality"]["all"][count], of_type(&whole, name)[count], "{name}: {count}");
        }
        let expected: Vec<_> = whole.mentions().into_iter().filter(|one| one.1 == name).collect();
        assert_eq!(page.mentions(), expected);
        let shown = page.documents["rows"].as_array().unwrap().len();
        let totals = &page.summary["totals"];
        assert_eq!((shown, totals["documents"].as_u64()), (documents, Some(documents as u64)), "{name}");
        // The rejects are those of all documents, and so is what they are a share of.
        assert_eq!(totals["all_documents"], whole.summary["totals"]["documents"]);
        assert_eq!(totals["rejects"], whole.summary["totals"]["rejects"]);
    }
    // So are the scores that the run measured, if gold is missing.
    std::fs::remove_file(dir.path("gold.parquet")).unwrap();
    let page = report(&dir, &["store", "page.html", "--type", "PER"]);
    assert_eq!(page.summary["quality"]["joined"], json!(false));
    for count in counts {
        assert_eq!(page.summary["quality"]["all"][count], of_type(&whole, "PER")[count], "{count}");
    }
}

#[test]
fn a_replacement_under_way_changes_neither_documents_nor_figures() {
    let dir = Dir::new();
    corpus(&dir, "docs/1.parquet", 0, 300, &mut Random(4));
    corpus(&dir, "docs/2.parquet", 1000, 200, &mut Random(5));
    let model = dir.small_model().display().to_string();
    let old = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &old]).ended(0);
    let before = report(&dir, &["store", "page.html"]);
    let new = job(&dir, "docs/1.parquet", "store", &model, "[extract]\nthreshold = 0.6");
    dir.quarry(&["run", &new, "--replace"]).ended(0);
    let page = report(&dir, &["store", "page.html"]);
    assert_eq!(page.summary["runs"].as_array().unwrap().len(), 2);
    for key in ["run", "totals", "figures", "settings"] {
        assert!(!before.summary[key].is_null() && page.summary[key] == before.summary[key], "{key}");
    }
}

#[test]
fn rejects_equal_those_of_the_view() {
    let dir = Dir::new();
    let column = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let columns = [
        ("id", column(["a", "b"])),
        ("other", column(["x", "y"])),
        ("body", column([" ", "Ada met Babbage in London ."])),
    ];
    dir.parquet("docs/1.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    dir.write("docs/2.parquet", "no Parquet");
    let model = dir.small_model().display().to_string();
    let path = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &path]).ended(3);
    // With another id column, the files are read again and the same row and file are rejected again.
    let text = std::fs::read_to_string(&path).unwrap().replace("id = 'id'", "id = 'other'");
    let other = dir.write("other.toml", &text).display().to_string();
    dir.quarry(&["run", &other]).ended(3);
    assert_eq!(dir.rows("store", "rejects", "count(DISTINCT doc_id)", "WHERE reason = 'empty_text'"), ["2"]);

    let page = report(&dir, &["store", "page.html"]);
    let shown = page.summary["rejects"].as_array().unwrap();
    let mut counted: Vec<Value> = shown.iter().map(|one| json!([one["reason"], one["count"]])).collect();
    counted.sort_by_key(ToString::to_string);
    let sql = "SELECT reason, rejects FROM rejects_by_reason ORDER BY reason";
    let rows = dir.quarry(&["sql", "store", sql, "--format", "json"]).ended(0).stdout();
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let expected: Vec<Value> = rows.map(|row| json!([row["reason"], row["rejects"]])).collect();
    assert_eq!(counted, expected);
    assert_eq!(expected, [json!(["empty_text", 1]), json!(["unreadable_file", 1])]);
    assert_eq!(page.summary["totals"]["rejects"], json!(2));
    // A file has no row.
    for one in shown {
        let row = if one["reason"] == "unreadable_file" { "" } else { "0" };
        assert_eq!(one["examples"][0][1], row, "{one}");
    }
}

#[test]
fn the_page_has_a_reliability_curve_and_a_comparison() {
    let dir = Dir::new();
    gold(&dir, "gold.parquet", &GOLD);
    let job = store(&dir, &TEXTS, &format!("gold = '{}'", dir.path("gold.parquet").display()));
    let compare = ["evaluate", "--compare", "store", "gold.parquet", "--gold", "gold.parquet", "--json"];
    let compared = dir.quarry(&compare).ended(0).stdout();
    dir.write("compared.json", &compared);
    let page = report(&dir, &[&job, "page.html", "--comparison", "compared.json"]);
    assert_eq!(page.summary["comparison"], serde_json::from_str::<Value>(&compared).unwrap());
    let quality = &page.summary["quality"];
    let sum = |one: &Value, name: &str| -> f64 {
        one["bins"].as_array().unwrap().iter().map(|bin| bin[name].as_f64().unwrap()).sum()
    };
    let reliability = quality["reliability"].as_array().unwrap();
    assert_eq!(reliability.len(), 3, "all, LOC and PER: {reliability:?}");
    let all = &reliability[0];
    let counted = |name: &str| quality["all"][name].as_f64().unwrap();
    assert!((sum(all, "right") - counted("true_positives")).abs() < 1e-9);
    assert!((sum(all, "mentions") - counted("true_positives") - counted("false_positives")).abs() < 1e-9);
    let scores: f64 =
        dir.rows("store", "current_entities", "score", "").iter().map(|one| one.parse::<f64>().unwrap()).sum();
    assert!((sum(all, "score") - scores).abs() < 1e-4, "{scores}: {all}");
    for one in reliability {
        let distance = |bin: &Value| (bin["score"].as_f64().unwrap() - bin["right"].as_f64().unwrap()).abs();
        let distances: f64 = one["bins"].as_array().unwrap().iter().map(distance).sum();
        assert!((one["error"].as_f64().unwrap() - distances / sum(one, "mentions")).abs() < 1e-9, "{one}");
    }
    let text = |section: &str| json!({"eval": format!("document.getElementById('{section}').innerText")});
    if let Some(visit) = visit(&dir.path("page.html"), &[text("scores"), text("systems")]) {
        visit.quiet_but(&[]);
        let [scores, systems] = [0, 1].map(|number: usize| visit.values[number].as_str().unwrap().to_owned());
        assert!(scores.contains("Reliability expected calibration error"), "{scores}");
        for part in ["F1 against store", "seconds per million characters", "adjusted by Holm’s method"] {
            assert!(systems.contains(part), "{part}: {systems}");
        }
    }
    dir.write("compared.json", "{}");
    let refused = dir.quarry(&["report", &job, "page.html", "--comparison", "compared.json"]).ended(1).error();
    assert!(refused.starts_with("error: cannot parse `compared.json`"), "{refused}");
    assert!(refused.ends_with("hint: write it with `quarry evaluate --compare … --json`"), "{refused}");
}

//! `quarry run` over real files with the model in the repository.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Dir, Finished, project, same_but_for_scores};

const TEXTS: [(Option<&str>, Option<&str>); 6] = [
    (Some("a"), Some("Angela Merkel met Emmanuel Macron in Berlin on Monday .")),
    (Some("b"), None),
    (None, Some("A text without an id .")),
    (Some("c"), Some(" \u{3000}\r\n ")),
    (Some("d"), Some("Zoe\u{308} Kravitz 🎉 lives in Zürich 👩\u{200d}👩\u{200d}👧 , Switzerland .")),
    (Some("e"), Some("\u{200b}")),
];

const MENTIONS: &str = "doc_id || '|' || entity_type || '|' || start_char || '|' || end_char || '|' || text";

#[test]
fn every_document_is_extracted_or_refused_with_a_reason() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &TEXTS);
    let job = dir.job("docs.parquet", "store", "");
    let finished = dir.quarry(&["run", &job.display().to_string()]).ended(0);
    assert!(finished.stdout().contains("mentions"), "{}", finished.stdout());
    assert_eq!(dir.rows("store", "documents", "doc_id || ' ' || n_windows", "ORDER BY doc_id"), ["a 1", "d 1", "e 0"]);
    let rejects = dir.rows("store", "rejects", "row, reason", "ORDER BY \"row\"");
    assert_eq!(rejects, ["1|null_text", "2|null_id", "3|empty_text"]);
    let mentions = dir.rows("store", "entities", MENTIONS, "ORDER BY doc_id, start_char, entity_type");
    for expected in ["a|PER|0|13|Angela Merkel", "a|PER|18|33|Emmanuel Macron", "a|LOC|37|43|Berlin"] {
        assert!(mentions.iter().any(|mention| mention == expected), "{expected} is not in {mentions:?}");
    }
    // The decomposed diaeresis belongs to the name, and the code points of the emoji family are counted one by one.
    assert!(mentions.iter().any(|mention| mention.ends_with("|Zoe\u{308} Kravitz")), "{mentions:?}");
    let runs = dir.rows("store", "runs", "outcome, device, precision", "");
    assert_eq!(runs.len(), 1);
    assert!(runs[0].starts_with("done|cpu|"), "{runs:?}");
}

#[test]
fn a_text_whose_logits_are_not_finite_is_one_reject() {
    let dir = Dir::new();
    let model = dir.unanswering_model();
    let text = |number: usize| if number == 7 { "He left for Paris today ." } else { "He left for Rome today ." };
    let ids: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let rows: Vec<_> = ids.iter().enumerate().map(|(number, id)| (Some(id.as_str()), Some(text(number)))).collect();
    dir.documents("docs.parquet", &rows);
    let section = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", model.display());
    let job = dir.job("docs.parquet", "store", &section).display().to_string();
    dir.quarry(&["run", &job]).ended(0);
    let rejects = dir.rows("store", "rejects", "\"row\", reason, detail", "");
    assert_eq!(rejects, ["7|unanswerable|the model's logits are not finite for bytes 0 to 25 of the text"]);
    assert_eq!(dir.rows("store", "documents", "count(*)", ""), ["299"]);
}

#[test]
fn several_devices_share_the_batches_and_write_the_same_rows() {
    let dir = Dir::new();
    let cities = ["Paris", "Rome", "Oslo", "New York"];
    let texts: Vec<(String, String)> = (0..400)
        .map(|number| {
            let city = cities[number % cities.len()];
            (number.to_string(), format!("{}Ada Lovelace left for {city} .", "It was late . ".repeat(number % 7)))
        })
        .collect();
    let rows: Vec<_> = texts.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    dir.documents("docs.parquet", &rows);
    let mentions = |devices: &str| {
        let store = format!("store-{}", devices.len());
        let sections = format!(
            "[model]\npath = '{}'\ndevice = '{devices}'\nprecision = 'fp32'\n[extract]\nbatch_tokens = 256",
            project().join("models/default").display()
        );
        let job = dir.job("docs.parquet", &store, &sections).display().to_string();
        let profile = dir.path("profile.json").display().to_string();
        dir.quarry(&["run", &job, "--profile", &profile]).ended(0);
        assert_eq!(dir.rows(&store, "runs", "device", ""), [devices]);
        let answering = fs::read_to_string(profile).unwrap().matches("\"session-").count();
        (dir.rows(&store, "entities", &format!("{MENTIONS} || '|', score"), "ORDER BY 1"), answering)
    };
    let (one, sessions) = mentions("cpu");
    assert!(one.len() >= 800 && sessions == 1, "{} mentions, {sessions} sessions", one.len());
    let (three, sessions) = mentions("cpu,cpu,cpu");
    assert_eq!(sessions, 3);
    same_but_for_scores(&one, &three, 1e-4);
}

#[test]
fn a_model_whose_logits_are_not_finite_for_many_texts_is_an_error() {
    let dir = Dir::new();
    let model = dir.unanswering_model();
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let text = |number: usize| if number.is_multiple_of(3) { "He left for Paris ." } else { "He left for Rome ." };
    let rows: Vec<_> = ids.iter().enumerate().map(|(number, id)| (Some(id.as_str()), Some(text(number)))).collect();
    dir.documents("docs.parquet", &rows);
    let section = format!("[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'", model.display());
    let job = dir.job("docs.parquet", "store", &section).display().to_string();
    assert_snapshot!(dir.quarry(&["run", &job]).ended(1).error(), @r##"
    error: the model cannot answer 14 of 40 documents: its logits are not finite
    hint: check the weights (`quarry doctor`), or name another precision, such as `precision = "fp32"`
    "##);
    assert_eq!(dir.rows("store", "documents", "count(*)", ""), ["0"]);
}

#[test]
fn the_program_runs_without_model_and_schema_files() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &TEXTS);
    // Neither file is in the folder it runs in.
    let own = "[entities]\nschema = 'schemas/conll03.toml'\n[model]\npath = 'models/default'\ndevice = 'cpu'";
    let job = dir.job("docs.parquet", "store", own).display().to_string();
    let mut command = dir.command(&["run", &job]);
    command.env("XDG_DATA_HOME", dir.path("none"));
    let said = dir.finish(command).ended(0).stderr();
    assert!(said.contains("model `models/default` is loaded from the program"), "{said}");
    assert!(dir.rows("store", "entities", MENTIONS, "").contains(&"a|LOC|37|43|Berlin".to_owned()));
}

#[test]
fn offsets_hold_in_sql_for_every_row_of_the_demonstration() {
    let dir = Dir::new();
    let documents = project().join("jobs/demo/documents.parquet");
    let text = fs::read_to_string(project().join("jobs/demo.toml")).unwrap();
    let text = text
        .replace("path = \"store/demo\"", &format!("path = '{}'", dir.path("store").display()))
        .replace("\"jobs/", &format!("\"{}/jobs/", project().display()))
        .replace("\"schemas/", &format!("\"{}/schemas/", project().display()))
        .replace("\"models/", &format!("\"{}/models/", project().display()));
    let job = dir.write("demo.toml", &text);

    // A signal stops the run in a few seconds; the tables contain only whole documents.
    let stopped = dir.stopped_at_work(&["run", &job.display().to_string()]).ended(143);
    assert_eq!(stopped.error(), "error: stopped by SIGTERM");
    assert_eq!(dir.rows("store", "runs", "outcome", ""), ["stopped"]);

    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    let sql =
        "SELECT count(*) > 1000, count(*) FILTER (WHERE substr(body, start_char + 1, end_char - start_char) <> text),
        count(DISTINCT e.doc_id) > 60 FROM entities e JOIN source s ON e.doc_id = s.doc_id";
    assert_eq!(dir.sql(Some("store"), &[("source", &documents)], sql), ["true|0|true"]);
    let documents = dir.rows("store", "documents", "count(*), max(n_windows) > 50, sum(n_entities)", "");
    let entities = dir.rows("store", "entities", "count(*)", "");
    assert_eq!(documents, [format!("96|true|{}", entities[0])]);

    // Again: nothing is new, no data is written, and the exit code is 0.
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    assert_eq!(dir.rows("store", "entities", "count(*)", ""), entities);
    assert_eq!(dir.rows("store", "runs", "count(*)", "WHERE outcome = 'done'"), ["2"]);
}

/// The mentions of the demonstration's English documents under the given settings.
fn mentions(dir: &Dir, store: &str, sections: &str) -> Vec<String> {
    let job = dir.job("docs.parquet", store, sections);
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    let columns = "doc_id, entity_type, start_char, end_char, text, \"window\", score";
    dir.rows(store, "entities", columns, "ORDER BY 1, 3, 4, 2")
}

#[test]
fn rows_do_not_depend_on_batches() {
    let dir = Dir::new();
    let sql = "SELECT doc_id AS id, body FROM source WHERE length(body) < 3000 ORDER BY doc_id LIMIT 24";
    let source = project().join("jobs/demo/documents.parquet");
    let rows = dir.sql(None, &[("source", &source)], &format!("SELECT id || '\u{1f}' || body FROM ({sql})"));
    let pairs: Vec<(Option<&str>, Option<&str>)> =
        rows.iter().filter_map(|row| row.split_once('\u{1f}')).map(|(id, body)| (Some(id), Some(body))).collect();
    assert_eq!(pairs.len(), 24);
    dir.documents("docs.parquet", &pairs);
    let large = mentions(&dir, "large", "[extract]\nwindow_tokens = 64\noverlap_tokens = 16\nbatch_tokens = 16384");
    let small = mentions(&dir, "small", "[extract]\nwindow_tokens = 64\noverlap_tokens = 16\nbatch_tokens = 300");
    assert!(large.len() > 50, "{large:?}");
    // In int8 each token has its own scale, but batches of other shapes can add in another order, and then a value can be rounded to the
    // next of 255: logits are the same to a tenth (`parity`), and a score, which is σ of one, to a quarter of that.
    same_but_for_scores(&large, &small, 0.1 / 4.0);
}

/// Runs a job over `docs.parquet` with a model whose quarry.json has `value` under `key`.
fn run_trained(dir: &Dir, model: &Path, (key, value): (&str, Value), store: &str, extract: &str) -> Finished {
    let path = model.join("quarry.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest[key] = value;
    fs::write(&path, manifest.to_string()).unwrap();
    let sections = format!(
        "[model]\npath = '{}'\ndevice = 'cpu'\nprecision = 'fp32'\n[extract]\nbatch_tokens = 1024\n{extract}",
        model.display()
    );
    dir.quarry(&["run", &dir.job("docs.parquet", store, &sections).display().to_string()])
}

/// The specification of a store's only run.
fn spec(dir: &Dir, store: &str) -> Value {
    let job: Value = serde_json::from_str(&dir.rows(store, "runs", "job", "")[0]).unwrap();
    job["spec"].clone()
}

#[test]
fn words_default_to_those_of_the_training() {
    let dir = Dir::new();
    // One word by white space, several for the tokenizer.
    let text = "Ada-Lovelace,Charles-Babbage;London/Turin:Nairobi-Alabama";
    dir.documents("docs.parquet", &[(Some("a"), Some(text))]);
    let model = dir.small_model();
    for (number, (trained_on, extract, expected)) in [
        (None, "", "tokenizer"),
        (Some("whitespace"), "", "whitespace"),
        (Some("whitespace"), "words = 'tokenizer'", "tokenizer"),
        (None, "words = 'whitespace'", "whitespace"),
    ]
    .into_iter()
    .enumerate()
    {
        let store = format!("store{number}");
        // Nearly everything is a mention.
        let extract = format!("threshold = 1e-6\nboundary_threshold = 1e-6\n{extract}");
        run_trained(&dir, &model, ("words", trained_on.into()), &store, &extract).ended(0);
        assert_eq!(spec(&dir, &store)["words"], expected, "trained on {trained_on:?}, `{extract}`");
        let found = dir.rows(&store, "entities", "DISTINCT text", "WHERE text IS NOT NULL");
        assert!(!found.is_empty());
        assert_eq!(found.iter().all(|one| one == text), expected == "whitespace", "{found:?}");
    }
}

#[test]
fn windows_default_to_those_that_suit_the_model() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &[(Some("a"), Some("Paul Kagame spoke to reporters in Nairobi ."))]);
    let model = dir.small_model();
    let run = |trained_on: Option<usize>, store: &str, extract: &str| {
        run_trained(&dir, &model, ("window_tokens", trained_on.into()), store, extract)
    };
    for (number, (trained_on, extract, expected)) in [
        (None, "", [256, 32]),
        (Some(40), "", [40, 5]),
        (Some(40), "overlap_tokens = 20", [40, 20]),
        (Some(40), "window_tokens = 100", [100, 12]),
        // The model takes 512 tokens, of which the longest question takes 21.
        (Some(600), "", [491, 61]),
    ]
    .into_iter()
    .enumerate()
    {
        let store = format!("store{number}");
        run(trained_on, &store, extract).ended(0);
        let spec = spec(&dir, &store);
        let found = ["tokens", "overlap"].map(|key| spec["windows"][key].as_i64().unwrap());
        assert_eq!(found, expected, "trained on {trained_on:?}, `{extract}`");
    }
    let said = run(Some(40), "none", "overlap_tokens = 21").ended(1);
    assert!(
        said.error().contains("`extract.overlap_tokens`: 21 is more than half of window_tokens (40)"),
        "{}",
        said.error()
    );
}

#[test]
fn files_with_any_characters_in_their_names_are_read() {
    let dir = Dir::new();
    let text = "Paul Kagame spoke to reporters in Nairobi .";
    let names = ["Z\u{fc}rich ~ #1", "a%20b", "100% {x} ^", "x[1]"];
    for (number, name) in names.iter().enumerate() {
        let id = number.to_string();
        dir.documents(&format!("j\u{fc}rgen~/parquet/{name}.parquet"), &[(Some(&id), Some(text))]);
        let line = serde_json::json!({ "id": id, "body": text });
        dir.write(&format!("j\u{fc}rgen~/jsonl/{name}.jsonl"), &format!("{line}\n"));
    }
    for format in ["parquet", "jsonl"] {
        let job = dir.job(&format!("j\u{fc}rgen~/{format}"), format, "");
        dir.quarry(&["run", &job.display().to_string()]).ended(0);
        let rows = dir.rows(format, "sources", "rows, outcome", "");
        assert_eq!(rows, vec!["1|done"; names.len()], "{format}");
        assert_eq!(dir.rows(format, "documents", "count(*)", ""), [names.len().to_string()], "{format}");
    }
}

#[test]
fn the_three_formats_give_the_same_rows_and_where_is_pushed_into_the_scan() {
    let dir = Dir::new();
    let names = ["Paul Kagame", "Ada Lovelace", "Rosa Parks", "Alan Turing", "Marie Curie"];
    let bodies: Vec<String> =
        names.iter().map(|name| format!("{name} spoke to reporters in Nairobi , Kenya .")).collect();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![10, 11, 12, 13, 14]));
    let texts: ArrayRef = Arc::new(StringArray::from(bodies.clone()));
    dir.parquet("docs.parquet", &RecordBatch::try_from_iter([("id", ids), ("body", texts)]).unwrap());
    let lines = |line: &dyn Fn(usize, &str) -> String| {
        bodies.iter().enumerate().map(|(row, body)| line(row + 10, body)).collect::<String>()
    };
    dir.write("docs.jsonl", &lines(&|id, body| format!("{{\"id\": {id}, \"body\": \"{body}\"}}\n")));
    dir.write("docs.csv", &format!("id,body\n{}", lines(&|id, body| format!("{id},\"{body}\"\n"))));
    let mut all = Vec::new();
    for (format, store) in [("docs.parquet", "parquet"), ("docs.jsonl", "jsonl"), ("docs.csv", "csv")] {
        let job = dir.job(format, store, "");
        let text = fs::read_to_string(&job)
            .unwrap()
            .replace("text = 'body'", "text = 'body'\nwhere = 'id >= 12 AND id <> 13'");
        let job = dir.write(&format!("{store}-where.toml"), &text).display().to_string();
        let plan = dir.quarry(&["run", &job, "--explain"]).ended(0).stdout();
        assert!(plan.contains("ExtractExec: model=") && plan.contains("WriteExec: "), "{plan}");
        if format == "docs.parquet" {
            assert!(plan.contains("predicate=id@0 >= 12 AND id@0 != 13"), "{plan}");
        }
        dir.quarry(&["run", &job]).ended(0);
        let found = dir.rows(store, "entities", "doc_id, entity_type, start_char, end_char, text", "ORDER BY 1, 3");
        assert!(found.iter().any(|row| row == "12|PER|0|10|Rosa Parks"), "{found:?}");
        assert!(!found.iter().any(|row| row.starts_with("13|") || row.starts_with("11|")), "{found:?}");
        let types = dir.rows(store, "entities", "DISTINCT arrow_typeof(doc_id)", "");
        // In CSV an id is what is written.
        assert_eq!(types == ["Int64"], format != "docs.csv", "{types:?}");
        all.push(found);
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

#[test]
fn the_row_of_a_reject_is_its_row_in_the_file_whatever_the_filter() {
    let dir = Dir::new();
    dir.write(
        "docs.jsonl",
        "{\"id\": 1, \"body\": \"x\"}\n{\"id\": 2, \"body\": \"y\"}\n{\"id\": 3, \"body\": \" \"}\n",
    );
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", " "]));
    dir.parquet("docs.parquet", &RecordBatch::try_from_iter([("id", ids), ("body", texts)]).unwrap());
    for (format, store) in [("docs.parquet", "parquet"), ("docs.jsonl", "jsonl")] {
        let job = dir.job(format, store, "");
        let text = fs::read_to_string(&job).unwrap().replace("text = 'body'", "text = 'body'\nwhere = 'id > 1'");
        let job = dir.write("where.toml", &text).display().to_string();
        dir.quarry(&["run", &job]).ended(0);
        let rejects = dir.rows(store, "rejects", "source LIKE '/%' || '.%', \"row\", doc_id, reason", "");
        assert_eq!(rejects, ["true|2|3|empty_text"], "{format}");
    }
}

#[test]
fn of_one_id_the_last_row_wins_in_every_format() {
    let dir = Dir::new();
    let model = dir.small_model().display().to_string();
    let ids: Vec<i64> = (0..900).map(|row| if row == 700 { 100 } else { row }).collect();
    let body = |row: usize| format!("Ada Lovelace met Babbage {row} .");
    let lines = |line: &dyn Fn(i64, &str) -> String| -> String {
        ids.iter().enumerate().map(|(row, id)| line(*id, &body(row))).collect()
    };
    dir.write("docs.jsonl", &lines(&|id, body| format!("{{\"id\": {id}, \"body\": \"{body}\"}}\n")));
    dir.write("docs.csv", &format!("id,body\n{}", lines(&|id, body| format!("{id},\"{body}\"\n"))));
    let texts: ArrayRef = Arc::new((0..900).map(|row| Some(body(row))).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new(Int64Array::from(ids.clone()));
    dir.parquet("docs.parquet", &RecordBatch::try_from_iter([("id", numbers), ("body", texts)]).unwrap());
    for (format, store) in [("docs.parquet", "parquet"), ("docs.jsonl", "jsonl"), ("docs.csv", "csv")] {
        let job = dir.job(format, store, &format!("[model]\npath = '{model}'\ndevice = 'cpu'\nprecision = 'fp32'"));
        dir.quarry(&["run", &job.display().to_string()]).ended(0);
        assert_eq!(dir.rows(store, "rejects", "\"row\", doc_id, reason", ""), ["100|100|duplicate_id"], "{format}");
        assert_eq!(dir.rows(store, "documents", "count(*), count(DISTINCT doc_id)", ""), ["899|899"], "{format}");
    }
}

#[test]
fn an_unreadable_file_is_a_reject_and_exit_code_3_until_it_is_repaired() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &TEXTS[..1]);
    dir.write("docs/b.parquet", "no Parquet");
    let job = dir.job("docs", "store", "").display().to_string();
    for _ in 0..2 {
        let finished = dir.quarry(&["run", &job]).ended(3);
        assert!(finished.stderr().contains("b.parquet` cannot be read"), "{}", finished.stderr());
        assert_eq!(dir.rows("store", "rejects", "\"row\", reason", ""), ["-1|unreadable_file"]);
        assert_eq!(dir.rows("store", "documents", "doc_id", ""), ["a"]);
    }
    dir.documents("docs/b.parquet", &[(Some("z"), Some("Kofi Annan was born in Kumasi ."))]);
    dir.quarry(&["run", &job]).ended(0);
    assert_eq!(dir.rows("store", "documents", "doc_id", "ORDER BY doc_id"), ["a", "z"]);
}

#[test]
fn gold_entities_give_scores() {
    let dir = Dir::new();
    dir.documents("docs.parquet", &TEXTS[..1]);
    let string = |values: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let number = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let gold = RecordBatch::try_from_iter([
        ("doc_id", string(vec!["a", "a", "other"])),
        ("entity_type", string(vec!["PER", "ORG", "PER"])),
        ("start_char", number(vec![0, 37, 0])),
        ("end_char", number(vec![13, 43, 5])),
    ]);
    let gold = dir.parquet("gold.parquet", &gold.unwrap());
    let job = dir.job("docs.parquet", "store", "");
    let text = fs::read_to_string(&job)
        .unwrap()
        .replace("text = 'body'", &format!("text = 'body'\ngold = '{}'", gold.display()));
    let job = dir.write("gold.toml", &text);
    dir.quarry(&["run", &job.display().to_string()]).ended(0);
    // Found: two persons and a place; gold: one of the persons, and the place as an organization.
    let counts = dir.rows(
        "store",
        "metrics",
        "name, value",
        "WHERE scope = 'all' AND name LIKE '%itives' OR scope = 'all' AND name LIKE '%atives' ORDER BY name",
    );
    let counts: Vec<&str> = counts.iter().map(String::as_str).collect();
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert_eq!(counts, ["false_negatives|1.0", "false_positives|2.0", "true_positives|1.0"]);
}

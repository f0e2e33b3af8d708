//! Whole commands with a model of the GLiNER family: windows of words, split prompts, files under the names that are common, the hub.

use std::path::Path;

use quarry::task::entity_schema::{EntityType, Nesting};
use serde_json::Value;

use super::{exported, figures, mentions, opened};
use crate::hub;
use crate::support::{Dir, same_but_for_scores};

/// A job over `docs.parquet` with a model and types without questions.
fn job(dir: &Dir, store: &str, model: &Path, types: &[&str], sections: &str) -> String {
    let types: Vec<String> = types.iter().map(|name| format!("[[entities.type]]\nname = '{name}'\n")).collect();
    let types = types.concat();
    let sections = format!(
        "[entities]\nnested = true\n{types}[model]\npath = '{}'\ndevice = 'cpu'\n[extract]\nthreshold = 0.35\n{sections}",
        model.display()
    );
    dir.job("docs.parquet", store, &sections).display().to_string()
}

/// The mentions of a store.
fn found(dir: &Dir, store: &str) -> Vec<String> {
    let columns = "doc_id, entity_type, start_char, end_char, text, score";
    dir.rows(store, "entities", columns, "ORDER BY doc_id, start_char, end_char, entity_type")
}

const TYPES: [&str; 3] = ["person", "place", "date"];

#[test]
fn a_run_finds_what_the_package_finds() {
    for name in ["span", "token"] {
        let (dir, figures) = (Dir::new(), figures());
        let rows: Vec<(String, &String)> =
            figures.texts.iter().enumerate().map(|(id, text)| (format!("{id}"), text)).collect();
        let rows: Vec<_> = rows.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
        dir.documents("docs.parquet", &rows);
        let model = exported(&dir, name);
        let job = job(&dir, "store", &model, &TYPES, "");
        let plan = dir.quarry(&["run", &job, "--explain"]).ended(0).stdout();
        assert!(plan.contains("gliner") && !plan.contains("split prompts"), "{plan}");
        let said = dir.quarry(&["doctor", "--within", "60", &job]).ended(0).stdout();
        let mode = if name == "span" { "span mode, at most 4 words" } else { "token mode" };
        assert!(said.contains(&format!("gliner ({mode}; 24 words at once)")), "{said}");
        let ended = dir.quarry(&["run", &job, "--json"]).ended(0);
        assert!(ended.stderr().contains("is read as a model of the GLiNER family"), "{}", ended.stderr());
        let summary: Value = serde_json::from_str(&ended.stdout()).unwrap();
        assert_eq!((&summary["documents"], &summary["prompts_split"]), (&5.into(), &0.into()));
        let case = figures.models[name]
            .iter()
            .find(|case| case.types == TYPES && case.nested == Nesting::Nested && case.threshold < 0.5);
        let mut expected = Vec::new();
        for (id, mentions) in case.unwrap().mentions.iter().enumerate() {
            let Some(mentions) = mentions else { continue };
            for (label, start, end, score) in mentions {
                let text: String = figures.texts[id].chars().skip(*start).take(end - start).collect();
                expected
                    .push(((id, *start, *end, label.clone()), format!("{id}|{label}|{start}|{end}|{text}|{score}")));
            }
        }
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        let expected: Vec<String> = expected.into_iter().map(|(_, row)| row).collect();
        assert!(expected.len() > 20);
        // The last text is longer than the model reads at once.
        let found: Vec<String> = found(&dir, "store").into_iter().filter(|row| !row.starts_with("4|")).collect();
        same_but_for_scores(&found, &expected, 1e-4);
        assert_eq!(dir.rows("store", "documents", "n_windows", "WHERE doc_id = '4'"), ["2"]);
    }
}

#[test]
fn try_and_evaluate_take_such_a_model() {
    let dir = Dir::new();
    let model = exported(&dir, "span").display().to_string();
    let text = &figures().texts[0];
    let arguments = ["try", text, "--model", &model, "--types", "person,place,date", "--threshold", "0.35", "--json"];
    let said: Value = serde_json::from_str(&dir.quarry(&arguments).ended(0).stdout()).unwrap();
    let types = |names: [&str; 3]| names.map(|name| EntityType::new(name, "")).to_vec();
    let expected = mentions(&opened(Path::new(&model), types(TYPES), Nesting::Nested, 0.35), text);
    let found: Vec<_> =
        said["mentions"].as_array().unwrap().iter().map(|one| one["entity_type"].as_str().unwrap()).collect();
    assert_eq!(found, expected.iter().map(|one| one.0.as_str()).collect::<Vec<_>>());
    // Its own mentions as gold: it is right about all of them, and a calibration has pairs.
    dir.documents("docs.parquet", &[(Some("a"), Some(text)), (Some("b"), Some(&figures().texts[1]))]);
    let job = job(&dir, "store", Path::new(&model), &TYPES, "");
    dir.quarry(&["run", &job]).ended(0);
    let evaluate = ["evaluate", &job, "store", "--documents", "docs.parquet", "--id", "id", "--text", "body", "--json"];
    let said: Value = serde_json::from_str(&dir.quarry(&evaluate).ended(0).stdout()).unwrap();
    assert_eq!(said["micro"]["f1"].as_f64(), Some(1.0), "{said}");
    let calibrated: Value =
        serde_json::from_str(&dir.quarry(&[&evaluate[..], &["--calibrate"]].concat()).ended(0).stdout()).unwrap();
    // Decided again among all candidates, the mentions are those of the run.
    assert_eq!(calibrated["before"]["f1"].as_f64(), Some(1.0), "{calibrated}");
}

#[test]
fn a_long_document_is_read_in_overlapping_windows() {
    let dir = Dir::new();
    let model = exported(&dir, "token");
    let text = "Ada met Bob in Oslo. They left for Nyon on 5 June and wrote to Carla, who stayed. ".repeat(20);
    let extractor = opened(&model, TYPES.map(|name| EntityType::new(name, "")).to_vec(), Nesting::Nested, 0.35);
    let windows: Vec<_> =
        extractor.windows(quarry::text::document::Document { text: &text }).map(Result::unwrap).collect();
    let words = |window: &quarry::text::window::Window| window.tokens.iter().filter(|token| token.starts_word).count();
    assert!(windows.len() > 17 && windows.iter().all(|window| words(window) <= 24), "{}", windows.len());
    // A sentence of words is a window, and what is around it is in others.
    assert!(windows.iter().all(|window| window.tokens[0].starts_word && window.tokens.last().unwrap().ends_word));
    let found = mentions(&extractor, &text);
    let last = found.iter().map(|one| one.2).max().unwrap();
    assert!(found.len() > 40 && last > text.chars().count() - 90, "{} mentions up to {last}", found.len());
}

#[test]
fn prompts_that_would_push_the_text_out_are_split_and_counted() {
    let dir = Dir::new();
    let model = exported(&dir, "token-bert");
    let types = [
        "a place where many people live together for years",
        "an organization of any kind or by any name at all",
        "the sum of money that is to be paid to others by",
    ];
    let texts = [
        "Ada met Charles Babbage in London.",
        "München",
        "The well-known bank paid 4,000 to the people of St. Ann, who met in London and in Oslo.",
    ];
    let rows: Vec<_> = ["a", "b", "c"].into_iter().zip(texts).map(|(id, text)| (Some(id), Some(text))).collect();
    dir.documents("docs.parquet", &rows);
    let job = job(&dir, "store", &model, &types, "window_tokens = 30");
    let plan = dir.quarry(&["run", &job, "--explain"]).ended(0).stdout();
    assert!(plan.contains("windows with split prompts"), "{plan}");
    let summary: Value =
        serde_json::from_str(&dir.quarry(&["run", &job, "--json", "--metrics-file", "run.prom"]).ended(0).stdout())
            .unwrap();
    let windows: usize =
        dir.rows("store", "documents", "n_windows", "").iter().map(|count| count.parse::<usize>().unwrap()).sum();
    let split = summary["prompts_split"].as_u64().unwrap() as usize;
    assert!(windows > 3 && split == windows, "{split} of {windows}");
    let metric = |name: &str| {
        dir.rows("store", "metrics", "value", &format!("WHERE scope = 'all' AND name = '{name}'"))[0].clone()
    };
    assert_eq!(metric("prompts_split").parse::<f64>().unwrap() as usize, split);
    assert!(metric("queries").parse::<f64>().unwrap() as usize > windows);
    let prometheus = std::fs::read_to_string(dir.path("run.prom")).unwrap();
    assert!(
        prometheus.contains(&format!("}} {split}\n")) && prometheus.contains("quarry_run_prompts_split"),
        "{prometheus}"
    );
    // Each of these types fills a prompt alone: it is answered as if it were asked alone.
    let together = found(&dir, "store");
    let mut alone = Vec::new();
    for (number, name) in types.into_iter().enumerate() {
        let store = format!("alone-{number}");
        let job = self::job(&dir, &store, &model, &[name], "window_tokens = 30");
        dir.quarry(&["run", &job]).ended(0);
        alone.extend(found(&dir, &store));
    }
    assert!(together.len() > 10, "{together:?}");
    let sorted = |mut rows: Vec<String>| {
        rows.sort_by_key(|row| row.rsplit_once('|').unwrap().0.to_owned());
        rows
    };
    same_but_for_scores(&sorted(together), &sorted(alone), 1e-5);
}

#[test]
fn the_batch_decides_nothing() {
    let dir = Dir::new();
    let texts = figures().texts;
    let rows: Vec<(String, String)> =
        (0..40).map(|id| (format!("{id:02}"), texts[id % 5].repeat(1 + id % 3))).collect();
    let rows: Vec<_> = rows.iter().map(|(id, text)| (Some(id.as_str()), Some(text.as_str()))).collect();
    dir.documents("docs.parquet", &rows);
    for name in ["span-bert", "token"] {
        let model = exported(&dir, name);
        let run = |store: String, tokens: usize| {
            let sections = format!("batch_tokens = {tokens}");
            dir.quarry(&["run", &job(&dir, &store, &model, &TYPES, &sections)]).ended(0);
            found(&dir, &store)
        };
        let one = run(format!("one-{name}"), 1);
        assert!(one.len() > 100);
        same_but_for_scores(&one, &run(format!("many-{name}"), 4096), 1e-5);
    }
}

#[test]
fn graphs_have_the_names_that_are_common() {
    let dir = Dir::new();
    let model = exported(&dir, "token");
    let text = &figures().texts[0];
    let asked = || mentions(&opened(&model, vec![EntityType::new("person", "")], Nesting::Flat, 0.35), text);
    let expected = asked();
    assert!(!expected.is_empty());
    std::fs::create_dir(model.join("onnx")).unwrap();
    let mut now = model.join("model.onnx");
    for name in ["onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx"] {
        std::fs::rename(&now, model.join(name)).unwrap();
        now = model.join(name);
        assert_eq!(asked(), expected, "{name}");
    }
    // The first of them counts.
    std::fs::write(model.join("model_quantized.onnx"), std::fs::read(&now).unwrap()).unwrap();
    std::fs::write(&now, b"damaged").unwrap();
    assert_eq!(asked(), expected);
}

#[test]
fn a_model_is_fetched_from_the_hub() {
    let dir = Dir::new();
    let model = exported(&dir, "span");
    std::fs::create_dir(model.join("onnx")).unwrap();
    std::fs::rename(model.join("model.onnx"), model.join("onnx/model.onnx")).unwrap();
    // Weights of PyTorch are of no use here.
    dir.write("span/pytorch_model.bin", "weights");
    let hub = hub::Hub::start(&model);
    let try_it = |endpoint: &str| {
        let text = &figures().texts[0];
        hub::run(
            &dir,
            endpoint,
            &["try", text, "--model", "hf://some-one/tiny", "--types", "person", "--threshold", "0.35"],
        )
    };
    let said = try_it(&hub.endpoint).ended(0).stdout();
    assert!(said.contains("person"), "{said}");
    assert_eq!(try_it("http://127.0.0.1:9").ended(0).stdout(), said);
    let snapshots = std::fs::read_dir(dir.path("hub/hub/models--some-one--tiny/snapshots")).unwrap();
    let snapshot = snapshots.map(|entry| entry.unwrap().path()).next().unwrap();
    assert!(snapshot.join("onnx/model.onnx").exists() && !snapshot.join("pytorch_model.bin").exists());
    // Without a graph, the way out is to export one.
    let other = Dir::new();
    std::fs::remove_dir_all(model.join("onnx")).unwrap();
    let said = hub::run(
        &other,
        &hub::Hub::start(&model).endpoint,
        &["try", "Ada", "--model", "hf://some-one/tiny", "--types", "x"],
    );
    let said = said.ended(1).error();
    assert!(said.contains("but no tokenizer.json with an ONNX file") && said.contains("export_to_onnx"), "{said}");
}

//! Errors and warnings for invalid data and recipes.

use super::{corpus, job, replace, task, train};
use crate::support::Dir;

#[test]
fn bad_input_is_named() {
    let dir = task();
    let error = |dir: &Dir, recipe: &str| {
        let path = job(dir, "model", recipe);
        train(dir, &path).ended(1).error()
    };
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "SHIP", "start_char": 0, "end_char": 3}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("the schema has no question for SHIP"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "PER", "start_char": 0, "end_char": 3000}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("a mention of `dev0` ends at 3000, but its text has"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "nowhere", "entity_type": "PER", "start_char": 0, "end_char": 3}"#);
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("1 of its doc_ids have no document with a text, such as `nowhere`"), "{text}");
    dir.write("dev/gold.jsonl", r#"{"doc_id": "dev0", "entity_type": "PER", "start_char": 0, "end_char": 1}"#);
    let path = job(&dir, "model", "max_epochs = 1");
    replace(&dir, &path, "[entities]", "misaligned = 'stop'\n[entities]");
    let text = train(&dir, &path).ended(1).error();
    assert!(text.contains("1 of 1 gold mentions begin or end inside a word"), "{text}");
    dir.write("dev/documents.jsonl", "{\"doc_id\": \"dev0\", \"text\": null}\n");
    let text = error(&dir, "max_epochs = 1");
    assert!(text.contains("it contains no document with a text"), "{text}");
}

fn append(dir: &Dir, name: &str, lines: &str) {
    let text = std::fs::read_to_string(dir.path(name)).unwrap();
    dir.write(name, &(text + lines));
}

#[test]
fn ignored_rows_are_reported() {
    let dir = task();
    corpus(&dir, "more", 20, 4);
    let splits = ["train", "dev", "test", "more"];
    for split in splits {
        let blank = format!("{{\"doc_id\": \"{split}-blank\", \"text\": null}}\n");
        append(&dir, &format!("{split}/documents.jsonl"), &blank);
        let row = |start: &str| {
            let places = format!(r#""start_char": {start}, "end_char": 3"#);
            format!("{{\"doc_id\": \"{split}0\", \"entity_type\": \"PER\", {places}}}\n")
        };
        append(&dir, &format!("{split}/gold.jsonl"), &["null", "5", "-2"].map(row).concat());
    }
    let path = job(&dir, "model", "max_epochs = 1\n[[data.extra]]\npath = 'more'");
    let said = train(&dir, &path).ended(0).stderr();
    for split in splits {
        let documents = "1 row(s) without an id or a text are skipped, such as";
        let gold = "1 row(s) with a null in doc_id, entity_type, start_char or end_char, \
            2 row(s) whose end is not behind the start or whose start is negative are ignored, such as PER from -2 to 3 of";
        for sentence in [
            format!("`{split}/documents.jsonl`: {documents} `{split}-blank`"),
            format!("`{split}/gold.jsonl`: {gold} `{split}0`"),
        ] {
            assert!(said.contains(&sentence), "{sentence} is not in\n{said}");
        }
    }
}

#[test]
fn a_mention_must_be_what_its_document_has_there() {
    let dir = task();
    dir.write("dev/documents.jsonl", "{\"doc_id\": \"dev0\", \"text\": \"zoé saw otto and left\"}\n");
    let error = |start: usize| {
        let places = format!(r#""start_char": {start}, "end_char": {}"#, start + 4);
        let row = format!(r#"{{"doc_id": "dev0", "entity_type": "PER", {places}, "text": "otto"}}"#);
        dir.write("dev/gold.jsonl", &row);
        let path = job(&dir, "model", "max_epochs = 1");
        replace(&dir, &path, "test = 'test'", "test = 'none'");
        train(&dir, &path).ended(1).error()
    };
    // As bytes are counted: é has two.
    let text = error(9);
    assert!(text.contains("a mention of `dev0` is `otto`, but characters 9 to 13 of its text are `tto `"), "{text}");
    assert!(text.contains("hint: offsets count Unicode characters (code points)"), "{text}");
    let text = error(8);
    assert!(text.contains("`none/documents.parquet`"), "dev is right, test is looked for: {text}");
}

#[test]
fn names_that_no_mention_has_are_refused() {
    let dir = task();
    corpus(&dir, "people", 30, 4);
    replace(&dir, "people/gold.jsonl", "\"PER\"", "\"human\"");
    replace(&dir, "people/gold.jsonl", "\"LOC\"", "\"place\"");
    let with = |extra: &str| {
        let recipe = format!("max_epochs = 1\n[[data.extra]]\npath = 'people'\n{extra}");
        train(&dir, &job(&dir, "model", &recipe))
    };
    let text = with("types = ['PER']\nrename = { humna = 'PER' }").ended(1).error();
    let reason = "`data.extra.rename`: no mention in `people/gold.jsonl` has the type `humna`";
    assert!(text.contains(reason) && text.contains("the types there are ORG, human, place"), "{text}");
    let text = with("types = ['PER', 'LOC']\nrename = { human = 'PER' }").ended(1).error();
    assert!(text.contains("`data.extra.types`: no mention in `people/gold.jsonl` has the type `LOC`"), "{text}");
    // Unknown labels are skipped and reported.
    let said = with("types = ['PER']\nrename = { human = 'PER' }").ended(0).stderr();
    let gold = std::fs::read_to_string(dir.path("people/gold.jsonl")).unwrap();
    let [organizations, places] = ["\"ORG\"", "\"place\""].map(|label| gold.matches(label).count());
    let left = format!(
        "{} mention(s) of types outside the job's are skipped: ORG × {organizations}, place × {places}",
        organizations + places
    );
    assert!(said.contains(&left), "{left} is not in\n{said}");
}

#[test]
fn a_split_without_words_is_empty() {
    let dir = task();
    dir.write("train/documents.jsonl", "{\"doc_id\": \"train0\", \"text\": \"  \"}\n");
    dir.write("train/gold.jsonl", r#"{"doc_id": "train0", "entity_type": "PER", "start_char": 0, "end_char": 1}"#);
    let text = train(&dir, &job(&dir, "model", "max_epochs = 1")).ended(1).error();
    assert!(text.contains("cannot use the documents at `train`: the split is empty"), "{text}");
}

#[test]
fn a_warm_up_and_an_overlap_that_do_not_fit_are_refused() {
    let dir = task();
    let path = job(&dir, "model", "max_epochs = 1");
    replace(&dir, &path, "warmup_steps = 20", "warmup_steps = 2000");
    let text = train(&dir, &path).ended(1).error();
    assert!(text.contains("`recipe.warmup_steps`: 2000 steps are more than the whole training has (113)"), "{text}");
    let text = train(&dir, &job(&dir, "model", "max_epochs = 1\noverlap_tokens = 40")).ended(1).error();
    assert!(text.contains("`recipe.overlap_tokens`: 40 is more than half of the window ("), "{text}");
}

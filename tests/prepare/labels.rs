//! Layouts of labels in JSON: tags, spans of several tools, answers of annotators, and labels that nobody knows.

use quarry::prepare::{Format, OnError, Prepared, ReadOptions, Settings, run};

use super::{counts, mentions, options, prepared, sql};
use crate::support::Dir;

/// Reads a file of JSON Lines, or a list of JSON.
fn read(dir: &Dir, text: &str, read: ReadOptions) -> Prepared {
    let input = dir.write("x.jsonl", text);
    prepared(dir, &Settings { read, ..options(Format::Jsonl, &input, &dir.path("out")) })
}

/// The mentions of a file.
fn mentions_of(text: &str) -> Vec<String> {
    let dir = Dir::new();
    read(&dir, text, ReadOptions::default());
    mentions(&dir, &dir.path("out"))
}

/// The error of a file.
fn error_of(text: &str, read: ReadOptions) -> String {
    let dir = Dir::new();
    let input = dir.write("x.jsonl", text);
    let error = run(&Settings { read, ..options(Format::Jsonl, &input, &dir.path("out")) }).unwrap_err();
    assert!(!dir.path("out").exists(), "something was written");
    error.to_string()
}

#[test]
fn tokens_with_tags_are_read() {
    let expected = ["1|PER|0|8|Ada Lind", "1|LOC|18|22|Rome"];
    for (tokens, key, tags) in [
        ("tokens", "ner_tags", r#""B-PER", "I-PER", "O", "O", "B-LOC""#),
        ("tokens", "tags", r#""B-PER", "L-PER", "O", "O", "U-LOC""#),
        ("words", "ner", r#""PER", "PER", "O", "O", "LOC""#),
        ("tokens", "labels", r#""I-PER", "I-PER", "O", "O", "I-LOC""#),
    ] {
        let text = format!(r#"{{"id": 1, "{tokens}": ["Ada", "Lind", "moved", "to", "Rome"], "{key}": [{tags}]}}"#);
        assert_eq!(mentions_of(&text), expected, "{key}");
    }
    // Tags of the words of a text leave the text as it is.
    let text = r#"{"id": 1, "text": "Ada Lind  went to Rome", "labels": "B-PER I-PER O O B-LOC"}"#;
    assert_eq!(mentions_of(text), expected);
}

#[test]
fn tags_that_are_numbers_are_named_by_an_option() {
    let text = r#"{"id": 0, "tokens": ["Ada", "Lind", "left"], "ner_tags": [1, 2, 0]}"#;
    let error = error_of(text, ReadOptions::default());
    let expected = "line 1: `ner_tags` holds numbers without names; `--tag-names O,B-PER,I-PER,…` names them from 0";
    assert!(error.ends_with(expected), "{error}");
    let dir = Dir::new();
    dir.write("x.jsonl", text);
    dir.quarry(&["prepare", "jsonl", "x.jsonl", "out", "--tag-names", "O,B-PER,I-PER"]).ended(0);
    assert_eq!(mentions(&dir, &dir.path("out")), ["0|PER|0|8|Ada Lind"]);
}

#[test]
fn spans_of_other_tools_are_read() {
    let expected = ["1|PER|0|3|Zoë"];
    for labels in [
        r#""text": "Zoë met Ada", "ents": [{"start": 0, "end": 3, "label": "PER"}]"#,
        r#""text": "Zoë met Ada", "entity_mentions": [{"start": 0, "end": 3, "entity_type": "PER"}]"#,
        r#""content": "Zoë met Ada", "annotation": [[0, 3, "PER"]]"#,
        r#""content": "Zoë met Ada", "annotation": [{"label": ["PER"], "points": [{"start": 0, "end": 2, "text": "Zoë"}]}], "extras": null"#,
        r#""text": "Zoë met Ada", "label": {"PER": {"Zoë": [[0, 2]]}}"#,
        r#""data": "Zoë met Ada", "label": [[0, 3, "PER"]]"#,
        r#""text": "Zoë met Ada", "entities": [{"id": 9, "label": "PER", "start_offset": 0, "end_offset": 3}], "relations": [{"id": 1}]"#,
        r#""tokenized_text": ["Zoë", "met", "Ada"], "ner": [[0, 0, "PER"]]"#,
        r#""sentences": [["Zoë", "met"], ["Ada"]], "ner": [[[0, 0, "PER"]], []], "relations": [[], []]"#,
    ] {
        assert_eq!(mentions_of(&format!("{{\"id\": 1, {labels}}}")), expected, "{labels}");
    }
    let numbered = r#"{"id": 1, "text": "Zoë", "annotations": [{"label": 7, "start_offset": 0, "end_offset": 3}]}"#;
    assert_eq!(mentions_of(numbered), ["1|7|0|3|Zoë"]);
}

#[test]
fn the_sentences_of_scierc_are_sentences() {
    let text = r#"{"doc_key": "d", "sentences": [["Zoë", "met", "."], ["To", "Rome"]], "ner": [[], [[4, 4, "LOC"]]]}"#;
    let dir = Dir::new();
    let found = read(&dir, text, ReadOptions::default());
    assert_eq!(counts(&found.summaries[0]), [1, 2, 1, 1]);
    assert_eq!(mentions(&dir, &dir.path("out")), ["d|LOC|13|17|Rome"]);
}

#[test]
fn label_studio_counts_utf16_units() {
    let region = r#"{"start": 7, "end": 10, "text": "Zoë", "labels": ["PER"]}"#;
    let min = format!(
        "[\n {{\n  \"id\": 5,\n  \"text\": \"So 🎉: Zoë\\nleft\",\n  \"label\": [{region}],\n  \"annotation_id\": 1\n }}\n]"
    );
    assert_eq!(mentions_of(&min), ["5|PER|6|9|Zoë"]);
    let result = format!(r#"[{{"type": "labels", "value": {region}}}]"#);
    let data = r#""data": {"text": "So 🎉: Zoë\nleft"}"#;
    let full = format!(r#"[{{"id": 5, "annotations": [{{"result": {result}}}], {data}}}]"#);
    assert_eq!(mentions_of(&full), ["5|PER|6|9|Zoë"]);
    // A place that does not match the repeated words is an error, not a guess.
    let error = error_of(&full.replace("\"start\": 7", "\"start\": 8"), ReadOptions::default());
    assert!(error.ends_with("covers 7..9, which is `oë` in the text, expected `Zoë`"), "{error}");
}

#[test]
fn what_an_annotator_rejected_is_left_out_and_counted() {
    let line = |id: usize, answer: &str| {
        format!(
            "{{\"id\": {id}, \"text\": \"Zoë left\", \"spans\": [{{\"start\": 0, \"end\": 3, \"label\": \"PER\"}}], \"answer\": \"{answer}\"}}\n"
        )
    };
    let dir = Dir::new();
    dir.write("x.jsonl", &[line(1, "accept"), line(2, "reject"), line(3, "ignore")].concat());
    let said = dir.quarry(&["prepare", "jsonl", "x.jsonl", "out"]).ended(0);
    let table = said.stdout();
    assert!(table.lines().any(|line| line.split_whitespace().eq("│ left out 2 │".split(' '))), "{table}");
    for answer in ["reject", "ignore"] {
        assert!(said.stderr().contains(&format!("records with `answer: {answer}`, left out: 1 ")), "{}", said.stderr());
    }
    assert_eq!(sql(&dir, &dir.path("out"), "SELECT doc_id FROM documents"), ["1"]);
    assert_eq!(mentions(&dir, &dir.path("out")), ["1|PER|0|3|Zoë"]);
}

#[test]
fn labels_under_a_key_that_nobody_knows_are_an_error() {
    let unknown = |more: &str| format!("{{\"id\": 1, \"text\": \"Zoë left\"{more}}}\n");
    let error = error_of(&unknown(r#", "findings": [[0, 3, "PER"]]"#), ReadOptions::default());
    let way_out = "`--tags KEY` reads labels from another key, `--unlabelled` reads only the texts";
    let expected = format!("line 1: no mention found, but `findings` holds lists that are not read; {way_out}");
    assert!(error.ends_with(&expected), "{error}");
    let inside = error_of(&unknown(r#", "about": {"found": {"people": [1]}}"#), ReadOptions::default());
    assert!(inside.contains("`about.found.people` holds lists"), "{inside}");
    let words = error_of(&unknown(r#", "entities": {"PER": ["Zoë"]}"#), ReadOptions::default());
    assert!(
        words.ends_with("`entities` has \"Zoë\" under `PER`, expected the place of a mention, [start, end]"),
        "{words}"
    );
    let empty = error_of(&[unknown(r#", "entities": []"#), unknown("")].concat(), ReadOptions::default());
    assert!(
        empty.contains("what `entities` holds is empty in every record; records without a key of labels: 1; "),
        "{empty}"
    );
    let missing = ReadOptions { tags: vec!["entitys".into()], ..ReadOptions::default() };
    let missing = error_of(&unknown(r#", "entities": [[0, 3, "PER"]]"#), missing);
    assert!(missing.ends_with("no record has the key `entitys`, which `--tags` names"), "{missing}");
}

#[test]
fn the_options_of_the_error_read_the_file() {
    let text = r#"{"id": 1, "text": "Zoë left", "findings": [[0, 3, "PER"]], "topics": ["x"]}"#;
    let dir = Dir::new();
    let found = read(&dir, text, ReadOptions { tags: vec!["findings".into()], ..ReadOptions::default() });
    assert_eq!(mentions(&dir, &dir.path("out")), ["1|PER|0|3|Zoë"]);
    assert!(found.notes.iter().any(|note| note.starts_with("records with lists under `topics`, not read: 1 ")));
    let found = read(&dir, text, ReadOptions { unlabelled: true, ..ReadOptions::default() });
    assert_eq!((counts(&found.summaries[0]), found.notes), ([1, 1, 1, 0], vec![]));
}

/// With `--on-error skip` the file is refused, and the others are read.
#[test]
fn a_file_of_unknown_labels_is_refused_among_others() {
    let dir = Dir::new();
    dir.write("in/a.jsonl", "{\"text\": \"Zoë\", \"entities\": [[0, 3, \"PER\"]]}\n");
    dir.write("in/b.jsonl", "{\"text\": \"Ada\", \"findings\": [[0, 3, \"PER\"]]}\n");
    dir.write("in/c.jsonl", "{\"text\": \"Ada\", \"entities\": []}\n");
    let settings = options(Format::Jsonl, &dir.path("in"), &dir.path("out"));
    let found = prepared(&dir, &Settings { on_error: OnError::Skip, ..settings });
    assert_eq!((found.refused_files, found.problems.len(), counts(&found.summaries[0])), (1, 1, [2, 2, 2, 1]));
}

#[test]
fn objects_over_several_lines_are_read() {
    let text =
        "{\n \"id\": 1,\n \"text\": \"Zoë\",\n \"entities\": [[0, 3, \"PER\"]]\n}\n{\"id\": 2, \"text\": \"Ada\"}\n";
    assert_eq!(mentions_of(text), ["1|PER|0|3|Zoë"]);
}

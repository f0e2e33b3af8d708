//! Ambiguous cases: ids in several files, chunk columns, options of other formats, an empty result.

use quarry::prepare::Format;
use quarry::prepare::run;
use quarry::prepare::{ReadOptions, Settings};

use super::{counts, fixture, mentions, options, prepared, sql};
use crate::support::Dir;

#[test]
fn files_that_each_count_their_rows_lose_none() {
    let dir = Dir::new();
    for (name, word) in [("test", "Ada"), ("train", "Zoë")] {
        let line = |id: usize| format!("{{\"id\": {id}, \"text\": \"{word}\", \"entities\": [[0, 3, \"PER\"]]}}\n");
        dir.write(&format!("in/{name}.jsonl"), &[line(0), line(1)].concat());
    }
    let whole = options(Format::Jsonl, &dir.path("in"), &dir.path("out"));
    let found = prepared(&dir, &whole);
    assert_eq!(counts(&found.summaries[0]), [4, 4, 4, 4]);
    let ids = sql(&dir, &dir.path("out"), "SELECT doc_id FROM documents ORDER BY 1");
    assert_eq!(ids, ["test/0", "test/1", "train/0", "train/1"]);
    let noted = found.notes.iter().any(|note| note.starts_with("documents whose id also occurs in another file"));
    assert!(noted, "{:?}", found.notes);
    // Naming the key means that the ids identify documents.
    let read = ReadOptions { id: Some("id".into()), ..ReadOptions::default() };
    let error = run(&Settings { read, ..whole }).unwrap_err().to_string();
    assert!(error.contains("the id `0` also occurs in `test.jsonl`"), "{error}");
}

#[test]
fn automatic_annotations_beside_gold_are_not_read() {
    let dir = Dir::new();
    let text = std::fs::read_to_string(fixture("made.v4_gold_conll")).unwrap();
    dir.write("in/a.v4_auto_conll", &text);
    dir.write("in/a.v4_gold_conll", &text);
    let found = prepared(&dir, &options(Format::Conll2012, &dir.path("in"), &dir.path("out")));
    assert_eq!(counts(&found.summaries[0]), [2, 3, 2, 9]);
}

#[test]
fn german_chunks_are_no_entities() {
    let dir = Dir::new();
    let text = "Ada Ada NE I-NC I-PER\nging gehen VVFIN I-VC O\nnach nach APPR I-PC O\nRom Rom NE I-NC I-LOC\n";
    let input = dir.write("ger.train", text);
    prepared(&dir, &options(Format::Conll, &input, &dir.path("out")));
    assert_eq!(mentions(&dir, &dir.path("out")), ["ger.train/0|PER|0|3|Ada", "ger.train/0|LOC|14|17|Rom"]);
}

#[test]
fn several_columns_of_tags_are_noted() {
    let dir = Dir::new();
    let input = dir.write("two.tsv", "Ada\tB-PER\tO\nRom\tO\tB-LOC\n");
    let notes = |tags: &[&str]| {
        let read = ReadOptions { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..ReadOptions::default() };
        run(&Settings { read, ..options(Format::Conll, &input, &dir.path("out")) }).unwrap().notes
    };
    let found = notes(&[]);
    assert!(
        found[0].starts_with("files with several tag columns (2, 3), all read; select with `--tags`: 1 (the first in "),
        "{found:?}"
    );
    assert_eq!(notes(&["2", "3"]), [""; 0]);
}

#[test]
fn an_option_of_another_format_is_refused() {
    let dir = Dir::new();
    let input = dir.write("a.json", "[]").display().to_string();
    let error =
        |option: &str, value: &str| dir.quarry(&["prepare", "spacy", &input, "out", option, value]).ended(1).error();
    let expected = "error: prepare: `--scheme`: the format `spacy` does not support it\nhint: remove it; it applies to conll, bmes, jsonl, parquet";
    assert_eq!(error("--scheme", "iob2"), expected);
    for (option, value) in [
        ("--tokens", "1"),
        ("--tags", "2"),
        ("--tag-names", "O"),
        ("--id", "id"),
        ("--text", "text"),
        ("--labels", "fine"),
    ] {
        assert!(error(option, value).starts_with(&format!("error: prepare: `{option}`: the format `spacy`")));
    }
}

#[test]
fn the_texts_of_another_format_cannot_be_read_alone() {
    let dir = Dir::new();
    let input = dir.write("a.conll", "Ada B-PER\n").display().to_string();
    let error = dir.quarry(&["prepare", "conll", &input, "out", "--unlabelled"]).ended(1).error();
    assert!(error.contains("`--unlabelled`: the format `conll` does not support it"), "{error}");
}

#[test]
fn if_no_document_remains_the_first_reason_is_reported() {
    let dir = Dir::new();
    dir.write("a.conll", "no tags here\n");
    let error = dir.quarry(&["prepare", "conll", "a.conll", "out", "--on-error", "skip"]).ended(1).error();
    let expected = "error: cannot use the documents at `a.conll`: no document remains; problems: 1, the first: a.conll, line 1: no column";
    assert!(error.starts_with(expected), "{error}");
}

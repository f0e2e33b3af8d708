//! Errors for invalid corpora: the file, the line and what was expected; with `--on-error skip` the valid rest.

use insta::assert_snapshot;

use super::fixture;
use crate::support::{Dir, shared};

/// The error from preparing a file with this text.
fn error(format: &str, name: &str, text: &str) -> String {
    let dir = Dir::new();
    dir.write(name, text);
    let said = dir.quarry(&["prepare", format, name, "out"]).ended(1).error();
    assert!(!dir.path("out").exists(), "something was written");
    said
}

#[test]
fn a_line_with_too_few_columns() {
    let text = "Ada NNP B-NP B-PER\nleft VBD O\n";
    assert_snapshot!(error("conll", "a.conll", text), @r#"
    error: cannot prepare `a.conll`, line 2: 3 columns, expected 4 as above: `left VBD O`
    hint: CoNLL has one token per line with its tags in the last columns and an empty line between sentences; `--on-error skip` skips invalid items
    "#);
}

#[test]
fn an_unknown_tag() {
    let text = format!("{}Ada X-PER\n", "left O\n".repeat(20));
    assert_snapshot!(error("conll", "a.conll", &text), @r#"
    error: cannot prepare `a.conll`, line 21: unknown tag `X-PER`, expected O or a label after B-, I-, M-, E-, L-, S- or U-
    hint: CoNLL has one token per line with its tags in the last columns and an empty line between sentences; `--on-error skip` skips invalid items
    "#);
}

#[test]
fn a_type_the_schema_does_not_have() {
    let dir = Dir::new();
    dir.write("a.conll", "left O\n\nthen O\nAda B-PERS\n");
    let schema = crate::support::project().join("schemas/conll03.toml").display().to_string();
    let said = dir.quarry(&["prepare", "conll", "a.conll", "out", "--schema", &schema]).ended(1).error();
    assert_snapshot!(said, @r#"
    error: cannot prepare `a.conll`, line 4: unknown type `PERS`, expected one of LOC, MISC, ORG, PER
    hint: CoNLL has one token per line with its tags in the last columns and an empty line between sentences; `--on-error skip` skips invalid items
    "#);
}

#[test]
fn a_file_of_another_format() {
    let json = r#"[{"context": "Ada"}]"#;
    assert_snapshot!(error("conll", "a.json", json), @r#"
    error: cannot prepare `a.json`, line 1: no column holds tags, expected O, or B-, I- … and a label, found `"Ada"}]`; `--tokens` and `--tags` name the columns
    hint: CoNLL has one token per line with its tags in the last columns and an empty line between sentences; `--on-error skip` skips invalid items
    "#);
    let columns = "Ada B-PER\n\nleft O\n";
    assert_snapshot!(error("mrc", "a.conll", columns), @r#"
    error: cannot prepare `a.conll`, line 1: expected a JSON list, `[` …
    hint: MRC JSON is a list of items with context, entity_label, qas_id, start_position and end_position (or span_position); `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("jsonl", "b.conll", columns), @r#"
    error: cannot prepare `b.conll`, line 1: not JSON: expected value
    hint: each line is an object with text (or tokens) and entities, such as {"id": "1", "text": "…", "entities": [{"start": 0, "end": 3, "type": "PER"}]}; `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("genia", "c.conll", columns), @r#"
    error: cannot prepare `c.conll`, line 1: no `article` found
    hint: GENIA is XML: `set`, in it `article` with `bibliomisc`, `title` and `abstract` of `sentence`s, in them `cons` with `sem="G#…"`; `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("bmes", "d.conll", columns), @r#"
    error: cannot prepare `d.conll`, line 1: no tab between tokens and tags
    hint: each line is a sentence: tokens separated by spaces, a tab, and one BMES tag per token; `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("conll2012", "e.conll", columns), @r#"
    error: cannot prepare `e.conll`, line 1: expected `#begin document`, found `Ada B-PER`
    hint: CoNLL-2012 has `#begin document (ID); part N`, then at least twelve columns per token: the fourth is the word, the eleventh the names; `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("ontonotes", "f.conll", columns), @r#"
    error: cannot prepare `f.conll`, line 1: text outside `<DOC>`
    hint: a .name file is `<DOC DOCNO="…">` with one sentence per line and names as `<ENAMEX TYPE="ORG">…</ENAMEX>`; `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("parquet", "g.conll", columns), @r#"
    error: cannot prepare `g.conll`, row 1: Parquet error: Invalid Parquet file. Corrupt footer
    hint: the Parquet file needs a list of tokens and a list of tags; name them with --tokens and --tags if they are not `tokens` and `ner_tags`; `--on-error skip` skips invalid items
    "#);
    assert_snapshot!(error("spacy", "h.conll", columns), @r#"
    error: cannot prepare `h.conll`, line 1: expected a JSON list, `[` …
    hint: spaCy's JSON is a list of documents with paragraphs, sentences and tokens, or of pairs [text, {"entities": [[0, 3, "PER"]]}]; `--on-error skip` skips invalid items
    "#);
}

/// The first line of the error, for formats that come in pairs or share their shape with others.
#[test]
fn files_that_lack_their_other_half_or_their_shape() {
    let first = |format: &str, name: &str, text: &str| error(format, name, text).lines().next().unwrap().to_owned();
    let apf = std::fs::read_to_string(fixture("ace/made-up-2004.apf.xml")).unwrap();
    assert_eq!(
        first("ace", "a.apf.xml", &apf),
        "error: cannot prepare `a.apf.xml`, line 1: its text file `a.sgm` does not exist"
    );
    assert_eq!(
        first("ace", "b.apf.xml", "<set>\n<article/>\n</set>"),
        "error: cannot prepare `b.apf.xml`, line 1: no `document` with a DOCID found"
    );
    assert_eq!(first("bbn", "c.qa", "Ada B-PER\n"), "error: cannot prepare `c.qa`, line 1: text before `<DOCNO>`");
    assert_eq!(
        first("positions", "d.json", "[\n {\"text\": \"Ada\"}]"),
        "error: cannot prepare `d.json`, line 2: missing field `context`"
    );
    assert_eq!(
        first(
            "mrc",
            "e.json",
            "[{\"context\": \"Ada\", \"entity_label\": \"PER\", \"start_position\": [0], \"end_position\": [1]}]"
        ),
        "error: cannot prepare `e.json`, line 1: a mention of type PER covers tokens 0..2, but the sentence has 1"
    );
    let json = "[\n  {\n    \"context\": \"EU rejects German call\"\n  }\n]\n";
    assert!(first("conll", "f.json", json).contains("line 1: no column holds tags"));
}

/// Every reader on every fixture, on its first half, and on arbitrary bytes: an error or a result, never a panic.
#[test]
fn nothing_makes_a_reader_panic() {
    use clap::ValueEnum;
    use quarry::prepare::Settings;
    use quarry::prepare::run;
    use quarry::prepare::{Format, OnError, Unit};
    let dir = Dir::new();
    let names =
        ["conll.txt", "genia.xml", "ontonotes.name", "made.v4_gold_conll", "bbn.qa", "ace/made-up-2004.apf.xml"];
    let mut texts: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(fixture(name)).unwrap()).collect();
    texts.extend([
        b"[[\"Ada\", {\"entities\": [[0, 9999999999999, \"PER\"]]}]]".to_vec(),
        b"[{\"context\": \"Ada\", \"entity_label\": \"PER\", \"start_position\": [18446744073709551615], \"end_position\": [18446744073709551615]}]".to_vec(),
        b"{\"text\": \"Ada\", \"entities\": [[0, 18446744073709551615, \"PER\"]]}\n".to_vec(),
        b"T1\tPER 0 18446744073709551615\tAda\n".to_vec(),
        b"{\"annotations\": [null, 7, [\"Ada\"]]}".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"".to_vec(),
        b"\n\n-DOCSTART-\n\n".to_vec(),
        "\u{85}\u{a0} O\n#\t#\n".into(),
    ]);
    let mut read = 0;
    for (number, text) in texts.iter().enumerate() {
        for part in [&text[..], &text[..text.len() / 2], &text[..text.len() / 3]] {
            let file = dir.path(&format!("{number}.ann"));
            std::fs::write(&file, part).unwrap();
            std::fs::write(dir.path(&format!("{number}.txt")), part).unwrap();
            for format in Format::value_variants() {
                for (on_error, unit) in [(OnError::Stop, Unit::Document), (OnError::Skip, Unit::Sentence)] {
                    let options = super::options(*format, &file, &dir.path("out"));
                    read += usize::from(
                        run(&Settings { on_error, unit: Some(unit), mrc: on_error == OnError::Skip, ..options })
                            .is_ok(),
                    );
                }
            }
        }
    }
    assert!(read > 20, "only {read} were read at all");
}

#[test]
fn a_span_outside_the_text() {
    let text = "{\"text\": \"Ada left\", \"entities\": [[0, 3, \"PER\"]]}\n{\"text\": \"Ada\", \"entities\": [[0, 4, \"PER\"]]}\n";
    assert_snapshot!(error("jsonl", "a.jsonl", text), @r#"
    error: cannot prepare `a.jsonl`, line 2: a mention of type PER covers characters 0..4, but the text has 3
    hint: each line is an object with text (or tokens) and entities, such as {"id": "1", "text": "…", "entities": [{"start": 0, "end": 3, "type": "PER"}]}; `--on-error skip` skips invalid items
    "#);
}

#[test]
fn brackets_that_do_not_match() {
    assert_snapshot!(error("ontonotes", "a.name", "<DOC DOCNO=\"1\">\nthe <ENAMEX TYPE=\"ORG\">Fed\n</DOC>\n"), @r#"
    error: cannot prepare `a.name`, line 3: ill-formed document: expected `</ENAMEX>`, but `</DOC>` was found
    hint: a .name file is `<DOC DOCNO="…">` with one sentence per line and names as `<ENAMEX TYPE="ORG">…</ENAMEX>`; `--on-error skip` skips invalid items
    "#);
}

#[test]
fn bytes_that_are_no_text() {
    let dir = Dir::new();
    std::fs::write(dir.path("a.conll"), b"Ada B-PER\n\xff O\n").unwrap();
    assert_snapshot!(dir.quarry(&["prepare", "conll", "a.conll", "out"]).ended(1).error(), @r#"
    error: cannot prepare `a.conll`, line 2: the bytes are not UTF-8 text
    hint: CoNLL has one token per line with its tags in the last columns and an empty line between sentences; `--on-error skip` skips invalid items
    "#);
}

#[test]
fn a_folder_without_files_of_the_format() {
    let dir = Dir::new();
    dir.write("in/readme.md", "nothing");
    assert_snapshot!(dir.quarry(&["prepare", "ace", "in", "out"]).ended(1).error(), @r#"
    error: cannot use the documents at `in`: it contains no file of this format
    hint: files in a folder are selected by suffix: .apf.xml; or name one file
    "#);
}

#[test]
fn a_column_that_is_not_there() {
    let dir = Dir::new();
    dir.write("a.conll", "Ada B-PER\n");
    let said = dir.quarry(&["prepare", "conll", "a.conll", "out", "--tags", "3"]).ended(1).error();
    assert_snapshot!(said, @r#"
    error: prepare: `--tags`: `3` is not a column: the file has 2
    hint: use numbers from 1 to 2
    "#);
}

#[test]
fn invalid_items_are_skipped_and_counted() {
    let dir = Dir::new();
    dir.write("in/a.conll", "Ada B-PER\nleft\n\nZoë B-PER\nleft O\n\nOb I-LOC\n");
    dir.write("in/b.conll", "no tags here\n");
    let found = dir.quarry(&["prepare", "conll", "in", "out", "--on-error", "skip", "--scheme", "iob2"]).ended(3);
    assert_snapshot!(found.stdout(), @r#"
    ┌────────────────────────────┐
    │ corpus                 all │
    ╞════════════════════════════╡
    │ documents                1 │
    │ sentences                3 │
    │ rows                     3 │
    │ mentions                 2 │
    │ nested               0.0 % │
    │ partly overlapping       0 │
    │ several types            0 │
    │ longest (words)          1 │
    │ decoding              flat │
    │ left out                 0 │
    │ skipped problems         3 │
    └────────────────────────────┘
    ┌────────────────────────────────────────────┐
    │ type   mentions   nested   longest (words) │
    ╞════════════════════════════════════════════╡
    │ PER           2    0.0 %                 1 │
    └────────────────────────────────────────────┘
    "#);
    let said = found.stderr();
    for part in [
        "in/a.conll, line 2: 1 columns, expected 2",
        "in/a.conll, line 7: `I-LOC` does not continue a mention",
        "in/b.conll, line 1: no column holds tags",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    // The line without a tag is lost, and the mention that the scheme forbids, but no sentence.
    assert_eq!(super::mentions(&dir, &dir.path("out")), ["a.conll/0|PER|0|3|Ada", "a.conll/1|PER|0|3|Zoë"]);
}

/// A job reads the prepared tables: gold has five mentions, and the run computes scores against them.
#[test]
fn a_job_runs_over_what_was_prepared() {
    let dir = Dir::new();
    let input = fixture("conll.txt").display().to_string();
    dir.quarry(&["prepare", "conll", &input, "out"]).ended(0);
    let gold = format!("gold = '{}'", dir.path("out/gold.parquet").display());
    let job = dir.job("out/documents.parquet", "store", "");
    let text = std::fs::read_to_string(&job).unwrap();
    let text = text.replace("id = 'id'", "id = 'doc_id'").replace("text = 'body'", &format!("text = 'text'\n{gold}"));
    dir.write("job.toml", &text);
    dir.quarry(&["run", "job.toml"]).ended(0);
    let gold = "WHERE scope = 'all' AND name IN ('true_positives', 'false_negatives')";
    assert_eq!(dir.rows("store", "metrics", "CAST(sum(value) AS int)", gold), ["5"]);
}

#[test]
fn the_summary_of_conll_2003() {
    let dir = Dir::new();
    let Some(input) = shared("data/conll2003/eng.testb") else { return };
    let input = input.display().to_string();
    let found = dir.quarry(&["prepare", "conll", &input, "out", "--split", "dev=1,test=3"]).ended(0);
    assert_snapshot!(found.stdout(), @r#"
    ┌────────────────────────────────────┐
    │ corpus                 dev    test │
    ╞════════════════════════════════════╡
    │ documents               58     173 │
    │ sentences              853   2 600 │
    │ rows                   853   2 600 │
    │ mentions             1 362   4 286 │
    │ nested               0.0 %   0.0 % │
    │ partly overlapping       0       0 │
    │ several types            0       0 │
    │ longest (words)          5       6 │
    │ decoding              flat    flat │
    │ left out                 0         │
    │ skipped problems         0         │
    └────────────────────────────────────┘
    ┌───────────────────────────────────────────────┐
    │ type   dev    test   nested   longest (words) │
    ╞═══════════════════════════════════════════════╡
    │ LOC    403   1 265    0.0 %                 3 │
    │ MISC   178     524    0.0 %                 6 │
    │ ORG    406   1 255    0.0 %                 6 │
    │ PER    375   1 242    0.0 %                 4 │
    └───────────────────────────────────────────────┘
    "#);
}

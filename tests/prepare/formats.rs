//! Variants of formats: columns and schemes, one sentence per line, kinds of JSON, Parquet, plain text.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::Schema;
use quarry::prepare::Split;
use quarry::prepare::{Format, Scheme, Unit};
use quarry::prepare::{ReadOptions, Settings};
use quarry::task::entity_schema::Nesting;

use super::{counts, fixture, mentions, options, prepared, sql};
use crate::support::{Dir, project};

fn written(format: Format, name: &str, text: &str, change: impl Fn(Settings) -> Settings) -> (Dir, String) {
    let dir = Dir::new();
    let input = dir.write(name, text);
    let found = prepared(&dir, &change(options(format, &input, &dir.path("out"))));
    assert!(found.problems.is_empty());
    let lines = mentions(&dir, &dir.path("out")).join("\n");
    (dir, lines)
}

/// One sentence in every scheme, with the columns of its corpus.
#[test]
fn columns_separators_and_schemes_are_found_out() {
    let expected = "x/0|LOC|9|11|Ob\nx/0|LOC|12|21|New Delhi\nx/0|PER|0|3|Ada";
    let iob1 = "Ada I-PER\nleft O\nOb I-LOC\nNew B-LOC\nDelhi I-LOC\n";
    let iob2 = "# a comment\n1\tAda\tB-PER\tO\n2\tleft\tO\tO\n3\tOb\tB-LOC\tO\n4\tNew\tB-LOC\tO\n5\tDelhi\tI-LOC\tO\n";
    let bioes =
        "Ada NNP B-NP S-PER\r\nleft VBD B-VP O\r\nOb NNP B-NP S-LOC\r\nNew NNP B-NP B-LOC\r\nDelhi NNP I-NP E-LOC\r\n";
    let layers = "Ada\tB-PER\tO\tO\t\nleft\tO\tO\tO\t\nOb\tO\tB-LOC\tO\t\nNew\tO\tO\tB-LOC\t\nDelhi\tO\tO\tI-LOC\t\n";
    let bmes = "Ada S-PER\nleft O\nOb S-LOC\nNew B-LOC\nDelhi E-LOC\n\nA B-LOC\nB M-LOC\nC E-LOC\n";
    let (_, found) = written(Format::Conll, "x", bmes, |options| options);
    assert!(found.ends_with("x/1|LOC|0|5|A B C"), "{found}");
    for text in [iob1, iob2, bioes, layers] {
        let (_, found) = written(Format::Conll, "x", text, |options| options);
        assert_eq!(found.lines().collect::<BTreeSet<_>>(), expected.lines().collect::<BTreeSet<_>>(), "{text}");
    }
}

#[test]
fn columns_and_scheme_can_be_given() {
    let text = "B-X Ada I-PER B-ORG\nB-X left O O\n";
    let read = ReadOptions {
        tokens: Some("2".into()),
        tags: vec!["3".into()],
        scheme: Scheme::Iob1,
        ..ReadOptions::default()
    };
    let (_, found) = written(Format::Conll, "x", text, |options| Settings { read: read.clone(), ..options });
    assert_eq!(found, "x/0|PER|0|3|Ada");
}

#[test]
fn a_sentence_a_line_with_bmes_tags() {
    let text = "我 在 北 京 .\tO O B-LOC E-LOC O\nAda\tS-PER\n";
    let (_, found) = written(Format::Bmes, "x.bmes", text, |options| options);
    assert_eq!(found, "x.bmes/0|LOC|4|7|北 京\nx.bmes/1|PER|0|3|Ada");
}

#[test]
fn positions_by_label() {
    let text = r#"[{"context": "the IL-2 gene of T cells", "label": {"DNA": ["0;2"], "protein": ["1;1"]}}]"#;
    let (_, found) = written(Format::Positions, "train.genia.json", text, |options| options);
    assert_eq!(found, "train.genia.json/0|DNA|0|13|the IL-2 gene\ntrain.genia.json/0|protein|4|8|IL-2");
}

#[test]
fn mrc_items_without_labels_are_known_by_their_question() {
    let schema = quarry::job::read_schema(&project().join("schemas/conll03.toml")).unwrap();
    let (person, place) = (&schema.types[1].question, &schema.types[2].question);
    let item = |context: &str, query: &str, positions: &str| {
        format!(
            r#"{{"context": "{context}", "query": "{query}", "start_position": [{positions}], "end_position": [{positions}]}}"#
        )
    };
    let items = [item("Ada left Rome", person, "0"), item("Ada left Rome", place, "2"), item("Rome", place, "0")];
    let read = ReadOptions { schema: Some(schema.clone()), ..ReadOptions::default() };
    let text = format!("[{}]", items.join(",\n"));
    let (_, found) = written(Format::Mrc, "m.json", &text, |options| Settings { read: read.clone(), ..options });
    assert_eq!(found, "m.json/0|PER|0|3|Ada\nm.json/0|LOC|9|13|Rome\nm.json/1|LOC|0|4|Rome");
}

#[test]
fn brat_counts_code_points() {
    let dir = Dir::new();
    dir.write("in/a/one.txt", "Zoë 𝄞 met\nAda Lind.\n");
    dir.write("in/a/one.ann", "T1\tPER 0 3\tZoë\nT2\tPER 10 18\tAda Lind\nR1\tMet Arg1:T1 Arg2:T2\nT3\tPER 0 3;10 13\tZoë Ada\n#1\tNote T1\tx\nT4\tPER 10 13;14 18\tAda Lind\nT5\tORG 10 13;14 18\tAda Lind\n");
    dir.write("in/b.txt", "Nothing.");
    let found = prepared(&dir, &options(Format::Brat, &dir.path("in"), &dir.path("out")));
    let expected = ["a/one|PER|0|3|Zoë", "a/one|ORG|10|18|Ada Lind", "a/one|PER|10|18|Ada Lind"];
    assert_eq!(mentions(&dir, &dir.path("out")), expected);
    assert_eq!((counts(&found.summaries[0]), found.left_out), ([2, 3, 2, 3], 1));
    let noted = |note: &String| note.starts_with("mentions in pieces with words between them, left out: 1 ");
    assert!(found.notes.iter().any(noted), "{:?}", found.notes);
}

#[test]
fn json_lines_keep_every_label_of_a_span() {
    let text = concat!(
        r#"{"id": 7, "text": "Zoë sang", "spans": [{"start": 0, "end": 3, "labels": ["/person", "/person/artist"]}]}"#,
        "\n",
        r#"{"doc": "d", "tokens": ["New", "Delhi"], "entities": [{"start": 0, "end": 2, "type": "LOC"}]}"#,
        "\n\n",
        r#"{"doc": "d", "text": "é Ada", "label": [[2, 5, "PER"]]}"#,
        "\n",
        r#"{"text": "nothing", "label": "news"}"#,
        "\n",
    );
    let (dir, found) = written(Format::Jsonl, "x.jsonl", text, |options| options);
    assert_eq!(found, "7|/person|0|3|Zoë\n7|/person/artist|0|3|Zoë\nd|LOC|0|9|New Delhi\nd|PER|12|15|Ada");
    let schema = quarry::job::read_schema(&dir.path("out/schema.toml")).unwrap();
    assert_eq!(schema.nested, Nesting::Nested, "two labels on one span need nested decoding");
    let ids = sql(&dir, &dir.path("out"), "SELECT doc_id, line FROM documents ORDER BY line");
    assert_eq!(ids, ["7|1", "d|2", "x.jsonl/4|5"]);
}

#[test]
fn spacy_in_both_forms() {
    let pairs = r#"[["Zoë met Ada", {"entities": [[0, 3, "PER"], [8, 11, "PER"]]}], ["Hm", {"entities": []}]]"#;
    let (_, found) = written(Format::Spacy, "p.json", pairs, |options| options);
    assert_eq!(found, "p.json/0|PER|0|3|Zoë\np.json/0|PER|8|11|Ada");
    let token = |orth: &str, ner: &str| format!(r#"{{"orth": "{orth}", "ner": "{ner}"}}"#);
    let tokens =
        [token("Zoë", "U-PER"), token("'s", "O"), token("New", "B-LOC"), token("Delhi", "L-LOC"), token("?", "-")];
    let sentences = format!(r#""sentences": [{{"tokens": [{}]}}]"#, tokens.join(","));
    for (raw, expected) in [("", "0|LOC|7|16|New Delhi"), (r#""raw": "Zoë's New  Delhi?","#, "0|LOC|6|16|New  Delhi")]
    {
        let text = format!(r#"[{{"id": 0, "paragraphs": [{{{raw} {sentences}}}]}}]"#);
        let (_, found) = written(Format::Spacy, "t.json", &text, |options| options);
        assert_eq!(found, format!("t.json/0|PER|0|3|Zoë\nt.json/{expected}"));
    }
}

/// A row of tokens and numeric tags, and optionally the names of the tags.
fn token_parquet(dir: &Dir, names: Option<&str>) -> std::path::PathBuf {
    let (mut tokens, mut tags) = (ListBuilder::new(StringBuilder::new()), ListBuilder::new(Int64Builder::new()));
    for (words, numbers) in [(["Ada", "Lind"], [1, 2]), (["Zoë", "left"], [1, 0])] {
        tokens.append_value(words.map(Some));
        tags.append_value(numbers.map(Some));
    }
    let columns: [(&str, ArrayRef); 2] = [("tokens", Arc::new(tokens.finish())), ("ner_tags", Arc::new(tags.finish()))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let about = names.map(|names| {
        let feature = format!(r#"{{"feature": {{"names": {names}, "_type": "ClassLabel"}}, "_type": "Sequence"}}"#);
        ("huggingface".to_owned(), format!(r#"{{"info": {{"features": {{"ner_tags": {feature}}}}}}}"#))
    });
    let schema = Schema::new_with_metadata(batch.schema().fields().clone(), about.into_iter().collect());
    dir.parquet("t.parquet", &batch.with_schema(Arc::new(schema)).unwrap())
}

#[test]
fn parquet_with_class_names() {
    let dir = Dir::new();
    let input = token_parquet(&dir, Some(r#"["O", "B-PER", "I-PER"]"#));
    prepared(&dir, &options(Format::Parquet, &input, &dir.path("out")));
    assert_eq!(mentions(&dir, &dir.path("out")), ["t.parquet/0|PER|0|8|Ada Lind", "t.parquet/1|PER|0|3|Zoë"]);
    let input = token_parquet(&dir, None);
    let error = quarry::prepare::run(&options(Format::Parquet, &input, &dir.path("out"))).unwrap_err().to_string();
    assert!(error.contains("`huggingface` metadata has no class names for them"), "{error}");
}

#[test]
fn parquet_with_ids_and_tags_as_words() {
    let dir = Dir::new();
    let (mut words, mut tags) = (ListBuilder::new(StringBuilder::new()), ListBuilder::new(StringBuilder::new()));
    words.append_value(["Zoë", "left"].map(Some));
    tags.append_value(["U-PER", "O"].map(Some));
    let ids: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![42]));
    let columns = [("id", ids), ("words", Arc::new(words.finish()) as ArrayRef), ("names", Arc::new(tags.finish()))];
    let input = dir.parquet("t.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    let read = ReadOptions { tags: vec!["names".into()], ..ReadOptions::default() };
    prepared(&dir, &Settings { read, ..options(Format::Parquet, &input, &dir.path("out")) });
    assert_eq!(mentions(&dir, &dir.path("out")), ["42|PER|0|3|Zoë"]);
    let error = quarry::prepare::run(&options(Format::Parquet, &input, &dir.path("out"))).unwrap_err().to_string();
    assert!(error.ends_with("row 1: no list column with tags (ner_tags, tags, ner, labels, fine_ner_tags), the columns are id, words, names"), "{error}");
}

#[test]
fn plain_text_is_a_document_a_file() {
    let dir = Dir::new();
    dir.write("in/b.txt", "One.  Two.\n");
    dir.write("in/sub/a.txt", "\u{feff}Three.");
    dir.write("in/.hidden.txt", "no");
    let found = prepared(&dir, &options(Format::Text, &dir.path("in"), &dir.path("out")));
    let texts = sql(&dir, &dir.path("out"), "SELECT doc_id, text, source FROM documents ORDER BY doc_id");
    assert_eq!(texts, ["b.txt|One.  Two.\n|b.txt", "sub/a.txt|Three.|sub/a.txt"]);
    assert_eq!(counts(&found.summaries[0]), [2, 3, 2, 0]);
    let sentences = Settings { unit: Some(Unit::Sentence), ..options(Format::Text, &dir.path("in"), &dir.path("out")) };
    prepared(&dir, &sentences);
    let texts = sql(&dir, &dir.path("out"), "SELECT doc_id, text, document, sentence FROM documents ORDER BY doc_id");
    assert_eq!(texts, ["b.txt/0|One.|b.txt|0", "b.txt/1|Two.|b.txt|1", "sub/a.txt/0|Three.|sub/a.txt|0"]);
}

#[test]
fn units_and_parts() {
    let dir = Dir::new();
    let unit = |unit| Settings { unit: Some(unit), ..options(Format::Conll, &fixture("conll.txt"), &dir.path("out")) };
    let found = prepared(&dir, &unit(Unit::Document));
    assert_eq!(counts(&found.summaries[0]), [2, 2, 2, 5]);
    assert_eq!(sql(&dir, &dir.path("out"), "SELECT doc_id FROM documents ORDER BY 1"), ["conll.txt/0", "conll.txt/1"]);
    let split = Some(Split::parse("train=1,test=1").unwrap());
    let found = prepared(&dir, &Settings { split, ..unit(Unit::Sentence) });
    let parts: Vec<_> = found.summaries.iter().map(|part| (part.part.as_str(), part.rows)).collect();
    assert_eq!(parts, [("train", 1), ("test", 1)]);
}

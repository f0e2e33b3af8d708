//! Layouts of column files: what is a token, what names columns, what counts, what is a label.

use quarry::prepare::{Format, OnError, ReadOptions, Settings, run};

use super::{counts, mentions, options, prepared, sql};
use crate::support::Dir;

/// The texts, the mentions and the notes of a column file.
fn read(name: &str, text: &str, tags: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let dir = Dir::new();
    let input = dir.write(name, text);
    let read = ReadOptions { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..ReadOptions::default() };
    let found = prepared(&dir, &Settings { read, ..options(Format::Conll, &input, &dir.path("out")) });
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let texts = sql(&dir, &dir.path("out"), "SELECT text FROM documents ORDER BY sentence");
    let mentions = mentions(&dir, &dir.path("out"));
    let notes = found.notes.iter().map(|note| note.split(": 1 (").next().unwrap_or_default().to_owned()).collect();
    (texts, mentions, notes)
}

#[test]
fn a_comment_before_a_sentence_can_have_as_many_fields_as_a_token() {
    let text = "\n# id 0001-a\tlang=en\nzoë _ _ B-PER\n# _ _ O\n1 _ _ O\n\n\n# id 0001-b\tlang=en\n#fair _ _ B-MISC\nleft _ _ O\n";
    let (texts, mentions, _) = read("x", text, &[]);
    assert_eq!(texts, ["zoë # 1", "#fair left"]);
    assert_eq!(mentions, ["x/0|PER|0|3|zoë", "x/1|MISC|0|5|#fair"]);
}

#[test]
fn a_line_that_names_the_columns_is_no_token() {
    let text = "TOKEN\tNE-COARSE\tNE-FINE\tMISC\n# document = a\nÀ\tO\tO\t_\nBâle\tB-loc\tB-loc.town\t_\n\nZoé\tB-pers\tO\t_\n";
    let (texts, mentions, notes) = read("x", text, &["2"]);
    assert_eq!(texts, ["À Bâle", "Zoé"]);
    assert_eq!(mentions, ["x/0|loc|2|6|Bâle", "x/1|pers|0|3|Zoé"]);
    assert_eq!(notes, ["lines that name the columns, not read as tokens"]);
    let (texts, mentions, _) = read("x", "token\tlabel\nAda\tB-PER\nLind\tI-PER\n", &[]);
    assert_eq!((texts, mentions), (vec!["Ada Lind".to_owned()], vec!["x/0|PER|0|8|Ada Lind".to_owned()]));
}

#[test]
fn a_skipped_line_costs_the_line_and_not_the_document() {
    let dir = Dir::new();
    let input = dir.write("x", "Ada\tB-PER\nin\tno tag\nRome\tB-LOC\nto\tO\textra\nBo\tI-PER\nnow\tO\n");
    let settings = Settings { on_error: OnError::Skip, ..options(Format::Conll, &input, &dir.path("out")) };
    let read = ReadOptions { tags: vec!["2".into()], scheme: quarry::prepare::Scheme::Iob2, ..ReadOptions::default() };
    let found = prepared(&dir, &Settings { read, ..settings });
    assert_eq!((counts(&found.summaries[0]), found.problems.len()), ([1, 1, 1, 2], 3));
    assert_eq!(mentions(&dir, &dir.path("out")), ["x/0|PER|0|3|Ada", "x/0|LOC|4|8|Rome"]);
    assert_eq!(sql(&dir, &dir.path("out"), "SELECT text FROM documents"), ["Ada Rome Bo now"]);
    for (place, part) in
        [("line 4", "3 columns, expected 2"), ("line 2", "unknown tag `no tag`"), ("line 5", "`I-PER`")]
    {
        let named = |problem: &String| problem.contains(place) && problem.contains(part);
        assert!(found.problems.iter().any(named), "{place}: {:?}", found.problems);
    }
}

#[test]
fn a_run_of_one_label_is_a_mention_where_no_label_has_a_prefix() {
    let text = "Ada\tperson-artist/author\nLind\tperson-artist/author\nsaw\tO\nRome\tlocation-GPE\n.\tO\n";
    let (_, mentions, notes) = read("x", text, &[]);
    assert_eq!(mentions, ["x/0|person-artist/author|0|8|Ada Lind", "x/0|location-GPE|13|17|Rome"]);
    assert_eq!(notes, ["files whose labels have no B- or I-, a run of one label read as a mention"]);
}

#[test]
fn a_column_of_counts_is_no_column_of_words() {
    let expected = (vec!["Ada Lind left", "She left Rome"], vec!["x/0|PER|0|8|Ada Lind", "x/1|LOC|9|13|Rome"]);
    let rows = ["Ada\tB-PER", "Lind\tI-PER", "left\tO", "", "She\tO", "left\tO", "Rome\tB-LOC"];
    let with = |counts: [&str; 7]| -> String {
        counts
            .iter()
            .zip(rows)
            .map(|(count, row)| if row.is_empty() { "\n".into() } else { format!("{count}\t{row}\n") })
            .collect()
    };
    for counts in
        [["0", "1", "2", "", "0", "1", "2"], ["1", "2", "3", "", "4", "5", "6"], ["7", "8", "9", "", "1", "2", "3"]]
    {
        let (texts, mentions, _) = read("x", &with(counts), &[]);
        assert_eq!(
            (texts.iter().map(String::as_str).collect(), mentions.iter().map(String::as_str).collect()),
            expected
        );
    }
    let ranges = with(["1", "2", "3", "", "1", "2", "3"]).replace("1\tShe", "1-2\tShe's\t_\n1\tShe");
    let (texts, _, notes) = read("x", &ranges, &["3"]);
    assert_eq!(texts, expected.0);
    assert_eq!(notes, ["lines of several tokens (`1-2`), whose tokens follow, not read"]);
}

#[test]
fn other_notations_of_columns_are_read() {
    let expected = ["x/0|PER|0|8|Ada Lind"];
    let csv = "Sentence #,Word,POS,Tag\nSentence: 1,Ada,NNP,B-PER\n,Lind,NNP,I-PER\nSentence: 2,\"left, then\",VBD,O\n";
    for text in [
        "Ada NNP (PER*\nLind NNP *)\nleft VBD *\n",
        "B-PER\tAda\nI-PER\tLind\nO\tleft\n",
        "Ada|NNP|I-PER Lind|NNP|I-PER left|VBD|O\n",
        "Ada B_PER\nLind I_PER\nleft O\n",
        csv,
    ] {
        assert_eq!(read("x", text, &[]).1, expected, "{text}");
    }
    assert_eq!(read("x", csv, &[]).0, ["Ada Lind", "left, then"]);
}

#[test]
fn an_ambiguous_layout_names_its_line_and_the_option() {
    let dir = Dir::new();
    let error = |text: &str| {
        let input = dir.write("x.conll", text);
        run(&options(Format::Conll, &input, &dir.path("out"))).unwrap_err().to_string()
    };
    let brackets = error("# about\nAda (S* (PER*)\nleft *) *\n");
    assert!(
        brackets.ends_with("line 2: columns 2, 3 hold brackets; `--tags` says which of them has the names"),
        "{brackets}"
    );
    let reversed = error("B-PER\tAda\tNNP\nO\tleft\tVBD\n");
    assert!(reversed.contains("line 1: column 1 holds tags; `--tokens` says which column has the words"), "{reversed}");
    let none = error("Ada NNP\nleft VBD\n");
    assert!(none.ends_with("found `NNP`; `--tokens` and `--tags` name the columns"), "{none}");
}

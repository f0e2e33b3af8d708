//! Formats of published corpora, each in a small file of our own.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use quarry::prepare::{Format, Labels};
use quarry::prepare::{ReadOptions, Settings};

use super::{counts, fixture, mentions, options, prepared, sql, types};
use crate::support::{Dir, project};

/// The mentions of a fixture under a schema of the project: every type of the schema must be there.
fn under_schema(format: Format, input: &str, schema: &str) -> String {
    let dir = Dir::new();
    let schema = quarry::job::read_schema(&project().join("schemas").join(schema)).unwrap();
    let expected: BTreeSet<String> = schema.types.iter().map(|one| one.name.clone()).collect();
    let read = ReadOptions { schema: Some(schema), ..ReadOptions::default() };
    let found = prepared(&dir, &Settings { read, ..options(format, &fixture(input), &dir.path("out")) });
    let types: BTreeSet<String> = types(&found.summaries[0]).into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(types, expected);
    mentions(&dir, &dir.path("out")).join("\n")
}

#[test]
fn conll_with_every_type_of_its_schema() {
    assert_snapshot!(under_schema(Format::Conll, "conll.txt", "conll03.toml"), @r#"
    conll.txt/0/0|PER|0|8|Ada Lind
    conll.txt/0/0|LOC|14|23|Port Alda
    conll.txt/0/0|LOC|24|29|Orrin
    conll.txt/1/0|MISC|0|7|Swedish
    conll.txt/1/0|ORG|8|18|Reed Lines
    "#);
}

#[test]
fn genia_with_every_type_of_its_schema() {
    assert_snapshot!(under_schema(Format::Genia, "genia.xml", "genia.toml"), @r#"
    MEDLINE:1|DNA|0|10|ABC-1 gene
    MEDLINE:1|RNA|24|34|ABC-1 mRNA
    MEDLINE:1|cell_type|38|44|T cell
    MEDLINE:1|cell_line|38|49|T cell line
    MEDLINE:1|protein|82|98|β-kinin receptor
    "#);
}

#[test]
fn ontonotes_with_every_type_of_its_schema() {
    assert_snapshot!(under_schema(Format::Ontonotes, "ontonotes.name", "ontonotes5.toml"), @r#"
    bn/made/00/made_0001@0001@made@bn@en@on|PERSON|0|8|Ada Lind
    bn/made/00/made_0001@0001@made@bn@en@on|NORP|13|20|Swedish
    bn/made/00/made_0001@0001@made@bn@en@on|DATE|37|44|in 1815
    bn/made/00/made_0001@0001@made@bn@en@on|CARDINAL|40|44|1815
    bn/made/00/made_0001@0001@made@bn@en@on|FAC|61|76|Bridge of Orrin
    bn/made/00/made_0001@0001@made@bn@en@on|GPE|80|89|Port Alda
    bn/made/00/made_0001@0001@made@bn@en@on|LOC|95|105|Lake Orrin
    bn/made/00/made_0001@0001@made@bn@en@on|ORG|108|119|Salt & Reed
    bn/made/00/made_0001@0001@made@bn@en@on|PRODUCT|125|140|the Reed Engine
    bn/made/00/made_0001@0001@made@bn@en@on|EVENT|144|157|the Alda Fair
    bn/made/00/made_0001@0001@made@bn@en@on|MONEY|162|172|about $ 40
    bn/made/00/made_0001@0001@made@bn@en@on|PERCENT|175|178|3 %
    bn/made/00/made_0001@0001@made@bn@en@on|TIME|189|200|the morning
    bn/made/00/made_0001@0001@made@bn@en@on|ORDINAL|214|219|first
    bn/made/00/made_0001@0001@made@bn@en@on|WORK_OF_ART|230|239|On Wheels
    bn/made/00/made_0001@0001@made@bn@en@on|QUANTITY|253|263|two pounds
    bn/made/00/made_0001@0001@made@bn@en@on|LANGUAGE|281|286|Latin
    bn/made/00/made_0001@0001@made@bn@en@on|LAW|297|312|the Harbour Act
    bn/made/00/made_0001@0001@made@bn@en@on|NORP|324|331|Swedish
    bn/made/00/made_0001@0001@made@bn@en@on|GPE|345|349|Alda
    bn/made/00/made_0001@0001@made@bn@en@on|CARDINAL|368|374|twelve
    bn/made/00/made_0001@0001@made@bn@en@on|GPE|375|379|Alda
    "#);
}

#[test]
fn ace_with_every_type_of_its_schema() {
    assert_snapshot!(under_schema(Format::Ace, "ace", "ace.toml"), @r#"
    MADEUP20260101.0001|PER|66|76|Zoë Müller
    MADEUP20260101.0001|GPE|93|102|Port Alda
    MADEUP20260101.0001|PER|106|185|The owner of Salt & Reed Lines, a company from the northern
    shore of Lake Orrin
    MADEUP20260101.0001|ORG|119|136|Salt & Reed Lines
    MADEUP20260101.0001|ORG|138|185|a company from the northern
    shore of Lake Orrin
    MADEUP20260101.0001|LOC|153|185|the northern
    shore of Lake Orrin
    MADEUP20260101.0001|LOC|175|185|Lake Orrin
    MADEUP20260101.0001|PER|207|210|her
    MADEUP20260101.0001|VEH|207|220|her new ferry
    MADEUP20260101.0001|FAC|230|254|the harbour
    of Port Alda
    MADEUP20260101.0001|WEA|260|284|two old cannons on board
    MADEUP20260101.0001|PER|286|289|She
    made-up-2004|ORG|15|40|Reed &amp; Sons &amp; Co.
    made-up-2004|GPE|50|54|Alda
    "#);
}

#[test]
fn ace_keeps_heads_inside_their_extents() {
    let dir = Dir::new();
    prepared(&dir, &options(Format::Ace, &fixture("ace"), &dir.path("out")));
    let heads = "SELECT g.text, g.head_text FROM gold g JOIN documents d USING (doc_id)
        WHERE substr(d.text, g.head_start_char + 1, g.head_end_char - g.head_start_char) = g.head_text
            AND g.head_start_char BETWEEN g.start_char AND g.end_char ORDER BY g.doc_id, g.start_char, g.end_char";
    assert_snapshot!(sql(&dir, &dir.path("out"), heads).join("\n---\n"), @r#"
    Zoë Müller|Zoë Müller
    ---
    Port Alda|Port Alda
    ---
    The owner of Salt & Reed Lines, a company from the northern
    shore of Lake Orrin|owner
    ---
    Salt & Reed Lines|Salt & Reed Lines
    ---
    a company from the northern
    shore of Lake Orrin|company
    ---
    the northern
    shore of Lake Orrin|shore
    ---
    Lake Orrin|Lake Orrin
    ---
    her|her
    ---
    her new ferry|ferry
    ---
    the harbour
    of Port Alda|harbour
    ---
    two old cannons on board|cannons
    ---
    She|She
    ---
    Reed &amp; Sons &amp; Co.|Reed &amp; Sons &amp; Co.
    ---
    Alda|Alda
    "#);
}

#[test]
fn the_text_of_ontonotes_has_its_brackets_back() {
    let dir = Dir::new();
    prepared(&dir, &options(Format::Ontonotes, &fixture("ontonotes.name"), &dir.path("out")));
    assert_snapshot!(sql(&dir, &dir.path("out"), "SELECT text FROM documents").join("\n"), @r#"
    Ada Lind , a Swedish engineer ( born in 1815 ) , crossed the Bridge of Orrin in Port Alda near Lake Orrin .
    Salt & Reed sold the Reed Engine at the Alda Fair for about $ 40 , 3 % less than the morning before .
    Her first book , `` On Wheels '' , weighed two pounds , was written in Latin and cites the Harbour Act .
    The anti-Swedish vote and the Alda-based press [ all twelve-Alda papers ] disagreed .
    "#);
}

#[test]
fn conll_2012_has_a_document_a_part() {
    let dir = Dir::new();
    let found = prepared(&dir, &options(Format::Conll2012, &fixture("made.v4_gold_conll"), &dir.path("out")));
    assert_eq!(counts(&found.summaries[0]), [2, 3, 2, 9]);
    assert_snapshot!(mentions(&dir, &dir.path("out")).join("\n"), @r#"
    bn/made/00/made_0001/0|PERSON|0|8|Ada Lind
    bn/made/00/made_0001/0|NORP|13|20|Swedish
    bn/made/00/made_0001/0|DATE|37|44|in 1815
    bn/made/00/made_0001/0|CARDINAL|40|44|1815
    bn/made/00/made_0001/0|FAC|61|76|Bridge of Orrin
    bn/made/00/made_0001/0|GPE|80|89|Port Alda
    bn/made/00/made_0001/0|LOC|95|105|Lake Orrin
    bn/made/00/made_0001/0|ORG|108|119|Salt & Reed
    bn/made/00/made_0001/1|ORG|0|11|Salt & Reed
    "#);
}

#[test]
fn bbn_keeps_subtypes_or_not() {
    let labelled = |labels| {
        let dir = Dir::new();
        let read = ReadOptions { labels, ..ReadOptions::default() };
        prepared(&dir, &Settings { read, ..options(Format::Bbn, &fixture("bbn.qa"), &dir.path("out")) });
        let rows = sql(
            &dir,
            &dir.path("out"),
            "SELECT entity_type, text FROM gold ORDER BY doc_id, start_char, end_char DESC, entity_type",
        );
        rows.join("\n")
    };
    assert_snapshot!(labelled(None), @r#"
    ORGANIZATION:CORPORATION|Salt & Reed Lines
    PERSON|Ada Lind
    DATE:AGE|61 years old
    PER_DESC|chairman
    MONEY|$ 3.18 million
    FAC:BRIDGE|the Bridge of Port Alda
    GPE:CITY|Port Alda
    "#);
    assert!(labelled(Some(Labels::Coarse)).contains("GPE|Port Alda"));
    assert!(labelled(Some(Labels::Both)).contains("FAC|the Bridge of Port Alda\nFAC:BRIDGE|the Bridge of Port Alda"));
}

#[test]
fn genias_own_classes() {
    let dir = Dir::new();
    let read = ReadOptions { labels: Some(Labels::Fine), ..ReadOptions::default() };
    let found = prepared(&dir, &Settings { read, ..options(Format::Genia, &fixture("genia.xml"), &dir.path("out")) });
    let names: Vec<&str> = types(&found.summaries[0]).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "DNA_domain_or_region",
        "RNA_molecule",
        "cell_line",
        "cell_type",
        "other_name",
        "protein_family_or_group",
        "protein_molecule",
    ];
    assert_eq!(names, expected);
    assert_eq!(found.summaries[0].shared, 2, "two classes of one place are both kept");
}

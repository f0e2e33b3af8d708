//! BBN's inline XML → documents. In: `<DOC>` with `<DOCNO>`, then lines with ENAMEX, NUMEX and TIMEX tags. Out: one document per
//! `<DOC>`. It must not lose the subtypes: `TYPE="GPE:CITY"` keeps both parts unless coarse labels are requested.
//!
//! Format: BBN Pronoun Coreference and Entity Type Corpus (LDC2005T33), files of many Wall Street Journal articles.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::markup::inline::{Inline, Tagged, add, is_mention, mention};
use crate::prepare::markup::ontonotes::plain_token;
use crate::prepare::markup::xml::{Piece, Pieces};
use crate::prepare::record::{Kind, Place};
use crate::prepare::sentences::Assembler;
use crate::prepare::settings::{Labels, ReadOptions};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "BBN is `<DOC>` with `<DOCNO>` and lines with `<ENAMEX TYPE=\"GPE:CITY\">`, `<NUMEX …>` and `<TIMEX …>`";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".qa", ".xml", ".sgm"];

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let labels = options.labels.unwrap_or(Labels::Fine);
    let mut document: Option<Assembler> = None;
    let (mut inline, mut documents, mut began) = (Inline::default(), 0, 1);
    let mut id: Option<String> = None;
    for next in Pieces::new(&text) {
        let (line, piece) = match next {
            Ok(next) => next,
            Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
        };
        let place = Place::Line(line);
        match piece {
            Piece::Open(tag) if tag.name == "DOC" => (documents, began, document) = (documents + 1, line, None),
            Piece::Open(tag) if tag.name == "DOCNO" => id = Some(String::new()),
            Piece::Open(tag) if is_mention(&tag.name) => inline.open(tag, line),
            Piece::Open(tag) => corpus.note(file, place, format!("tags `<{}>`, ignored", tag.name)),
            Piece::Close(name) if is_mention(&name) => inline.close(),
            Piece::Close(name) if name == "DOCNO" => {
                let id = id.take().unwrap_or_default().trim().to_owned();
                document = Some(Assembler::new(id, file, Place::Line(began), Kind::Document));
            }
            Piece::Close(name) if name == "DOC" => {
                let last = inline.line_break();
                let Some(mut document) = document.take() else { continue };
                if let Some((text, tagged)) = last {
                    push(&text, &tagged, labels, &mut document, file, corpus)?;
                }
                if let Some(document) = document.finish() {
                    corpus.push(file, document)?;
                }
            }
            Piece::Close(_) => {}
            Piece::Text(text) => match (&mut id, &mut document) {
                (Some(id), _) => id.push_str(&text),
                (None, Some(document)) => add(&mut inline, &text, plain_token, |text, tagged| {
                    push(&text, &tagged, labels, document, file, corpus)
                })?,
                (None, None) if text.trim().is_empty() => {}
                (None, None) => return corpus.unreadable(file, place, "text before `<DOCNO>`"),
            },
        }
    }
    if documents == 0 {
        corpus.unreadable(file, Place::Line(1), "no `<DOC>` found")?;
    }
    Ok(())
}

fn push(
    text: &str,
    tagged: &[Tagged],
    labels: Labels,
    document: &mut Assembler,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<()> {
    let mut mentions = Vec::new();
    for one in tagged {
        let Some(subtype) = one.tag.get("TYPE") else {
            corpus.problem(file, one.place, format!("`<{}>` has no TYPE", one.tag.name))?;
            continue;
        };
        let coarse = subtype.split(':').next().unwrap_or(subtype);
        if labels != Labels::Fine {
            mentions.push(mention(one, coarse));
        }
        if labels == Labels::Fine || labels == Labels::Both && subtype != coarse {
            mentions.push(mention(one, subtype));
        }
    }
    document.text(text, mentions, file, corpus)
}

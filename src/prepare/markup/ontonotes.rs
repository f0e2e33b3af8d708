//! OntoNotes 5 `.name` files → documents. In: `<DOC DOCNO="…">`, one sentence per line, names as `<ENAMEX TYPE="ORG">`. Out: one document
//! per `<DOC>`. It must not keep the Penn Treebank's bracket names in the text.
//!
//! Format: OntoNotes release 5.0 (LDC2013T19). `S_OFF` and `E_OFF` count the characters of the first and last word that are not part
//! of the name (`<ENAMEX TYPE="NORP" S_OFF="5">anti-Chinese</ENAMEX>`).

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::markup::inline::{Inline, Tagged, add, is_mention, mention};
use crate::prepare::markup::xml::{Piece, Pieces};
use crate::prepare::record::{Kind, Mention, Place};
use crate::prepare::sentences::Assembler;
use crate::prepare::settings::ReadOptions;
use crate::text::span::CharSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "a .name file is `<DOC DOCNO=\"…\">` with one sentence per line and names as `<ENAMEX TYPE=\"ORG\">…</ENAMEX>`";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".name"];

/// A token of the Penn Treebank as plain text: the treebank writes brackets as names, and ends sentences of speech with `/.`.
pub(crate) fn plain_token(token: &str) -> &str {
    match token {
        "-LRB-" => "(",
        "-RRB-" => ")",
        "-LSB-" => "[",
        "-RSB-" => "]",
        "-LCB-" => "{",
        "-RCB-" => "}",
        "-AMP-" => "&",
        "/." => ".",
        "/?" => "?",
        "/-" => "-",
        _ => token,
    }
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let mut document: Option<Assembler> = None;
    let (mut inline, mut documents) = (Inline::default(), 0);
    for next in Pieces::new(&text) {
        let (line, piece) = match next {
            Ok(next) => next,
            Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
        };
        let place = Place::Line(line);
        match piece {
            Piece::Open(tag) if tag.name == "DOC" => {
                documents += 1;
                let id = tag.get("DOCNO").unwrap_or(file.stem(".name")).trim().to_owned();
                document = Some(Assembler::new(id, file, place, Kind::Document));
            }
            Piece::Open(tag) if is_mention(&tag.name) => inline.open(tag, line),
            Piece::Open(tag) => {
                corpus.problem(file, place, format!("unknown tag `<{}>`, expected ENAMEX or DOC", tag.name))?;
            }
            Piece::Close(name) if is_mention(&name) => inline.close(),
            Piece::Close(name) if name == "DOC" => {
                let last = inline.line_break();
                let Some(mut document) = document.take() else { continue };
                if let Some((text, tagged)) = last {
                    push(&text, &tagged, &mut document, file, corpus)?;
                }
                if let Some(document) = document.finish() {
                    corpus.push(file, document)?;
                }
            }
            Piece::Close(_) => {}
            Piece::Text(text) => match &mut document {
                Some(document) => {
                    add(&mut inline, &text, plain_token, |text, tagged| push(&text, &tagged, document, file, corpus))?;
                }
                None if text.trim().is_empty() => {}
                None => return corpus.unreadable(file, place, "text outside `<DOC>`"),
            },
        }
    }
    if documents == 0 {
        corpus.unreadable(file, Place::Line(1), "no `<DOC>` found")?;
    }
    Ok(())
}

fn push(text: &str, tagged: &[Tagged], document: &mut Assembler, file: &InputFile, corpus: &mut Corpus) -> Result<()> {
    let mut mentions = Vec::new();
    for one in tagged {
        match name(one) {
            Ok(mention) => mentions.push(mention),
            Err(reason) => corpus.problem(file, one.place, reason)?,
        }
    }
    document.text(text, mentions, file, corpus)
}

/// The name that a tag marks, without the characters that `S_OFF` and `E_OFF` exclude.
fn name(tagged: &Tagged) -> Result<Mention, String> {
    let entity_type = tagged.tag.get("TYPE").ok_or("a name has no TYPE")?;
    let offset = |key: &str| match tagged.tag.get(key) {
        None => Ok(0),
        Some(value) => value.parse::<usize>().map_err(|_| format!("{key} is `{value}`, expected a number")),
    };
    let (start, end) = (offset("S_OFF")?, offset("E_OFF")?);
    if start.saturating_add(end) >= tagged.span.len() {
        return Err(format!("S_OFF and E_OFF leave nothing of a name of {} characters", tagged.span.len()));
    }
    let span = CharSpan::new(tagged.span.start + start, tagged.span.end - end);
    Ok(Mention { span, ..mention(tagged, entity_type) })
}

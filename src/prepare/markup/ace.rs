//! ACE 2004 and 2005 → documents. In: `.apf.xml` files with entity mentions, each with the `.sgm` file its offsets refer to. Out: one
//! document per pair, whose text is the file without tags, and mentions with full extents and heads. It must not shift an offset: only
//! tags are removed.
//!
//! Format: ACE Program Format 4 and 5 (LDC2005T09, LDC2006T06). `charseq` counts the characters of the `.sgm` file without tags,
//! from 0, END inclusive, and repeats the text it covers. Releases differ in whether `&amp;` counts as one character or five: the
//! reader uses the interpretation in which more mentions match their text.

use crate::error::{Error, Result};
use crate::prepare::char_index::CharIndex;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::markup::xml::{Piece, Pieces, Tag, resolve};
use crate::prepare::record::{Document, Kind, LineError, Mention, Place};
use crate::prepare::settings::{Labels, ReadOptions};
use crate::text::span::CharSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "ACE is X.apf.xml (`source_file`, `document`, `entity`, `entity_mention` with `extent` and `head`) beside X.sgm";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[ANNOTATIONS];

const ANNOTATIONS: &str = ".apf.xml";
const TEXT: &str = ".sgm";

/// The content of an annotation file.
#[derive(Debug, Default)]
struct Annotations {
    id: Option<String>,
    mentions: Vec<Mention>,
}

/// Reads one annotation file and the text beside it.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(xml) = file.text(corpus)? else { return Ok(()) };
    let labels = options.labels.unwrap_or(Labels::Coarse);
    let annotations = match annotations(&xml, labels) {
        Ok(annotations) => annotations,
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    let Some(id) = annotations.id else {
        return corpus.unreadable(file, Place::Line(1), "no `document` with a DOCID found");
    };
    let beside = file.beside(ANNOTATIONS, TEXT);
    let sgm = match beside.text(corpus) {
        Ok(Some(sgm)) => sgm,
        Ok(None) => return Ok(()),
        Err(error) if is_missing(&error) => {
            let reason = format!("its text file `{}` does not exist", beside.path.display());
            return corpus.unreadable(file, Place::Line(1), reason);
        }
        Err(error) => return Err(error),
    };
    let raw = without_tags(&sgm);
    let resolved = resolve(&raw).into_owned();
    let (in_raw, in_resolved) = (matching(&raw, &annotations.mentions), matching(&resolved, &annotations.mentions));
    let text = if in_raw > in_resolved { raw } else { resolved };
    // If references count in full, a charseq still repeats its text with the references resolved.
    let mentions = annotations.mentions.into_iter().map(|mention| with_raw_surface(mention, &text)).collect();
    let document = Document {
        id,
        source: beside.name,
        place: Place::Line(1),
        text,
        sentences: Vec::new(),
        kind: Kind::Document,
        mentions,
    };
    corpus.push(file, document)
}

/// Whether a file could not be read because it does not exist.
fn is_missing(error: &Error) -> bool {
    let Error::Read { source, .. } = error else { return false };
    source.downcast_ref::<std::io::Error>().is_some_and(|source| source.kind() == std::io::ErrorKind::NotFound)
}

/// The number of mentions whose span covers their surface in `text`.
fn matching(text: &str, mentions: &[Mention]) -> usize {
    let index = CharIndex::new(text);
    let matches = |mention: &&Mention| {
        let found = index.slice(text, mention.span).map(resolve);
        found
            .zip(mention.surface.as_ref())
            .is_some_and(|(found, surface)| found.split_whitespace().eq(surface.split_whitespace()))
    };
    mentions.iter().filter(matches).count()
}

/// Replaces the mention's surface by the raw text it covers if they differ only in references and white space.
fn with_raw_surface(mention: Mention, text: &str) -> Mention {
    let index = CharIndex::new(text);
    let found = index.slice(text, mention.span).unwrap_or_default();
    let same = |surface: &String| resolve(found).split_whitespace().eq(surface.split_whitespace());
    let surface = if mention.surface.as_ref().is_some_and(same) { Some(found.to_owned()) } else { mention.surface };
    Mention { surface, ..mention }
}

/// The text of an SGML file without its tags; line breaks outside tags are kept.
fn without_tags(sgm: &str) -> String {
    // Offsets count a line break as one character.
    let sgm = sgm.replace("\r\n", "\n");
    let mut text = String::with_capacity(sgm.len());
    let mut rest = sgm.as_str();
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        let tag = &rest[at..];
        let opens = tag[1..].starts_with(|letter: char| letter.is_ascii_alphabetic() || "/!?".contains(letter));
        if let Some(end) = tag_end(tag).filter(|_| opens) {
            rest = &tag[end..];
        } else {
            text.push('<');
            rest = &tag[1..];
        }
    }
    text.push_str(rest);
    text
}

/// The end of the tag at the beginning of `text`; a `>` in quotation marks is part of a value.
fn tag_end(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (position, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(position + 1),
            _ => {}
        }
    }
    text.find('>').map(|position| position + 1)
}

/// A part of a mention: `extent` or `head`, its span and the text it covers.
type Part = (String, CharSpan, String);

/// The mentions of an annotation file.
fn annotations(xml: &str, labels: Labels) -> Result<Annotations, LineError> {
    let mut found = Annotations::default();
    let mut entity: Option<Tag> = None;
    let mut mention: Option<(usize, Vec<Part>)> = None;
    let (mut part, mut sequence): (Option<String>, Option<(CharSpan, String)>) = (None, None);
    for next in Pieces::new(xml) {
        let (line, piece) = next?;
        match piece {
            Piece::Open(tag) => match tag.name.as_str() {
                "document" => found.id = tag.get("DOCID").map(str::to_owned),
                "entity" => entity = Some(tag),
                "entity_mention" if entity.is_some() => mention = Some((line, Vec::new())),
                "extent" | "head" if mention.is_some() => part = Some(tag.name),
                "charseq" if part.is_some() => sequence = Some((char_span(&tag, line)?, String::new())),
                _ => {}
            },
            Piece::Text(text) => {
                if let Some((_, surface)) = &mut sequence {
                    surface.push_str(&text);
                }
            }
            Piece::Close(name) => match name.as_str() {
                "charseq" => {
                    if let (Some((_, parts)), Some(part), Some((span, surface))) =
                        (&mut mention, &part, sequence.take())
                    {
                        parts.push((part.clone(), span, surface));
                    }
                }
                "extent" | "head" => part = None,
                "entity" => entity = None,
                "entity_mention" => {
                    if let (Some(entity), Some((line, parts))) = (&entity, mention.take()) {
                        found.mentions.extend(labelled(entity, line, &parts, labels)?);
                    }
                }
                _ => {}
            },
        }
    }
    Ok(found)
}

/// START and END (inclusive) as a half-open span.
fn char_span(tag: &Tag, line: usize) -> Result<CharSpan, LineError> {
    let number = |key: &str| {
        let value = tag.get(key).ok_or_else(|| (line, format!("a charseq has no {key}")))?;
        value.trim().parse::<usize>().map_err(|_| (line, format!("{key} is `{value}`, expected a number")))
    };
    Ok(CharSpan::new(number("START")?, number("END")?.saturating_add(1)))
}

/// A mention under each requested label.
fn labelled(entity: &Tag, line: usize, parts: &[Part], labels: Labels) -> Result<Vec<Mention>, LineError> {
    let coarse = entity.get("TYPE").ok_or_else(|| (line, "an entity has no TYPE".to_owned()))?;
    let fine = match entity.get("SUBTYPE").filter(|subtype| !subtype.is_empty()) {
        Some(subtype) => format!("{coarse}:{subtype}"),
        None => coarse.to_owned(),
    };
    let part = |name: &str| parts.iter().find(|(part, ..)| part == name);
    let (_, span, surface) = part("extent").ok_or_else(|| (line, "a mention has no extent".to_owned()))?;
    let mention = Mention {
        head: part("head").map(|(_, span, _)| *span),
        surface: Some(surface.clone()),
        ..Mention::new(coarse, *span, Place::Line(line))
    };
    let other = Mention { entity_type: fine.clone(), ..mention.clone() };
    Ok(match labels {
        Labels::Coarse => vec![mention],
        Labels::Fine => vec![other],
        Labels::Both if fine == coarse => vec![mention],
        Labels::Both => vec![mention, other],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::corpus::OnError;

    #[test]
    fn only_tags_are_removed() {
        let sgm = "<DOC>\r\n<QUOTE PREVIOUSPOST=\"a > b\nc\">3 < 4 & <b>x</b>\n</DOC>\n";
        assert_eq!(without_tags(sgm), "\n3 < 4 & x\n\n");
        assert_eq!(without_tags("<a \"x>y"), "y", "a lone quotation mark does not swallow the file");
    }

    #[test]
    fn a_missing_text_is_a_problem_and_an_unreadable_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.apf.xml");
        std::fs::write(&path, "<source_file>\n<document DOCID=\"d\">\n</document>\n</source_file>").unwrap();
        let file = InputFile { path, name: "a.apf.xml".into() };
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        read(&file, &ReadOptions::default(), &mut corpus).unwrap();
        assert!(corpus.problems[0].reason.ends_with("a.sgm` does not exist"), "{:?}", corpus.problems);
        // A folder exists, but cannot be read as a file.
        std::fs::create_dir(folder.path().join("a.sgm")).unwrap();
        assert!(matches!(read(&file, &ReadOptions::default(), &mut corpus), Err(Error::Read { .. })));
        std::fs::remove_dir(folder.path().join("a.sgm")).unwrap();
        std::fs::write(folder.path().join("a.sgm"), "<DOC>Ada</DOC>").unwrap();
        read(&file, &ReadOptions::default(), &mut corpus).unwrap();
        let document = corpus.into_documents().remove(0);
        assert_eq!(
            (document.source.as_str(), document.place),
            ("a.sgm", Place::Line(1)),
            "the place is a line of the text file"
        );
    }
}

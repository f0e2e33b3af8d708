//! GENIA's XML → documents. In: GENIAcorpus3.02.xml, an `article` with `title` and `abstract`, sentences with nested `cons`. Out: one
//! document per article, with its MEDLINE number as id. It must not label coordinated terms: `sem="(AND …)"` names several terms that
//! are not contiguous in the text.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::markup::xml::{Piece, Pieces, Tag};
use crate::prepare::record::{Kind, LineError, Mention, Place};
use crate::prepare::sentences::Assembler;
use crate::prepare::settings::{Labels, ReadOptions};
use crate::text::span::CharSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "GENIA is XML: `set`, in it `article` with `bibliomisc`, `title` and `abstract` of `sentence`s, in them `cons` with `sem=\"G#…\"`";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".xml"];

/// The five types used in the literature on GENIA; the subclasses of DNA, RNA and protein are merged.
const TYPES: [&str; 5] = ["DNA", "RNA", "protein", "cell_line", "cell_type"];

/// A sentence being read.
#[derive(Default)]
struct Sentence {
    text: String,
    chars: usize,
    open: Vec<(usize, Option<String>, usize)>,
    mentions: Vec<Mention>,
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let labels = options.labels.unwrap_or(Labels::Coarse);
    let mut document: Option<Assembler> = None;
    let mut sentence: Option<Sentence> = None;
    let (mut id, mut in_id, mut began) = (String::new(), false, 1);
    let mut articles = 0;
    for next in Pieces::new(&text) {
        let (line, piece) = match next {
            Ok(next) => next,
            Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
        };
        let place = Place::Line(line);
        match piece {
            Piece::Open(tag) => match tag.name.as_str() {
                "article" => (id, document, began, articles) = (String::new(), None, line, articles + 1),
                "bibliomisc" => in_id = true,
                "sentence" => sentence = Some(Sentence::default()),
                "cons" => {
                    if let Some(sentence) = &mut sentence {
                        sentence.open.push((sentence.chars, class(&tag), line));
                    }
                }
                _ => {}
            },
            Piece::Text(text) if in_id => id.push_str(text.trim()),
            Piece::Text(text) => {
                if let Some(sentence) = &mut sentence {
                    sentence.chars += text.chars().count();
                    sentence.text.push_str(&text);
                }
            }
            Piece::Close(name) => match name.as_str() {
                "bibliomisc" => in_id = false,
                "cons" => {
                    if let Err((line, reason)) = close(sentence.as_mut(), labels, file, corpus) {
                        corpus.problem(file, Place::Line(line), reason)?;
                    }
                }
                "sentence" => {
                    let Some(sentence) = sentence.take() else { continue };
                    if id.is_empty() {
                        corpus.problem(file, place, "a sentence outside an article with a `bibliomisc`")?;
                        continue;
                    }
                    document
                        .get_or_insert_with(|| Assembler::new(id.clone(), file, Place::Line(began), Kind::Document))
                        .text(&sentence.text, sentence.mentions, file, corpus)?;
                }
                "article" => {
                    if let Some(document) = document.take().and_then(Assembler::finish) {
                        corpus.push(file, document)?;
                    }
                }
                _ => {}
            },
        }
    }
    if articles == 0 {
        corpus.unreadable(file, Place::Line(1), "no `article` found")?;
    }
    Ok(())
}

fn class(tag: &Tag) -> Option<String> {
    tag.get("sem").map(str::to_owned)
}

/// Closes the innermost `cons`.
fn close(
    sentence: Option<&mut Sentence>,
    labels: Labels,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<(), LineError> {
    let Some(sentence) = sentence else { return Ok(()) };
    let Some((start, class, line)) = sentence.open.pop() else { return Ok(()) };
    let (span, place) = (CharSpan::new(start, sentence.chars), Place::Line(line));
    match class.as_deref() {
        None => corpus.note(file, place, "terms without a class (parts of coordinated terms), skipped"),
        Some(class) if class.starts_with('(') => {
            corpus.note(file, place, "coordinated terms, which name several terms at once, skipped");
        }
        Some(class) => {
            let subtype = class.strip_prefix("G#").ok_or_else(|| {
                (line, format!("unknown class `{class}`, expected `G#` and a name of GENIA's ontology"))
            })?;
            let coarse = TYPES.into_iter().find(|one| covers(one, subtype));
            if coarse.is_none() && labels == Labels::Coarse {
                corpus.note(file, place, "terms of classes outside the five types, skipped");
            }
            if let (Some(coarse), Labels::Coarse | Labels::Both) = (coarse, labels) {
                sentence.mentions.push(Mention::new(coarse, span, place));
            }
            if labels != Labels::Coarse && coarse != Some(subtype) || labels == Labels::Fine {
                sentence.mentions.push(Mention::new(subtype, span, place));
            }
        }
    }
    Ok(())
}

/// Whether a class of the ontology belongs to one of the five types.
fn covers(coarse: &str, subtype: &str) -> bool {
    match subtype.strip_prefix(coarse) {
        Some("") => true,
        Some(rest) => rest.starts_with('_') && !coarse.starts_with("cell"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_the_ontology_belong_to_types() {
        let types = |fine: &str| TYPES.into_iter().filter(|coarse| covers(coarse, fine)).collect::<Vec<_>>();
        assert_eq!(types("DNA_domain_or_region"), ["DNA"]);
        assert_eq!(types("protein_N/A"), ["protein"]);
        assert_eq!(types("cell_line"), ["cell_line"]);
        assert_eq!(types("cell_component"), [""; 0]);
        assert_eq!(types("other_name"), [""; 0]);
    }
}

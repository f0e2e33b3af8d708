//! brat standoff → documents. In: `.txt` files, each with an `.ann` file of lines `T1⇥TYPE start end⇥words`. Out: one document per
//! text. It must not bridge gaps: a discontinuous mention is skipped and noted.
//!
//! Format: brat's standoff; offsets count code points, half-open. Relations, events, attributes and notes are ignored.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Document, Kind, Mention, Place, short};
use crate::prepare::settings::ReadOptions;
use crate::text::span::CharSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "brat is X.txt beside X.ann with lines such as `T1⇥PER 0 12⇥Ada Lovelace`";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[TEXT];

const TEXT: &str = ".txt";
const ANNOTATIONS: &str = ".ann";

/// First characters of lines that are not text-bound annotations: relations, events, attributes, modifications, normalizations,
/// notes, equivalences.
const NOT_TEXT_BOUND: [char; 7] = ['R', 'E', 'A', 'M', 'N', '#', '*'];

/// Reads one text and its annotation file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let (text_file, annotation_file) = if file.name.ends_with(ANNOTATIONS) {
        (file.beside(ANNOTATIONS, TEXT), file.clone())
    } else {
        (file.clone(), file.beside(TEXT, ANNOTATIONS))
    };
    let Some(text) = text_file.text(corpus)? else { return Ok(()) };
    let mut mentions = Vec::new();
    if annotation_file.path.exists() {
        let Some(annotations) = annotation_file.text(corpus)? else { return Ok(()) };
        for (number, line) in annotations.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = Place::Line(number + 1);
            match annotation(line, place) {
                Ok(Some(mention)) => mentions.push(mention),
                Ok(None) if line.starts_with('T') => {
                    corpus.note(&annotation_file, place, "discontinuous mentions, skipped");
                }
                Ok(None) => {}
                Err(reason) => corpus.problem(&annotation_file, place, reason)?,
            }
        }
    } else {
        corpus.note(&text_file, Place::Line(1), "texts without an annotation file");
    }
    let id = text_file.stem(TEXT).to_owned();
    let document = Document {
        id,
        source: text_file.name.clone(),
        place: Place::Line(1),
        text,
        sentences: Vec::new(),
        kind: Kind::Document,
        mentions,
    };
    corpus.push(&annotation_file, document)
}

/// Reads an annotation line; `None` if it does not annotate one contiguous span.
fn annotation(line: &str, place: Place) -> Result<Option<Mention>, String> {
    if line.starts_with(NOT_TEXT_BOUND) {
        return Ok(None);
    }
    let wrong = || format!("expected `T1⇥TYPE start end⇥words`, found `{}`", short(line));
    let mut parts = line.splitn(3, '\t');
    let (id, about, words) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?, parts.next());
    if !id.starts_with('T') {
        return Err(wrong());
    }
    if about.contains(';') {
        return Ok(None);
    }
    let mut about = about.split_ascii_whitespace();
    let entity_type = about.next().ok_or_else(wrong)?;
    let mut number = || about.next().and_then(|number| number.parse::<usize>().ok()).ok_or_else(wrong);
    let (start, end) = (number()?, number()?);
    if about.next().is_some() {
        return Err(wrong());
    }
    if end < start {
        return Err(format!("a mention of type {entity_type} ends at {end}, before it starts at {start}"));
    }
    let surface = words.map(str::to_owned);
    Ok(Some(Mention { surface, ..Mention::new(entity_type, CharSpan::new(start, end), place) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mention_or_an_error() {
        let read = |line: &str| annotation(line, Place::Line(1));
        let mention = read("T1\tPER 0 12\tAda Lovelace").unwrap().unwrap();
        assert_eq!((mention.entity_type.as_str(), mention.span), ("PER", CharSpan::new(0, 12)));
        assert_eq!(mention.surface.as_deref(), Some("Ada Lovelace"));
        assert_eq!(read("T2\tPER 0 3;8 12\tAda lace"), Ok(None));
        assert_eq!(read("R1\tKnows Arg1:T1 Arg2:T2"), Ok(None));
        assert_eq!(read("#1\tAnnotatorNotes T1\tsure?"), Ok(None));
        assert!(read("T1 PER 0 12 Ada").unwrap_err().starts_with("expected `T1⇥TYPE"));
        assert!(read("T1\tPER zero 12\tAda").unwrap_err().starts_with("expected `T1⇥TYPE"));
        assert!(read("T1\tPER 12 0\tAda").unwrap_err().contains("before it starts"));
        assert!(read("PER\tT1 0 3\tAda").unwrap_err().starts_with("expected `T1⇥TYPE"));
    }
}

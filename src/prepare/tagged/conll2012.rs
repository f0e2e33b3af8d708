//! CoNLL-2012 → documents. In: `_gold_conll` files, one token per line between `#begin document` and `#end document`. Out: one document
//! per part. It must not read columns other than words and names.
//!
//! Format: CoNLL-2012 shared task. The fourth column is the word, the eleventh opens names with `(TYPE*` and closes them with `*)`;
//! names may lie inside others.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::markup::ontonotes::plain_token;
use crate::prepare::record::{Kind, LineError, Place, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::text::span::TokenSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "CoNLL-2012 has `#begin document (ID); part N`, then at least twelve columns per token: the fourth is the word, the eleventh the names";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &["gold_conll", ".conll"];

const WORD: usize = 3;
const NAMES: usize = 10;
const COLUMNS: usize = 12;

/// Reads one file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let mut document: Option<Assembler> = None;
    let mut rows: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut broken = false;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let place = Place::Line(number);
        let begin = line.strip_prefix("#begin document");
        let end = line.starts_with("#end document");
        if begin.is_some() || end || line.trim().is_empty() {
            let rows = std::mem::take(&mut rows);
            if !std::mem::take(&mut broken) {
                add(&rows, document.as_mut(), file, corpus)?;
            }
            if begin.is_some() || end {
                close(document.take(), file, corpus)?;
            }
            if let Some(begin) = begin {
                document = Some(Assembler::new(document_id(begin), file, place, Kind::Document));
            }
            continue;
        }
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if document.is_none() {
            return corpus.unreadable(file, place, format!("expected `#begin document`, found `{}`", short(line)));
        }
        if fields.len() < COLUMNS {
            broken = true;
            let reason = format!("{} columns, expected at least {COLUMNS}", fields.len());
            corpus.problem(file, place, reason)?;
        } else {
            rows.push((number, fields));
        }
    }
    if !broken {
        add(&rows, document.as_mut(), file, corpus)?;
    }
    if document.is_some() {
        let last = Place::Line(text.lines().count().max(1));
        corpus.problem(file, last, "the file ends before `#end document`")?;
    }
    close(document, file, corpus)
}

/// `(bc/cnn/00/cnn_0000); part 003` → `bc/cnn/00/cnn_0000/3`.
fn document_id(begin: &str) -> String {
    let (name, part) = begin.split_once(';').unwrap_or((begin, ""));
    let name = name.trim().trim_start_matches('(').trim_end_matches(')');
    match part.trim().trim_start_matches("part").trim().parse::<u32>() {
        Ok(part) => format!("{name}/{part}"),
        Err(_) => name.to_owned(),
    }
}

fn close(document: Option<Assembler>, file: &InputFile, corpus: &mut Corpus) -> Result<()> {
    document.and_then(Assembler::finish).map_or(Ok(()), |document| corpus.push(file, document))
}

fn add(
    rows: &[(usize, Vec<&str>)],
    document: Option<&mut Assembler>,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<()> {
    let (Some(document), Some((first, _))) = (document, rows.first()) else { return Ok(()) };
    let place = Place::Lines(*first);
    match mentions(rows) {
        Ok(mentions) => {
            let tokens = rows.iter().map(|(_, fields)| plain_token(fields[WORD])).collect();
            document.tokens(&TokenSentence { tokens, mentions, place }, file, corpus)
        }
        Err((line, reason)) => corpus.problem(file, Place::Line(line), reason),
    }
}

/// The names of a sentence, from their brackets.
fn mentions(rows: &[(usize, Vec<&str>)]) -> Result<Vec<(TokenSpan, String)>, LineError> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for (index, (line, fields)) in rows.iter().enumerate() {
        let wrong = |why: &str| (*line, format!("{why}, found `{}`", fields[NAMES]));
        let mut rest = fields[NAMES];
        while let Some(inside) = rest.strip_prefix('(') {
            let end = inside.find(['(', '*', ')']).unwrap_or(inside.len());
            if end == 0 {
                return Err(wrong("expected a type after the bracket"));
            }
            open.push((index, &inside[..end]));
            rest = &inside[end..];
        }
        rest = rest.strip_prefix(['*', '-']).unwrap_or(rest);
        while let Some(after) = rest.strip_prefix(')') {
            let (start, label) = open.pop().ok_or_else(|| wrong("a closing bracket without an opening one"))?;
            found.push((TokenSpan::new(start, index + 1), label.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(wrong("expected names such as `(ORG*`, `*`, `*)` or `(GPE)`"));
        }
    }
    match (open.pop(), rows.last()) {
        (Some((_, label)), Some((line, _))) => Err((*line, format!("the sentence ends inside a mention of {label}"))),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(column: &str) -> Result<Vec<(TokenSpan, String)>, LineError> {
        let row = |(index, names): (usize, &'static str)| {
            let mut fields = vec!["-"; COLUMNS];
            fields[NAMES] = names;
            (index + 1, fields)
        };
        let names: Vec<&'static str> = column.split(' ').map(|name| &*name.to_owned().leak()).collect();
        mentions(&names.into_iter().enumerate().map(row).collect::<Vec<_>>())
    }

    #[test]
    fn brackets_nest() {
        let found = names("(DATE(CARDINAL) * *) (GPE)").unwrap();
        let expected = [(0, 1, "CARDINAL"), (0, 3, "DATE"), (3, 4, "GPE")];
        assert_eq!(found, expected.map(|(start, end, label)| (TokenSpan::new(start, end), label.to_owned())));
    }

    #[test]
    fn brackets_that_do_not_match_are_errors() {
        assert_eq!(names("* *)").unwrap_err(), (2, "a closing bracket without an opening one, found `*)`".into()));
        assert_eq!(names("(ORG* *").unwrap_err(), (2, "the sentence ends inside a mention of ORG".into()));
        assert!(names("ORG").unwrap_err().1.starts_with("expected names such as"));
        assert!(names("(*").unwrap_err().1.starts_with("expected a type"));
    }

    #[test]
    fn the_part_number_is_in_the_id() {
        assert_eq!(document_id(" (bc/cnn/00/cnn_0000); part 003"), "bc/cnn/00/cnn_0000/3");
        assert_eq!(document_id(" (wb/a2e)"), "wb/a2e");
    }
}

//! CoNLL-2012 → documents. In: `_gold_conll` files, one token per line between `#begin document` and `#end document`. Out: one document
//! per part. It must not read columns other than words and names.
//!
//! Format: CoNLL-2012 shared task. The fourth column is the word, the eleventh opens names with `(TYPE*` and closes them with `*)`;
//! names may lie inside others.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::markup::ontonotes::plain_token;
use crate::prepare::record::{Kind, Place, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::tagged::brackets::brackets;

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
    let place = Place::Line(*first);
    let names: Vec<&str> = rows.iter().map(|(_, fields)| fields[NAMES]).collect();
    match brackets(&names) {
        Ok(mentions) => {
            let tokens = rows.iter().map(|(_, fields)| plain_token(fields[WORD])).collect();
            let lines = rows.iter().map(|(line, _)| *line).collect();
            document.tokens(&TokenSentence { tokens, mentions, place, lines }, file, corpus)
        }
        Err((index, reason)) => corpus.problem(file, Place::Line(rows[index].0), reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_number_is_in_the_id() {
        assert_eq!(document_id(" (bc/cnn/00/cnn_0000); part 003"), "bc/cnn/00/cnn_0000/3");
        assert_eq!(document_id(" (wb/a2e)"), "wb/a2e");
    }
}

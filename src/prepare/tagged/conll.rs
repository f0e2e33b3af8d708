//! CoNLL columns → documents. In: one token per line, an empty line between sentences, one or more columns of labels. Out: documents,
//! separated at `-DOCSTART-` if the file has it. It must not require options for columns, separator or scheme: it detects them.
//!
//! Formats: CoNLL-2002 and 2003 shared tasks (four columns, space), GermEval 2014 (number, token, two layers, tab, `#` lines before
//! a sentence), WNUT 2017 (tab), LitBank (five layers, tab), HIPE (a line of names), Few-NERD and Stanford NER (labels without a prefix),
//! CoNLL-2005 (names in brackets), the MIT corpora (tag, then word), `WikiNER` (`word|…|tag`), CSV with a line of names.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, Place};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::tagged::brackets::brackets;
use crate::prepare::tagged::columns::{Block, Columns, Row};
use crate::prepare::tagged::layout::{Layout, Notation, detect, no_tags};
use crate::prepare::tagged::tags::{Scheme, decode, decode_with, is_tag};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "CoNLL has one token per line with its tags in the last columns and an empty line between sentences";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[
    ".conll",
    ".tsv",
    ".bio",
    ".iob",
    ".iob1",
    ".iob2",
    ".bioes",
    ".bmes",
    ".train",
    ".dev",
    ".test",
    ".testa",
    ".testb",
    ".annotated",
];

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let mut columns = Columns::read(&text);
    let first = columns.blocks.first().and_then(|block| block.rows.first());
    if let Some(row) = first.filter(|row| row.fields.len() < 2) {
        let reason = no_tags(&crate::prepare::record::short(&row.fields.concat()));
        return corpus.unreadable(file, Place::Line(row.line), reason);
    }
    let layout = match detect(&mut columns, options)? {
        Ok((layout, ranges)) => {
            for _ in 0..ranges {
                corpus.note(file, Place::Line(1), "lines of several tokens (`1-2`), whose tokens follow, not read");
            }
            layout
        }
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    note(&columns, &layout, options, file, corpus);
    for (line, reason) in &columns.broken {
        corpus.problem(file, Place::Line(*line), reason)?;
    }
    let mut current: Option<(usize, Assembler)> = None;
    for block in &columns.blocks {
        let place = Place::Line(block.rows[0].line);
        if current.as_ref().is_some_and(|(number, _)| *number != block.document) {
            finish(current.take(), file, corpus)?;
        }
        let marked = columns.marked;
        let (_, assembler) = current.get_or_insert_with(|| {
            let id = if marked { format!("{}/{}", file.name, block.document) } else { file.name.clone() };
            (block.document, Assembler::new(id, file, place, if marked { Kind::Document } else { Kind::File }))
        });
        if let Some(sentence) = sentence(block, &layout, place, file, corpus)? {
            assembler.tokens(&sentence, file, corpus)?;
        }
    }
    finish(current, file, corpus)
}

/// Notes what was detected and could be otherwise.
fn note(columns: &Columns<'_>, layout: &Layout, options: &ReadOptions, file: &InputFile, corpus: &mut Corpus) {
    if let Some(line) = columns.header {
        corpus.note(file, Place::Line(line), "lines that name the columns, not read as tokens");
    }
    if options.tags.is_empty() && layout.layers.len() > 1 {
        let columns: Vec<String> = layout.layers.iter().map(|layer| (layer + 1).to_string()).collect();
        let columns = columns.join(", ");
        let text = format!("files with several tag columns ({columns}), all read; select with `--tags`");
        corpus.note(file, Place::Line(1), text);
    }
    if options.scheme == Scheme::Auto && layout.notation == Notation::Tags(Scheme::Bare) {
        corpus.note(file, Place::Line(1), "files whose labels have no B- or I-, a run of one label read as a mention");
    }
    if layout.layers.iter().all(|layer| *layer < layout.tokens) && options.tokens.is_none() {
        corpus.note(file, Place::Line(1), "files with tags in front of the words");
    }
}

fn finish(current: Option<(usize, Assembler)>, file: &InputFile, corpus: &mut Corpus) -> Result<()> {
    match current.and_then(|(_, assembler)| assembler.finish()) {
        Some(document) => corpus.push(file, document),
        None => Ok(()),
    }
}

/// A sentence with the mentions of all its layers; `None` if no token remains. A line whose label is none is a problem and is left out. A
/// label that the scheme forbids is a problem, and its token remains without it.
fn sentence<'text>(
    block: &'text Block<'_>,
    layout: &Layout,
    place: Place,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<Option<TokenSentence<'text>>> {
    let mut rows: Vec<&Row<'_>> = Vec::with_capacity(block.rows.len());
    for row in &block.rows {
        let wrong = match layout.notation {
            Notation::Tags(Scheme::Bare) | Notation::Brackets => None,
            Notation::Tags(_) => layout.layers.iter().find(|layer| !is_tag(&row.fields[**layer])),
        };
        match wrong.map(|layer| decode(&[&row.fields[*layer]], Scheme::Iob1)) {
            Some(Err((_, reason))) => corpus.problem(file, Place::Line(row.line), reason)?,
            _ => rows.push(row),
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let mut mentions = Vec::new();
    for &layer in &layout.layers {
        let cells: Vec<&str> = rows.iter().map(|row| &*row.fields[layer]).collect();
        let mut wrong = |index: usize, reason: String| corpus.problem(file, Place::Line(rows[index].line), reason);
        match layout.notation {
            Notation::Tags(scheme) => mentions.extend(decode_with(&cells, scheme, wrong)?),
            Notation::Brackets => match brackets(&cells) {
                Ok(found) => mentions.extend(found),
                Err((index, reason)) => wrong(index, reason)?,
            },
        }
    }
    let tokens = rows.iter().map(|row| &*row.fields[layout.tokens]).collect();
    let lines = rows.iter().map(|row| row.line).collect();
    Ok(Some(TokenSentence { tokens, mentions, place, lines }))
}

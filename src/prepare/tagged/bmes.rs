//! BMES lines → documents. In: one sentence per line: tokens separated by spaces, a tab, one tag per token (the reference
//! implementation's MSRA files). Out: a document whose sentences are the lines. It must not accept a line with unequal counts.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, Place};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::tagged::tags::{Detector, decode};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "each line is a sentence: tokens separated by spaces, a tab, and one BMES tag per token";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".bmes", ".tsv", ".txt"];

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let mut lines = Vec::new();
    let mut detector = Detector::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::Line(number + 1);
        let Some((tokens, tags)) = line.split_once('\t') else {
            corpus.problem(file, place, "no tab between tokens and tags")?;
            continue;
        };
        let tokens: Vec<&str> = tokens.split_ascii_whitespace().collect();
        let tags: Vec<&str> = tags.split_ascii_whitespace().collect();
        if tokens.len() != tags.len() {
            let reason = format!("{} tokens but {} tags, expected one tag per token", tokens.len(), tags.len());
            corpus.problem(file, place, reason)?;
            continue;
        }
        detector.observe(tags.iter().copied());
        lines.push((place, tokens, tags));
    }
    let scheme = detector.resolve(options.scheme);
    let mut document = Assembler::new(file.name.clone(), file, Place::Line(1), Kind::File);
    for (place, tokens, tags) in lines {
        match decode(&tags, scheme) {
            Ok(mentions) => {
                document.tokens(&TokenSentence { tokens, mentions, place, lines: Vec::new() }, file, corpus)?;
            }
            Err((index, reason)) => corpus.problem(file, place, format!("token {}: {reason}", index + 1))?,
        }
    }
    document.finish().map_or(Ok(()), |document| corpus.push(file, document))
}

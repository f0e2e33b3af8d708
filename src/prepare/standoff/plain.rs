//! Plain text → documents. In: text files. Out: one document per file, without mentions. It must not change the text.

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Document, Kind, Place};
use crate::prepare::settings::ReadOptions;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "plain text is UTF-8";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".txt", ".text", ".md"];

/// Reads one file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let document = Document {
        id: file.name.clone(),
        source: file.name.clone(),
        place: Place::Line(1),
        text,
        sentences: Vec::new(),
        kind: Kind::Document,
        mentions: Vec::new(),
    };
    corpus.push(file, document)
}

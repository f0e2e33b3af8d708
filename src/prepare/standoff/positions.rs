//! The reference implementation's GENIA JSON → documents. In: a list of sentences, each with `context` and under `label` the
//! "start;end" token positions of each type, ends inclusive. Out: a document whose sentences are the contexts. It must not drop a type.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, LineError, Place};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::standoff::json::{items, parse};
use crate::prepare::standoff::mrc::pair_of;
use crate::text::span::TokenSpan;

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str =
    "the file is a list of items with context and label, such as {\"context\": \"…\", \"label\": {\"DNA\": [\"0;2\"]}}";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".json"];

#[derive(Debug, Deserialize)]
struct Item {
    context: String,
    #[serde(default)]
    label: BTreeMap<String, Vec<String>>,
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let items = match items(&text) {
        Ok(items) => items,
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    let mut document = Assembler::new(file.name.clone(), file, Place::Line(1), Kind::File);
    for item in items {
        match sentence(item) {
            Ok((context, mentions)) => {
                let tokens = context.split_whitespace().collect();
                document.tokens(
                    &TokenSentence { tokens, mentions, place: Place::Line(item.0), lines: Vec::new() },
                    file,
                    corpus,
                )?;
            }
            Err((line, reason)) => corpus.problem(file, Place::Line(line), reason)?,
        }
    }
    document.finish().map_or(Ok(()), |document| corpus.push(file, document))
}

type Sentence = (String, Vec<(TokenSpan, String)>);

fn sentence(item: (usize, &str)) -> Result<Sentence, LineError> {
    let Item { context, label } = parse(item)?;
    let mut mentions = Vec::new();
    for (name, pairs) in label {
        for pair in pairs {
            let (start, end) = pair_of(&pair).map_err(|reason| (item.0, reason))?;
            mentions.push((TokenSpan::new(start, end.saturating_add(1)), name.clone()));
        }
    }
    Ok((context, mentions))
}

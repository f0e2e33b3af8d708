//! spaCy's JSON → documents. In: a list of training documents (`paragraphs` of `sentences` of `tokens` with BILUO tags in `ner`), or
//! of pairs `[text, {"entities": [[start, end, label]]}]`. Out: one document per item. It must not trust tokens: if there is a `raw`
//! text, they must occur in it in order.
//!
//! Formats: spaCy 2's JSON training format; the pairs of its examples, also under the key `annotations` of NER annotators.

use serde_json::Value;

use crate::error::Result;
use crate::prepare::char_index::Walk;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, Mention, Place, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::standoff::json::{items, parse};
use crate::prepare::standoff::spans::span;
use crate::prepare::tagged::tags::{Scheme, decode};
use crate::text::span::{CharSpan, TokenSpan};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "spaCy's JSON is a list of documents with paragraphs, sentences and tokens, or of pairs [text, {\"entities\": [[0, 3, \"PER\"]]}]";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".json"];

/// Reads one file.
pub(crate) fn read(file: &InputFile, _options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let listed = if text.trim_start().starts_with('{') {
        annotations(&text)
    } else {
        items(&text)
            .and_then(|items| items.into_iter().map(|item| Ok((Place::Line(item.0), parse::<Value>(item)?))).collect())
    };
    let listed: Vec<(Place, Value)> = match listed {
        Ok(listed) => listed,
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    for (number, (place, item)) in listed.iter().enumerate() {
        let own = item.get("id").filter(|id| id.is_string()).and_then(Value::as_str).map(str::to_owned);
        let id = own.unwrap_or_else(|| format!("{}/{number}", file.name));
        let mut document = Assembler::new(id, file, *place, Kind::Document);
        let added = match item.get("paragraphs").and_then(Value::as_array) {
            Some(paragraphs) => {
                paragraphs.iter().try_for_each(|one| paragraph(one, &mut document, *place, file, corpus))
            }
            None => pair(item, &mut document, *place, file, corpus),
        };
        match added {
            Ok(()) => {}
            Err(Failure::Invalid(reason)) => {
                corpus.problem(file, *place, reason)?;
                continue;
            }
            Err(Failure::Fatal(error)) => return Err(error),
        }
        let tokens = item.pointer("/paragraphs/0").is_some_and(|first| first.get("raw").is_none());
        let document = if tokens { document.finish() } else { document.finish_texts() };
        document.map_or(Ok(()), |document| corpus.push(file, document))?;
    }
    Ok(())
}

/// An object with the pairs under `annotations`.
fn annotations(text: &str) -> std::result::Result<Vec<(Place, Value)>, (usize, String)> {
    let value: Value = parse((1, text))?;
    let pairs = value.get("annotations").and_then(Value::as_array);
    let pairs = pairs.ok_or((1, "an object without a list under `annotations`".to_owned()))?;
    Ok(pairs
        .iter()
        .filter(|pair| !pair.is_null())
        .enumerate()
        .map(|(row, pair)| (Place::Row(row + 1), pair.clone()))
        .collect())
}

/// Why reading a document failed.
enum Failure {
    /// The document is invalid; the reason.
    Invalid(String),
    /// An error that ends the conversion.
    Fatal(crate::error::Error),
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self::Fatal(error)
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

fn pair(
    item: &Value,
    document: &mut Assembler,
    place: Place,
    file: &InputFile,
    corpus: &mut Corpus,
) -> std::result::Result<(), Failure> {
    let wrong = || format!("`{}` is neither a document nor a pair", short(&item.to_string()));
    let (text, about) = match item {
        Value::Array(parts) => (parts.first(), parts.get(1)),
        _ => (item.get("text"), Some(item)),
    };
    let text = text.and_then(Value::as_str).ok_or_else(wrong)?;
    let spans = about.and_then(|about| about.get("entities")).and_then(Value::as_array).ok_or_else(wrong)?;
    let mut mentions = Vec::new();
    for one in spans {
        let found = span(one)?;
        let (start, end) =
            found.place.ok_or_else(|| format!("`{}` counts tokens, but a pair has none", short(&one.to_string())))?;
        let mention = Mention { surface: found.surface, ..Mention::new("", CharSpan::new(start, end), place) };
        let labelled = |entity_type| Mention { entity_type, ..mention.clone() };
        mentions.extend(found.labels.into_iter().map(labelled));
    }
    document.text(text, mentions, file, corpus)?;
    Ok(())
}

fn paragraph(
    value: &Value,
    document: &mut Assembler,
    place: Place,
    file: &InputFile,
    corpus: &mut Corpus,
) -> std::result::Result<(), Failure> {
    let empty = Vec::new();
    let sentences =
        value.get("sentences").and_then(Value::as_array).ok_or_else(|| "a paragraph has no sentences".to_owned())?;
    let mut read = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        let tokens = sentence.get("tokens").and_then(Value::as_array).unwrap_or(&empty);
        let words: Option<Vec<&str>> = tokens.iter().map(|token| token.get("orth").and_then(Value::as_str)).collect();
        let words = words.ok_or_else(|| "a token has no `orth`".to_owned())?;
        let mut tags: Vec<&str> =
            tokens.iter().map(|token| token.get("ner").and_then(Value::as_str).unwrap_or("-")).collect();
        for tag in tags.iter_mut().filter(|tag| **tag == "-") {
            corpus.note(file, place, "tokens with a missing tag (`-`), read as O");
            *tag = "O";
        }
        let mentions = decode(&tags, Scheme::Bioes)
            .map_err(|(token, reason)| format!("token {} of sentence {}: {reason}", token + 1, read.len() + 1))?;
        read.push((words, mentions));
    }
    let Some(raw) = value.get("raw").and_then(Value::as_str) else {
        for (tokens, mentions) in read {
            document.tokens(&TokenSentence { tokens, mentions, place, lines: Vec::new() }, file, corpus)?;
        }
        return Ok(());
    };
    document.text(raw, aligned(raw, &read, place)?, file, corpus)?;
    Ok(())
}

/// A sentence's tokens and the mentions among them.
type Tagged<'text> = (Vec<&'text str>, Vec<(TokenSpan, String)>);

/// The mentions in coordinates of the raw text. The tokens must occur in it in order.
fn aligned(raw: &str, sentences: &[Tagged<'_>], place: Place) -> Result<Vec<Mention>, String> {
    let (mut walk, mut mentions) = (Walk::new(raw), Vec::new());
    for (words, spans) in sentences {
        let places = words.iter().map(|word| walk.word(word)).collect::<Result<Vec<_>, _>>()?;
        for (span, label) in spans {
            let (start, end) = (places[span.start].start, places[span.end - 1].end);
            mentions.push(Mention::new(label.as_str(), CharSpan::new(start, end), place));
        }
    }
    Ok(mentions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::corpus::OnError;

    /// The problems of a file with this text.
    fn problems(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        let file = InputFile { path, name: "a.json".into() };
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        read(&file, &ReadOptions::default(), &mut corpus).unwrap();
        corpus.problems.into_iter().map(|problem| problem.reason).collect()
    }

    #[test]
    fn letters_between_tokens_are_an_error() {
        let text = r#"[{"paragraphs": [{"raw": "Ada did not go", "sentences": [{"tokens":
            [{"orth": "Ada", "ner": "U-PER"}, {"orth": "go", "ner": "O"}]}]}]}]"#;
        assert_eq!(problems(text), ["expected the token `go` in the text, found `did not go`"]);
    }

    #[test]
    fn the_surface_of_a_pair_is_checked_against_its_text() {
        let pair =
            |span: &str| problems(&format!(r#"[["Zoë met Ada", {{"entities": [{{{span}, "label": "PER"}}]}}]]"#));
        assert_eq!(pair(r#""start": 8, "end": 11, "text": "Ada""#), [""; 0]);
        let wrong = "a mention of type PER covers 7..10, which is ` Ad` in the text, expected `Ada`";
        assert_eq!(pair(r#""start": 7, "end": 10, "text": "Ada""#), [wrong]);
        assert!(pair(r#""start_token": 2, "end_token": 3"#)[0].ends_with("counts tokens, but a pair has none"));
    }

    #[test]
    fn an_object_needs_its_pairs() {
        assert_eq!(problems("{}"), ["an object without a list under `annotations`"]);
    }
}

//! JSON Lines → documents. In: one object per line with a text (or tokens) and spans. Out: one document per line; lines with the same
//! `doc` are the sentences of one document. It must not guess offsets: they count code points, or tokens if there is no text;
//! `start_token` and `end_token` always count tokens, which must then occur in the text.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::Result;
use crate::prepare::char_index::Walk;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, Mention, Place, outside_tokens, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::standoff::spans::{Labelled, first, span};
use crate::text::span::{CharSpan, TokenSpan};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "each line is an object with text (or tokens) and entities, such as {\"id\": \"1\", \"text\": \"…\", \"entities\": [{\"start\": 0, \"end\": 3, \"type\": \"PER\"}]}";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".jsonl", ".ndjson"];

const IDS: [&str; 4] = ["doc_id", "id", "document_id", "uid"];
const DOCUMENTS: [&str; 3] = ["doc", "doc_key", "document"];
const TEXTS: [&str; 5] = ["text", "body", "content", "context", "sentence"];
const TOKENS: [&str; 2] = ["tokens", "words"];
const SPANS: [&str; 7] = ["entities", "spans", "mentions", "label", "labels", "annotations", "ner"];

/// A line.
struct Line {
    id: Option<String>,
    document: Option<String>,
    content: Content,
    spans: Vec<Labelled>,
}

enum Content {
    Text(String),
    Tokens(Vec<String>),
}

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let mut documents: Vec<(Assembler, bool)> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::Line(number + 1);
        let Line { id, document, content, spans } = match read_line(line, options) {
            Ok(line) => line,
            Err(reason) => {
                corpus.problem(file, place, reason)?;
                continue;
            }
        };
        let slot = document.as_ref().filter(|_| id.is_none()).and_then(|name| numbers.get(name)).copied();
        let slot = slot.unwrap_or_else(|| {
            // A text with an id is a document; a line of tokens, or of a named document, is a sentence.
            let is_document = matches!(content, Content::Text(_)) && (id.is_some() || document.is_none());
            let name = id.or(document.clone()).unwrap_or_else(|| format!("{}/{number}", file.name));
            documents.push((Assembler::new(name.clone(), file, place, Kind::Document), is_document));
            numbers
                .extend(document.filter(|document| *document == name).map(|document| (document, documents.len() - 1)));
            documents.len() - 1
        });
        add(&mut documents[slot].0, &content, spans, place, file, corpus)?;
    }
    for (document, is_document) in documents {
        let document = if is_document { document.finish_texts() } else { document.finish() };
        document.map_or(Ok(()), |document| corpus.push(file, document))?;
    }
    Ok(())
}

fn add(
    document: &mut Assembler,
    content: &Content,
    spans: Vec<Labelled>,
    place: Place,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<()> {
    match content {
        Content::Text(text) => {
            let labelled = |one: Labelled| {
                let Labelled { place: span, labels, surface, .. } = one;
                let (start, end) = span.unwrap_or_default();
                let mention = Mention { surface, ..Mention::new("", CharSpan::new(start, end), place) };
                labels.into_iter().map(move |entity_type| Mention { entity_type, ..mention.clone() })
            };
            document.text(text, spans.into_iter().flat_map(labelled), file, corpus)
        }
        Content::Tokens(tokens) => {
            let mut mentions = Vec::new();
            for one in spans {
                let (start, end) = one.place.unwrap_or_default();
                let span = one.tokens.unwrap_or(TokenSpan::new(start, end));
                if let (Some(surface), Some(covered)) = (&one.surface, tokens.get(span.start..span.end))
                    && !same_letters(&covered.concat(), surface)
                {
                    let reason = format!(
                        "a mention of type {} covers tokens {}..{}, which are `{}`, expected `{}`",
                        one.labels.join(", "),
                        span.start,
                        span.end,
                        short(&covered.join(" ")),
                        short(surface)
                    );
                    corpus.problem(file, place, reason)?;
                    continue;
                }
                mentions.extend(one.labels.into_iter().map(|label| (span, label)));
            }
            let tokens = tokens.iter().map(String::as_str).collect();
            document.tokens(&TokenSentence { tokens, mentions, place }, file, corpus)
        }
    }
}

/// Whether two texts differ only in white space.
fn same_letters(one: &str, other: &str) -> bool {
    one.split_whitespace().flat_map(str::chars).eq(other.split_whitespace().flat_map(str::chars))
}

fn read_line(line: &str, options: &ReadOptions) -> Result<Line, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| {
        let message = error.to_string();
        format!("not JSON: {}", message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason))
    })?;
    if !value.is_object() {
        return Err("expected an object".into());
    }
    let keys = |given: &Option<String>, known: &[&'static str]| -> Vec<String> {
        given.as_ref().map_or_else(|| known.iter().map(|&key| key.to_owned()).collect(), |key| vec![key.clone()])
    };
    let (ids, texts) = (keys(&options.id, &IDS), keys(&options.text, &TEXTS));
    let (ids, texts): (Vec<&str>, Vec<&str>) =
        (ids.iter().map(String::as_str).collect(), texts.iter().map(String::as_str).collect());
    let tokens = first(&value, &TOKENS).and_then(Value::as_array);
    let content = if let Some(text) = first(&value, &texts) {
        Content::Text(text.as_str().ok_or("the text is not a string")?.to_owned())
    } else if let Some(tokens) = tokens {
        Content::Tokens(strings(tokens)?)
    } else {
        return Err(format!("no text found, expected one of the keys {}", [&texts[..], &TOKENS].concat().join(", ")));
    };
    // A label that is a string is the class of the whole text, not a list of spans.
    let found = SPANS.iter().filter_map(|key| value.get(key)).find(|found| !(found.is_null() || found.is_string()));
    let mut spans = match found {
        Some(Value::Array(spans)) => spans.iter().map(span).collect::<Result<Vec<_>, _>>()?,
        Some(other) => return Err(format!("`{}` is not a list of spans", short(&other.to_string()))),
        None => Vec::new(),
    };
    if let Content::Text(text) = &content
        && spans.iter().any(|one| one.place.is_none())
    {
        let tokens =
            tokens.ok_or("`start_token` and `end_token` count tokens, expected `tokens` in addition to the text")?;
        find_places(&mut spans, text, &strings(tokens)?)?;
    }
    Ok(Line { id: first(&value, &ids).map(plain), document: first(&value, &DOCUMENTS).map(plain), content, spans })
}

fn strings(tokens: &[Value]) -> Result<Vec<String>, String> {
    let strings = tokens.iter().map(|token| token.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    strings.ok_or_else(|| "a token is not a string".to_owned())
}

/// Computes character positions for spans given only in tokens. The tokens must occur in the text in order.
fn find_places(spans: &mut [Labelled], text: &str, tokens: &[String]) -> Result<(), String> {
    let mut walk = Walk::new(text);
    let places = tokens.iter().map(|token| walk.word(token)).collect::<Result<Vec<_>, _>>()?;
    for one in spans {
        let (None, Some(TokenSpan { start, end, .. })) = (one.place, one.tokens) else { continue };
        let covered = places.get(start..end).unwrap_or_default();
        let (Some(first), Some(last)) = (covered.first(), covered.last()) else {
            return Err(outside_tokens(&one.labels.join(", "), start..end, places.len()));
        };
        one.place = Some((first.start, last.end));
    }
    Ok(())
}

/// A string without quotation marks, or a number as written.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::corpus::OnError;

    /// The text that each mention of a line covers, and the problems of the line.
    fn line(text: &str) -> (Vec<String>, Vec<String>) {
        let file = InputFile { path: "a".into(), name: "a".into() };
        let mut corpus = Corpus::new(OnError::Skip, "", None);
        let mut document = Assembler::new("a".into(), &file, Place::Line(1), Kind::Document);
        match read_line(text, &ReadOptions::default()) {
            Ok(Line { content, spans, .. }) => {
                add(&mut document, &content, spans, Place::Line(1), &file, &mut corpus).unwrap();
            }
            Err(reason) => corpus.problem(&file, Place::Line(1), reason).unwrap(),
        }
        let document = document.finish();
        let covered = document.iter().flat_map(|document| {
            let letters: Vec<char> = document.text.chars().collect();
            document.mentions.iter().map(move |one| letters[one.span.start..one.span.end].iter().collect::<String>())
        });
        (covered.collect(), corpus.problems.iter().map(|problem| problem.reason.clone()).collect())
    }

    #[test]
    fn token_positions_are_converted_to_characters() {
        let spans = r#""entities": [{"start_token": 1, "end_token": 3, "type": "LOC"}]"#;
        let tokens = r#""tokens": ["Zoë", "New", "Delhi"]"#;
        let found = vec!["New  Delhi".to_owned()];
        assert_eq!(line(&format!(r#"{{"text": "Zoë: New  Delhi", {spans}}}"#)).1.len(), 1);
        assert_eq!(line(&format!(r#"{{"text": "Zoë New  Delhi", {tokens}, {spans}}}"#)), (found, vec![]));
        assert_eq!(line(&format!("{{{tokens}, {spans}}}")).0, ["New Delhi"]);
        let wrong = line(&format!(r#"{{"text": "Zoë in New Delhi", {tokens}, {spans}}}"#)).1;
        assert_eq!(wrong, ["expected the token `New` in the text, found `in New Delhi`"]);
    }

    #[test]
    fn the_surface_of_a_mention_is_checked_against_its_tokens() {
        let one = |end: usize| {
            let span = format!(r#"{{"start": 0, "end": {end}, "type": "ORG", "text": "Bo's  Bar"}}"#);
            line(&format!(r#"{{"tokens": ["Bo", "'s", "Bar", "left"], "spans": [{span}]}}"#))
        };
        assert_eq!(one(3), (vec!["Bo 's Bar".to_owned()], vec![]));
        let wrong = "a mention of type ORG covers tokens 0..2, which are `Bo 's`, expected `Bo's  Bar`";
        assert_eq!(one(2), (vec![], vec![wrong.to_owned()]));
    }
}

//! JSON Lines → documents. In: one object per line, or a list of objects, with a text (or tokens) and labels. Out: one document per
//! object; objects with the same `doc` are the sentences of one document. It must not pass over labels: a file with lists that nobody
//! reads, and without a mention, is an error.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::error::Result;
use crate::prepare::corpus::Corpus;
use crate::prepare::files::InputFile;
use crate::prepare::record::{Kind, LineError, Mention, Place, short};
use crate::prepare::sentences::{Assembler, TokenSentence};
use crate::prepare::settings::ReadOptions;
use crate::prepare::standoff::json::{items, objects, parse};
use crate::prepare::standoff::layouts::record;
use crate::prepare::standoff::records::{Content, Labels, Outcome, Record};
use crate::prepare::standoff::spans::{Labelled, find_places};
use crate::prepare::tagged::tags::{Detector, Scheme, decode};
use crate::text::span::{CharSpan, TokenSpan};

/// The expected format, quoted in hints.
pub(crate) const EXPECTED: &str = "each line is an object with text (or tokens) and entities, such as {\"id\": \"1\", \"text\": \"…\", \"entities\": [{\"start\": 0, \"end\": 3, \"type\": \"PER\"}]}";
/// Suffixes of the files to read from a folder.
pub(crate) const ENDINGS: &[&str] = &[".jsonl", ".ndjson"];

/// Reads one file.
pub(crate) fn read(file: &InputFile, options: &ReadOptions, corpus: &mut Corpus) -> Result<()> {
    let Some(text) = file.text(corpus)? else { return Ok(()) };
    let values = match values(&text) {
        Ok(values) => values,
        Err((line, reason)) => return corpus.unreadable(file, Place::Line(line), reason),
    };
    let mut records = Vec::new();
    for (line, text) in values {
        let place = Place::Line(line);
        let value = parse::<Value>((line, text)).map_err(|(_, reason)| format!("not JSON: {reason}"));
        match value.and_then(|value| record(&value, options)) {
            Ok(Outcome::Record(record)) => records.push((place, record)),
            Ok(Outcome::LeftOut(reason)) => corpus.leave_out(file, place, reason),
            Err(reason) => corpus.problem(file, place, reason)?,
        }
    }
    if let Some((place, reason)) = unlabelled(&records, options, file, corpus) {
        return corpus.unreadable(file, place, reason);
    }
    let mut detector = Detector::default();
    for (_, record) in &records {
        if let Labels::Tags { layers, .. } = &record.labels {
            for tags in layers {
                detector.observe(tags.iter().map(String::as_str));
            }
        }
    }
    assemble(records, detector.resolve(options.scheme), options.scheme, file, corpus)
}

/// The objects of a file, each with its line: a list, objects over several lines, or one object per line.
fn values(text: &str) -> Result<Vec<(usize, &str)>, LineError> {
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let first = lines().next().map(|(_, line)| serde_json::from_str::<Value>(line));
    let several = lines().nth(1).is_some();
    match first {
        // A list in one line, or the beginning of a list; lists in several lines are one value each.
        Some(Ok(Value::Array(_))) if !several => items(text),
        Some(Err(_)) if text.trim_start().starts_with('[') => items(text),
        Some(Err(error)) if error.is_eof() && several => match objects(text) {
            Some(found) => Ok(found),
            None => Ok(lines().map(|(number, line)| (number + 1, line)).collect()),
        },
        _ => Ok(lines().map(|(number, line)| (number + 1, line)).collect()),
    }
}

/// Notes what was not read as labels. If the file has no mention, returns why it cannot be used: lists under keys that nobody reads. Lists
/// of labels that are all empty are an error of the corpus, unless another file has a mention.
fn unlabelled(
    records: &[(Place, Record)],
    options: &ReadOptions,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Option<(Place, String)> {
    let (mut empty, mut missing, mut tagged, mut mentions) = (None, 0, false, 0);
    let mut unread: BTreeMap<&str, (Place, usize)> = BTreeMap::new();
    for (place, record) in records {
        match &record.labels {
            Labels::Missing => missing += 1,
            Labels::Empty(key) => _ = empty.get_or_insert((*place, key.as_str())),
            Labels::Spans(spans) => {
                mentions += spans.iter().map(Vec::len).sum::<usize>();
                let numbered = |label: &String| label.bytes().all(|digit| digit.is_ascii_digit());
                if spans.iter().flatten().flat_map(|one| &one.labels).any(numbered) {
                    corpus.note(file, *place, "records whose types are numbers, kept as they are");
                }
            }
            Labels::Tags { .. } => tagged = true,
        }
        for key in &record.unread {
            unread.entry(key).or_insert((*place, 0)).1 += 1;
        }
        record.left_out.iter().for_each(|reason| corpus.leave_out(file, *place, *reason));
    }
    let labelled = tagged || mentions > 0;
    if let (true, true, Some((place, _))) = (missing == records.len(), !options.tags.is_empty(), records.first()) {
        return Some((*place, format!("no record has the key `{}`, which `--tags` names", options.tags.join("`, `"))));
    }
    let way_out = "`--tags KEY` reads labels from another key, `--unlabelled` reads only the texts";
    if let (false, Some((key, (place, _)))) = (labelled, unread.first_key_value()) {
        let keys: Vec<String> = unread.keys().map(|key| format!("`{key}`")).collect();
        let (noun, verb) = if unread.len() > 1 { (keys.join(", "), "hold") } else { (format!("`{key}`"), "holds") };
        return Some((*place, format!("no mention found, but {noun} {verb} lists that are not read; {way_out}")));
    }
    if let (false, Some((place, key))) = (labelled, empty) {
        let others = if missing > 0 { format!("; records without a key of labels: {missing}") } else { String::new() };
        let reason = format!("no mention found: what `{key}` holds is empty in every record{others}; {way_out}");
        corpus.without_mentions(file, place, reason);
    }
    for (key, (place, count)) in unread {
        (0..count).for_each(|_| corpus.note(file, place, format!("records with lists under `{key}`, not read")));
    }
    if labelled {
        for (place, _) in records.iter().filter(|(_, record)| record.labels == Labels::Missing) {
            corpus.note(file, *place, "records without a key of labels, read as texts without mentions");
        }
    }
    None
}

fn assemble(
    records: Vec<(Place, Record)>,
    scheme: Scheme,
    given: Scheme,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<()> {
    let mut documents: Vec<(Assembler, bool)> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (place, Record { id, document, content, labels, .. }) in records {
        let slot = document.as_ref().filter(|_| id.is_none()).and_then(|name| numbers.get(name)).copied();
        let slot = slot.unwrap_or_else(|| {
            // A text with an id is a document; a line of tokens, or of a named document, is a sentence.
            let is_document = matches!(content, Content::Text(_)) && (id.is_some() || document.is_none());
            let name = id.or(document.clone()).unwrap_or_else(|| format!("{}/{}", file.name, place.number() - 1));
            documents.push((Assembler::new(name.clone(), file, place, Kind::Document), is_document));
            numbers
                .extend(document.filter(|document| *document == name).map(|document| (document, documents.len() - 1)));
            documents.len() - 1
        });
        if given == Scheme::Auto && scheme == Scheme::Bare && matches!(labels, Labels::Tags { .. }) {
            corpus.note(file, place, "records whose tags have no B- or I-, a run of one label read as a mention");
        }
        let spans = match spans(labels, &content, scheme) {
            Ok(spans) => spans,
            Err(reason) => {
                corpus.problem(file, place, reason)?;
                continue;
            }
        };
        add(&mut documents[slot].0, &content, spans, place, file, corpus)?;
    }
    for (document, is_document) in documents {
        let document = if is_document { document.finish_texts() } else { document.finish() };
        document.map_or(Ok(()), |document| corpus.push(file, document))?;
    }
    Ok(())
}

/// The spans of each sentence: in characters of a text, or in tokens.
fn spans(labels: Labels, content: &Content, scheme: Scheme) -> Result<Vec<Vec<Labelled>>, String> {
    match labels {
        Labels::Missing | Labels::Empty(_) => Ok(Vec::new()),
        Labels::Spans(spans) => Ok(spans),
        Labels::Tags { words, layers } => {
            let mut found = Vec::new();
            for tags in layers {
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                let decoded =
                    decode(&tags, scheme).map_err(|(index, reason)| format!("token {}: {reason}", index + 1))?;
                let span = |(span, label): (TokenSpan, String)| Labelled {
                    place: None,
                    tokens: Some(span),
                    labels: vec![label],
                    surface: None,
                };
                found.extend(decoded.into_iter().map(span));
            }
            if let Content::Text(text) = content {
                find_places(&mut found, text, &words)?;
            }
            Ok(vec![found])
        }
    }
}

fn add(
    document: &mut Assembler,
    content: &Content,
    spans: Vec<Vec<Labelled>>,
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
            document.text(text, spans.into_iter().flatten().flat_map(labelled), file, corpus)
        }
        Content::Tokens(sentences) => {
            let mut spans = spans.into_iter();
            for tokens in sentences {
                let mentions = in_tokens(tokens, spans.next().unwrap_or_default(), place, file, corpus)?;
                let tokens = tokens.iter().map(String::as_str).collect();
                document.tokens(&TokenSentence { tokens, mentions, place, lines: Vec::new() }, file, corpus)?;
            }
            Ok(())
        }
    }
}

/// The labels and tokens of spans; one that repeats other words than its tokens is a problem.
fn in_tokens(
    tokens: &[String],
    spans: Vec<Labelled>,
    place: Place,
    file: &InputFile,
    corpus: &mut Corpus,
) -> Result<Vec<(TokenSpan, String)>> {
    let mut mentions = Vec::new();
    for one in spans {
        let (start, end) = one.place.unwrap_or_default();
        let span = one.tokens.unwrap_or(TokenSpan::new(start, end));
        if let (Some(surface), Some(covered)) = (&one.surface, tokens.get(span.start..span.end))
            && !same_letters(&covered.concat(), surface)
        {
            let (labels, covered, surface) = (one.labels.join(", "), short(&covered.join(" ")), short(surface));
            let (from, to) = (span.start, span.end);
            let reason = format!(
                "a mention of type {labels} covers tokens {from}..{to}, which are `{covered}`, expected `{surface}`"
            );
            corpus.problem(file, place, reason)?;
            continue;
        }
        mentions.extend(one.labels.into_iter().map(|label| (span, label)));
    }
    Ok(mentions)
}

/// Whether two texts differ only in white space.
fn same_letters(one: &str, other: &str) -> bool {
    one.split_whitespace().flat_map(str::chars).eq(other.split_whitespace().flat_map(str::chars))
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
        match record(&serde_json::from_str(text).unwrap(), &ReadOptions::default()) {
            Ok(Outcome::Record(Record { content, labels, .. })) => {
                let spans = spans(labels, &content, Scheme::Iob2).unwrap();
                add(&mut document, &content, spans, Place::Line(1), &file, &mut corpus).unwrap();
            }
            Ok(Outcome::LeftOut(_)) => {}
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

//! A JSON object → its text and labels. In: an object and the options. Out: a [`Record`], or what the object lacks. It must not guess
//! positions: they count code points, or tokens if there is no text; `start_token` and `end_token` always count tokens.
//!
//! | layout | text | labels |
//! |---|---|---|
//! | spans | `text`, `body`, `content`, `context`, `sentence` or `data` | spans under `entities`, `spans`, `mentions`, `ents`, `entity_mentions`, `annotations`, `annotation`, `ner`, `label` or `labels`: `[start, end, label]`, or objects |
//! | tags | `tokens` or `words` | a tag for each, under `ner_tags`, `tags`, `ner`, `label` or `labels`; also as one string for the words of a text |
//! | Prodigy | `text` | `spans`; records with `answer: reject` or `ignore` are left out |
//! | doccano | `text` or `data` | `label` or `entities` |
//! | DataTurks | `content` | `annotation` with `points`, whose ends are inside |
//! | CLUENER | `text` | `label` by type and words, whose ends are inside |
//! | GLiNER | `tokenized_text` | `ner` in tokens, whose ends are inside |
//! | SciERC, DyGIE | `sentences` of tokens | `ner` by sentence, in tokens of the document, whose ends are inside |
//! | Label Studio | see [`label_studio`](super::label_studio) | |

use serde_json::{Map, Value};

use crate::prepare::record::short;
use crate::prepare::settings::ReadOptions;
use crate::prepare::standoff::label_studio;
use crate::prepare::standoff::records::{Content, Labels, Outcome, Record};
use crate::prepare::standoff::spans::{Labelled, find_places, first, spans, spans_by_label, spans_by_sentence};
use crate::prepare::tagged::tags::is_tag;

const IDS: [&str; 4] = ["doc_id", "id", "document_id", "uid"];
const DOCUMENTS: [&str; 3] = ["doc", "doc_key", "document"];
const TEXTS: [&str; 6] = ["text", "body", "content", "context", "sentence", "data"];
const TOKENS: [&str; 3] = ["tokens", "words", GLINER];
const LABELS: [&str; 12] = [
    "entities",
    "spans",
    "mentions",
    "ents",
    "entity_mentions",
    "annotations",
    "annotation",
    "ner",
    "ner_tags",
    "tags",
    "label",
    "labels",
];

/// The key of `GLiNER`'s tokens; the ends of its spans are inside.
const GLINER: &str = "tokenized_text";
/// The key of `SciERC`'s sentences.
const SENTENCES: &str = "sentences";

/// Reads an object.
pub(crate) fn record(value: &Value, options: &ReadOptions) -> Result<Outcome, String> {
    let Some(object) = value.as_object() else {
        let pair = value.get(1).is_some_and(|about| about.get("entities").is_some());
        let hint = if pair { "; pairs of text and entities are the format `spacy`" } else { "" };
        return Err(format!("expected an object{hint}"));
    };
    match object.get("answer").and_then(Value::as_str) {
        Some("reject") => return Ok(Outcome::LeftOut("records with `answer: reject`")),
        Some("ignore") => return Ok(Outcome::LeftOut("records with `answer: ignore`")),
        _ => {}
    }
    if label_studio::is_task(object) {
        return label_studio::task(object, &keys(options.text.as_ref(), &TEXTS), id(object, options));
    }
    let content = content(object, options)?;
    let mut record = Record {
        id: id(object, options),
        document: first(value, &DOCUMENTS).map(plain),
        content,
        labels: Labels::Missing,
        left_out: Vec::new(),
        unread: Vec::new(),
    };
    if options.unlabelled {
        return Ok(Outcome::Record(record));
    }
    let read = labels(object, options, &mut record)?;
    if let (Content::Text(text), Labels::Spans(found)) = (&record.content, &mut record.labels) {
        if label_studio::is_export(object) {
            label_studio::count_characters(text, found.iter_mut().flatten())?;
        }
        if found.iter().flatten().any(|one| one.place.is_none()) {
            let tokens = tokens_of(object, options);
            let missing = "`start_token` and `end_token` count tokens, expected `tokens` in addition to the text";
            let tokens = strings(tokens.ok_or(missing)?)?;
            found.iter_mut().try_for_each(|spans| find_places(spans, text, &tokens))?;
        }
    }
    let known = [&IDS[..], &DOCUMENTS, &TEXTS, &TOKENS, &[SENTENCES, "meta"]].concat();
    record.unread = object
        .iter()
        .filter(|(key, _)| !read.contains(key) && !known.contains(&key.as_str()))
        .filter_map(|(key, value)| list_in(key, value))
        .collect();
    Ok(Outcome::Record(record))
}

fn keys<'key>(given: Option<&'key String>, known: &[&'key str]) -> Vec<&'key str> {
    given.map_or_else(|| known.to_vec(), |key| vec![key.as_str()])
}

/// A record's id.
fn id(object: &Map<String, Value>, options: &ReadOptions) -> Option<String> {
    let keys = keys(options.id.as_ref(), &IDS);
    keys.iter().find_map(|key| object.get(*key).filter(|value| !value.is_null())).map(plain)
}

/// A string without quotation marks, or a number as written.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn content(object: &Map<String, Value>, options: &ReadOptions) -> Result<Content, String> {
    let texts = keys(options.text.as_ref(), &TEXTS);
    let present = |keys: &[&str]| keys.iter().find_map(|key| object.get(*key).filter(|value| !value.is_null()));
    // What is not a string can be the data of something else, unless the key is given.
    let text = texts.iter().filter_map(|key| object.get(*key)).find(|value| value.is_string());
    if let Some(text) = text.and_then(Value::as_str) {
        return Ok(Content::Text(text.to_owned()));
    }
    if let Some(tokens) = present(&keys(options.tokens.as_ref(), &TOKENS)).and_then(Value::as_array) {
        return Ok(Content::Tokens(vec![strings(tokens)?]));
    }
    let sentences = object.get(SENTENCES).and_then(Value::as_array);
    if let Some(sentences) = sentences.filter(|sentences| sentences.iter().all(Value::is_array)) {
        let tokens = sentences.iter().filter_map(Value::as_array).map(|tokens| strings(tokens));
        return Ok(Content::Tokens(tokens.collect::<Result<_, _>>()?));
    }
    if present(&texts).is_some() {
        return Err("the text is not a string".into());
    }
    let expected = [&texts[..], &TOKENS].concat().join(", ");
    let found: Vec<&str> = object.keys().map(String::as_str).collect();
    Err(format!("no text found, expected one of the keys {expected}, found {}; `--text` names it", found.join(", ")))
}

/// Tokens: strings, or objects with a `text`.
fn strings(tokens: &[Value]) -> Result<Vec<String>, String> {
    let string = |token: &Value| token.as_str().or_else(|| token.get("text")?.as_str()).map(str::to_owned);
    tokens.iter().map(string).collect::<Option<Vec<_>>>().ok_or_else(|| "a token is not a string".to_owned())
}

/// Reads the labels into the record; returns their keys.
fn labels(object: &Map<String, Value>, options: &ReadOptions, record: &mut Record) -> Result<Vec<String>, String> {
    let mut read = Vec::new();
    if options.tags.is_empty() {
        for key in LABELS {
            let Some(value) = object.get(key) else { continue };
            let Some(found) = labels_under(key, value, object, options, record)? else { continue };
            read.push(key.to_owned());
            let empty = matches!(found, Labels::Empty(_));
            if !empty || record.labels == Labels::Missing {
                record.labels = found;
            }
            if !empty {
                break;
            }
        }
        return Ok(read);
    }
    for key in &options.tags {
        read.push(key.clone());
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else { continue };
        let found = labels_under(key, value, object, options, record)?;
        let found = found.ok_or_else(|| format!("`{key}` holds no labels: `{}`", short(&value.to_string())))?;
        match (&mut record.labels, found) {
            (Labels::Tags { layers, .. }, Labels::Tags { layers: more, .. }) => layers.extend(more),
            (Labels::Spans(all), Labels::Spans(more)) => {
                all.iter_mut().zip(more).for_each(|(all, more)| all.extend(more));
            }
            (Labels::Missing | Labels::Empty(_), found) => record.labels = found,
            (_, Labels::Missing | Labels::Empty(_)) => {}
            _ => return Err(format!("`{key}` holds spans and another key holds tags, or the reverse")),
        }
    }
    Ok(read)
}

/// The labels under a key; `None` if they are not labels of words, such as the class of a whole text.
fn labels_under(
    key: &str,
    value: &Value,
    object: &Map<String, Value>,
    options: &ReadOptions,
    record: &mut Record,
) -> Result<Option<Labels>, String> {
    let text = if let Content::Text(text) = &record.content { Some(text.as_str()) } else { None };
    let spans = |found: Vec<Labelled>| Ok(Some(Labels::Spans(vec![found])));
    match value {
        Value::Null => Ok(Some(Labels::Empty(key.to_owned()))),
        Value::Array(list) if list.is_empty() => Ok(Some(Labels::Empty(key.to_owned()))),
        Value::Object(types) if types.is_empty() => Ok(Some(Labels::Empty(key.to_owned()))),
        Value::Object(types) => spans(spans_by_label(types, key, text)?),
        Value::String(tags) => {
            let tags: Vec<String> = tags.split_whitespace().map(str::to_owned).collect();
            let words = words(object, options, &record.content)?;
            let fits = words.len() == tags.len() && tags.iter().all(|tag| is_tag(tag));
            Ok(fits.then(|| Labels::Tags { words, layers: vec![tags] }))
        }
        Value::Array(list) if list.iter().all(|one| one.is_string() || one.is_number()) => {
            tags(key, list, object, options, record)
        }
        Value::Array(list) => match &record.content {
            Content::Tokens(sentences) if tokens_of(object, options).is_none() => {
                Ok(Some(Labels::Spans(spans_by_sentence(key, list, sentences)?)))
            }
            _ => {
                let mut found = Vec::new();
                for one in list {
                    if matches!(one.get("answer").and_then(Value::as_str), Some("reject" | "ignore")) {
                        record.left_out.push("spans with `answer: reject` or `ignore`");
                        continue;
                    }
                    found.extend(self::spans(one, text)?);
                }
                if object.contains_key(GLINER) {
                    for place in found.iter_mut().filter_map(|one| one.place.as_mut()) {
                        place.1 = place.1.saturating_add(1);
                    }
                }
                spans(found)
            }
        },
        Value::Bool(_) | Value::Number(_) => Ok(None),
    }
}

/// A list of strings or numbers: a tag for each token, or the classes of a whole text.
fn tags(
    key: &str,
    list: &[Value],
    object: &Map<String, Value>,
    options: &ReadOptions,
    record: &Record,
) -> Result<Option<Labels>, String> {
    if tokens_of(object, options).is_none() && matches!(record.content, Content::Tokens(_)) {
        return Err(format!("`{key}` is one list, expected a list of spans for each sentence"));
    }
    let words = words(object, options, &record.content)?;
    let tokens = tokens_of(object, options).is_some();
    let strings: Option<Vec<String>> = list.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
    let given = options.tags.iter().any(|given| given == key);
    let classes = match &strings {
        Some(tags) => !tokens && !tags.iter().all(|tag| is_tag(tag)),
        None => !tokens,
    };
    if classes && !given {
        return Ok(None);
    }
    if list.len() != words.len() {
        return Err(format!("{} tokens but {} tags in `{key}`", words.len(), list.len()));
    }
    let layer = match strings {
        Some(tags) => tags,
        None => list.iter().map(|tag| name_of(tag, key, &options.tag_names)).collect::<Result<_, _>>()?,
    };
    Ok(Some(Labels::Tags { words, layers: vec![layer] }))
}

/// The name of a tag that is a number.
fn name_of(tag: &Value, key: &str, names: &[String]) -> Result<String, String> {
    if names.is_empty() {
        return Err(format!("`{key}` holds numbers without names; `--tag-names O,B-PER,I-PER,…` names them from 0"));
    }
    let name = tag.as_u64().and_then(|number| names.get(number as usize));
    name.cloned().ok_or_else(|| format!("unknown tag {tag} in `{key}`, `--tag-names` names {}", names.len()))
}

fn tokens_of<'a>(object: &'a Map<String, Value>, options: &ReadOptions) -> Option<&'a Vec<Value>> {
    keys(options.tokens.as_ref(), &TOKENS).iter().find_map(|key| object.get(*key)).and_then(Value::as_array)
}

/// The words that tags are tags of: the tokens of the record, or what white space separates in its text.
fn words(object: &Map<String, Value>, options: &ReadOptions, content: &Content) -> Result<Vec<String>, String> {
    match (tokens_of(object, options), content) {
        (Some(tokens), _) => strings(tokens),
        (None, Content::Text(text)) => Ok(text.split_whitespace().map(str::to_owned).collect()),
        (None, Content::Tokens(sentences)) => Ok(sentences.concat()),
    }
}

/// The key of the first list with content in a value, such as `meta.tags`.
fn list_in(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Array(list) => {
            let content = |value: &Value| list_in(key, value).is_some() || !value.is_array() && !value.is_null();
            list.iter().any(content).then(|| key.to_owned())
        }
        Value::Object(object) => object.iter().find_map(|(inner, value)| list_in(&format!("{key}.{inner}"), value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(text: &str, options: &ReadOptions) -> Result<Record, String> {
        match record(&serde_json::from_str(text).unwrap(), options)? {
            Outcome::Record(record) => Ok(record),
            Outcome::LeftOut(reason) => Err(reason.to_owned()),
        }
    }

    fn read(text: &str) -> Result<Record, String> {
        read_with(text, &ReadOptions::default())
    }

    /// The labels of the first sentence: a line of tags, or places.
    fn labels_of(text: &str) -> String {
        match read(text).unwrap().labels {
            Labels::Tags { layers, .. } => layers.iter().map(|tags| tags.join(" ")).collect::<Vec<_>>().join(" | "),
            Labels::Spans(spans) => {
                let place = |one: &Labelled| {
                    let (start, end) = one.place.or(one.tokens.map(|span| (span.start, span.end))).unwrap();
                    format!("{start}..{end} {}", one.labels.join("+"))
                };
                spans
                    .iter()
                    .map(|spans| spans.iter().map(place).collect::<Vec<_>>().join(", "))
                    .collect::<Vec<_>>()
                    .join(" | ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn tags_are_read_under_every_name() {
        for key in ["ner_tags", "tags", "ner", "labels", "label"] {
            let text = format!(r#"{{"tokens": ["Ada", "left"], "{key}": ["B-PER", "O"]}}"#);
            assert_eq!(labels_of(&text), "B-PER O", "{key}");
        }
        assert_eq!(labels_of(r#"{"words": ["Ada"], "ner": ["PER"]}"#), "PER");
        assert_eq!(labels_of(r#"{"text": "Ada left", "labels": "B-PER O"}"#), "B-PER O");
        assert_eq!(labels_of(r#"{"text": "Ada left", "tags": ["B-PER", "O"]}"#), "B-PER O");
        let error = read(r#"{"tokens": ["Ada", "left"], "tags": ["B-PER"]}"#).unwrap_err();
        assert_eq!(error, "2 tokens but 1 tags in `tags`");
    }

    #[test]
    fn tags_that_are_numbers_need_names() {
        let text = r#"{"tokens": ["Ada", "left"], "ner_tags": [1, 0]}"#;
        let names = |names: &[&str]| ReadOptions {
            tag_names: names.iter().map(|&name| name.to_owned()).collect(),
            ..ReadOptions::default()
        };
        let error = read(text).unwrap_err();
        assert_eq!(error, "`ner_tags` holds numbers without names; `--tag-names O,B-PER,I-PER,…` names them from 0");
        let read = read_with(text, &names(&["O", "B-PER"])).unwrap();
        let expected = [["B-PER", "O"].map(str::to_owned).to_vec()];
        assert!(matches!(read.labels, Labels::Tags { layers, .. } if layers == expected));
        let error = read_with(text, &names(&["O"])).unwrap_err();
        assert_eq!(error, "unknown tag 1 in `ner_tags`, `--tag-names` names 1");
    }

    #[test]
    fn classes_of_a_text_are_no_labels_of_words() {
        for value in [r#""news""#, "3", "true", r#"["news", "sport"]"#, "[1, 0, 1]"] {
            let record = read(&format!(r#"{{"text": "Ada left", "label": {value}}}"#)).unwrap();
            assert_eq!(record.labels, Labels::Missing, "{value}");
            assert_eq!(record.unread.len(), usize::from(value.starts_with('[')), "{value}");
        }
    }

    #[test]
    fn the_first_key_with_labels_is_read() {
        let text = r#"{"text": "Ada", "entities": [], "label": [[0, 3, "PER"]], "relations": [[]], "topics": ["x"]}"#;
        assert_eq!(labels_of(text), "0..3 PER");
        assert_eq!(read(text).unwrap().unread, ["topics"]);
        assert_eq!(labels_of(r#"{"text": "Ada", "spans": null, "tags": []}"#), r#"Empty("spans")"#);
        assert_eq!(labels_of(r#"{"text": "Ada"}"#), "Missing");
    }

    #[test]
    fn ends_are_inside_where_the_layout_says_so() {
        assert_eq!(labels_of(r#"{"tokenized_text": ["Ada", "left"], "ner": [[0, 0, "person"]]}"#), "0..1 person");
        assert_eq!(labels_of(r#"{"tokens": ["Ada", "left"], "ner": [[0, 1, "person"]]}"#), "0..1 person");
        let sentences = r#"{"sentences": [["Ada"], ["To", "Rome"]], "ner": [[[0, 0, "PER"]], [[2, 2, "LOC"]]]}"#;
        assert_eq!(labels_of(sentences), "0..1 PER | 1..2 LOC");
        let error = read(&sentences.replace("[2, 2,", "[0, 0,")).unwrap_err();
        assert_eq!(error, "a mention of type LOC covers tokens 0..1, but the sentence has 2, from 1");
        let turk = r#"{"content": "Ada left", "annotation": [{"label": ["N"], "points": [{"start": 0, "end": 2, "text": "Ada"}]}]}"#;
        assert_eq!(labels_of(turk), "0..3 N");
        assert_eq!(labels_of(r#"{"text": "Ada left", "label": {"N": {"Ada": [[0, 2]]}}}"#), "0..3 N");
    }

    #[test]
    fn answers_of_prodigy_are_respected() {
        let answer = |answer: &str| {
            read(&format!(r#"{{"text": "Ada", "spans": [{{"start": 0, "end": 3, "label": "PER", {answer}}}"#))
        };
        assert_eq!(answer(r#""x": 1}], "answer": "accept""#).unwrap().left_out, [""; 0]);
        assert_eq!(answer(r#""x": 1}], "answer": "reject""#).unwrap_err(), "records with `answer: reject`");
        assert_eq!(answer(r#""x": 1}], "answer": "ignore""#).unwrap_err(), "records with `answer: ignore`");
        let span = answer(r#""answer": "reject"}], "answer": "accept""#).unwrap();
        assert_eq!((span.labels, span.left_out.len()), (Labels::Spans(vec![vec![]]), 1));
    }

    #[test]
    fn a_list_is_found_at_any_depth() {
        let found = |text: &str| list_in("k", &serde_json::from_str(text).unwrap());
        assert_eq!(found(r#"{"a": 1, "b": {"c": [2]}}"#).as_deref(), Some("k.b.c"));
        assert_eq!(found("[[], [null]]"), None);
        assert_eq!(found("[{}]").as_deref(), Some("k"));
        assert_eq!(found(r#""text""#), None);
    }

    #[test]
    fn an_object_without_text_names_its_keys() {
        let error = read(r#"{"title": "Ada", "body_html": "x"}"#).unwrap_err();
        assert!(error.ends_with("found body_html, title; `--text` names it"), "{error}");
        assert_eq!(read(r#"{"text": 7}"#).unwrap_err(), "the text is not a string");
        let pair = read(r#"["Ada", {"entities": []}]"#).unwrap_err();
        assert_eq!(pair, "expected an object; pairs of text and entities are the format `spacy`");
    }
}

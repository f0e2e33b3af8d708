//! Label Studio's exports → records. In: an object of its JSON or JSON-MIN. Out: a record whose spans count code points. It must not
//! take a position for a code point: Label Studio counts UTF-16 units, in which a character outside the Basic Multilingual Plane is two.
//!
//! Formats: JSON, with the text in `data` and spans in the `result` of `annotations` (`completions` in versions before 1.0); JSON-MIN, with
//! the text and the spans beside `annotation_id` or `lead_time`.

use serde_json::{Map, Value};

use crate::prepare::standoff::records::{Content, Labels, Outcome, Record};
use crate::prepare::standoff::spans::{Labelled, span};

/// Whether an object is a task of the JSON export.
pub(crate) fn is_task(object: &Map<String, Value>) -> bool {
    object.get("data").is_some_and(Value::is_object) && annotations(object).is_some()
}

/// Whether an object is an item of the JSON-MIN export.
pub(crate) fn is_export(object: &Map<String, Value>) -> bool {
    object.contains_key("annotation_id") || object.contains_key("lead_time")
}

fn annotations(object: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["annotations", "completions"].iter().find_map(|key| object.get(*key)).and_then(Value::as_array)
}

/// Reads a task; `texts` are the keys that its text can have. Of several annotations the one that is ground truth is read, else the first.
pub(crate) fn task(object: &Map<String, Value>, texts: &[&str], id: Option<String>) -> Result<Outcome, String> {
    let flag = |annotation: &Value, key: &str| annotation.get(key).and_then(Value::as_bool).unwrap_or(false);
    let all = annotations(object).map(Vec::as_slice).unwrap_or_default();
    let sound: Vec<&Value> = all.iter().filter(|one| !flag(one, "was_cancelled")).collect();
    let chosen = sound.iter().find(|one| flag(one, "ground_truth")).or(sound.first());
    let Some(chosen) = chosen else {
        return Ok(Outcome::LeftOut("tasks without an annotation, or with cancelled ones only"));
    };
    let text = text(object.get("data"), texts)?;
    let mut spans = Vec::new();
    for item in chosen.get("result").and_then(Value::as_array).into_iter().flatten() {
        spans.extend(region(item)?);
    }
    count_characters(&text, spans.iter_mut())?;
    let mut left_out = vec!["further annotations of one task"; sound.len() - 1];
    left_out.extend(vec!["cancelled annotations"; all.len() - sound.len()]);
    let labels = if spans.is_empty() { Labels::Empty("annotations".into()) } else { Labels::Spans(vec![spans]) };
    let content = Content::Text(text);
    Ok(Outcome::Record(Record { id, document: None, content, labels, left_out, unread: Vec::new() }))
}

/// The text of a task: under one of `keys`, or the only string.
fn text(data: Option<&Value>, keys: &[&str]) -> Result<String, String> {
    let data = data.and_then(Value::as_object).ok_or("`data` is not an object")?;
    let named = keys.iter().find_map(|key| data.get(*key)).and_then(Value::as_str);
    let mut strings = data.values().filter_map(Value::as_str);
    let only = strings.next().filter(|_| strings.next().is_none());
    named.or(only).map(str::to_owned).ok_or_else(|| {
        let found: Vec<&str> = data.keys().map(String::as_str).collect();
        format!("no text found in `data`, which has {}; `--text` names it", found.join(", "))
    })
}

/// A labelled span; `None` for choices, relations and other items.
fn region(item: &Value) -> Result<Option<Labelled>, String> {
    let Some(value) = item.get("value").filter(|value| value.get("start").is_some()) else { return Ok(None) };
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("labels");
    let Some(labels) = value.get(kind).or_else(|| value.get("labels")) else { return Ok(None) };
    if value.get("startOffset").is_some() {
        return Err(format!("an item of type `{kind}` counts inside HTML elements, expected `labels` over plain text"));
    }
    let flat = serde_json::json!({
        "start": value.get("start"), "end": value.get("end"), "labels": labels, "text": value.get("text"),
    });
    span(&flat).map(Some)
}

/// Converts places that count UTF-16 units of `text` to code points.
pub(crate) fn count_characters<'a>(text: &str, spans: impl Iterator<Item = &'a mut Labelled>) -> Result<(), String> {
    let mut starts: Vec<usize> = Vec::new();
    if text.chars().any(|letter| letter.len_utf16() > 1) {
        starts.push(0);
        starts.extend(text.chars().scan(0, |units, letter| {
            *units += letter.len_utf16();
            Some(*units)
        }));
    }
    for span in spans {
        let labels = span.labels.join(", ");
        let Some((start, end)) = span.place.as_mut().filter(|_| !starts.is_empty()) else { continue };
        for position in [start, end] {
            *position = starts.binary_search(position).map_err(|_| {
                let units = starts.last().copied().unwrap_or_default();
                format!("a mention of type {labels} has the position {position}, which is not between characters; the text has {units} UTF-16 units")
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Outcome, String> {
        let value: Value = serde_json::from_str(text).unwrap();
        task(value.as_object().unwrap(), &["text"], None)
    }

    fn with(annotations: &str) -> String {
        format!(r#"{{"data": {{"text": "🎉 Ada"}}, "annotations": [{annotations}]}}"#)
    }

    fn annotation(start: usize, more: &str) -> String {
        let value = format!(r#"{{"start": {start}, "end": 6, "text": "Ada", "labels": ["PER"]}}"#);
        format!(r#"{{"result": [{{"type": "labels", "value": {value}}}, {{"type": "choices", "value": {{}}}}]{more}}}"#)
    }

    fn places(outcome: Result<Outcome, String>) -> (Vec<(usize, usize)>, usize) {
        let Ok(Outcome::Record(record)) = outcome else { panic!("no record") };
        let Labels::Spans(spans) = record.labels else { panic!("no spans") };
        (spans.concat().iter().filter_map(|one| one.place).collect(), record.left_out.len())
    }

    #[test]
    fn positions_count_utf16_units() {
        assert_eq!(places(read(&with(&annotation(3, "")))), (vec![(2, 5)], 0));
        let error = read(&with(&annotation(1, ""))).unwrap_err();
        assert!(error.contains("position 1, which is not between characters; the text has 6 UTF-16 units"), "{error}");
        let text = r#"{"data": {"note": "Ada 🎉"}, "completions": [{"result": []}]}"#;
        let Ok(Outcome::Record(record)) = read(text) else { panic!("no record") };
        assert_eq!(record.content, Content::Text("Ada 🎉".into()), "the only string is the text");
    }

    #[test]
    fn one_annotation_of_a_task_is_read_and_the_others_are_left_out() {
        let (other, true_one) = (annotation(0, ""), annotation(3, r#", "ground_truth": true"#));
        let cancelled = annotation(0, r#", "was_cancelled": true"#);
        assert_eq!(places(read(&with(&format!("{other}, {true_one}, {cancelled}")))), (vec![(2, 5)], 2));
        assert!(matches!(read(&with(&cancelled)), Ok(Outcome::LeftOut(_))));
        assert!(matches!(read(&with("")), Ok(Outcome::LeftOut(_))));
    }
}

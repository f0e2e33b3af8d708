//! Spans in JSON → labelled positions. In: `[start, end, label]` or an object with such keys. Out: a span with its labels, or what was
//! expected. It must not assume whether `start` and `end` count characters or tokens; `start_token` and `end_token` count tokens.

use serde_json::{Map, Value};

use crate::prepare::char_index::Walk;
use crate::prepare::record::{outside_tokens, short};
use crate::text::span::{TokenSpan, same_words};

const STARTS: [&str; 6] = ["start", "start_char", "start_offset", "begin", "from", "start_position"];
const ENDS: [&str; 5] = ["end", "end_char", "end_offset", "to", "end_position"];
const LABELS: [&str; 6] = ["type", "label", "labels", "entity_type", "types", "tag"];
const SURFACES: [&str; 4] = ["text", "surface", "mention", "word"];

/// A span with its labels; fine-grained data sets give several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labelled {
    /// The first position inside and the first after it; `None` if the span is given only in tokens.
    pub(crate) place: Option<(usize, usize)>,
    /// The same in tokens, if given.
    pub(crate) tokens: Option<TokenSpan>,
    /// Its labels.
    pub(crate) labels: Vec<String>,
    /// The text it covers, if given.
    pub(crate) surface: Option<String>,
}

/// The value under the first of `keys` that is present and not null.
pub(crate) fn first<'value>(object: &'value Value, keys: &[&str]) -> Option<&'value Value> {
    keys.iter().find_map(|key| object.get(key).filter(|value| !value.is_null()))
}

/// Reads one span. Labels that are numbers, as the ids of a labelling tool, are kept as they are written.
pub(crate) fn span(value: &Value) -> Result<Labelled, String> {
    let wrong = || not_a_span(value);
    let part = |index: usize, keys: &[&str]| match value {
        Value::Array(parts) => parts.get(index),
        _ => first(value, keys),
    };
    let number = |found: Option<&Value>| found.and_then(Value::as_u64).map(|number| number as usize).ok_or_else(wrong);
    let labels = labels(part(2, &LABELS)).ok_or_else(wrong)?;
    let pair = |start: Option<&Value>, end: Option<&Value>| -> Result<Option<(usize, usize)>, String> {
        if start.is_none() && end.is_none() {
            return Ok(None);
        }
        let (start, end) = (number(start)?, number(end)?);
        if end < start {
            return Err(format!("a mention of type {} ends at {end}, before it starts at {start}", labels.join(", ")));
        }
        Ok(Some((start, end)))
    };
    let place = pair(part(0, &STARTS), part(1, &ENDS))?;
    let tokens = pair(first(value, &["start_token"]), first(value, &["end_token"]))?;
    if place.is_none() && tokens.is_none() {
        return Err(wrong());
    }
    let tokens = tokens.map(|(start, end)| TokenSpan::new(start, end));
    let surface = first(value, &SURFACES).and_then(Value::as_str).map(str::to_owned);
    Ok(Labelled { place, tokens, labels, surface })
}

/// Reads an element of a list of spans: a span, or labels with `points`, each of which is a span (`DataTurks`). `text` is what the positions
/// refer to.
pub(crate) fn spans(value: &Value, text: Option<&str>) -> Result<Vec<Labelled>, String> {
    let Some(points) = value.get("points").and_then(Value::as_array) else { return Ok(vec![span(value)?]) };
    let names = labels(first(value, &LABELS)).ok_or_else(|| not_a_span(value))?;
    let one = |point: &Value| inclusive(point, first(point, &STARTS)?, first(point, &ENDS)?, &names, text);
    points.iter().map(|point| one(point).ok_or_else(|| not_a_span(point))).collect()
}

/// Spans by label: `{"PER": [[0, 9]]}`, or with the words that they cover, `{"PER": {"Ada Lind": [[0, 7]]}}` (CLUENER). The words of a
/// mention without its position are an error: they can occur twice.
pub(crate) fn spans_by_label(
    object: &Map<String, Value>,
    key: &str,
    text: Option<&str>,
) -> Result<Vec<Labelled>, String> {
    let mut found = Vec::new();
    for (label, value) in object {
        let names = [label.clone()];
        match value {
            Value::Array(places) => {
                for place in places {
                    let pair = place.as_array().filter(|pair| pair.len() == 2);
                    let pair = pair.and_then(|pair| Some((pair[0].as_u64()? as usize, pair[1].as_u64()? as usize)));
                    let (start, end) = pair.ok_or_else(|| {
                        let one = short(&place.to_string());
                        format!("`{key}` has {one} under `{label}`, expected the place of a mention, [start, end]")
                    })?;
                    found.push(Labelled {
                        place: Some((start, end)),
                        tokens: None,
                        labels: names.to_vec(),
                        surface: None,
                    });
                }
            }
            Value::Object(surfaces) => {
                for (surface, places) in surfaces {
                    let wrong = || format!("`{}` is not a list of places", short(&places.to_string()));
                    for place in places.as_array().ok_or_else(wrong)? {
                        let point = serde_json::json!({"text": surface});
                        let one = place.get(0).zip(place.get(1));
                        let one = one.and_then(|(start, end)| inclusive(&point, start, end, &names, text));
                        found.push(one.ok_or_else(wrong)?);
                    }
                }
            }
            Value::Null => {}
            other => return Err(format!("`{}` is not a list of spans", short(&other.to_string()))),
        }
    }
    Ok(found)
}

/// A span whose last position is inside it, unless the words that it repeats say that it is behind.
fn inclusive(point: &Value, start: &Value, end: &Value, labels: &[String], text: Option<&str>) -> Option<Labelled> {
    let (start, end) = (start.as_u64()? as usize, end.as_u64()? as usize);
    let surface = first(point, &SURFACES).and_then(Value::as_str).map(str::to_owned);
    let covers = |end: usize| {
        let (text, surface) = (text?, surface.as_ref()?);
        let covered: String = text.chars().skip(start).take(end.checked_sub(start)?).collect();
        same_words(&covered, surface).then_some(end)
    };
    let end = covers(end).unwrap_or(end.checked_add(1)?);
    (start <= end).then(|| Labelled { place: Some((start, end)), tokens: None, labels: labels.to_vec(), surface })
}

/// Computes character positions for spans given only in tokens. The tokens must occur in the text in order.
pub(crate) fn find_places(spans: &mut [Labelled], text: &str, tokens: &[String]) -> Result<(), String> {
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

/// A label, or a list of them; `None` if the value is neither.
fn labels(value: Option<&Value>) -> Option<Vec<String>> {
    let one = |label: &Value| match label {
        Value::String(label) => Some(label.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    };
    match value? {
        Value::Array(labels) if !labels.is_empty() => labels.iter().map(one).collect(),
        other => one(other).map(|label| vec![label]),
    }
}

fn not_a_span(value: &Value) -> String {
    format!("`{}` is not a span, expected [start, end, label] or start, end and label", short(&value.to_string()))
}

/// `SciERC`'s spans: by sentence, in tokens of the document, ends inside.
pub(crate) fn spans_by_sentence(
    key: &str,
    list: &[Value],
    sentences: &[Vec<String>],
) -> Result<Vec<Vec<Labelled>>, String> {
    if list.len() != sentences.len() {
        return Err(format!("{} sentences but {} lists in `{key}`", sentences.len(), list.len()));
    }
    let (mut found, mut before) = (Vec::new(), 0);
    for (tokens, spans_here) in sentences.iter().zip(list) {
        let wrong = || format!("`{}` is not a list of spans", short(&spans_here.to_string()));
        let mut here = Vec::new();
        for one in spans_here.as_array().ok_or_else(wrong)? {
            for mut span in spans(one, None)? {
                let (start, end) = span.place.ok_or_else(wrong)?;
                let inside = start.checked_sub(before).zip((end.saturating_add(1)).checked_sub(before));
                let Some((from, to)) = inside.filter(|(_, to)| *to <= tokens.len()) else {
                    let reason = outside_tokens(&span.labels.join(", "), start..end.saturating_add(1), tokens.len());
                    return Err(format!("{reason}, from {before}"));
                };
                span.place = None;
                span.tokens = Some(TokenSpan::new(from, to));
                here.push(span);
            }
        }
        found.push(here);
        before += tokens.len();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_come_as_lists_and_as_objects() {
        let expected = Labelled { place: Some((1, 3)), tokens: None, labels: vec!["PER".into()], surface: None };
        assert_eq!(span(&json!([1, 3, "PER"])), Ok(expected.clone()));
        assert_eq!(span(&json!({"start": 1, "end": 3, "type": "PER"})), Ok(expected.clone()));
        assert_eq!(span(&json!({"start_offset": 1, "end_offset": 3, "label": "PER", "id": 9})), Ok(expected.clone()));
        let fine = span(&json!({"start": 1, "end": 3, "labels": ["/person", "/person/artist"]})).unwrap();
        assert_eq!(fine.labels, ["/person", "/person/artist"]);
        let in_tokens = span(&json!({"start_token": 1, "end_token": 3, "type": "PER"})).unwrap();
        assert_eq!((in_tokens.place, in_tokens.tokens), (None, Some(TokenSpan::new(1, 3))));
        for wrong in [
            json!([1, 3]),
            json!(["1", 3, "PER"]),
            json!({"start": 1, "end": 3}),
            json!({"start_char": 1, "end_token": 3, "type": "PER"}),
            json!(7),
        ] {
            let reason = format!("`{wrong}` is not a span, expected [start, end, label] or start, end and label");
            assert_eq!(span(&wrong), Err(reason));
        }
        assert_eq!(span(&json!([1, 3, 7])).unwrap().labels, ["7"]);
        let reversed = "a mention of type PER ends at 1, before it starts at 3";
        assert_eq!(span(&json!([3, 1, "PER"])), Err(reversed.into()));
    }

    /// Places and labels of spans.
    fn places(found: Result<Vec<Labelled>, String>) -> Vec<(usize, usize, String)> {
        let place = |one: Labelled| (one.place.unwrap().0, one.place.unwrap().1, one.labels.join(" "));
        found.unwrap().into_iter().map(place).collect()
    }

    #[test]
    fn the_words_of_a_mention_say_whether_its_end_is_inside() {
        let text = Some("Zoë met Ada");
        let points = |end: usize, words: &str| {
            let one = json!({"label": ["PER", "X"], "points": [{"start": 8, "end": end, "text": words}]});
            places(spans(&one, text))
        };
        assert_eq!(points(10, "Ada"), [(8, 11, "PER X".to_owned())]);
        assert_eq!(points(11, "Ada"), [(8, 11, "PER X".to_owned())]);
        // Neither fits: the check of the mention reports it.
        assert_eq!(points(10, "Bo"), [(8, 11, "PER X".to_owned())]);
    }

    #[test]
    fn spans_by_label_need_their_places() {
        let read = |value: Value| spans_by_label(value.as_object().unwrap(), "entities", Some("Zoë met Ada"));
        assert_eq!(places(read(json!({"PER": {"Zoë": [[0, 2]], "Ada": [[8, 10]]}, "LOC": {}}))).len(), 2);
        assert_eq!(places(read(json!({"PER": [[8, 11]]}))), [(8, 11, "PER".to_owned())]);
        let error = read(json!({"PER": ["Ada"]})).unwrap_err();
        assert_eq!(error, "`entities` has \"Ada\" under `PER`, expected the place of a mention, [start, end]");
    }
}

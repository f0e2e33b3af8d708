//! Spans in JSON → labelled positions. In: `[start, end, label]` or an object with such keys. Out: a span with its labels, or what was
//! expected. It must not assume whether `start` and `end` count characters or tokens; `start_token` and `end_token` count tokens.

use serde_json::Value;

use crate::prepare::record::short;
use crate::text::span::TokenSpan;

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

/// Reads one span.
pub(crate) fn span(value: &Value) -> Result<Labelled, String> {
    let wrong = || {
        format!("`{}` is not a span, expected [start, end, label] or start, end and label", short(&value.to_string()))
    };
    let part = |index: usize, keys: &[&str]| match value {
        Value::Array(parts) => parts.get(index),
        _ => first(value, keys),
    };
    let number = |found: Option<&Value>| found.and_then(Value::as_u64).map(|number| number as usize).ok_or_else(wrong);
    let labels = match part(2, &LABELS).ok_or_else(wrong)? {
        Value::String(label) => vec![label.clone()],
        Value::Array(labels) if !labels.is_empty() => {
            labels.iter().map(|label| label.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
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
        let reversed = "a mention of type PER ends at 1, before it starts at 3";
        assert_eq!(span(&json!([3, 1, "PER"])), Err(reversed.into()));
    }
}

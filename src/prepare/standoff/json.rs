//! A JSON list, or objects one behind the other → its items with line numbers. In: the text of a file. Out: each item's text and line, so
//! that errors can name the line. It must not know the formats of the items.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::prepare::files::Lines;
use crate::prepare::record::LineError;

/// The items of the JSON list in `text`.
pub(crate) fn items(text: &str) -> Result<Vec<(usize, &str)>, LineError> {
    let lines = Lines::new(text);
    let trimmed = text.trim_start();
    let begin = text.len() - trimmed.len();
    if !trimmed.starts_with('[') {
        return Err((lines.of(begin), "expected a JSON list, `[` …".into()));
    }
    let (mut found, mut depth, mut quoted, mut escaped, mut from) = (Vec::new(), 0_usize, false, false, begin + 1);
    for (position, byte) in text.bytes().enumerate().skip(begin) {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if (byte == b',' && depth == 1) || depth == 0 {
            let item = &text[from..position];
            let trimmed = item.trim_start();
            if !(trimmed.is_empty() && depth == 0) {
                found.push((lines.of(from + item.len() - trimmed.len()), trimmed.trim_end()));
            }
            from = position + 1;
        }
        if depth == 0 {
            let rest = text[from..].trim_start();
            if rest.is_empty() {
                return Ok(found);
            }
            return Err((lines.of(text.len() - rest.len()), "expected nothing after the list".into()));
        }
    }
    Err((lines.of(text.len()), "the list is never closed".into()))
}

/// The objects in `text` if it holds nothing else, each over one or several lines.
pub(crate) fn objects(text: &str) -> Option<Vec<(usize, &str)>> {
    let lines = Lines::new(text);
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>();
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(value) = values.next() {
        value.ok()?;
        let item = text[from..values.byte_offset()].trim_start();
        found.push((lines.of(values.byte_offset() - item.len()), item));
        from = values.byte_offset();
    }
    Some(found)
}

/// Parses an item; the line of an error refers to the file.
pub(crate) fn parse<T: DeserializeOwned>((line, text): (usize, &str)) -> Result<T, LineError> {
    serde_json::from_str(text).map_err(|error| {
        let place = line + error.line().saturating_sub(1);
        let message = error.to_string();
        (place, message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_know_their_lines() {
        let text = "\n[\n {\"a\": \"],\\\"\"},\n\n [1,\n 2], 3\n]\n";
        assert_eq!(items(text).unwrap(), [(3, "{\"a\": \"],\\\"\"}"), (5, "[1,\n 2]"), (6, "3")]);
        assert_eq!(items("[]").unwrap(), []);
    }

    #[test]
    fn objects_can_lie_over_several_lines() {
        let text = "\n{\n \"a\": 1\n}\n{\"b\":\n2}{}\n";
        assert_eq!(objects(text).unwrap(), [(2, "{\n \"a\": 1\n}"), (5, "{\"b\":\n2}"), (6, "{}")]);
        assert_eq!(objects("{} {").map(|found| found.len()), None);
        assert_eq!(objects("{} [1]").map(|found| found.len()), None);
    }

    #[test]
    fn an_invalid_list_reports_its_line() {
        assert_eq!(items("\n{}").unwrap_err().0, 2);
        assert_eq!(items("[1,\n2").unwrap_err(), (2, "the list is never closed".into()));
        assert_eq!(items("[1]\n]").unwrap_err().0, 2);
        assert_eq!(parse::<Vec<u8>>((5, "[1,\n2,\nx]")).unwrap_err().0, 7);
    }
}

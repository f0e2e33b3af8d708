//! A JSON list → its items with line numbers. In: the text of a file. Out: each item's text and line, so that errors can name the
//! line. It must not know the formats of the items.

use serde::de::DeserializeOwned;

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
    fn an_invalid_list_reports_its_line() {
        assert_eq!(items("\n{}").unwrap_err().0, 2);
        assert_eq!(items("[1,\n2").unwrap_err(), (2, "the list is never closed".into()));
        assert_eq!(items("[1]\n]").unwrap_err().0, 2);
        assert_eq!(parse::<Vec<u8>>((5, "[1,\n2,\nx]")).unwrap_err().0, 7);
    }
}

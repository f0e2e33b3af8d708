//! Bytes → JSON objects. In: a reader of a file, the wanted keys. Out: one record per line that is not blank. It must not look at the
//! values of other keys, except that the line must be JSON.

use std::fmt;
use std::io::{BufRead, Read as _, Result};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::source::records::record::{Cell, RECORD_BYTES, Record, no_utf8, skip_line};

/// A reader of JSON Lines.
pub(super) struct JsonLines {
    input: Box<dyn BufRead + Send>,
    wanted: Vec<String>,
    /// The last line that was read.
    line: u64,
    limit: usize,
}

impl JsonLines {
    pub(super) fn new(input: Box<dyn BufRead + Send>, wanted: Vec<String>) -> Self {
        Self { input, wanted, line: 0, limit: RECORD_BYTES }
    }

    /// The next line that is not blank.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            let mut raw = Vec::new();
            let limit = self.limit as u64 + 1;
            if self.input.by_ref().take(limit).read_until(b'\n', &mut raw)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let line = self.line;
            let ended = raw.ends_with(b"\n");
            if !ended && raw.len() > self.limit {
                skip_line(self.input.as_mut())?;
                let fault = format!("it is longer than {} MB", self.limit >> 20);
                return Ok(Some(Record { line, cells: Err(fault), raw: Vec::new() }));
            }
            if line == 1 && raw.starts_with(b"\xef\xbb\xbf") {
                raw.drain(..3);
            }
            if raw.trim_ascii().is_empty() {
                continue;
            }
            let cells = cells(raw.trim_ascii(), &self.wanted).map_err(|fault| {
                if ended {
                    fault
                } else {
                    format!("{fault}; the file does not end with a line end: it is cut off, or still being written")
                }
            });
            return Ok(Some(Record { line, cells, raw }));
        }
    }
}

/// The values of the wanted keys of a line.
fn cells(line: &[u8], wanted: &[String]) -> std::result::Result<Vec<Cell>, String> {
    let values = values(line, wanted)?;
    Ok(values.into_iter().map(cell).collect())
}

fn values(line: &[u8], wanted: &[String]) -> std::result::Result<Vec<Value>, String> {
    let text = std::str::from_utf8(line).map_err(|error| no_utf8(error, line))?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let values = Wanted(wanted).deserialize(&mut parser).and_then(|values| parser.end().map(|()| values));
    values.map_err(|error| message(&error))
}

/// All keys and values of a line.
pub(super) fn object(line: &[u8]) -> std::result::Result<serde_json::Map<String, Value>, String> {
    serde_json::from_slice(line).map_err(|error| message(&error))
}

/// An error without the line, which is always the first, and with the column before the reason.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) => format!("column {}: {reason}", error.column()),
        None => text,
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::String(text) => Cell::Text(text),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cell::Integer(number),
            None if number.is_u64() => Cell::Other("an integer beyond 64 bits with a sign"),
            None => Cell::Other("a number with a fraction"),
        },
        Value::Bool(_) => Cell::Other("true or false"),
        Value::Array(_) => Cell::Other("a list"),
        Value::Object(_) => Cell::Other("an object"),
    }
}

/// Reads the values of wanted keys from an object.
struct Wanted<'keys>(&'keys [String]);

/// The place of a key among the wanted ones.
struct Place<'keys>(&'keys [String]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Vec<Value>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vec<Value>, A::Error> {
        let mut values = vec![Value::Null; self.0.len()];
        while let Some(place) = map.next_key_seed(Place(self.0))? {
            match place {
                Some(place) => values[place] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> std::result::Result<Option<usize>, E> {
        Ok(self.0.iter().position(|wanted| wanted == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], limit: usize) -> Vec<Record> {
        let wanted = vec!["id".to_owned(), "body".to_owned()];
        let mut lines = JsonLines { limit, ..JsonLines::new(Box::new(std::io::Cursor::new(text.to_vec())), wanted) };
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn a_bad_line_costs_that_line_and_is_named() {
        let text = "\u{feff}{\"id\": 1, \"other\": {\"deep\": [1, \"x\"]}, \"body\": \"a\"}\r\n\n{\"id\": 2, \"body\": \"x \\ud83d\"}\n\
            [1]\n{\"id\": 3} {}\n{\"body\": \"b\", \"id\": \"4\", \"id\": \"5\"}\n{\"id\": 6, \"bo";
        let records = read(text.as_bytes(), RECORD_BYTES);
        let cells: Vec<_> = records.iter().map(|record| (record.line, record.cells.as_deref().ok())).collect();
        assert_eq!(cells[0], (1, Some(&[Cell::Integer(1), Cell::Text("a".into())][..])));
        assert_eq!(cells[4], (6, Some(&[Cell::Text("5".into()), Cell::Text("b".into())][..])));
        assert_eq!(
            cells.iter().map(|(line, cells)| (*line, cells.is_some())).collect::<Vec<_>>(),
            [(1, true), (3, false), (4, false), (5, false), (6, true), (7, false)]
        );
        let fault = |record: usize| records[record].cells.clone().unwrap_err();
        assert_eq!(fault(1), "column 28: unexpected end of hex escape");
        assert!(fault(2).contains("expected an object"), "{}", fault(2));
        assert!(fault(5).ends_with("it is cut off, or still being written"), "{}", fault(5));
    }

    #[test]
    fn a_line_that_is_no_utf8_or_too_long_is_a_fault() {
        let records = read(b"{\"id\": 1, \"body\": \"Z\xe9\"}\n{\"id\": 2}\n", RECORD_BYTES);
        assert!(records[0].cells.clone().unwrap_err().starts_with("byte 21 (0xE9) is not UTF-8"), "{records:?}");
        assert_eq!(records[1].cells.clone().unwrap()[0], Cell::Integer(2));
        let long = format!("{{\"id\": 1, \"body\": \"{}\"}}\n{{\"id\": 2}}\n", "x".repeat(5000));
        let records = read(long.as_bytes(), 4000);
        assert_eq!(
            records.iter().map(|one| (one.line, one.cells.is_ok())).collect::<Vec<_>>(),
            [(1, false), (2, true)]
        );
    }

    #[test]
    fn values_of_other_types_are_described() {
        let records =
            read(b"{\"id\": 18446744073709551615, \"body\": 1.5}\n{\"id\": true, \"body\": []}", RECORD_BYTES);
        let kinds: Vec<_> = records.iter().flat_map(|one| one.cells.as_ref().unwrap()).map(Cell::kind).collect();
        assert_eq!(kinds[1..], ["a number with a fraction", "true or false", "a list"]);
    }
}

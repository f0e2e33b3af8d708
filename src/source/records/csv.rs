//! Bytes → records of CSV (RFC 4180). In: a reader of a file, the wanted columns. Out: the header, and one record after the other. A bad
//! record must cost no more than its first line.
//!
//! A stray quote makes a lenient reader swallow the lines up to the next quote. This one is strict: after a closing quote only a
//! delimiter or a line end can follow, and every record has the header's number of fields. Where either fails, the line is a fault and
//! reading goes on with the next line.

use std::io::{BufRead, Error, ErrorKind, Read as _, Result};

use crate::source::records::record::{Cell, RECORD_BYTES, Record, no_utf8, other_encoding, skip_line};

/// The delimiters that are tried on a header, in this order.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A reader of CSV.
pub(super) struct CsvRecords {
    input: Box<dyn BufRead + Send>,
    /// What was read; the bytes before `start` were returned.
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    delimiter: u8,
    /// The header: the names of the columns.
    pub(super) header: Vec<String>,
    /// The places of the wanted columns.
    wanted: Vec<Option<usize>>,
    /// The line at which the buffer begins, from 1.
    line: u64,
    limit: usize,
}

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// A record of so many bytes, with its line end.
    Record {
        fields: Vec<Vec<u8>>,
        length: usize,
    },
    /// The bytes end inside a record.
    Incomplete,
    Bad(&'static str),
}

impl CsvRecords {
    /// Reads the header. The delimiter is the one that gives it all `names`; a comma (a tab in a file `.tsv`) if none does.
    ///
    /// # Errors
    /// A failure to read, or a header that is not UTF-8 or not CSV, as [`ErrorKind::InvalidData`].
    pub(super) fn new(input: Box<dyn BufRead + Send>, names: &[&str], wanted: &[String], tabs: bool) -> Result<Self> {
        let mut records = Self {
            input,
            buffer: Vec::new(),
            start: 0,
            ended: false,
            delimiter: if tabs { b'\t' } else { b',' },
            header: Vec::new(),
            wanted: Vec::new(),
            line: 1,
            limit: RECORD_BYTES,
        };
        records.fill()?;
        if let Some(reason) = other_encoding(records.rest()) {
            return Err(Error::new(ErrorKind::InvalidData, reason));
        }
        if records.rest().starts_with(b"\xef\xbb\xbf") {
            records.take(3);
        }
        let default = records.delimiter;
        let mut first: Option<(u8, Vec<String>, usize)> = None;
        for delimiter in std::iter::once(default).chain(DELIMITERS) {
            records.delimiter = delimiter;
            let (header, length) = records.parse_header()?;
            if names.iter().all(|name| header.iter().any(|column| column == name)) {
                first = Some((delimiter, header, length));
                break;
            }
            first.get_or_insert((delimiter, header, length));
        }
        if let Some((delimiter, header, length)) = first {
            records.delimiter = delimiter;
            records.take(length);
            records.wanted = wanted.iter().map(|name| header.iter().position(|column| column == name)).collect();
            records.header = header;
        }
        Ok(records)
    }

    /// The first record and its length in bytes; empty lines before it are taken.
    fn parse_header(&mut self) -> Result<(Vec<String>, usize)> {
        loop {
            match parse(self.rest(), self.ended, self.delimiter) {
                Parsed::Incomplete if self.rest().len() <= self.limit => self.fill()?,
                Parsed::Incomplete => return Err(Error::new(ErrorKind::InvalidData, "its header does not end")),
                Parsed::Bad(reason) => return Err(Error::new(ErrorKind::InvalidData, format!("line 1: {reason}"))),
                Parsed::Record { fields, length } if blank(&fields) && length > 0 => self.take(length),
                Parsed::Record { fields, length } => {
                    let name = |field: Vec<u8>| match String::from_utf8(field) {
                        Ok(name) => Ok(name.trim().to_owned()),
                        Err(error) => {
                            let reason = no_utf8(error.utf8_error(), error.as_bytes());
                            Err(Error::new(ErrorKind::InvalidData, format!("line 1: {reason}")))
                        }
                    };
                    return Ok((fields.into_iter().map(name).collect::<Result<_>>()?, length));
                }
            }
        }
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if self.rest().is_empty() {
                if self.ended {
                    return Ok(None);
                }
                self.fill()?;
                continue;
            }
            let line = self.line;
            let fault = match parse(self.rest(), self.ended, self.delimiter) {
                Parsed::Incomplete if self.rest().len() <= self.limit => {
                    self.fill()?;
                    continue;
                }
                Parsed::Incomplete => {
                    format!("it is longer than {} MB, or a quoted field is not closed", self.limit >> 20)
                }
                Parsed::Bad(reason) => reason.to_owned(),
                Parsed::Record { fields, length } if blank(&fields) => {
                    self.take(length);
                    continue;
                }
                Parsed::Record { fields, .. } if fields.len() != self.header.len() => {
                    format!("it has {} fields, the header has {}", fields.len(), self.header.len())
                }
                Parsed::Record { fields, length } => {
                    let raw = self.rest()[..length].to_vec();
                    match std::str::from_utf8(&raw) {
                        Ok(_) => {
                            self.take(length);
                            return Ok(Some(Record { line, cells: Ok(self.cells(&fields)), raw }));
                        }
                        Err(error) => no_utf8(error, &raw),
                    }
                }
            };
            self.skip_line()?;
            return Ok(Some(Record { line, cells: Err(fault), raw: Vec::new() }));
        }
    }

    /// The wanted fields; an empty one is null.
    fn cells(&self, fields: &[Vec<u8>]) -> Vec<Cell> {
        let cell = |place: &Option<usize>| {
            let field = place.and_then(|place| fields.get(place)).cloned().unwrap_or_default();
            // The record was checked to be UTF-8.
            match String::from_utf8(field) {
                Ok(text) if !text.is_empty() => Cell::Text(text),
                _ => Cell::Null,
            }
        };
        self.wanted.iter().map(cell).collect()
    }

    /// What was read and not returned yet.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads at least as many bytes as are left, so that a long record is parsed few times.
    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let more = self.buffer.len().max(64 << 10) as u64;
        let read = self.input.by_ref().take(more).read_to_end(&mut self.buffer)?;
        self.ended = (read as u64) < more;
        Ok(())
    }

    /// Passes over the next bytes.
    fn take(&mut self, length: usize) {
        self.line += self.rest()[..length].iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        self.start += length;
    }

    fn skip_line(&mut self) -> Result<()> {
        if let Some(end) = self.rest().iter().position(|byte| *byte == b'\n') {
            self.take(end + 1);
        } else {
            self.start = self.buffer.len();
            self.line += 1;
            if !self.ended {
                skip_line(self.input.as_mut())?;
            }
        }
        Ok(())
    }
}

/// Whether a record is an empty line.
fn blank(fields: &[Vec<u8>]) -> bool {
    matches!(fields, [field] if field.trim_ascii().is_empty())
}

/// Parses one record at the beginning of `bytes`, which is all that is left if `ended`.
fn parse(bytes: &[u8], ended: bool, delimiter: u8) -> Parsed {
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let mut field = Vec::new();
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                let Some(length) = bytes[at..].iter().position(|byte| *byte == b'"') else {
                    return if ended { Parsed::Bad("a quoted field is not closed") } else { Parsed::Incomplete };
                };
                field.extend_from_slice(&bytes[at..at + length]);
                at += length + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                field.push(b'"');
                at += 1;
            }
        } else {
            let length = bytes[at..].iter().position(|byte| *byte == delimiter || *byte == b'\n');
            let length = length.unwrap_or(bytes.len() - at);
            field.extend_from_slice(&bytes[at..at + length]);
            at += length;
            if bytes.get(at) != Some(&delimiter) && field.ends_with(b"\r") {
                field.pop();
                at -= 1;
            }
        }
        fields.push(field);
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(byte), _) if *byte == delimiter => at += 1,
            (Some(b'\n'), _) => return Parsed::Record { fields, length: at + 1 },
            (Some(b'\r'), Some(b'\n')) => return Parsed::Record { fields, length: at + 2 },
            (None, _) | (Some(b'\r'), None) => {
                return if ended { Parsed::Record { fields, length: bytes.len() } } else { Parsed::Incomplete };
            }
            _ => {
                return Parsed::Bad(
                    "more text follows the closing quote of a field; inside quotes, a quote is written twice",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(text: &[u8], tabs: bool) -> Result<CsvRecords> {
        let wanted = ["id".to_owned(), "body".to_owned()];
        CsvRecords::new(Box::new(std::io::Cursor::new(text.to_vec())), &["id", "body"], &wanted, tabs)
    }

    /// Each record: its line, and id and body or the fault.
    fn read(text: &[u8]) -> Vec<(u64, String)> {
        let mut records = open(text, false).unwrap();
        let shown = |record: Record| {
            let cell = |cell: &Cell| if let Cell::Text(text) = cell { text.clone() } else { "-".to_owned() };
            let cells = record.cells.map(|cells| cells.iter().map(cell).collect::<Vec<_>>().join("|"));
            (record.line, cells.unwrap_or_else(|fault| format!("! {fault}")))
        };
        std::iter::from_fn(|| records.next().unwrap()).map(shown).collect()
    }

    #[test]
    fn ids_and_texts_are_as_they_are_written() {
        let text = "\u{feff}id,lang,body\r\n00123,en,\"a \"\"b\"\"\nc\"\r\n\r\n,x,NA\n7,,2024-01-31";
        let found = read(text.as_bytes());
        let expected = [(2, "00123|a \"b\"\nc"), (5, "-|NA"), (6, "7|2024-01-31")];
        assert_eq!(found, expected.map(|(line, cells)| (line, cells.to_owned())));
    }

    #[test]
    fn a_bad_record_costs_its_first_line() {
        let text = "id,body\n1,one\n2,\"stray\n3,three\n4,a,b\n5,\"five\nlines\"\n6,\"x\" y\n7,seven\n8,\"never closed\n9,nine\n";
        let found = read(text.as_bytes());
        let lines: Vec<(u64, bool)> = found.iter().map(|(line, cells)| (*line, !cells.starts_with('!'))).collect();
        assert_eq!(
            lines,
            [(2, true), (3, false), (4, true), (5, false), (6, true), (8, false), (9, true), (10, false), (11, true)]
        );
        assert_eq!(found[4].1, "5|five\nlines");
        assert_eq!(found[3].1, "! it has 3 fields, the header has 2");
        let found = read(b"id,body\n1,Z\xfcrich\n2,two\n");
        assert!(found[0].1.starts_with("! byte 4 (0xFC) is not UTF-8"), "{found:?}");
        assert_eq!(found[1], (3, "2|two".to_owned()));
    }

    #[test]
    fn the_delimiter_is_the_one_that_gives_the_columns() {
        for text in ["id;body\n1;a, b\n", "id\tbody\n1\ta, b\n", "id|body\n1|a, b\n", "id,body\n1,\"a, b\"\n"] {
            assert_eq!(read(text.as_bytes()), [(2, "1|a, b".to_owned())], "{text}");
        }
        assert_eq!(open(b"x;y\n1;2\n", false).unwrap().header, ["x;y"]);
        assert_eq!(open(b"x\ty\n1\t2\n", true).unwrap().header, ["x", "y"]);
        assert!(open(b"\xff\xfei\0d\0", false).is_err_and(|error| error.to_string().contains("iconv -f utf-16")));
    }

    #[test]
    fn a_record_can_be_longer_than_the_buffer() {
        let body = "x \"\"y\"\"\n".repeat(40_000);
        let found = read(format!("id,body\n1,\"{body}\"\n2,b\n").as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.len(), 2 + 8 * 40_000 - 2 * 40_000);
        assert_eq!(found[1], (40_003, "2|b".to_owned()));
    }

    proptest! {
        #[test]
        fn every_record_that_is_written_is_read(rows in prop::collection::vec((any::<String>(), any::<String>()), 1..20)) {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let lines = rows.iter().map(|(id, body)| format!("{},{}\n", quoted(id), quoted(body)));
            let text = lines.collect::<Vec<_>>().concat();
            let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let expected: Vec<String> = rows.iter().map(|(id, body)| format!("{}|{}", shown(id), shown(body))).collect();
            let found: Vec<String> = read(format!("id,body\n{text}").as_bytes()).into_iter().map(|(_, cells)| cells).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_records_or_faults(bytes in prop::collection::vec(prop::sample::select(b"a,\"\n\r;\xff".to_vec()), 0..200)) {
            let text = [b"id,body\n".as_slice(), &bytes].concat();
            let lines = text.split(|byte| *byte == b'\n').count() as u64;
            let mut last = 1;
            for (line, _) in read(&text) {
                prop_assert!(line > last && line <= lines);
                last = line;
            }
        }
    }
}

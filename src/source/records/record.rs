//! A record of a text file. In: a reader of JSON Lines or CSV. Out: the cells of each record, or the fault that makes it unreadable. It
//! must not judge a cell by its column: that is the reader's of rows.

use std::io::{BufRead, Result};

/// A longer record is a fault: its text alone would take several times as much memory as everything else.
pub(super) const RECORD_BYTES: usize = 64 << 20;

/// One value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Integer(i64),
    /// A value that is neither, described.
    Other(&'static str),
}

impl Cell {
    /// The kind of value, for a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Other(kind) => kind,
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The line at which it begins, from 1.
    pub(super) line: u64,
    /// The cells of the wanted columns, in their order, or why it cannot be read.
    pub(super) cells: std::result::Result<Vec<Cell>, String>,
    /// Its bytes in the file.
    pub(super) raw: Vec<u8>,
}

/// Skips the rest of a line; true if a line end was found.
pub(super) fn skip_line(input: &mut dyn BufRead) -> Result<bool> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            input.consume(end + 1);
            return Ok(true);
        }
        let length = buffer.len();
        input.consume(length);
    }
}

/// What is wrong with a file that is no UTF-8, by its first bytes: a UTF-16 byte order mark.
pub(super) fn other_encoding(start: &[u8]) -> Option<&'static str> {
    (start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]))
        .then_some("it is UTF-16: rewrite it with `iconv -f utf-16 -t utf-8`")
}

/// A message about bytes that are no UTF-8.
pub(super) fn no_utf8(error: std::str::Utf8Error, bytes: &[u8]) -> String {
    let at = error.valid_up_to();
    let byte = bytes.get(at).copied().unwrap_or_default();
    format!(
        "byte {} (0x{byte:02X}) is not UTF-8: rewrite the file with `iconv -f latin1 -t utf-8` or as it is encoded",
        at + 1
    )
}

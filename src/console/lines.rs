//! Fields of log lines. In: the message and the fields of an event. Out: one text for a person, in which data cannot act on the terminal
//! or imitate another line. It must not write.

use std::fmt::{Debug, Result};

use tracing::field::Field;
use tracing_subscriber::field::{MakeExt as _, RecordFields};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::sanitize::escaped_lines;

/// Formats the message, and `name=value` for every other field.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> Result {
        debug_fn(field).delimited(" ").format_fields(writer, fields)
    }
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> Result {
    let value = shown(&format!("{value:?}"));
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => write!(writer, "{value}"),
        (name, true) => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}"),
        (name, false) => write!(writer, "{name}={value}"),
    }
}

/// The text with control characters escaped and every line after the first indented: no line of data begins like a log line.
fn shown(text: &str) -> String {
    escaped_lines(text.trim_end()).replace('\n', "\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_act_on_the_terminal_or_imitate_a_line() {
        let name = "a\u{1b}[31m.jsonl\n2026-01-01T00:00:00Z  INFO all is well\u{202e}\n";
        assert_eq!(shown(name), "a\\u{1b}[31m.jsonl\n  2026-01-01T00:00:00Z  INFO all is well\\u{202e}");
    }
}

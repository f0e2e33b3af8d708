//! Values → JSON for a script element of the page. In: any value. Out: JSON in which every character is escaped that could end the
//! element. It must not drop a character.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::error::{Cause, Error, Result};

/// JSON that is safe inside a script element.
pub(super) fn embed(value: &impl Serialize) -> Result<String> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, ForScript)).map_err(|source| failed(source.into()))?;
    String::from_utf8(json).map_err(|source| failed(source.into()))
}

/// Compact JSON without `<`, `>`, `&`, and the line separators U+2028 and U+2029, which older JavaScript does not allow in strings.
struct ForScript;

impl Formatter for ForScript {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, after) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut letters = after.chars();
            if let Some(letter) = letters.next() {
                write!(writer, "\\u{:04x}", u32::from(letter))?;
            }
            rest = letters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The error of a page that cannot be written.
pub(super) fn failed(source: Cause) -> Error {
    Error::Engine { doing: "write the page".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_round_trips_and_cannot_end_the_element(text in any::<String>(), key in any::<String>()) {
            let value = serde_json::json!({ key: [text, "</script><!--<script>\u{2028}\u{2029}]]>"] });
            let json = embed(&value).unwrap();
            prop_assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{}", json);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        }
    }
}

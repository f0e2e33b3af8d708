//! XML → pieces with line numbers. In: the text of a file. Out: tags, text and references, in order. It must not know any format.
//!
//! A bare `&` is text and DTDs are ignored, since the corpora contain both. A tag that is not closed is an error.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::prepare::record::LineError;

/// A piece of an XML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'text> {
    /// An opening tag.
    Open(Tag),
    /// A closing tag by its name; it also follows a self-closing tag.
    Close(String),
    /// Text with references resolved.
    Text(Cow<'text, str>),
}

/// An opening tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Its name.
    pub(crate) name: String,
    /// Its attributes, in order.
    pub(crate) attributes: Vec<(String, String)>,
}

impl Tag {
    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads an XML file piece by piece, each with the line it begins in. Pieces after an error are undefined.
pub(crate) struct Pieces<'text> {
    reader: Reader<&'text [u8]>,
    text: &'text str,
    counted: usize,
    line: usize,
    pending: Option<String>,
    open: Vec<(String, usize)>,
}

impl<'text> Pieces<'text> {
    /// The pieces of `text`.
    pub(crate) fn new(text: &'text str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().allow_dangling_amp = true;
        Self { reader, text, counted: 0, line: 1, pending: None, open: Vec::new() }
    }

    /// The line in which the next piece begins.
    fn line(&mut self) -> usize {
        let position = (self.reader.buffer_position() as usize).min(self.text.len());
        self.line_at(position)
    }

    fn line_at(&mut self, position: usize) -> usize {
        let between = self.text.as_bytes().get(self.counted..position).unwrap_or_default();
        self.line += between.split(|&byte| byte == b'\n').count() - 1;
        self.counted = self.counted.max(position);
        self.line
    }

    /// The next piece; `None` at the end.
    fn piece(&mut self) -> Result<Option<Piece<'text>>, LineError> {
        if let Some(name) = self.pending.take() {
            return Ok(Some(Piece::Close(name)));
        }
        loop {
            let line = self.line();
            let event = self.reader.read_event().map_err(|error| (line, error.to_string()))?;
            let wrong = |error: String| (line, error);
            let text = |decoded: Cow<'text, str>| Ok(Some(Piece::Text(decoded)));
            return match event {
                Event::Start(start) => {
                    let tag = tag(&start);
                    self.open.push((tag.name.clone(), line));
                    Ok(Some(Piece::Open(tag)))
                }
                Event::Empty(start) => {
                    let tag = tag(&start);
                    self.pending = Some(tag.name.clone());
                    Ok(Some(Piece::Open(tag)))
                }
                Event::End(end) => {
                    self.open.pop();
                    Ok(Some(Piece::Close(String::from_utf8_lossy(end.name().as_ref()).into_owned())))
                }
                Event::Text(bytes) => text(bytes.decode().map_err(|error| wrong(error.to_string()))?),
                Event::CData(bytes) => text(bytes.decode().map_err(|error| wrong(error.to_string()))?),
                Event::GeneralRef(found) => {
                    let name = found.decode().map_err(|error| wrong(error.to_string()))?;
                    text(Cow::Owned(resolve(&format!("&{name};")).into_owned()))
                }
                Event::Eof => match self.open.pop() {
                    Some((name, line)) => Err((line, format!("`<{name}>` is never closed"))),
                    None => Ok(None),
                },
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::DocType(_) => continue,
            };
        }
    }
}

impl<'text> Iterator for Pieces<'text> {
    type Item = Result<(usize, Piece<'text>), LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.line();
        self.piece().transpose().map(|piece| Ok((line, piece?)))
    }
}

fn tag(start: &BytesStart<'_>) -> Tag {
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let one = |(key, value): (&[u8], Cow<'_, [u8]>)| {
        (String::from_utf8_lossy(key).into_owned(), resolve(&String::from_utf8_lossy(&value)).into_owned())
    };
    let mut found = start.attributes();
    let attributes = found.with_checks(false).flatten().map(|found| one((found.key.as_ref(), found.value)));
    Tag { name, attributes: attributes.collect() }
}

/// A text with XML's references resolved, in any case since SGML ignores it; any other `&` is kept.
pub(crate) fn resolve(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        resolved.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let known = tail.split_once(';').and_then(|(name, after)| Some((reference(name)?, after)));
        if let Some((letter, after)) = known {
            resolved.push(letter);
            rest = after;
        } else {
            resolved.push('&');
            rest = tail;
        }
    }
    resolved.push_str(rest);
    Cow::Owned(resolved)
}

/// The character of a reference, given without `&` and `;`.
fn reference(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    match name.to_ascii_lowercase().as_str() {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, LineError> {
        let mut shown = String::new();
        for next in Pieces::new(text) {
            let piece = match next?.1 {
                Piece::Open(tag) => format!("<{} {:?}>", tag.name, tag.attributes),
                Piece::Close(name) => format!("</{name}>"),
                Piece::Text(text) => text.into_owned(),
            };
            shown.push_str(&piece);
        }
        Ok(shown)
    }

    #[test]
    fn references_and_bare_ampersands_are_text() {
        assert_eq!(shown("<a>AT&amp;T &#x41;&lt; R&D &odd;</a>").unwrap(), "<a []>AT&T A< R&D &odd;</a>");
        assert_eq!(shown("<a b=\"x &gt; y\" c='1'/>").unwrap(), "<a [(\"b\", \"x > y\"), (\"c\", \"1\")]></a>");
    }

    #[test]
    fn references_of_sgml() {
        assert_eq!(resolve("R&D &AMP; &lt;b&#x67; &copy;"), "R&D & <bg &copy;");
    }

    #[test]
    fn invalid_xml_reports_its_line() {
        assert_eq!(shown("<a>\n<b>\n</a>").unwrap_err().0, 3);
        assert_eq!(shown("<a>\n<b>\n").unwrap_err(), (2, "`<b>` is never closed".into()));
    }
}

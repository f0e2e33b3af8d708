//! Code points ↔ bytes. In: a text. Out: the substring of a code-point span, and the positions of tokens. It must not know what
//! a span is used for.

use crate::prepare::record::short;
use crate::text::span::{ByteSpan, CharSpan};

/// Maps code points to bytes in one text.
pub(crate) struct CharIndex {
    /// The byte at which each code point begins, then the text's length; `None` if the text is ASCII.
    starts: Option<Vec<usize>>,
    bytes: usize,
}

impl CharIndex {
    /// The index of `text`.
    pub(crate) fn new(text: &str) -> Self {
        let starts = (!text.is_ascii())
            .then(|| text.char_indices().map(|(start, _)| start).chain([text.len()]).collect::<Vec<_>>());
        Self { starts, bytes: text.len() }
    }

    /// The number of code points in the text.
    pub(crate) fn chars(&self) -> usize {
        self.starts.as_ref().map_or(self.bytes, |starts| starts.len() - 1)
    }

    /// The substring that `span` covers; `None` if the span reaches past the end of the text.
    pub(crate) fn slice<'text>(&self, text: &'text str, span: CharSpan) -> Option<&'text str> {
        let byte = |position: usize| match &self.starts {
            Some(starts) => starts.get(position).copied(),
            None => (position <= self.bytes).then_some(position),
        };
        Some(ByteSpan::new(byte(span.start)?, byte(span.end)?).of(text))
    }

    /// The code point that begins at byte `byte`.
    pub(crate) fn char_at(&self, byte: usize) -> usize {
        match &self.starts {
            Some(starts) => starts.partition_point(|&start| start < byte),
            None => byte,
        }
    }
}

/// Finds consecutive tokens in a text.
pub(crate) struct Walk<'text> {
    rest: &'text str,
    chars: usize,
}

impl<'text> Walk<'text> {
    /// Starts at the beginning of `text`.
    pub(crate) fn new(text: &'text str) -> Self {
        Self { rest: text, chars: 0 }
    }

    /// The span of `word`, which must follow the previous one with only white space between them.
    pub(crate) fn word(&mut self, word: &str) -> Result<CharSpan, String> {
        let gap = self.rest.find(word).filter(|&gap| self.rest[..gap].trim().is_empty());
        let gap = gap.ok_or_else(|| {
            format!("expected the token `{word}` in the text, found `{}`", short(self.rest.trim_start()))
        })?;
        let start = self.chars + self.rest[..gap].chars().count();
        self.chars = start + word.chars().count();
        self.rest = &self.rest[gap + word.len()..];
        Ok(CharSpan::new(start, self.chars))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_and_bytes() {
        let text = "aé𝄞b";
        let index = CharIndex::new(text);
        assert_eq!(index.chars(), 4);
        assert_eq!(index.slice(text, CharSpan::new(1, 3)), Some("é𝄞"));
        assert_eq!(index.slice(text, CharSpan::new(3, 5)), None);
        assert_eq!([0, 1, 3, 7, 8].map(|byte| index.char_at(byte)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn only_white_space_is_allowed_between_tokens() {
        let mut walk = Walk::new("Zoë's  Ada\n, not Bo");
        let places = ["Zoë", "'s", "Ada", "\n", ","].map(|word| walk.word(word).unwrap());
        let expected = [(0, 3), (3, 5), (7, 10), (10, 11), (11, 12)];
        assert_eq!(places, expected.map(|(start, end)| CharSpan::new(start, end)));
        assert_eq!(walk.word("Bo"), Err("expected the token `Bo` in the text, found `not Bo`".into()));
    }
}

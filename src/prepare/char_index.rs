//! Code points ↔ bytes. In: a text. Out: what a span of code points covers, and where words stand. It may not know what
//! a span is for.

use crate::prepare::record::short;
use crate::text::span::{ByteSpan, CharSpan};

/// Code points → bytes of one text.
pub(crate) struct CharIndex {
    /// Where each code point begins, and where the text ends; none where every code point is a byte.
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

    /// How many code points the text has.
    pub(crate) fn chars(&self) -> usize {
        self.starts.as_ref().map_or(self.bytes, |starts| starts.len() - 1)
    }

    /// What a span covers of the text; none where it reaches outside.
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

/// Walks through a text from word to word.
pub(crate) struct Walk<'text> {
    rest: &'text str,
    chars: usize,
}

impl<'text> Walk<'text> {
    /// Begins at the beginning of `text`.
    pub(crate) fn new(text: &'text str) -> Self {
        Self { rest: text, chars: 0 }
    }

    /// Where `word` stands: behind the last one, with nothing but white space between them.
    pub(crate) fn word(&mut self, word: &str) -> Result<CharSpan, String> {
        let gap = self.rest.find(word).filter(|&gap| self.rest[..gap].trim().is_empty());
        let gap = gap.ok_or_else(|| {
            format!("token `{word}` is not in the text where it belongs, before `{}`", short(self.rest.trim_start()))
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
    fn words_lie_one_behind_the_other_and_no_letter_between_them() {
        let mut walk = Walk::new("Zoë's  Ada\n, not Bo");
        let places = ["Zoë", "'s", "Ada", "\n", ","].map(|word| walk.word(word).unwrap());
        let expected = [(0, 3), (3, 5), (7, 10), (10, 11), (11, 12)];
        assert_eq!(places, expected.map(|(start, end)| CharSpan::new(start, end)));
        assert_eq!(walk.word("Bo"), Err("token `Bo` is not in the text where it belongs, before `not Bo`".into()));
    }
}

//! Ranges with a typed unit. In: two positions in one unit. Out: a half-open range that only combines with ranges of the same
//! unit. It must not convert between units: that needs a text or a token list, and is done where those are.

use std::marker::PhantomData;

/// Positions of tokens in a document's token sequence, or in one window if the name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenUnit {}
/// Positions of UTF-8 bytes in a document's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ByteUnit {}
/// Positions of Unicode code points in a document's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CharUnit {}

/// A half-open range `start..end` of tokens.
pub type TokenSpan = Range<TokenUnit>;
/// A half-open range `start..end` of UTF-8 bytes.
pub type ByteSpan = Range<ByteUnit>;
/// A half-open range `start..end` of Unicode code points.
pub type CharSpan = Range<CharUnit>;

/// A half-open range of positions counted in `Unit`s. Ranges of different units have different types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range<Unit> {
    /// The first position inside.
    pub start: usize,
    /// The first position after it.
    pub end: usize,
    unit: PhantomData<Unit>,
}

impl<Unit> Range<Unit> {
    /// The range `start..end`; it is empty if `end` is before `start`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end: if end < start { start } else { end }, unit: PhantomData }
    }

    /// How many positions it covers.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it covers nothing.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether `other` is entirely inside.
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share a position; ranges that only touch do not.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl ByteSpan {
    /// The text it covers; empty if the range is not on character boundaries of `text`.
    pub fn of<'text>(&self, text: &'text str) -> &'text str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// Whether two texts are equal except for the white space between their words.
pub fn same_words(one: &str, other: &str) -> bool {
    one == other || one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_between_words_is_ignored() {
        assert!(same_words("Ada\n Byron", "Ada Byron"));
        assert!(!same_words("Ada Byron", "AdaByron"));
        assert!(!same_words("Ada", "da "));
    }

    #[test]
    fn touching_spans_do_not_overlap() {
        assert!(!TokenSpan::new(0, 2).overlaps(&TokenSpan::new(2, 4)));
        assert!(TokenSpan::new(0, 3).overlaps(&TokenSpan::new(2, 4)));
        assert!(TokenSpan::new(0, 4).contains(&TokenSpan::new(2, 4)));
    }

    #[test]
    fn a_byte_span_off_character_boundaries_gives_an_empty_text() {
        assert_eq!(ByteSpan::new(0, 1).of("é"), "");
        assert_eq!(ByteSpan::new(0, 2).of("é"), "é");
    }
}

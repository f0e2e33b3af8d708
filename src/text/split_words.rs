//! Text → words, for models whose words are split before a tokenizer reads them. In: a text. Out: the bytes of its words. It must not know a
//! tokenizer.
//!
//! The rule is the default of the package `gliner`: a word is a run of letters, digits and underscores, also several runs joined by single
//! hyphens or underscores, or any other character that is not white space. A mark that stands apart from its letter is another character.

use std::sync::LazyLock;

use regex::Regex;

use crate::text::span::ByteSpan;

/// Letters and numbers as Python's `\w` has them; of white space as Python has it, four separators are control characters to others.
const WORD: &str = r"[\p{L}\p{N}_]+(?:[-_][\p{L}\p{N}_]+)*|[^\s\x1c-\x1f]";

/// The words in the bytes `segment` of `text`; offsets count from the start of `text`.
pub(crate) fn split_words(text: &str, segment: ByteSpan) -> impl Iterator<Item = ByteSpan> {
    // The expression is valid: the tests use it.
    static RULE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(WORD).ok());
    let found = RULE.iter().flat_map(move |rule| rule.find_iter(segment.of(text)));
    found.map(move |word| ByteSpan::new(segment.start + word.start(), segment.start + word.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        split_words(text, ByteSpan::new(0, text.len())).map(|word| word.of(text)).collect()
    }

    #[test]
    fn words_are_those_of_the_package() {
        assert_eq!(words("a well-known e-mail_address--x"), ["a", "well-known", "e-mail_address", "-", "-", "x"]);
        assert_eq!(words("St. Ann's \u{20ac}4,000"), ["St", ".", "Ann", "'", "s", "\u{20ac}", "4", ",", "000"]);
        assert_eq!(words("東京タワー x²_½"), ["東京タワー", "x²_½"]);
        // A mark is no letter, and the control characters that separate records are white space.
        assert_eq!(words("e\u{301}a \u{1c}b"), ["e", "\u{301}", "a", "b"]);
        assert_eq!(words("- _ -a a-"), ["-", "_", "-", "a", "a", "-"]);
    }

    #[test]
    fn words_of_a_part_have_their_place_in_the_whole() {
        let found: Vec<ByteSpan> = split_words("né à Nyon", ByteSpan::new(3, 11)).collect();
        assert_eq!(found, [ByteSpan::new(4, 6), ByteSpan::new(7, 11)]);
    }
}

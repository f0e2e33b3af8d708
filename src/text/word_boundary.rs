//! Where words begin and end. In: a text and a position in it. Out: whether a word begins or ends there, and the word's range. It must not
//! know a tokenizer: byte-level and Unigram tokenizers divide texts at white space only, or join punctuation, so their own parts are no words.
//!
//! The rule is that of BERT's tokenizer, for any tokenizer: a word is a run of letters and digits with their marks, or a single other
//! character. In scripts that are written without spaces every character is a word.

use unicode_segmentation::GraphemeCursor;

/// Blocks of scripts that are written without spaces: Thai and Lao, Myanmar, Khmer, kana, and ideographs with their extensions.
const UNSPACED: [(u32, u32); 9] = [
    (0x0e00, 0x0eff),
    (0x1000, 0x109f),
    (0x1780, 0x17ff),
    (0x3040, 0x30ff),
    (0x31f0, 0x31ff),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xf900, 0xfaff),
    (0x2_0000, 0x3_ffff),
];

/// Whether a word begins or ends at byte `at` of `text`, a character boundary: words on both sides, or white space on one, are apart.
pub(crate) fn is_boundary(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    let (Some(last), Some(next)) = (before.chars().next_back(), after.chars().next()) else { return true };
    if last.is_whitespace() || next.is_whitespace() {
        return true;
    }
    let mut cursor = GraphemeCursor::new(at, text.len(), true);
    if !cursor.is_boundary(text, 0).unwrap_or(true) {
        return false;
    }
    // A mark belongs to the letter before it.
    let base = cursor.prev_boundary(text, 0).ok().flatten().and_then(|start| text[start..].chars().next());
    !(base.is_some_and(joins) && joins(next))
}

/// Whether a character is part of a longer word.
fn joins(letter: char) -> bool {
    let code = u32::from(letter);
    letter.is_alphanumeric() && !UNSPACED.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).filter(|&at| is_boundary(text, at)).collect();
        cuts.push(text.len());
        let parts = cuts.windows(2).map(|cut| text[cut[0]..cut[1]].trim());
        parts.filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_and_single_others() {
        assert_eq!(
            words("Anna's (A380), e.g. $5"),
            ["Anna", "'", "s", "(", "A380", ")", ",", "e", ".", "g", ".", "$", "5"]
        );
        assert_eq!(words("cafe\u{301}teria na\u{ef}ve"), ["cafe\u{301}teria", "na\u{ef}ve"]);
        assert_eq!(words("東京タワー 서울에서 ที่"), ["東", "京", "タ", "ワ", "ー", "서울에서", "ที่"]);
        assert_eq!(words("👩\u{200d}👧🎉"), ["👩\u{200d}👧", "🎉"]);
        assert_eq!(words("हिन्दी में"), ["हिन्दी", "में"]);
        assert_eq!(words(" a\u{a0}b\n"), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn both_ends_of_a_text_and_of_white_space_are_boundaries(text in any::<String>()) {
            prop_assert!(is_boundary(&text, 0) && is_boundary(&text, text.len()));
            for (at, letter) in text.char_indices().filter(|(_, letter)| letter.is_whitespace()) {
                prop_assert!(is_boundary(&text, at) && is_boundary(&text, at + letter.len_utf8()));
            }
        }
    }
}

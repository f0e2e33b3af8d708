//! How a word is written. In: a word of the original text. Out: its [`WordShape`], which encoders that fold capitals can be given as an
//! input of its own. It must not look at the words around it.

/// The shape of a word. Its number is the id that a model is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WordShape {
    /// No word of the text: special tokens, questions and padding.
    #[default]
    None = 0,
    /// Letters without capitals: `river`.
    Lower = 1,
    /// A capital, then none: `River`, `I`.
    Title = 2,
    /// Only capitals, two or more: `UNESCO`.
    Upper = 3,
    /// Capitals elsewhere: `McDonald`, `iPhone`.
    Mixed = 4,
    /// At least one digit: `1992`, `A380`.
    Digits = 5,
    /// Neither letters nor digits: punctuation, symbols.
    Other = 6,
    /// Letters of a script without capitals: `東京`.
    Uncased = 7,
}

impl WordShape {
    /// The number of shapes.
    pub const COUNT: usize = 8;

    /// The shape of `word`.
    #[must_use]
    pub fn of(word: &str) -> Self {
        let (mut letters, mut upper, mut lower, mut first_upper) = (0, 0, 0, false);
        for letter in word.chars() {
            if letter.is_numeric() {
                return Self::Digits;
            }
            if letter.is_alphabetic() {
                // Letters such as ǅ are capitals at the beginning of a word.
                let capital = letter.is_uppercase() || (!letter.is_lowercase() && letter.to_lowercase().ne([letter]));
                first_upper |= capital && letters == 0;
                letters += 1;
                upper += usize::from(capital);
                lower += usize::from(letter.is_lowercase());
            }
        }
        match (letters, upper, lower) {
            (0, ..) => Self::Other,
            (_, 0, 0) => Self::Uncased,
            (_, 0, _) => Self::Lower,
            (_, 1, _) if first_upper => Self::Title,
            (_, _, 0) => Self::Upper,
            _ => Self::Mixed,
        }
    }

    /// The number that a model is given.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_its_words() {
        for (shape, words) in [
            (WordShape::Lower, &["river", "ß", "élan", "don't"][..]),
            (WordShape::Title, &["River", "I", "Ökologie", "'Tis", "ǅungla"]),
            (WordShape::Upper, &["UNESCO", "ÖBB", "AT&T"]),
            (WordShape::Mixed, &["McDonald", "iPhone", "eBay", "GmbH"]),
            (WordShape::Digits, &["1992", "A380", "3rd", "٣", "½"]),
            (WordShape::Other, &[".", "--", "🎉", "$", ""]),
            (WordShape::Uncased, &["東京", "مصر"]),
        ] {
            for word in words {
                assert_eq!(WordShape::of(word), shape, "{word}");
            }
            assert!(usize::from(shape.id()) < WordShape::COUNT);
        }
    }
}

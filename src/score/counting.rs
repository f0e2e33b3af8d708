//! Which mentions count. In: the wordpieces of a document and the length of a question. Out: the last position that the
//! reference implementation counts. It must not change whether a mention is correct.
//!
//! The reference implementation of BERT-MRC truncates a query to a maximum length and scores the rest: of `[CLS] question [SEP]
//! context [SEP]` it keeps the first `tokens` wordpieces and overwrites the last of them with `[SEP]`. A gold mention whose last
//! wordpiece is truncated does not count as missed. A gold mention that ends exactly on the overwritten wordpiece does count,
//! although nothing can be predicted there. So published scores of that code are slightly higher than scores over all mentions.

use std::fmt;
use std::str::FromStr;

/// Which mentions count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Counting {
    /// All mentions.
    #[default]
    All,
    /// Those that the reference implementation counts with this maximum length, in wordpieces of question and context.
    Reference(usize),
}

impl FromStr for Counting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tokens = || text.strip_prefix("reference:")?.parse().ok().filter(|tokens| *tokens > 0);
        match text {
            "all" => Ok(Self::All),
            _ => tokens().map(Self::Reference).ok_or_else(|| {
                format!("`{text}` is neither `all` nor `reference:` with a number of wordpieces, as reference:128")
            }),
        }
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::Reference(tokens) => write!(formatter, "reference:{tokens}"),
        }
    }
}

/// The truncation of one query: mentions that end later do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The last end of a gold mention that counts.
    pub gold: usize,
    /// The last end of a prediction that counts: one wordpiece earlier.
    pub predicted: usize,
}

/// The truncation of a query whose question has `question` wordpieces and whose context's wordpieces end at `ends` (any unit, in
/// order; at most `tokens` + 1 of them are read); `None` if the query fits into `tokens` wordpieces.
pub fn cut(ends: &[usize], question: usize, tokens: usize) -> Option<Cut> {
    // `[CLS]`, the question, `[SEP]`.
    let before = question + 2;
    if before + ends.len() < tokens {
        return None;
    }
    let last = |count: usize| count.checked_sub(1).map_or(0, |index| ends[index]);
    let kept = tokens.saturating_sub(before);
    Some(Cut { gold: last(kept), predicted: last(kept.saturating_sub(1)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counting_is_written_as_it_is_read() {
        for counting in [Counting::All, Counting::Reference(128)] {
            assert_eq!(counting.to_string().parse(), Ok(counting));
        }
        for wrong in ["reference", "reference:", "reference:0", "reference:x", "strict"] {
            assert!(wrong.parse::<Counting>().unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn queries_are_truncated_as_in_the_reference() {
        // Question of 3 wordpieces, context of 5: 0 CLS, 1..=3, 4 SEP, 5..=9 context, 10 SEP.
        let ends = [2, 4, 6, 8, 10];
        assert_eq!(cut(&ends, 3, 11), None);
        // Of ten positions the last is overwritten: the fifth wordpiece counts as gold only.
        assert_eq!(cut(&ends, 3, 10), Some(Cut { gold: 10, predicted: 8 }));
        assert_eq!(cut(&ends, 3, 7), Some(Cut { gold: 4, predicted: 2 }));
        assert_eq!(cut(&ends, 3, 6), Some(Cut { gold: 2, predicted: 0 }));
        assert_eq!(cut(&ends, 3, 5), Some(Cut { gold: 0, predicted: 0 }));
        assert_eq!(cut(&ends, 3, 2), Some(Cut { gold: 0, predicted: 0 }));
    }
}

//! Highlighted words. In: a word and its meaning. Out: the word in escape codes, if standard output is a terminal that shows colours.
//! It must not change the word itself, and a text must bring no other escape codes to the terminal.

use std::borrow::Cow;
use std::io::IsTerminal;

use crate::sanitize::escaped_lines;

/// How a word is highlighted on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// No problem.
    Good,
    /// A warning.
    Doubtful,
    /// A failure.
    Bad,
    /// One of several kinds, each in its own colour, underlined.
    Kind(usize),
}

/// Whether standard output is a terminal that shows colours (respects the `NO_COLOR` convention).
pub fn colours() -> bool {
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    std::io::stdout().is_terminal() && unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The colours of kinds.
const KINDS: [u8; 6] = [36, 35, 33, 32, 34, 31];

/// The escape code that starts a mark (ECMA-48, select graphic rendition); [`PLAIN`] ends it.
pub fn mark(mark: Mark) -> String {
    match mark {
        Mark::Good => "\u{1b}[32m".to_owned(),
        Mark::Doubtful => "\u{1b}[33m".to_owned(),
        Mark::Bad => "\u{1b}[1;31m".to_owned(),
        Mark::Kind(number) => format!("\u{1b}[4;{}m", KINDS[number % KINDS.len()]),
    }
}

/// Ends every mark.
pub const PLAIN: &str = "\u{1b}[0m";

/// A word padded to `width`, highlighted if [`colours`] are shown.
pub fn marked(word: &str, width: usize, kind: Mark) -> String {
    if colours() { format!("{}{word:width$}{PLAIN}", mark(kind)) } else { format!("{word:width$}") }
}

/// The text with every control character escaped but line ends, tabs, and the codes of marks.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return escaped_lines(text);
    }
    let kinds = (0..KINDS.len()).map(|number| mark(Mark::Kind(number)));
    let codes: Vec<String> =
        [mark(Mark::Good), mark(Mark::Doubtful), mark(Mark::Bad), PLAIN.to_owned()].into_iter().chain(kinds).collect();
    let mut shown = String::with_capacity(text.len() + 16);
    for (number, part) in text.split('\u{1b}').enumerate() {
        let code = codes.iter().map(|code| &code[1..]).find(|code| number > 0 && part.starts_with(code));
        match (number, code) {
            (0, _) => {}
            (_, Some(_)) => shown.push('\u{1b}'),
            (_, None) => shown += "\\u{1b}",
        }
        shown += &escaped_lines(part);
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_codes_of_marks_reach_the_terminal() {
        let ours = format!("{}fix{PLAIN} {}PER{PLAIN}", mark(Mark::Bad), mark(Mark::Kind(7)));
        assert_eq!(visible(&ours), ours);
        let theirs = "\u{1b}[2J\u{1b}]0;title\u{7}\u{1b}[31mred\u{9b}31m\ta\nb";
        assert_eq!(visible(theirs), "\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{1b}[31mred\\u{9b}31m\ta\nb");
    }
}

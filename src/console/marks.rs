//! Highlighted words. In: a word and its meaning. Out: the word in escape codes, if standard output is a terminal that shows colours.
//! It must not change the word itself.

use std::io::IsTerminal;

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

/// The escape code that starts a mark (ECMA-48, select graphic rendition); [`PLAIN`] ends it.
pub fn mark(mark: Mark) -> String {
    const KINDS: [u8; 6] = [36, 35, 33, 32, 34, 31];
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

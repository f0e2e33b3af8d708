//! Words that stand out. In: a word and what it says of something. Out: the codes around it, where results are read on a terminal that
//! shows colours. It may not change the word itself.

use std::io::IsTerminal;

/// How a word stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Wrong.
    Bad,
    /// One of several kinds, each in its own colour, underlined.
    Kind(usize),
}

/// Whether results are read on a terminal that shows colours (the convention of `NO_COLOR`).
pub fn colours() -> bool {
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    std::io::stdout().is_terminal() && unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The codes that begin a mark on a terminal (ECMA-48, select graphic rendition); [`PLAIN`] ends it.
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

/// A word in a column of `width`, marked where results are read on a terminal.
pub fn marked(word: &str, width: usize, kind: Mark) -> String {
    if colours() { format!("{}{word:width$}{PLAIN}", mark(kind)) } else { format!("{word:width$}") }
}

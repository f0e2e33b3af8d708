//! Text → statements and commands. In: what was typed, or a file. Out: pieces, each with the line it begins on, and whether the last of
//! them is finished. It may not know what they mean.
//!
//! A statement ends with a `;` outside of strings, quoted names and comments; a command begins with a backslash where a statement
//! could begin, and ends with its line.

/// A piece of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'text> {
    /// SQL, without its `;`.
    Statement(Statement<'text>),
    /// A command, without its backslash.
    Command(&'text str),
}

/// A statement and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'text> {
    /// The SQL, from its first word on.
    pub(super) text: &'text str,
    /// How many lines of the script come before it.
    pub(super) lines_before: usize,
    /// Whether its `;` is there.
    pub(super) ended: bool,
}

/// The pieces of `text`, in their order.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        at += blank(&text[at..]);
        let rest = &text[at..];
        if rest.is_empty() {
            return pieces;
        }
        if let Some(command) = rest.strip_prefix('\\') {
            let line = command.lines().next().unwrap_or_default();
            pieces.push(Piece::Command(line.trim()));
            at += 1 + line.len();
            continue;
        }
        let (length, ended) = statement_length(rest);
        let statement = rest[..length].trim_end();
        if !statement.is_empty() {
            let lines_before = text[..at].matches('\n').count();
            pieces.push(Piece::Statement(Statement { text: statement, lines_before, ended }));
        }
        at += length + usize::from(ended);
    }
}

/// Whether `text` ends inside a statement: a shell waits for more of it.
pub(super) fn is_unfinished(text: &str) -> bool {
    matches!(pieces(text).last(), Some(Piece::Statement(Statement { ended: false, .. })))
}

/// How many bytes of white space and comments `text` begins with.
fn blank(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        let rest = &text[at..];
        match comment_length(rest) {
            Some(length) => at += length,
            None => return at,
        }
    }
}

/// The length of the comment that `text` begins with. A comment in stars that is never closed is none: who forgot the end shall see it.
fn comment_length(text: &str) -> Option<usize> {
    if text.starts_with("--") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

/// How many bytes go before the `;` that ends the statement `text` begins with, and whether there is one.
fn statement_length(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        at += match bytes[at] {
            b';' => return (at, true),
            b'\'' => quoted_length(rest, '\'', is_escaped_string(&bytes[..at])),
            quote @ (b'"' | b'`') => quoted_length(rest, quote as char, false),
            b'$' => dollar_length(rest, &bytes[..at]),
            // An operator, whatever comes behind it.
            b'/' if rest.starts_with("//") => 2,
            b'-' | b'/' => match comment_length(rest) {
                Some(length) => length,
                None if rest.starts_with("/*") => rest.len(),
                None => 1,
            },
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
    }
    (text.len(), false)
}

/// The length of a quoted text with its quotes; to the end where it is not closed. A doubled quote reads as two texts, which is as good.
fn quoted_length(text: &str, quote: char, escapes: bool) -> usize {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return at + 1;
        }
        if escapes && letter == '\\' {
            letters.next();
        }
    }
    text.len()
}

/// Whether a string behind `before` is one like E'it\'s', where a backslash escapes.
fn is_escaped_string(before: &[u8]) -> bool {
    match before {
        [.., before, b'e' | b'E'] => !is_word(*before),
        [b'e' | b'E'] => true,
        _ => false,
    }
}

/// The length of a text in dollars (`$$…$$`, `$tag$…$tag$`), or of a dollar that is none.
fn dollar_length(text: &str, before: &[u8]) -> usize {
    if before.last().is_some_and(|last| is_word(*last)) {
        return 1;
    }
    let Some(end) = text[1..].find('$') else { return 1 };
    let tag = &text[..end + 2];
    if !tag[1..=end].bytes().all(is_word) || tag[1..].starts_with(|first: char| first.is_ascii_digit()) {
        return 1;
    }
    text[tag.len()..].find(tag).map_or(text.len(), |close| tag.len() + close + tag.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
    use proptest::prelude::*;

    fn statements(text: &str) -> Vec<&str> {
        let statement = |piece| match piece {
            Piece::Statement(statement) => Some(statement.text),
            Piece::Command(_) => None,
        };
        pieces(text).into_iter().filter_map(statement).collect()
    }

    #[test]
    fn statements_end_with_a_semicolon_outside_of_quotes_and_comments() {
        assert_eq!(statements("SELECT 1; SELECT 2 ;\n;;SELECT 3"), ["SELECT 1", "SELECT 2", "SELECT 3"]);
        assert_eq!(statements("SELECT ';''x', \"a;b\"; x"), ["SELECT ';''x', \"a;b\"", "x"]);
        assert_eq!(statements("SELECT 1 -- one; two\n+ 2; x"), ["SELECT 1 -- one; two\n+ 2", "x"]);
        assert_eq!(statements("/* a; /* b; */ c; */ SELECT 1"), ["SELECT 1"]);
        assert_eq!(statements(r"SELECT E'it\'s;', 'a\'; SELECT 2"), [r"SELECT E'it\'s;', 'a\'", "SELECT 2"]);
        assert_eq!(statements("SELECT $$a;b$$, $t$;$$;$t$; x"), ["SELECT $$a;b$$, $t$;$$;$t$", "x"]);
        assert_eq!(statements("SELECT 7 //* 2; x"), ["SELECT 7 //* 2", "x"]);
        assert_eq!(statements(" -- nothing\n /* here */ ; "), [""; 0]);
    }

    #[test]
    fn commands_begin_with_a_backslash_and_end_with_their_line() {
        let text = "\\d entities\nSELECT 1;\n\n\\q";
        let one = Statement { text: "SELECT 1", lines_before: 1, ended: true };
        assert_eq!(pieces(text), [Piece::Command("d entities"), Piece::Statement(one), Piece::Command("q")]);
        assert_eq!(
            pieces("SELECT 1; \\timing"),
            [Piece::Statement(Statement { lines_before: 0, ..one }), Piece::Command("timing")]
        );
    }

    #[test]
    fn a_shell_waits_for_the_rest_of_a_statement() {
        for text in ["SELECT", "SELECT 1; SELECT", "SELECT 'a;", "SELECT 1 /* ;", "/* a", "SELECT \"a;\n"] {
            assert!(is_unfinished(text), "{text}");
        }
        for text in ["", "  \n", "SELECT 1;", "\\d", "\\d entities", "SELECT 1; -- and", "-- only"] {
            assert!(!is_unfinished(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_parser_sees_the_same_semicolons(text in r#"[;'"`\-/*$eE \n\\ax1é]{0,40}"#) {
            let Ok(tokens) = Tokenizer::new(&GenericDialect, &text).tokenize() else { return Ok(()) };
            // What begins with a backslash is a command here and no SQL there.
            prop_assume!(!text.contains('\\') && !pieces(&text).iter().any(|piece| matches!(piece, Piece::Command(_))));
            let mut expected = 0;
            let mut open = false;
            for token in tokens {
                match token {
                    Token::SemiColon => {
                        expected += usize::from(open);
                        open = false;
                    }
                    Token::Whitespace(_) => {}
                    _ => open = true,
                }
            }
            prop_assert_eq!(statements(&text).len(), expected + usize::from(open));
        }

        #[test]
        fn no_text_is_lost(text in "(?s).{0,60}") {
            for piece in pieces(&text) {
                let (Piece::Command(part) | Piece::Statement(Statement { text: part, .. })) = piece;
                prop_assert!(text.contains(part));
            }
        }
    }
}

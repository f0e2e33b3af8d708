//! Text → statements and commands. In: typed text, or a file. Out: pieces, each with the line it begins on, and whether the last one is
//! complete. It must not interpret them.
//!
//! A statement ends with a `;` outside of strings, quoted names and comments. A command begins with a backslash where a statement could
//! begin, and ends with its line. The engine's own tokenizer decides what is a string, a name or a comment.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, TokenizerError};

/// A piece of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'text> {
    /// SQL, without its `;`.
    Statement(Statement<'text>),
    /// A command, without its backslash.
    Command(&'text str),
}

/// A statement and its position in the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'text> {
    /// The SQL, from its first word on.
    pub(super) text: &'text str,
    /// Number of lines of the script before it.
    pub(super) lines_before: usize,
    /// Whether it ends with a `;`.
    pub(super) ended: bool,
}

/// The pieces of `text`, in order.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut at, mut lines_before) = (Vec::new(), 0, 0);
    // After a command the text is tokenized again, because a command's argument is not SQL.
    while let Some(length) = up_to_command(&text[at..], lines_before, &mut pieces) {
        lines_before += text[at..at + length].matches('\n').count();
        at += length;
    }
    pieces
}

/// Whether `text` ends inside a statement, so that a shell waits for the rest.
pub(super) fn is_unfinished(text: &str) -> bool {
    matches!(pieces(text).last(), Some(Piece::Statement(Statement { ended: false, .. })))
}

/// Adds the pieces of `text` up to and including its first command. Returns the byte at which that command ends; `None` if there is
/// no command.
fn up_to_command<'text>(text: &'text str, lines_before: usize, pieces: &mut Vec<Piece<'text>>) -> Option<usize> {
    let (tokens, error) = tokens(text);
    let mut position = Position { text, at: 0, location: Location { line: 1, column: 1 } };
    // The start of the current statement, and the number of lines before it.
    let mut start: Option<(usize, usize)> = None;
    let statement = |(from, lines): (usize, usize), to: usize, ended| {
        Piece::Statement(Statement { text: text[from..to].trim_end(), lines_before: lines_before + lines, ended })
    };
    for TokenWithSpan { token, span } in tokens {
        let at = position.at;
        position.advance(span.end);
        match (token, start) {
            (Token::SemiColon, Some(from)) => {
                pieces.push(statement(from, at, true));
                start = None;
            }
            (Token::Backslash, None) => {
                let line = text[position.at..].split('\n').next().unwrap_or_default();
                pieces.push(Piece::Command(line.trim()));
                return Some(position.at + line.len());
            }
            (Token::SemiColon | Token::Whitespace(_), None) | (_, Some(_)) => {}
            (_, None) => start = Some((at, span.start.line as usize - 1)),
        }
    }
    let unread = error.is_some().then(|| (position.at, position.location.line as usize - 1));
    if let Some(from) = start.or(unread) {
        // The engine refuses malformed text, whatever follows it. Text that is only cut short can still become a statement.
        let malformed = error.is_some_and(|error| !is_cut_short(text, &error));
        pieces.push(statement(from, text.len(), malformed && text.trim_end().ends_with(';')));
    }
    None
}

/// The engine's tokens of `text`, and the error that stopped the tokenizer, if any.
fn tokens(text: &str) -> (Vec<TokenWithSpan>, Option<TokenizerError>) {
    // Turn `/*!` into a plain comment of equal length: the tokenizer emits the content of such comments, at wrong positions.
    let text = text.replace("/*!", "/* ");
    let mut tokens = Vec::new();
    let mut tokenizer = Tokenizer::new(&GenericDialect, &text).with_unescape(false);
    let error = tokenizer.tokenize_with_location_into_buf(&mut tokens).err();
    (tokens, error)
}

/// Whether `error` means that `text` ends inside a string, a quoted name or a comment: then the error changes with text that follows.
fn is_cut_short(text: &str, error: &TokenizerError) -> bool {
    tokens(&format!("{text}\"'`")).1.as_ref() != Some(error)
}

/// A position in a text, in bytes and as the tokenizer counts: lines, and characters of a line, both from 1.
struct Position<'text> {
    text: &'text str,
    at: usize,
    location: Location,
}

impl Position<'_> {
    fn advance(&mut self, to: Location) {
        for letter in self.text[self.at..].chars() {
            if self.location == to {
                break;
            }
            self.at += letter.len_utf8();
            self.location = match letter {
                '\n' => Location { line: self.location.line + 1, column: 1 },
                _ => Location { column: self.location.column + 1, ..self.location },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(statements("/*!1 ;\n; */ SELECT 'é'; /*! ' */ x;"), ["SELECT 'é'", "x"]);
        assert_eq!(statements(" \u{3000}\u{a0}; \u{3000}SELECT 1\u{3000};"), ["SELECT 1"]);
    }

    #[test]
    fn an_operator_is_not_a_comment() {
        assert_eq!(statements("SELECT |/*2; x"), ["SELECT |/*2", "x"]);
        assert_eq!(statements("SELECT a #--1; x"), ["SELECT a #--1", "x"]);
        assert_eq!(statements("SELECT a @--1; x"), ["SELECT a @--1", "x"]);
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
        assert_eq!(pieces(";\\"), [Piece::Command("")]);
        let text = "\\o it's.csv /* \r\n-- a\nSELECT 1;";
        assert_eq!(
            pieces(text),
            [Piece::Command("o it's.csv /*"), Piece::Statement(Statement { lines_before: 2, ..one })]
        );
    }

    #[test]
    fn a_shell_waits_for_the_rest_of_a_statement() {
        let cut_short =
            ["SELECT 'a;", "SELECT 1 /* ;", "/* a", "SELECT \"a;\n", "SELECT `a;", "SELECT E'a\\';", "SELECT $a$;$$;"];
        for text in cut_short.into_iter().chain(["SELECT", "SELECT 1; SELECT", "SELECT U&'a;", "SELECT E'\\xff'"]) {
            assert!(is_unfinished(text), "{text}");
        }
        // Malformed text is complete, so that the engine reports the error: no further text makes it valid.
        let malformed = ["SELECT E'\\xff';", "SELECT U&'\\x';\n", "SELECT ._a; SELECT 3;"];
        let complete = ["", "  \n", "SELECT 1;", "\\d", "\\d entities", "SELECT 1; -- and", "-- only"];
        for text in complete.into_iter().chain(malformed) {
            assert!(!is_unfinished(text), "{text}");
        }
    }

    /// Parts of a script, each with its piece, if it is one.
    fn parts() -> impl Strategy<Value = Vec<(&'static str, Option<Piece<'static>>)>> {
        const STATEMENTS: [&str; 9] = [
            "SELECT 1",
            "SELECT ';'",
            "SELECT E'it\\'s;' -- ;\n, 'é'",
            "SELECT \"a;\"\"b\"",
            "SELECT /* ; */ $a$;$$;$a$",
            "SELECT |/*2",
            "x #--1",
            "SELECT N'\\'",
            "SELECT '東\n京;'",
        ];
        const COMMANDS: [&str; 3] = ["\\d it's /*", "\\q", "\\i \"a;b"];
        const BLANKS: [&str; 9] = ["", " ", "\n", "\r\n", " -- a; 'b\n", "/* ; ' */", "/*! ; */", ";;", "\u{3000}"];
        let statement = |text| Piece::Statement(Statement { text, lines_before: 0, ended: true });
        let blank = prop::sample::select(&BLANKS[..]).prop_map(|text| vec![(text, None)]);
        let statement = prop::sample::select(&STATEMENTS[..])
            .prop_map(move |text| vec![(text, Some(statement(text))), (";", None)]);
        let command = prop::sample::select(&COMMANDS[..])
            .prop_map(|text| vec![(text, Some(Piece::Command(&text[1..]))), ("\n", None)]);
        prop::collection::vec(prop_oneof![2 => blank, 2 => statement, 1 => command], 0..12)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_script_is_split_into_its_parts(parts in parts()) {
            let (mut text, mut expected) = (String::new(), Vec::new());
            for (part, piece) in &parts {
                let lines_before = text.matches('\n').count();
                expected.extend(piece.map(|piece| match piece {
                    Piece::Statement(statement) => Piece::Statement(Statement { lines_before, ..statement }),
                    Piece::Command(command) => Piece::Command(command),
                }));
                text += part;
            }
            prop_assert_eq!(pieces(&text), expected);
        }

        /// The pieces and the text between them make up the whole text, and only blanks are between them.
        #[test]
        fn no_text_is_lost(text in prop_oneof![r#"[;'"`\-/*!$eEu&|#@. \n\r\\ax1é\u{3000}]{0,40}"#, "(?s).{0,60}"]) {
            let mut rebuilt = String::new();
            for piece in pieces(&text) {
                let (Piece::Command(part) | Piece::Statement(Statement { text: part, .. })) = piece;
                let at = part.as_ptr() as usize - text.as_ptr() as usize;
                prop_assert!(at >= rebuilt.len(), "{:?} begins before the end of what comes before it", part);
                let mut between = &text[rebuilt.len()..at];
                match piece {
                    Piece::Command(_) => {
                        let (before, after) = between.rsplit_once('\\').expect("a backslash");
                        prop_assert_eq!(after.trim(), "");
                        between = before;
                    }
                    Piece::Statement(statement) => {
                        prop_assert!(!part.is_empty());
                        prop_assert_eq!(statement.lines_before, text[..at].matches('\n').count());
                    }
                }
                prop_assert!(is_blank(between), "{:?} is lost", between);
                rebuilt = format!("{}{part}", &text[..at]);
            }
            let rest = &text[rebuilt.len()..];
            prop_assert!(is_blank(rest), "{:?} is lost", rest);
            prop_assert_eq!(rebuilt + rest, text);
        }
    }

    /// Whether a text has only white space, comments and semicolons.
    fn is_blank(text: &str) -> bool {
        let (tokens, error) = tokens(text);
        error.is_none() && tokens.iter().all(|token| matches!(token.token, Token::Whitespace(_) | Token::SemiColon))
    }
}

//! Completion and highlighting in the line editor. In: the text typed so far. Out: completions, colours, and whether Enter ends the input.
//! It must not run anything.

use std::borrow::Cow;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::command::{COMMANDS, without_backslash};
use super::script::{Piece, is_unfinished, pieces};
use super::session::Vocabulary;
use crate::sanitize::escaped;

/// The SQL keywords that are completed and coloured.
const KEYWORDS: &str = "
    ALL ANALYZE AND ANY AS ASC BETWEEN BIGINT BOOLEAN BY CASE CAST COPY CREATE CROSS DATE DESC DESCRIBE DISTINCT
    DOUBLE DROP ELSE END EXCEPT EXCLUDE EXISTS EXPLAIN EXTERNAL FALSE FILTER FOLLOWING FROM FULL GROUP HAVING IF
    ILIKE IN INNER INSERT INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOCATION NATURAL NOT NULL NULLS
    OFFSET ON OR ORDER OUTER OVER PARTITION PRECEDING QUALIFY RECURSIVE REPLACE RIGHT ROWS SELECT SET SHOW STORED
    TABLE TABLES THEN TIMESTAMP TRUE UNBOUNDED UNION USING VALUES VARCHAR VIEW WHEN WHERE WITH";
/// Keywords that a table name follows.
const BEFORE_TABLE: [&str; 6] = ["FROM", "JOIN", "INTO", "TABLE", "DESCRIBE", "VIEW"];
/// Column names that are SQL keywords unless they are quoted.
const QUOTED: [&str; 3] = ["window", "precision", "row"];

/// Completes, colours and hints, and decides whether the input is complete.
pub(super) struct SqlHelper {
    pub(super) vocabulary: Vocabulary,
    files: FilenameCompleter,
    hints: HistoryHinter,
}

impl SqlHelper {
    pub(super) fn new() -> Self {
        Self { vocabulary: Vocabulary::default(), files: FilenameCompleter::new(), hints: HistoryHinter::new() }
    }

    /// The completions at the cursor: where the replaced part begins, and its replacements.
    fn candidates(&self, line: &str, position: usize) -> Candidates {
        let before = &line[..position];
        if let Some(Piece::Command(_)) = pieces(before).last()
            && let Some(at) = before.rfind('\\')
            && !before[at..].contains('\n')
        {
            return self.command(&before[at + 1..], position);
        }
        let statement = match pieces(before).last() {
            Some(Piece::Statement(statement)) if !statement.ended => before.rfind(statement.text).unwrap_or(0),
            _ => position,
        };
        if before[statement..].matches('\'').count() % 2 == 1 {
            return Candidates::Files;
        }
        let start = before
            .rfind(|letter| !is_word(letter))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let prefix = &before[start..];
        let rest = line[statement..].split(';').next().unwrap_or_default();
        let tables = self.tables(rest);
        if let Some(qualifier) = before[..start].strip_suffix('.') {
            let qualifier = words(qualifier).last().copied().unwrap_or_default();
            let columns = tables
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(qualifier))
                .flat_map(|(_, columns)| columns.iter());
            return matching(start, prefix, columns.map(|column| quoted(column)));
        }
        let last = words(&before[..start]).last().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        // Only white space in between: `count(*) FROM (` does not name a table.
        let bare = before[..start].trim_end().ends_with(is_word);
        if bare && BEFORE_TABLE.contains(&last.as_str()) {
            return matching(start, prefix, self.vocabulary.tables.iter().map(|(name, _)| name.clone()));
        }
        let mut found: Vec<String> = if tables.is_empty() {
            self.vocabulary.tables.iter().flat_map(|(_, columns)| columns.iter().map(|column| quoted(column))).collect()
        } else {
            tables.iter().flat_map(|(_, columns)| columns.iter().map(|column| quoted(column))).collect()
        };
        found.extend(tables.iter().map(|(name, _)| name.clone()));
        if !prefix.is_empty() {
            let lower = prefix.starts_with(|first: char| first.is_ascii_lowercase());
            let keywords = KEYWORDS.split_ascii_whitespace();
            found.extend(keywords.map(|word| if lower { word.to_ascii_lowercase() } else { word.to_owned() }));
            found.extend(self.vocabulary.functions.iter().map(|name| format!("{name}(")));
            found.extend(self.vocabulary.tables.iter().map(|(name, _)| name.clone()));
        }
        matching(start, prefix, found.into_iter())
    }

    fn command(&self, command: &str, position: usize) -> Candidates {
        let Some((word, argument)) = command.split_once(char::is_whitespace) else {
            let names = COMMANDS.iter().map(|(name, ..)| (*name).to_owned());
            return matching(position - command.len(), command, names);
        };
        let argument = argument.trim_start();
        let options: Vec<String> = match word {
            "d" | "d+" => self.vocabulary.tables.iter().map(|(name, _)| name.clone()).collect(),
            "df" => self.vocabulary.functions.clone(),
            "format" => ["table", "csv", "json", "parquet"].map(str::to_owned).into(),
            "x" | "timing" => ["on", "off"].map(str::to_owned).into(),
            "o" | "i" => return Candidates::Files,
            _ => Vec::new(),
        };
        matching(position - argument.len(), argument, options.into_iter())
    }

    /// The tables after FROM or JOIN in a statement, under their names and aliases, with their columns.
    fn tables(&self, statement: &str) -> Vec<(String, &Vec<String>)> {
        let words = words(statement);
        let mut found = Vec::new();
        for (index, pair) in words.windows(2).enumerate() {
            if !["FROM", "JOIN"].contains(&pair[0].to_ascii_uppercase().as_str()) {
                continue;
            }
            let Some((name, columns)) =
                self.vocabulary.tables.iter().find(|(name, _)| name.eq_ignore_ascii_case(pair[1]))
            else {
                continue;
            };
            found.push((name.clone(), columns));
            let mut next = words[index + 2..].iter().filter(|word| !word.eq_ignore_ascii_case("AS"));
            if let Some(alias) = next.next().filter(|word| !is_keyword(word)) {
                found.push(((*alias).to_owned(), columns));
            }
        }
        found
    }
}

/// Completions at the cursor.
enum Candidates {
    /// Texts that replace the input from this position on.
    Words(usize, Vec<String>),
    /// File paths.
    Files,
}

fn matching(start: usize, prefix: &str, candidates: impl Iterator<Item = String>) -> Candidates {
    let wanted = prefix.to_lowercase();
    let mut found: Vec<String> = Vec::new();
    for candidate in candidates {
        let plain = candidate.trim_start_matches('"').to_lowercase();
        if plain.starts_with(&wanted) && !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    Candidates::Words(start, found)
}

fn words(text: &str) -> Vec<&str> {
    text.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()).collect()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.split_ascii_whitespace().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

fn quoted(column: &str) -> String {
    let plain = column.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if plain && !QUOTED.contains(&column) { column.to_owned() } else { format!("\"{}\"", column.replace('"', "\"\"")) }
}

impl Helper for SqlHelper {}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        match self.candidates(line, position) {
            Candidates::Files => {
                let (start, mut pairs) = self.files.complete_path(line, position)?;
                // The line editor would send the control characters of such a name to the terminal.
                pairs.retain(|pair| escaped(&pair.replacement) == pair.replacement);
                Ok((start, pairs))
            }
            Candidates::Words(start, words) => {
                let pair = |word: String| Pair { display: word.clone(), replacement: word };
                Ok((start, words.into_iter().filter(|word| escaped(word) == *word).map(pair).collect()))
            }
        }
    }
}

impl Hinter for SqlHelper {
    type Hint = String;

    /// The rest of an earlier line with the same beginning.
    fn hint(&self, line: &str, position: usize, context: &Context<'_>) -> Option<String> {
        self.hints.hint(line, position, context).filter(|hint| !hint.contains('\n'))
    }
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let unfinished = is_unfinished(text) && without_backslash(text).is_none();
        Ok(if unfinished { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Highlighter for SqlHelper {
    fn highlight<'line>(&self, line: &'line str, _: usize) -> Cow<'line, str> {
        Cow::Owned(coloured(line))
    }

    fn highlight_hint<'hint>(&self, hint: &'hint str) -> Cow<'hint, str> {
        Cow::Owned(format!("\u{1b}[2m{hint}\u{1b}[0m"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

/// SQL with coloured keywords, strings and comments.
fn coloured(line: &str) -> String {
    let mut text = String::with_capacity(line.len() + 32);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (length, colour) = if first == '\'' {
            (rest[1..].find('\'').map_or(rest.len(), |end| end + 2), "32")
        } else if rest.starts_with("--") {
            (rest.find('\n').unwrap_or(rest.len()), "2")
        } else if is_word(first) {
            let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
            (length, if is_keyword(&rest[..length]) { "1;34" } else { "" })
        } else {
            (first.len_utf8(), "")
        };
        let (part, after) = rest.split_at(length);
        if colour.is_empty() {
            text += part;
        } else {
            text.extend(["\u{1b}[", colour, "m", part, "\u{1b}[0m"]);
        }
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper() -> SqlHelper {
        let table =
            |name: &str, columns: &[&str]| (name.to_owned(), columns.iter().map(|&column| column.to_owned()).collect());
        let vocabulary = Vocabulary {
            tables: vec![
                table("entities", &["doc_id", "entity_type", "end_char", "window"]),
                table("documents", &["doc_id", "n_chars"]),
            ],
            functions: vec!["count".to_owned(), "encode".to_owned()],
        };
        SqlHelper { vocabulary, ..SqlHelper::new() }
    }

    /// The completions at the position of the bar.
    fn completions(text: &str) -> Vec<String> {
        let position = text.find('|').unwrap();
        match helper().candidates(&text.replace('|', ""), position) {
            Candidates::Words(start, words) => {
                assert!(start <= position);
                words
            }
            Candidates::Files => vec!["(files)".to_owned()],
        }
    }

    #[test]
    fn tables_columns_functions_and_keywords() {
        assert_eq!(completions("SELECT * FROM e|"), ["entities"]);
        assert_eq!(completions("SELECT * FROM |"), ["entities", "documents"]);
        assert_eq!(
            completions("SELECT e| FROM entities"),
            [
                "entity_type",
                "end_char",
                "entities",
                "else",
                "end",
                "except",
                "exclude",
                "exists",
                "explain",
                "external",
                "encode("
            ]
        );
        assert_eq!(completions("SELECT n_| FROM documents"), ["n_chars"]);
        assert_eq!(completions("SELECT w| FROM entities")[0], "\"window\"");
        assert_eq!(completions("SEL|"), ["SELECT"]);
        assert_eq!(completions("SELECT 1; sel|"), ["select"]);
        assert_eq!(completions("SELECT d.| FROM entities e JOIN documents AS d USING (doc_id)"), ["doc_id", "n_chars"]);
        assert_eq!(completions("SELECT e.end| FROM entities e"), ["end_char"]);
    }

    #[test]
    fn commands_and_files() {
        assert_eq!(completions("\\d|"), ["d", "dt", "dv", "df"]);
        assert_eq!(completions("\\d ent|"), ["entities"]);
        assert_eq!(completions("\\format p|"), ["parquet"]);
        assert_eq!(completions("\\timing o|"), ["on", "off"]);
        assert_eq!(completions("\\o |"), ["(files)"]);
        assert_eq!(completions("SELECT * FROM 'docs/|"), ["(files)"]);
    }

    #[test]
    fn colours_leave_the_text_as_it_is() {
        let line = "SELECT 'FROM', é -- FROM\nFROM x";
        let shown = coloured(line);
        assert_eq!(shown.matches("\u{1b}[1;34m").count(), 2, "{shown}");
        let mut plain = shown;
        for code in ["\u{1b}[1;34m", "\u{1b}[32m", "\u{1b}[2m", "\u{1b}[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, line);
    }
}

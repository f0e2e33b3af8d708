//! DataFusion errors → user errors. In: the engine's error, the statement, the names of tables and views. Out: the reason, its position in
//! the SQL, and a hint. It must not run anything.

use datafusion::common::{Location, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use strsim::levenshtein;
use unicode_width::UnicodeWidthStr;

use super::script::Statement;
use crate::error::Error;

/// The keywords that a hint suggests for a mistyped word.
const WORDS: [&str; 22] = [
    "SELECT", "DISTINCT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "JOIN", "INNER", "LEFT",
    "OUTER", "UNION", "USING", "VALUES", "WITH", "EXPLAIN", "DESCRIBE", "CREATE", "INSERT", "BETWEEN",
];

/// Maximum number of characters of an excerpt.
const EXCERPT: usize = 100;

/// The user error of `statement`; `tables` are the names of the existing tables and views.
pub(super) fn explain(cause: &DataFusionError, statement: &Statement<'_>, tables: &[String]) -> Error {
    let span = cause.diagnostic().and_then(|diagnostic| diagnostic.span);
    let help = cause.diagnostic().and_then(|diagnostic| diagnostic.helps.first()).map(|help| help.message.clone());
    let at = span.map(|span| (span.start, Some(span.end)));
    match root(cause) {
        DataFusionError::SQL(cause, _) => syntax(cause, statement),
        DataFusionError::SchemaError(cause, _) => schema(cause, statement, at),
        DataFusionError::External(cause) => match cause.downcast_ref::<Error>() {
            Some(ours) => sql(statement, at, &ours.to_string(), ours.hint().unwrap_or_default().to_owned()),
            None => sql(statement, at, &cause.to_string(), String::new()),
        },
        DataFusionError::ResourcesExhausted(reason) => {
            let hint = "raise the limit with --memory, or query fewer rows or groups at once";
            sql(statement, None, first_line(reason), hint.to_owned())
        }
        DataFusionError::ObjectStore(cause) => failed(cause.to_string()),
        DataFusionError::IoError(cause) => failed(cause.to_string()),
        other => {
            let message = other.message();
            if let Some(name) = missing_table(&message) {
                return sql(statement, at, &format!("there is no table or view `{name}`"), nearest_table(name, tables));
            }
            let advice = message.lines().skip(1).find_map(|line| line.strip_prefix("Did you mean"));
            let hint = help.or_else(|| advice.map(|near| format!("did you mean{near}"))).unwrap_or_default();
            // A diagnostic, if there is one, has the shorter message.
            let reason =
                cause.diagnostic().map_or_else(|| first_line(&message), |diagnostic| first_line(&diagnostic.message));
            sql(statement, at, reason, hint)
        }
    }
}

fn failed(reason: String) -> Error {
    Error::Engine { doing: "run the query".to_owned(), source: reason.into() }
}

/// The innermost error.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(all) => all.first().map_or(error, root),
        DataFusionError::External(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, root),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            arrow::error::ArrowError::ExternalError(inner) => {
                inner.downcast_ref::<DataFusionError>().map_or(error, root)
            }
            _ => error,
        },
        other => other,
    }
}

fn syntax(cause: &ParserError, statement: &Statement<'_>) -> Error {
    let message = match cause {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => {
            return sql(
                statement,
                None,
                "the statement is nested too deeply",
                "split it into steps with WITH … AS (…)".to_owned(),
            );
        }
    };
    let (message, at) = located(message);
    let Some((expected, found)) = message.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: "))
    else {
        return sql(statement, at.map(|at| (at, None)), message, String::new());
    };
    if found == "EOF" {
        return sql(
            statement,
            Some((end(statement.text), None)),
            &format!("it ends where {expected} is expected"),
            String::new(),
        );
    }
    let width = found.chars().count() as u64;
    let at = at.map(|at| (at, Some(Location { line: at.line, column: at.column + width })));
    let word = found.to_ascii_uppercase();
    let near = WORDS.iter().filter(|known| **known != word).min_by_key(|known| levenshtein(known, &word));
    let near = near.filter(|known| levenshtein(known, &word) <= 2 && word.len() > 3);
    let hint = near.map(|known| format!("did you mean {known}?")).unwrap_or_default();
    let sign = expected.chars().count() == 1;
    let expected = if sign { format!("`{expected}`") } else { expected.to_owned() };
    sql(statement, at, &format!("{expected} is expected, not `{found}`"), hint)
}

fn schema(cause: &SchemaError, statement: &Statement<'_>, at: Option<(Location, Option<Location>)>) -> Error {
    let SchemaError::FieldNotFound { field, valid_fields } = cause else {
        return sql(statement, at, first_line(&cause.to_string()), "give the columns unique names with AS".to_owned());
    };
    let mut columns: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
    columns.dedup();
    let hint = match nearest(&field.name, &columns) {
        Some(near) => format!("did you mean `{near}`?"),
        None if columns.is_empty() => String::new(),
        None => format!("the columns are {}", columns.join(", ")),
    };
    let reason = match field.relation.as_ref().filter(|relation| !relation.table().is_empty()) {
        Some(relation) => format!("`{}` has no column `{}`", relation.table(), field.name),
        None => format!("there is no column `{}`", field.name),
    };
    sql(statement, at, &reason, hint)
}

/// The table name in a message such as "table 'datafusion.public.entitis' not found".
fn missing_table(message: &str) -> Option<&str> {
    let name = message.strip_prefix("table '")?.split_once("' not found")?.0;
    Some(name.strip_prefix("datafusion.public.").unwrap_or(name))
}

fn nearest_table(name: &str, tables: &[String]) -> String {
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    match nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("the tables and views are {}; quote a file's path, as in FROM 'docs.parquet'", names.join(", "))
        }
    }
}

/// The name most similar to `name`, if one is similar enough.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let near = names.iter().copied().min_by_key(|known| levenshtein(known, &lower))?;
    let length = lower.chars().count().max(near.chars().count());
    (levenshtein(near, &lower) * 2 <= length).then_some(near)
}

/// A parser's message without the position at its end, and that position.
fn located(message: &str) -> (&str, Option<Location>) {
    let place = message.rsplit_once(" at Line: ").and_then(|(before, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((before, Location { line: line.parse().ok()?, column: column.trim_end().parse().ok()? }))
    });
    place.map_or((message, None), |(before, place)| (before, Some(place)))
}

/// The position after the last letter of `text`.
fn end(text: &str) -> Location {
    let last = text.lines().last().unwrap_or_default();
    Location { line: text.lines().count().max(1) as u64, column: last.chars().count() as u64 + 1 }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

fn sql(statement: &Statement<'_>, at: Option<(Location, Option<Location>)>, reason: &str, hint: String) -> Error {
    let excerpt = at.and_then(|(from, to)| excerpt(statement, from, to)).unwrap_or_default();
    Error::Sql { reason: in_a_sentence(reason), excerpt, hint }
}

/// A message as the rest of a sentence: without an initial capital and a final full stop.
fn in_a_sentence(message: &str) -> String {
    let message = message.trim_end_matches('.');
    let mut letters = message.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(message.chars().skip(1)).collect()
        }
        _ => message.to_owned(),
    }
}

/// The line of an error, its number in the whole script, and carets below the position.
fn excerpt(statement: &Statement<'_>, from: Location, to: Option<Location>) -> Option<String> {
    let line = statement.text.lines().nth(usize::try_from(from.line).ok()?.checked_sub(1)?)?;
    let letters: Vec<char> = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let start = usize::try_from(from.column).ok()?.checked_sub(1)?.min(letters.len());
    let stop = match to.filter(|to| to.line == from.line) {
        Some(to) => usize::try_from(to.column).ok()?.saturating_sub(1).clamp(start, letters.len()),
        None => start,
    };
    let skipped = start.saturating_sub(EXCERPT * 2 / 3);
    let shown: String = letters.iter().skip(skipped).take(EXCERPT).collect();
    let before: String = letters[skipped..start].iter().collect();
    let marked: String = letters[start..stop].iter().take(EXCERPT).collect();
    let number = (statement.lines_before as u64 + from.line).to_string();
    let (gap, ellipsis) = (" ".repeat(number.len()), if skipped > 0 { "…" } else { "" });
    let indent = " ".repeat(before.width() + ellipsis.width());
    let carets = "^".repeat(marked.width().max(1));
    Some(format!("\n  {gap} |\n  {number} | {ellipsis}{}\n  {gap} | {indent}{carets}", shown.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(text: &str) -> Statement<'_> {
        Statement { text, lines_before: 0, ended: true }
    }

    #[test]
    fn a_position_is_marked_in_its_line() {
        let position = |line, column| Location { line, column };
        let marked = |text, from, to| excerpt(&statement(text), from, to).unwrap();
        assert_eq!(
            marked("SELECT *\nFORM entities", position(2, 1), Some(position(2, 5))),
            "\n    |\n  2 | FORM entities\n    | ^^^^"
        );
        assert_eq!(marked("SELECT", position(1, 7), None), "\n    |\n  1 | SELECT\n    |       ^");
        let wide = marked("SELECT '東京' FORM x", position(1, 13), Some(position(1, 17)));
        assert_eq!(wide, "\n    |\n  1 | SELECT '東京' FORM x\n    |               ^^^^");
        let long = format!("SELECT {} FORM x", "1 + ".repeat(60));
        let shown = marked(&long, position(1, 249), Some(position(1, 253)));
        assert!(shown.lines().all(|line| line.width() < EXCERPT + 10), "{shown}");
        assert_eq!(excerpt(&statement("SELECT"), position(9, 1), None), None);
    }

    #[test]
    fn a_similar_name_is_suggested() {
        assert_eq!(nearest("entitis", &["documents", "entities"]), Some("entities"));
        assert_eq!(nearest("xyz", &["documents", "entities"]), None);
        assert_eq!(missing_table("table 'datafusion.public.entitis' not found"), Some("entitis"));
        assert_eq!(
            located("Expected: x, found: y at Line: 3, Column: 14"),
            ("Expected: x, found: y", Some(Location { line: 3, column: 14 }))
        );
    }
}

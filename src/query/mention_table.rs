//! A table of mentions → a view with one row per mention. In: a table of the session with `doc_id`, `entity_type`, `start_char`,
//! `end_char` and optionally text and score. Out: a view of the mentions to score, with ids as text, and counts of the rows left out. It
//! must not compare two tables.
//!
//! The rules are the same for predicted and gold mentions: ids are compared as text (the integer 7 is the string `7`); a row with a
//! null in one of the four columns, or whose end is not after its start, is not a mention; rows that agree in the four columns count
//! once; mentions of documents outside the scope do not count.

use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use serde::Serialize;

use crate::error::Result;
use crate::query::external_table::{ExternalTable, Kind};
use crate::query::statement::{query, register};
use crate::tables::result_row::{ColumnError, first_row};

/// The view of the scored documents, if not all are scored: one column, `scored_id`, as text.
pub const SCOPE: &str = "scored_documents";

/// The optional columns of a table of mentions, and the kind of its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    text: bool,
    score: bool,
    /// Whether ids are integers.
    pub integer_ids: bool,
}

/// Checks that a table has the columns of mentions.
pub fn check(files: &ExternalTable<'_>, schema: &SchemaRef) -> Result<Columns> {
    let hint = "a table of mentions has doc_id, entity_type, start_char and end_char (code points, half-open), and may have text and score";
    files.expect(schema, "doc_id", Kind::Id, hint)?;
    files.expect(schema, "entity_type", Kind::Text, hint)?;
    files.expect(schema, "start_char", Kind::Integer, hint)?;
    files.expect(schema, "end_char", Kind::Integer, hint)?;
    let has = |name: &str| schema.field_with_name(name).is_ok();
    if has("text") {
        files.expect(schema, "text", Kind::Text, hint)?;
    }
    if has("score") {
        files.expect(schema, "score", Kind::Number, hint)?;
    }
    let integer_ids = schema.field_with_name("doc_id").is_ok_and(|id| id.data_type().is_integer());
    Ok(Columns { text: has("text"), score: has("score"), integer_ids })
}

/// How many rows a table of mentions has, and how many of them count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All rows.
    pub rows: usize,
    /// Rows with a null in `doc_id`, `entity_type`, `start_char` or `end_char`.
    pub incomplete: usize,
    /// Rows whose end is not after their start, or whose start is negative.
    pub malformed: usize,
    /// Rows of documents outside the scope.
    pub elsewhere: usize,
    /// Rows that repeat another.
    pub duplicates: usize,
    /// The remaining rows: the mentions that are scored.
    pub mentions: usize,
}

impl Tally {
    /// How many rows do not count, for each reason that applies.
    pub fn left_out(self) -> impl Iterator<Item = (usize, &'static str)> {
        let kinds = [
            (self.incomplete, "with a null in doc_id, entity_type, start_char or end_char"),
            (self.malformed, "whose end is not behind the start or whose start is negative"),
            (self.elsewhere, "of documents that are not scored"),
            (self.duplicates, "that repeat another"),
        ];
        kinds.into_iter().filter(|(rows, _)| *rows > 0)
    }
}

/// Creates the view `view` of the mentions in `table`: `doc_id` (text), `entity_type`, `start_char`, `end_char`, text, score, and whether
/// the mention overlaps another mention of the same table (`nested`).
pub async fn normalize(
    context: &SessionContext,
    table: &str,
    view: &str,
    columns: Columns,
    scoped: bool,
) -> Result<()> {
    let text = if columns.text { "CAST(text AS varchar)" } else { "CAST(NULL AS varchar)" };
    let score = if columns.score { "CAST(score AS double)" } else { "CAST(NULL AS double)" };
    let only = if scoped { format!("AND doc_id IN (SELECT scored_id FROM {SCOPE})") } else { String::new() };
    let order = "(PARTITION BY doc_id ORDER BY start_char, end_char DESC, entity_type";
    let sql = format!(
        "SELECT *, coalesce(max(end_char) OVER {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > start_char, false)
            OR coalesce(lead(start_char) OVER {order}) < end_char, false) AS nested
         FROM (SELECT doc_id, entity_type, start_char, end_char, min(text) AS text, max(score) AS score
            FROM (SELECT {KEYS}, {text} AS text, {score} AS score FROM {table})
            WHERE {COMPLETE} AND {PLACED} {only}
            GROUP BY doc_id, entity_type, start_char, end_char)"
    );
    register(context, view, &sql).await
}

/// Counts the rows of `table` by the rules of [`normalize`].
pub async fn tally(context: &SessionContext, table: &str, scoped: bool) -> Result<Tally> {
    let scope = if scoped { format!("doc_id IN (SELECT scored_id FROM {SCOPE})") } else { "true".to_owned() };
    let sql = format!(
        "SELECT count(*) AS rows, count(*) FILTER (WHERE {COMPLETE}) AS complete, count(*) FILTER (WHERE {COMPLETE} AND {PLACED}) AS placed
         FROM (SELECT {KEYS} FROM {table})",
    );
    let all = query(context, &sql).await?;
    let all = first_row(&all).ok_or(ColumnError::NoRow)?;
    let sql = format!(
        "SELECT coalesce(sum(n), 0) AS inside, count(*) AS mentions FROM (SELECT count(*) AS n FROM (SELECT {KEYS} FROM {table})
            WHERE {COMPLETE} AND {PLACED} AND {scope} GROUP BY doc_id, entity_type, start_char, end_char)"
    );
    let kept = query(context, &sql).await?;
    let kept = first_row(&kept).ok_or(ColumnError::NoRow)?;
    let (rows, complete, placed): (usize, usize, usize) = (all.get("rows")?, all.get("complete")?, all.get("placed")?);
    let (inside, mentions): (usize, usize) = (kept.get("inside")?, kept.get("mentions")?);
    Ok(Tally {
        rows,
        incomplete: rows - complete,
        malformed: complete - placed,
        elsewhere: placed - inside,
        duplicates: inside - mentions,
        mentions,
    })
}

/// Describes a row of `table` that is not a mention; `None` if every row is one.
pub async fn no_mention(context: &SessionContext, table: &str) -> Result<Option<String>> {
    let value = |column: &str| format!("coalesce(CAST({column} AS varchar), 'null')");
    let sql = format!(
        "SELECT concat({}, ' from ', {}, ' to ', {}, ' of `', {}, '`') FROM (SELECT {KEYS} FROM {table})
         WHERE NOT ({COMPLETE} AND {PLACED}) ORDER BY 1 LIMIT 1",
        value("entity_type"),
        value("start_char"),
        value("end_char"),
        value("doc_id")
    );
    let batches = query(context, &sql).await?;
    Ok(first_row(&batches).map(|row| row.scalar()).transpose()?)
}

const KEYS: &str = "CAST(doc_id AS varchar) AS doc_id, CAST(entity_type AS varchar) AS entity_type, \
    CAST(start_char AS bigint) AS start_char, CAST(end_char AS bigint) AS end_char";
const COMPLETE: &str =
    "doc_id IS NOT NULL AND entity_type IS NOT NULL AND start_char IS NOT NULL AND end_char IS NOT NULL";
const PLACED: &str = "start_char >= 0 AND end_char > start_char";

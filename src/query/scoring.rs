//! predicted ⋈ gold → counts. In: views of mentions from [`crate::query::mention_table`]. Out: a matched table with a row for every mention
//! that is predicted or gold, and counts over it. It must not turn counts into scores.
//!
//! A row of a matched table has `doc_id`, `entity_type`, `start_char`, `end_char`, `predicted`, `gold`, `nested`, text and score. A gold
//! mention is nested if it overlaps another gold mention; a mention that is only predicted, if it overlaps another predicted one.

use datafusion::prelude::SessionContext;

use crate::error::Result;
use crate::query::statement::{keep, query, register};
use crate::score::counts::Counts;
use crate::score::overlap::Candidate;
use crate::tables::result_row::{ResultRow, first_row, result_rows};

/// The key of [`counts_by`] for flat and nested mentions.
pub const NESTING: &str = "CASE WHEN nested THEN 'nested' ELSE 'flat' END";

/// Joins the views `predicted` and `gold` into the matched table `name`, which is kept in memory for several queries.
pub async fn match_up(context: &SessionContext, name: &str, predicted: &str, gold: &str) -> Result<()> {
    let either = |column: &str| format!("coalesce(g.{column}, p.{column}) AS {column}");
    let columns = ["doc_id", "entity_type", "start_char", "end_char", "nested", "text"].map(either).join(", ");
    let sql = format!(
        "SELECT {columns}, p.score AS score, p.doc_id IS NOT NULL AS predicted, g.doc_id IS NOT NULL AS gold
         FROM {predicted} p FULL JOIN {gold} g ON p.doc_id = g.doc_id AND p.entity_type = g.entity_type
            AND p.start_char = g.start_char AND p.end_char = g.end_char"
    );
    keep(context, name, &sql).await
}

/// Like [`match_up`], for a single query that only counts: a view without `nested`, text and score. It groups instead of joining, because
/// grouping can spill to disk.
pub async fn match_once(context: &SessionContext, name: &str, predicted: &str, gold: &str) -> Result<()> {
    let place = "doc_id, entity_type, start_char, end_char";
    let sql = format!(
        "SELECT {place}, bool_or(predicted) AS predicted, bool_or(gold) AS gold
         FROM (SELECT {place}, true AS predicted, false AS gold FROM {predicted}
            UNION ALL SELECT {place}, false AS predicted, true AS gold FROM {gold})
         GROUP BY {place}"
    );
    register(context, name, &sql).await
}

/// Strict counts of the matched table `name` by the SQL expression `key`, in the order of its values as text.
pub async fn counts_by(context: &SessionContext, name: &str, key: &str) -> Result<Vec<(String, Counts)>> {
    let sql = format!(
        "SELECT CAST({key} AS varchar) AS k, {} FROM {name} WHERE {key} IS NOT NULL GROUP BY 1 ORDER BY 1",
        counted("", "predicted", "gold")
    );
    let batches = query(context, &sql).await?;
    result_rows(&batches).map(|row| Ok((row.get("k")?, counts(&row)?))).collect()
}

/// Counts of spans regardless of type: a span is a true positive if both tables have a mention with its start and end.
pub async fn span_counts(context: &SessionContext, name: &str) -> Result<Counts> {
    let sql = format!(
        "SELECT {} FROM (SELECT bool_or(predicted) AS predicted, bool_or(gold) AS gold FROM {name} GROUP BY doc_id, start_char, end_char)",
        counted("", "predicted", "gold")
    );
    let batches = query(context, &sql).await?;
    first_row(&batches).map_or_else(|| Ok(Counts::default()), |row| counts(&row))
}

/// Overlapping pairs of a false positive and a false negative of the same document and type.
pub async fn overlaps(context: &SessionContext, name: &str) -> Result<Vec<Candidate>> {
    let numbered = |flag: &str, other: &str| {
        format!(
            "(SELECT doc_id, entity_type, start_char, end_char,
                row_number() OVER (ORDER BY doc_id, start_char, end_char, entity_type) AS number FROM {name} WHERE {flag} AND NOT {other})"
        )
    };
    let sql = format!(
        "SELECT CAST(p.number AS bigint) AS predicted, CAST(g.number AS bigint) AS gold,
            least(p.end_char, g.end_char) - greatest(p.start_char, g.start_char) AS shared
         FROM {} p JOIN {} g ON p.doc_id = g.doc_id AND p.entity_type = g.entity_type
            AND p.start_char < g.end_char AND g.start_char < p.end_char",
        numbered("predicted", "gold"),
        numbered("gold", "predicted")
    );
    let batches = query(context, &sql).await?;
    let candidate = |row: ResultRow<'_>| {
        Ok(Candidate { predicted: row.get("predicted")?, gold: row.get("gold")?, shared: row.get("shared")? })
    };
    result_rows(&batches).map(candidate).collect()
}

/// Strict counts by document and type, sorted by document.
pub async fn counts_by_document(context: &SessionContext, name: &str) -> Result<Vec<(String, String, Counts)>> {
    let sql = format!(
        "SELECT doc_id, entity_type, {} FROM {name} GROUP BY 1, 2 ORDER BY 1, 2",
        counted("", "predicted", "gold")
    );
    let batches = query(context, &sql).await?;
    result_rows(&batches).map(|row| Ok((row.get("doc_id")?, row.get("entity_type")?, counts(&row)?))).collect()
}

/// The confusion matrix: (gold type, predicted type, count) of mentions with the same span. A type is empty if that table has no mention
/// with the span. If both tables have several types for a span, equal types are paired first, the others by name.
pub async fn confusion(context: &SessionContext, name: &str) -> Result<Vec<(String, String, usize)>> {
    let rest = |flag: &str, other: &str| {
        format!(
            "(SELECT *, row_number() OVER (PARTITION BY doc_id, start_char, end_char ORDER BY entity_type) AS number FROM {name} WHERE {flag} AND NOT {other})"
        )
    };
    let sql = format!(
        "SELECT gold_type, predicted_type, count(*) AS mentions FROM (
            SELECT entity_type AS gold_type, entity_type AS predicted_type FROM {name} WHERE predicted AND gold
            UNION ALL SELECT coalesce(g.entity_type, '') AS gold_type, coalesce(p.entity_type, '') AS predicted_type
            FROM {} p FULL JOIN {} g ON p.doc_id = g.doc_id AND p.start_char = g.start_char AND p.end_char = g.end_char AND p.number = g.number)
         GROUP BY 1, 2 ORDER BY 1, 2",
        rest("predicted", "gold"),
        rest("gold", "predicted")
    );
    let batches = query(context, &sql).await?;
    let cell = |row: ResultRow<'_>| Ok((row.get("gold_type")?, row.get("predicted_type")?, row.get("mentions")?));
    result_rows(&batches).map(cell).collect()
}

/// Strict counts of two matched tables over the same gold, for each document with a mention in either.
pub async fn paired_counts(context: &SessionContext, first: &str, second: &str) -> Result<Vec<[Counts; 2]>> {
    let sql = format!(
        "SELECT {}, {} FROM (SELECT coalesce(a.doc_id, b.doc_id) AS doc_id, coalesce(a.predicted, false) AS a, coalesce(b.predicted, false) AS b,
            coalesce(a.gold, b.gold) AS gold FROM {first} a FULL JOIN {second} b ON a.doc_id = b.doc_id AND a.entity_type = b.entity_type
            AND a.start_char = b.start_char AND a.end_char = b.end_char)
         GROUP BY doc_id ORDER BY doc_id",
        counted("first_", "a", "gold"),
        counted("second_", "b", "gold")
    );
    let batches = query(context, &sql).await?;
    result_rows(&batches).map(|row| Ok([counts_of(&row, "first_")?, counts_of(&row, "second_")?])).collect()
}

/// SQL for true positives, false positives and false negatives as three columns, whose names begin with `prefix`.
fn counted(prefix: &str, predicted: &str, gold: &str) -> String {
    format!(
        "count(*) FILTER (WHERE {predicted} AND {gold}) AS {prefix}true_positives,
         count(*) FILTER (WHERE {predicted} AND NOT {gold}) AS {prefix}false_positives,
         count(*) FILTER (WHERE {gold} AND NOT {predicted}) AS {prefix}false_negatives"
    )
}

/// Reads the columns `true_positives`, `false_positives` and `false_negatives`.
pub fn counts(row: &ResultRow<'_>) -> Result<Counts> {
    counts_of(row, "")
}

/// Reads the columns of [`counted`].
fn counts_of(row: &ResultRow<'_>, prefix: &str) -> Result<Counts> {
    Ok(Counts {
        true_positives: row.get(&format!("{prefix}true_positives"))?,
        false_positives: row.get(&format!("{prefix}false_positives"))?,
        false_negatives: row.get(&format!("{prefix}false_negatives"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::session::{SessionSettings, session};

    /// A view like those of `mention_table`: `rows` are id, type, start, end, text, score, nested.
    async fn mentions(context: &SessionContext, view: &str, rows: &str) {
        let columns = "doc_id, entity_type, start_char, end_char, text, score, nested";
        let cast = "CAST(text AS varchar) AS text, CAST(score AS double) AS score, nested";
        let sql = format!(
            "SELECT doc_id, entity_type, start_char, end_char, {cast} FROM (VALUES {rows}) AS rows ({columns})"
        );
        register(context, view, &sql).await.expect("a view");
    }

    async fn rows(context: &SessionContext, table: &str, row: &str) -> Vec<String> {
        let batches = query(context, &format!("SELECT {row} FROM {table} ORDER BY 1")).await.expect("rows");
        result_rows(&batches).map(|row| row.scalar().expect("a string")).collect()
    }

    async fn strict(context: &SessionContext, table: &str) -> Vec<(String, [usize; 3])> {
        let counts = counts_by(context, table, "entity_type").await.expect("counts");
        let numbers = |one: Counts| [one.true_positives, one.false_positives, one.false_negatives];
        counts.into_iter().map(|(key, one)| (key, numbers(one))).collect()
    }

    #[tokio::test]
    async fn text_and_nesting_come_from_gold_and_the_score_from_the_prediction() {
        let context = session(&SessionSettings::default()).expect("a session");
        let found = "('d', 'A', 0, 4, 'own', 0.5, true), ('d', 'A', 1, 3, 'own', 0.25, true), ('e', 'B', 0, 2, NULL, 0.75, false)";
        let right = "('d', 'A', 0, 4, 'gold', 0.875, false), ('d', 'B', 1, 3, NULL, NULL, true), ('e', 'B', 0, 2, 'gold', NULL, true)";
        mentions(&context, "found", found).await;
        mentions(&context, "gold", right).await;
        match_up(&context, "kept", "found", "gold").await.expect("a table");
        match_once(&context, "counted", "found", "gold").await.expect("a view");
        let place = "doc_id || entity_type || CAST(start_char AS varchar)";
        let sides = "CASE WHEN predicted THEN ' predicted' ELSE '' END || CASE WHEN gold THEN ' gold' ELSE '' END";
        let like = "coalesce(text, '-') || ' ' || coalesce(CAST(score AS varchar), '-') || CASE WHEN nested THEN ' nested' ELSE '' END";
        assert_eq!(
            rows(&context, "kept", &format!("{place} || ' ' || {like} || {sides}")).await,
            [
                "dA0 gold 0.5 predicted gold",
                "dA1 own 0.25 nested predicted",
                "dB1 - - nested gold",
                "eB0 gold 0.75 nested predicted gold",
            ]
        );
        assert_eq!(
            rows(&context, "counted", &format!("{place} || {sides}")).await,
            ["dA0 predicted gold", "dA1 predicted", "dB1 gold", "eB0 predicted gold"]
        );
        for table in ["kept", "counted"] {
            let expected = [("A".to_owned(), [1, 1, 0]), ("B".to_owned(), [1, 0, 1])];
            assert_eq!(strict(&context, table).await, expected, "{table}");
        }
    }

    /// A join of this many mentions, which holds one side in memory, fails with this memory limit.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn counting_spills_to_disk() {
        let settings =
            SessionSettings { memory_bytes: Some(12 << 20), target_partitions: Some(2), batch_rows: Some(1024) };
        let context = session(&settings).expect("a session");
        for (view, first) in [("found", 0), ("gold", 1)] {
            let id = "'document ' || CAST(v / 10 AS varchar)";
            let sql = format!(
                "SELECT {id} AS doc_id, 'A' AS entity_type, v % 10 AS start_char, v % 10 + 1 AS end_char
                 FROM generate_series({first}, 299999) AS s(v)"
            );
            register(&context, view, &sql).await.expect("a view");
        }
        let join = "SELECT count(*) FROM found FULL JOIN gold USING (doc_id, entity_type, start_char, end_char)";
        let error = context.sql(join).await.expect("a plan").collect().await.expect_err("more than fits in memory");
        assert!(error.to_string().contains("Resources exhausted"), "{error}");
        match_once(&context, "counted", "found", "gold").await.expect("a view");
        assert_eq!(strict(&context, "counted").await, [("A".to_owned(), [299_999, 1, 0])]);
    }
}

//! A matched table → its errors. In: predicted ⋈ gold from [`crate::query::scoring`]. Out: a table of false positives and false
//! negatives, each with the overlapping mention of the other side. It must not count true positives as errors.

use datafusion::prelude::SessionContext;

use crate::error::Result;
use crate::query::statement::{keep, query};
use crate::tables::result_row::{ResultRow, result_rows};

/// Creates the table `name` of the errors in `matched`, each with the best overlapping mention of the other side, if any: the same span
/// first, then the same type, then the larger overlap.
pub async fn find(context: &SessionContext, name: &str, matched: &str) -> Result<()> {
    let keys = "e.doc_id, e.entity_type, e.start_char, e.end_char";
    let same_place = "e.start_char = o.start_char AND e.end_char = o.end_char";
    let sql = format!(
        "WITH near AS (SELECT {keys}, e.predicted, o.entity_type AS other_type, o.start_char AS other_start, o.end_char AS other_end,
            row_number() OVER (PARTITION BY {keys} ORDER BY ({same_place}) DESC, (e.entity_type = o.entity_type) DESC,
                least(e.end_char, o.end_char) - greatest(e.start_char, o.start_char) DESC, o.start_char, o.end_char, o.entity_type) AS number
            FROM {matched} e JOIN {matched} o ON e.doc_id = o.doc_id AND e.start_char < o.end_char AND o.start_char < e.end_char
            WHERE (e.predicted AND NOT e.gold AND o.gold) OR (e.gold AND NOT e.predicted AND o.predicted))
         SELECT CASE WHEN e.predicted THEN 'false_positive' ELSE 'false_negative' END AS kind,
            CASE WHEN o.other_type IS NULL THEN 'nothing_there' WHEN e.start_char = o.other_start AND e.end_char = o.other_end THEN 'type'
                WHEN e.entity_type = o.other_type THEN 'boundary' ELSE 'type_and_boundary' END AS reason,
            {keys}, e.text, e.score, e.nested, o.other_type, o.other_start, o.other_end
         FROM {matched} e LEFT JOIN (SELECT * FROM near WHERE number = 1) o ON e.doc_id = o.doc_id AND e.entity_type = o.entity_type
            AND e.start_char = o.start_char AND e.end_char = o.end_char
         WHERE e.predicted <> e.gold"
    );
    keep(context, name, &sql).await
}

/// Counts the errors in the table `name` by kind (`false_positive` or `false_negative`) and reason (how the other side differs: `type`,
/// `boundary`, `type_and_boundary`, `nothing_there`).
pub async fn kinds(context: &SessionContext, name: &str) -> Result<Vec<(String, String, usize)>> {
    let sql = format!("SELECT kind, reason, count(*) AS mentions FROM {name} GROUP BY 1, 2 ORDER BY 1 DESC, 3 DESC, 2");
    let batches = query(context, &sql).await?;
    let kind = |row: ResultRow<'_>| Ok((row.get("kind")?, row.get("reason")?, row.get("mentions")?));
    result_rows(&batches).map(kind).collect()
}

/// SQL for every document of `matched` with its counts, the most errors first. `id` is the SQL expression for its id.
pub fn by_document(matched: &str, id: &str) -> String {
    format!(
        "SELECT {id} AS doc_id, true_positives, false_positives, false_negatives FROM (
            SELECT doc_id, count(*) FILTER (WHERE predicted AND gold) AS true_positives,
                count(*) FILTER (WHERE predicted AND NOT gold) AS false_positives,
                count(*) FILTER (WHERE gold AND NOT predicted) AS false_negatives
            FROM {matched} GROUP BY doc_id)
         ORDER BY false_positives + false_negatives DESC, true_positives, doc_id"
    )
}

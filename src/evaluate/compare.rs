//! Compares two systems on the same gold. In: two matched tables. Out: the changed mentions, and whether the difference of F1 is
//! significant. It must not score the first system again.

use datafusion::prelude::SessionContext;

use super::report::{Changes, Comparison, Report, Row};
use super::tables::{CHANGES, MATCHED, MATCHED_AGAINST};
use crate::error::Result;
use crate::query::scoring::{counts_by, paired_counts};
use crate::query::statement::{keep, query};
use crate::score::bootstrap::{Resampling, compare as resampled};
use crate::score::counts::Counts;
use crate::tables::result_row::result_rows;

/// Compares the two systems, whose matched tables must be in the session.
pub(super) async fn compare(context: &SessionContext, report: &Report, rule: Resampling) -> Result<Comparison> {
    let sql = format!(
        "SELECT CASE WHEN gold AND here THEN 'found' WHEN gold THEN 'lost' WHEN here THEN 'new_error' ELSE 'error_gone' END AS change,
            doc_id, entity_type, start_char, end_char, text, score, against_score FROM (
            SELECT coalesce(a.doc_id, b.doc_id) AS doc_id, coalesce(a.entity_type, b.entity_type) AS entity_type,
                coalesce(a.start_char, b.start_char) AS start_char, coalesce(a.end_char, b.end_char) AS end_char,
                coalesce(a.text, b.text) AS text, a.score AS score, b.score AS against_score,
                coalesce(a.gold, b.gold) AS gold, coalesce(a.predicted, false) AS here, coalesce(b.predicted, false) AS there
            FROM {MATCHED} a FULL JOIN {MATCHED_AGAINST} b ON a.doc_id = b.doc_id AND a.entity_type = b.entity_type
                AND a.start_char = b.start_char AND a.end_char = b.end_char)
         WHERE here <> there"
    );
    keep(context, CHANGES, &sql).await?;
    let of = |change: &str| format!("count(*) FILTER (WHERE change = '{change}') AS {change}");
    let sql = format!(
        "SELECT entity_type, {}, {}, {}, {} FROM {CHANGES} GROUP BY 1 ORDER BY 1",
        of("found"),
        of("lost"),
        of("new_error"),
        of("error_gone")
    );
    let mut changes = Vec::new();
    for row in result_rows(&query(context, &sql).await?) {
        changes.push(Changes {
            name: row.get("entity_type")?,
            found: row.get("found")?,
            lost: row.get("lost")?,
            new_errors: row.get("new_error")?,
            errors_gone: row.get("error_gone")?,
        });
    }
    let counts: Counts =
        counts_by(context, MATCHED_AGAINST, "entity_type").await?.into_iter().map(|(_, one)| one).sum();
    let pairs = paired_counts(context, MATCHED, MATCHED_AGAINST).await?;
    Ok(Comparison {
        against: Row::new("all", counts, None),
        changes,
        difference: resampled(&pairs, report.documents, rule),
    })
}

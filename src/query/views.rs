//! Views for the most common questions. In: a session with a store's tables. Out: each view's name, description and SQL, which means
//! the same in any SQL engine that reads the tables. It must not run them.

use datafusion::prelude::SessionContext;

use crate::error::{Error, Result};
use crate::query::session;

/// A view over a store's tables and the views before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Its name in SQL.
    pub name: &'static str,
    /// What a row is.
    pub what: &'static str,
    /// Its SQL.
    pub query: &'static str,
}

/// The text of [`LAST_REJECTS`], for views that contain it.
macro_rules! last_rejects {
    () => {
        "SELECT reason, source, \"row\", doc_id, detail
  FROM (SELECT *, row_number() OVER (PARTITION BY source, \"row\" ORDER BY commit DESC, reason) AS age
    FROM rejects WHERE spec_id = (SELECT spec_id FROM documents ORDER BY commit LIMIT 1) OR NOT EXISTS (SELECT 1 FROM documents)) a
  WHERE a.age = 1"
    };
}

/// The current rejects: one per refused row of a file under the specification in force. Reading a file again rejects its bad rows
/// again, so the newest reject of a row counts.
pub const LAST_REJECTS: &str = last_rejects!();

/// The views that [`register`] creates in addition to `session::VIEWS`. Means are rounded to the precision of a score.
pub const VIEWS: [View; 7] = [
    View {
        name: "entities_by_type",
        what: "an entity type, with its figures",
        query: "SELECT entity_type, count(*) AS mentions, count(DISTINCT doc_id) AS documents, count(DISTINCT text) AS texts,
  round(avg(score), 4) AS mean_score, round(CAST(min(score) AS double), 4) AS least_score
FROM current_entities GROUP BY entity_type ORDER BY mentions DESC, entity_type",
    },
    View {
        name: "top_mentions",
        what: "a text of one type, the most frequent first",
        query: "SELECT text, entity_type, count(*) AS mentions, count(DISTINCT doc_id) AS documents, round(avg(score), 4) AS mean_score
FROM current_entities GROUP BY text, entity_type ORDER BY mentions DESC, text, entity_type",
    },
    View {
        // Pairs grow with the square of the texts. At most 1000 texts are paired, so there are at most half a million rows.
        name: "co_occurrence",
        what: "two texts in the same documents, of the 1000 texts that most documents have",
        query: "WITH names AS (
  SELECT text, entity_type, count(DISTINCT doc_id) AS documents FROM current_entities
  GROUP BY text, entity_type ORDER BY documents DESC, text, entity_type LIMIT 1000),
placed AS (
  SELECT DISTINCT e.doc_id, e.text, e.entity_type
  FROM current_entities e JOIN names n ON e.text = n.text AND e.entity_type = n.entity_type)
SELECT a.text, a.entity_type, b.text AS other_text, b.entity_type AS other_type, count(*) AS documents
FROM placed a JOIN placed b ON a.doc_id = b.doc_id
WHERE a.text < b.text OR (a.text = b.text AND a.entity_type < b.entity_type)
GROUP BY a.text, a.entity_type, b.text, b.entity_type ORDER BY documents DESC, a.text, b.text, a.entity_type, b.entity_type",
    },
    View {
        name: "documents_by_source",
        what: "an input file, with its documents",
        query: "SELECT source, count(*) AS documents, CAST(sum(n_chars) AS bigint) AS chars, CAST(sum(n_tokens) AS bigint) AS tokens,
  CAST(sum(n_entities) AS bigint) AS mentions, max(finished_at) AS finished_at
FROM current_documents GROUP BY source ORDER BY source",
    },
    View {
        name: "rejects_by_reason",
        what: "a reason why documents or files were refused, with the first of them",
        query: concat!(
            "SELECT r.reason, count(*) AS rejects, count(DISTINCT r.source) AS files,
  min(CASE WHEN r.place = 1 THEN r.source END) AS first_source, min(CASE WHEN r.place = 1 THEN r.\"row\" END) AS first_row,
  min(CASE WHEN r.place = 1 THEN r.detail END) AS first_detail
FROM (SELECT l.reason, l.source, l.\"row\", l.detail, row_number() OVER (PARTITION BY l.reason ORDER BY l.source, l.\"row\") AS place
  FROM (",
            last_rejects!(),
            ") l) r
GROUP BY r.reason ORDER BY rejects DESC, r.reason"
        ),
    },
    View {
        name: "metrics_by_run",
        what: "a run with its main figures, the last first",
        query: "SELECT r.run_id, r.started_at, r.finished_at, r.outcome, r.model, r.precision AS model_precision, r.device, m.documents, m.rejects, m.unreadable_files,
  m.mentions, m.queries, m.seconds, m.documents_per_second, m.tokens_per_second, m.padding, m.undecided, m.peak_memory,
  m.\"precision\", m.recall, m.f1
FROM runs r LEFT JOIN (SELECT run_id,
    CAST(max(CASE WHEN name = 'documents' THEN value END) AS bigint) AS documents,
    CAST(max(CASE WHEN name = 'rejects' THEN value END) AS bigint) AS rejects,
    CAST(max(CASE WHEN name = 'unreadable_files' THEN value END) AS bigint) AS unreadable_files,
    CAST(max(CASE WHEN name = 'mentions' THEN value END) AS bigint) AS mentions,
    CAST(max(CASE WHEN name = 'queries' THEN value END) AS bigint) AS queries,
    max(CASE WHEN name = 'seconds' THEN value END) AS seconds,
    max(CASE WHEN name = 'documents_per_second' THEN value END) AS documents_per_second,
    max(CASE WHEN name = 'tokens_per_second' THEN value END) AS tokens_per_second,
    max(CASE WHEN name = 'padding' THEN value END) AS padding,
    CAST(max(CASE WHEN name = 'undecided' THEN value END) AS bigint) AS undecided,
    CAST(max(CASE WHEN name = 'peak_memory' THEN value END) AS bigint) AS peak_memory,
    max(CASE WHEN name = 'precision' THEN value END) AS \"precision\",
    max(CASE WHEN name = 'recall' THEN value END) AS recall,
    max(CASE WHEN name = 'f1' THEN value END) AS f1
  FROM metrics WHERE scope = 'all' GROUP BY run_id) m ON r.run_id = m.run_id
ORDER BY r.started_at DESC, r.run_id DESC",
    },
    View {
        name: "last_run",
        what: "the last run, as in metrics_by_run",
        query: "SELECT * FROM metrics_by_run ORDER BY started_at DESC, run_id DESC LIMIT 1",
    },
];

/// Describes a row of a store's table or view; `None` for another name.
#[must_use]
pub fn what(name: &str) -> Option<&'static str> {
    Some(match name {
        "entities" => "a mention, as committed",
        "documents" => "an extracted document, as committed",
        "rejects" => "a refused document or file",
        "sources" => "an input file done",
        "metrics" => "a figure of a run or an evaluation",
        "runs" => "a run",
        "current_entities" => "a current mention: its commit is complete and its specification is in force",
        "current_documents" => "a current document",
        other => VIEWS.iter().find(|view| view.name == other)?.what,
    })
}

/// Creates the [`VIEWS`] in a session with a store's tables. A second call plans them again, over the tables as they are then.
///
/// # Errors
/// [`Error::Engine`] if a view cannot be planned.
pub async fn register(context: &SessionContext) -> Result<()> {
    // By default the planner drops a view's ORDER BY, but a query with LIMIT needs the first rows in that order.
    context.state_ref().write().config_mut().options_mut().sql_parser.enable_subquery_sort_elimination = false;
    for View { name, query, .. } in VIEWS {
        let created = context.sql(&format!("CREATE OR REPLACE VIEW {name} AS {query}")).await;
        created.map_err(|cause| Error::Engine { doing: format!("plan the view `{name}`"), source: cause.into() })?;
    }
    Ok(())
}

/// Every view of a store by name, with its SQL.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    session::VIEWS.into_iter().chain(VIEWS.iter().map(|view| (view.name, view.query)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Table;

    #[test]
    fn every_table_and_view_has_a_description() {
        for name in Table::ALL.map(Table::name).into_iter().chain(all().map(|(name, _)| name)) {
            assert!(what(name).is_some(), "{name}");
        }
        assert_eq!(what("other"), None);
    }
}

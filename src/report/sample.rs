//! Samples the documents of the page. In: the view of documents, the matched table if there is gold, a limit. Out: the documents with the
//! most errors, or evenly sampled ones, in display order. It must not read a text.

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::tables::{DOCUMENTS, MATCHED};
use crate::error::Result;
use crate::query::statement::query;
use crate::tables::result_row::result_rows;

/// A sampled document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) id: String,
    pub(super) source: String,
    /// The hash of the text that was extracted.
    pub(super) content_hash: String,
    pub(super) characters: usize,
}

/// The sampling rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rule {
    /// All documents.
    All,
    /// The documents with the most errors.
    Errors,
    /// Equally spaced documents in the order of their files and ids.
    Even,
}

/// Samples at most `limit` of `all` documents.
pub(super) async fn choose(
    context: &SessionContext,
    all: usize,
    limit: usize,
    matched: bool,
) -> Result<(Rule, Vec<Chosen>)> {
    let rule = match (all <= limit, matched) {
        (true, _) => Rule::All,
        (false, true) => Rule::Errors,
        (false, false) => Rule::Even,
    };
    let columns = "d.doc_id, d.source, d.content_hash, d.n_chars";
    let sql = if matched {
        format!(
            "SELECT {columns} FROM {DOCUMENTS} d LEFT JOIN (
                SELECT doc_id, count(*) FILTER (WHERE predicted <> gold) AS errors, count(*) AS mentions FROM {MATCHED} GROUP BY doc_id) m
                ON d.doc_id = m.doc_id
             ORDER BY coalesce(m.errors, 0) DESC, coalesce(m.mentions, 0) DESC, d.source, d.doc_id LIMIT {limit}"
        )
    } else {
        format!(
            "SELECT {columns} FROM (SELECT *, row_number() OVER (ORDER BY source, doc_id) - 1 AS place FROM {DOCUMENTS}) d
             WHERE (CAST(d.place AS bigint) * {limit}) % {} < {limit} ORDER BY d.place",
            all.max(1)
        )
    };
    let mut chosen = Vec::new();
    for row in result_rows(&query(context, &sql).await?) {
        chosen.push(Chosen {
            id: row.get("doc_id")?,
            source: row.get("source")?,
            content_hash: row.get("content_hash")?,
            characters: row.get("n_chars")?,
        });
    }
    Ok((rule, chosen))
}

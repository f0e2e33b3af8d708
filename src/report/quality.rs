//! Extraction quality. In: gold mentions if available, and the views of the page's mentions and documents. Out: scores, a confusion
//! matrix, error classes and the most frequent errors, all from the join with gold; without gold, the scores that the run measured. It
//! must not define its own scoring rules.

use datafusion::prelude::SessionContext;

use super::scope::{Named, Scope, without_login};
use super::summary::{BINS, FrequentError, Quality, Reliability, Scored, Summary, bin};
use super::tables::{ALL_DOCUMENTS, ERRORS, MATCHED, MENTIONS};
use crate::error::Result;
use crate::query::error_analysis;
use crate::query::external_table::ExternalTable;
use crate::query::mention_table::{Columns, SCOPE, check, normalize};
use crate::query::scoring::{confusion, counts_by, match_up};
use crate::query::statement::{count, query, register};
use crate::score::calibration::{BINS as BINS_OF_ERROR, Bin, error_of_bins};
use crate::score::counts::{Counts, Scores};
use crate::tables::Table;
use crate::tables::result_row::{ResultRow, result_rows};

/// The number of most frequent errors shown.
const MOST_FREQUENT: usize = 60;

/// The result of the join with gold.
#[derive(Debug, Default)]
pub(super) struct Gold {
    /// Whether there is a matched table.
    pub(super) matched: bool,
    /// Why there is none, although the run's job names gold.
    remark: Option<String>,
}

/// Joins the mentions with gold. If gold that the user named is missing, that is an error; if only the run's job names it, a remark on the
/// page.
pub(super) async fn join(context: &SessionContext, scope: &Scope) -> Result<Gold> {
    let Some(gold) = &scope.gold else { return Ok(Gold::default()) };
    match match_gold(context, scope, gold).await {
        Err(error) if !gold.by_user => {
            let remark = without_login(&format!("The gold mentions are no longer available: {error}."));
            tracing::warn!("{remark}");
            Ok(Gold { matched: false, remark: Some(remark) })
        }
        joined => joined.map(|()| Gold { matched: true, remark: None }),
    }
}

/// Adds the scores to `summary`: from the join, or without one, those that the run measured.
pub(super) async fn read(context: &SessionContext, gold: &Gold, summary: &mut Summary) -> Result<()> {
    summary.quality = if gold.matched { Some(measure(context, summary).await?) } else { measured(summary) };
    summary.quality_remark.clone_from(&gold.remark);
    Ok(())
}

/// Creates the matched table and the table of errors. All documents are scored, including those without predicted mentions.
async fn match_gold(context: &SessionContext, scope: &Scope, gold: &Named) -> Result<()> {
    let files = ExternalTable { table: "gold_rows", what: "gold mentions", location: &gold.location };
    let gold_columns = check(&files, &files.register(context).await?)?;
    let own = ExternalTable { table: MENTIONS, what: "mentions", location: "store" };
    let own_columns: Columns = check(&own, &Table::Entities.schema(&arrow::datatypes::DataType::Utf8))?;
    register(context, "gold_rows", &format!("SELECT * FROM gold_rows WHERE {}", scope.of_types())).await?;
    register(context, SCOPE, &format!("SELECT doc_id AS scored_id FROM {ALL_DOCUMENTS}")).await?;
    normalize(context, MENTIONS, "predicted_mentions", own_columns, true).await?;
    normalize(context, "gold_rows", "gold_mentions", gold_columns, true).await?;
    match_up(context, MATCHED, "predicted_mentions", "gold_mentions").await?;
    error_analysis::find(context, ERRORS, MATCHED).await
}

/// Scores the matched table.
async fn measure(context: &SessionContext, summary: &mut Summary) -> Result<Quality> {
    let types = counts_by(context, MATCHED, "entity_type").await?;
    for (name, _) in &types {
        summary.type_index(name);
    }
    right(context, summary).await?;
    Ok(Quality {
        joined: true,
        all: Scored::new("all", types.iter().map(|(_, counts)| *counts).sum()),
        types: types.iter().map(|(name, counts)| Scored::new(name, *counts)).collect(),
        confusion: confusion(context, MATCHED).await?,
        kinds: error_analysis::kinds(context, ERRORS).await?,
        frequent_errors: most_frequent(context).await?,
        reliability: reliability(context).await?,
        without_text: count(context, &format!("SELECT count(*) FROM {ERRORS} WHERE text IS NULL")).await?,
    })
}

/// Counts right mentions by type and score.
async fn right(context: &SessionContext, summary: &mut Summary) -> Result<()> {
    for one in &mut summary.types {
        one.right = vec![0; BINS];
    }
    let sql = format!(
        "SELECT entity_type, {} AS bin, count(*) AS mentions FROM {MATCHED} WHERE predicted AND gold AND score IS NOT NULL GROUP BY 1, 2",
        bin("score")
    );
    for row in result_rows(&query(context, &sql).await?) {
        let index = summary.type_index(row.get("entity_type")?);
        summary.types[index].right.resize(BINS, 0);
        summary.types[index].right[row.get::<usize>("bin")?.min(BINS - 1)] = row.get("mentions")?;
    }
    Ok(())
}

/// Predicted mentions by type and score, with the right ones.
async fn reliability(context: &SessionContext) -> Result<Vec<Reliability>> {
    let sql = format!(
        "SELECT entity_type, CAST(least(greatest(floor(score * {BINS_OF_ERROR}), 0), {}) AS bigint) AS bin, count(*) AS mentions,
            count(*) FILTER (WHERE gold) AS right, sum(score) AS score
         FROM {MATCHED} WHERE predicted AND score IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
        BINS_OF_ERROR - 1
    );
    let mut types: Vec<(String, Vec<Bin>)> = vec![("all".to_owned(), vec![Bin::default(); BINS_OF_ERROR])];
    for row in result_rows(&query(context, &sql).await?) {
        let (name, bin): (String, usize) = (row.get("entity_type")?, row.get("bin")?);
        let found = Bin { mentions: row.get("mentions")?, right: row.get("right")?, score: row.get("score")? };
        if types.last().is_none_or(|(last, _)| types.len() == 1 || *last != name) {
            types.push((name, vec![Bin::default(); BINS_OF_ERROR]));
        }
        for number in [0, types.len() - 1] {
            let sum = &mut types[number].1[bin];
            sum.mentions += found.mentions;
            sum.right += found.right;
            sum.score += found.score;
        }
    }
    if types.len() == 1 {
        return Ok(Vec::new());
    }
    let of = |(name, bins): (String, Vec<Bin>)| Reliability { name, error: error_of_bins(&bins), bins };
    Ok(types.into_iter().map(of).collect())
}

/// The most frequent errors, grouped by class, types and text.
async fn most_frequent(context: &SessionContext) -> Result<Vec<FrequentError>> {
    let sql = format!(
        "SELECT kind, reason, entity_type, other_type, substr(text, 1, 160) AS text, count(*) AS mentions, count(DISTINCT doc_id) AS documents
         FROM {ERRORS} WHERE text IS NOT NULL GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 5, 1, 3, 4 LIMIT {MOST_FREQUENT}"
    );
    let frequent_error = |row: ResultRow<'_>| {
        Ok(FrequentError {
            kind: row.get("kind")?,
            reason: row.get("reason")?,
            entity_type: row.get("entity_type")?,
            // Empty if the other side has nothing there.
            other_type: row.get::<Option<String>>("other_type")?.unwrap_or_default(),
            text: row.get("text")?,
            mentions: row.get("mentions")?,
            documents: row.get("documents")?,
        })
    };
    result_rows(&query(context, &sql).await?).map(frequent_error).collect()
}

/// The scores that the run measured, from its figures; if only some types are shown, those of these types.
fn measured(summary: &Summary) -> Option<Quality> {
    let value = |scope: &str, name: &str| {
        let mut figures = summary.figures.iter();
        figures.find(|figure| figure.0 == scope && figure.1 == name).map(|figure| figure.2)
    };
    let scored = |scope: &str| {
        let scores =
            Scores { precision: value(scope, "precision")?, recall: value(scope, "recall")?, f1: value(scope, "f1")? };
        let count = |name| value(scope, name).unwrap_or_default() as usize;
        let counts = Counts {
            true_positives: count("true_positives"),
            false_positives: count("false_positives"),
            false_negatives: count("false_negatives"),
        };
        Some(Scored { name: scope.to_owned(), scores, counts })
    };
    let types: Vec<Scored> = summary.types.iter().filter_map(|one| scored(&one.name)).collect();
    let all = match types.as_slice() {
        [] if summary.only_types => return None,
        shown if summary.only_types => Scored::new("all", shown.iter().map(|one| one.counts).sum()),
        _ => scored("all")?,
    };
    Some(Quality {
        joined: false,
        all,
        types,
        confusion: Vec::new(),
        kinds: Vec::new(),
        frequent_errors: Vec::new(),
        reliability: Vec::new(),
        without_text: 0,
    })
}

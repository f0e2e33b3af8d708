//! The figures of a store. In: the views of the page's mentions and documents, `metrics`, `runs`, `rejects`. Out: the page's summary. It
//! must not read a document's text.

use std::collections::BTreeMap;

use chrono::Utc;
use datafusion::prelude::SessionContext;

use super::scope::{Run, Scope, literal, without_login};
use super::summary::{BINS, Rejects, RunFigures, Summary, Totals, TypeFigures, bin, index_of};
use super::tables::{ALL_DOCUMENTS, DOCUMENTS, MENTIONS};
use crate::error::Result;
use crate::query::statement::{count, query, register};
use crate::query::views::LAST_REJECTS;
use crate::tables::result_row::{ResultRow, result_rows};

/// The number of most frequent names shown per type.
const NAMES: usize = 12;
/// The number of rejects shown per reason.
const REJECTS: usize = 20;
/// The number of latest runs shown.
const RUNS: usize = 60;
/// Names are truncated to this number of characters.
const MAX_NAME: usize = 160;

/// The figures shown as trends over the runs.
const TREND: [&str; 6] = ["documents", "mentions", "rejects", "seconds", "documents_per_second", "f1"];

/// Reads everything that does not need gold.
pub(super) async fn read(context: &SessionContext, scope: &Scope, runs: Vec<Run>, last_commit: i64) -> Result<Summary> {
    let store = without_login(&scope.location.to_string());
    let last = store.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or_default();
    let name = if last.is_empty() { store.clone() } else { last.to_owned() };
    let rejects = rejects(context, scope, last_commit).await?;
    let mut totals = totals(context).await?;
    totals.rejects = rejects.iter().map(|one| one.count).sum();
    let figures = match &scope.run {
        Some(run) => figures(context, &run.id).await?,
        None => Vec::new(),
    };
    let earlier_runs = runs.len().saturating_sub(RUNS);
    Ok(Summary {
        quarry: env!("CARGO_PKG_VERSION"),
        made_at: Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        name,
        run: scope.run.as_ref().map(|run| run.id.clone()),
        only_run: scope.only_run,
        only_types: !scope.only_types.is_empty(),
        totals,
        types: types(context, scope).await?,
        bins: BINS,
        settings: scope.settings(),
        figures,
        runs: trend(context, runs.into_iter().skip(earlier_runs)).await?,
        earlier_runs,
        rejects,
        store,
        quality: None,
        comparison: None,
        quality_remark: None,
    })
}

async fn totals(context: &SessionContext) -> Result<Totals> {
    Ok(Totals {
        documents: count(context, &format!("SELECT count(*) FROM {DOCUMENTS}")).await?,
        all_documents: count(context, &format!("SELECT count(*) FROM {ALL_DOCUMENTS}")).await?,
        characters: count(context, &format!("SELECT CAST(coalesce(sum(n_chars), 0) AS bigint) FROM {DOCUMENTS}"))
            .await?,
        mentions: count(context, &format!("SELECT count(*) FROM {MENTIONS}")).await?,
        rejects: 0,
    })
}

/// The types in the order of the run's schema, then types that only other runs have found.
async fn types(context: &SessionContext, scope: &Scope) -> Result<Vec<TypeFigures>> {
    let asked = scope.types();
    let mut types: Vec<TypeFigures> = asked.iter().map(|one| TypeFigures::named(&one.name, &one.question)).collect();
    let sql = format!(
        "SELECT entity_type, count(*) AS mentions, count(DISTINCT text) AS texts, avg(score) AS mean_score FROM {MENTIONS} GROUP BY 1 ORDER BY 1"
    );
    for row in result_rows(&query(context, &sql).await?) {
        let index = index_of(&mut types, row.get("entity_type")?);
        let one = &mut types[index];
        (one.mentions, one.distinct, one.mean_score) =
            (row.get("mentions")?, row.get("texts")?, row.get("mean_score")?);
    }
    let sql =
        format!("SELECT entity_type, {} AS bin, count(*) AS mentions FROM {MENTIONS} GROUP BY 1, 2", bin("score"));
    for row in result_rows(&query(context, &sql).await?) {
        let index = index_of(&mut types, row.get("entity_type")?);
        types[index].scores[row.get::<usize>("bin")?.min(BINS - 1)] = row.get("mentions")?;
    }
    let sql = format!(
        "SELECT entity_type, substr(text, 1, {MAX_NAME}) AS text, n, documents FROM (
            SELECT entity_type, text, count(*) AS n, count(DISTINCT doc_id) AS documents,
                row_number() OVER (PARTITION BY entity_type ORDER BY count(*) DESC, text) AS place
            FROM {MENTIONS} GROUP BY entity_type, text)
         WHERE place <= {NAMES} ORDER BY entity_type, place"
    );
    for row in result_rows(&query(context, &sql).await?) {
        let index = index_of(&mut types, row.get("entity_type")?);
        types[index].names.push((row.get("text")?, row.get("n")?, row.get("documents")?));
    }
    if !scope.only_types.is_empty() {
        types.retain(|one| scope.only_types.contains(&one.name));
    }
    Ok(types)
}

async fn figures(context: &SessionContext, run: &str) -> Result<Vec<(String, String, f64, String)>> {
    let sql = format!("SELECT scope, name, value, unit FROM metrics WHERE run_id = {}", literal(run));
    let figure = |row: ResultRow<'_>| Ok((row.get("scope")?, row.get("name")?, row.get("value")?, row.get("unit")?));
    result_rows(&query(context, &sql).await?).map(figure).collect()
}

/// Every run with the figures shown as trends.
async fn trend(context: &SessionContext, runs: impl Iterator<Item = Run>) -> Result<Vec<RunFigures>> {
    let names: Vec<String> = TREND.iter().map(|name| literal(name)).collect();
    let sql = format!("SELECT run_id, name, value FROM metrics WHERE scope = 'all' AND name IN ({})", names.join(", "));
    let mut found: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for row in result_rows(&query(context, &sql).await?) {
        found.entry(row.get("run_id")?).or_default().insert(row.get("name")?, row.get("value")?);
    }
    Ok(runs.map(|run| RunFigures { figures: found.remove(&run.id).unwrap_or_default(), run }).collect())
}

/// The rejects, counted like in the view `rejects_by_reason`. `last_commit` cannot be derived from `documents`, since a commit can hold
/// only rejects.
async fn rejects(context: &SessionContext, scope: &Scope, last_commit: i64) -> Result<Vec<Rejects>> {
    let sql = format!("SELECT * FROM rejects WHERE {} AND commit <= {last_commit}", scope.of_run());
    register(context, "rejects", &sql).await?;
    let sql = format!(
        "SELECT reason, CAST(total AS bigint) AS total, source, CASE WHEN \"row\" >= 0 THEN CAST(\"row\" AS varchar) END AS \"row\",
            CAST(doc_id AS varchar) AS doc_id, substr(detail, 1, {MAX_NAME}) AS detail
         FROM (SELECT *, count(*) OVER (PARTITION BY reason) AS total,
                row_number() OVER (PARTITION BY reason ORDER BY source, \"row\") AS place FROM ({LAST_REJECTS}) l)
         WHERE place <= {REJECTS} ORDER BY total DESC, reason, place"
    );
    let mut found: Vec<Rejects> = Vec::new();
    for row in result_rows(&query(context, &sql).await?) {
        // Empty where a reject has no such part: a file has neither row nor id.
        let part = |name: &str| {
            Ok::<_, crate::error::Error>(without_login(row.get::<Option<&str>>(name)?.unwrap_or_default()))
        };
        let example = [part("source")?, part("row")?, part("doc_id")?, part("detail")?];
        let reason: String = row.get("reason")?;
        match found.last_mut().filter(|last| last.reason == reason) {
            Some(last) => last.examples.push(example),
            None => found.push(Rejects { reason, count: row.get("total")?, examples: vec![example] }),
        }
    }
    Ok(found)
}

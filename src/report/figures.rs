//! The figures of a store. In: the views of the page's mentions and documents, `metrics`, `runs`, `rejects`. Out: the page's summary. It
//! must not read a document's text.

use std::collections::BTreeMap;

use chrono::Utc;
use datafusion::prelude::SessionContext;

use super::scope::{Run, Scope, literal, without_login};
use super::summary::{BINS, Rejects, RunFigures, Summary, Totals, TypeFigures, bin, index_of};
use super::tables::{ALL_DOCUMENTS, DOCUMENTS, MENTIONS};
use crate::error::Result;
use crate::query::scoring::count;
use crate::query::statement::{count_at, f64_column, query, register, string_column};
use crate::query::views::LAST_REJECTS;

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
    let sql =
        format!("SELECT entity_type, count(*), count(DISTINCT text), avg(score) FROM {MENTIONS} GROUP BY 1 ORDER BY 1");
    for batch in &query(context, &sql).await? {
        let means = f64_column(batch, 3)?;
        for (row, name) in string_column(batch, 0)?.iter().enumerate() {
            let index = index_of(&mut types, name);
            let one = &mut types[index];
            (one.mentions, one.distinct) = (count_at(batch, 1, row)?, count_at(batch, 2, row)?);
            one.mean_score = means[row].unwrap_or_default();
        }
    }
    let sql = format!("SELECT entity_type, {}, count(*) FROM {MENTIONS} GROUP BY 1, 2", bin("score"));
    for batch in &query(context, &sql).await? {
        for (row, name) in string_column(batch, 0)?.iter().enumerate() {
            let index = index_of(&mut types, name);
            types[index].scores[count_at(batch, 1, row)?.min(BINS - 1)] = count_at(batch, 2, row)?;
        }
    }
    let sql = format!(
        "SELECT entity_type, substr(text, 1, {MAX_NAME}), n, documents FROM (
            SELECT entity_type, text, count(*) AS n, count(DISTINCT doc_id) AS documents,
                row_number() OVER (PARTITION BY entity_type ORDER BY count(*) DESC, text) AS place
            FROM {MENTIONS} GROUP BY entity_type, text)
         WHERE place <= {NAMES} ORDER BY entity_type, place"
    );
    for batch in &query(context, &sql).await? {
        for (row, (name, text)) in string_column(batch, 0)?.iter().zip(string_column(batch, 1)?).enumerate() {
            let index = index_of(&mut types, name);
            types[index].names.push((text, count_at(batch, 2, row)?, count_at(batch, 3, row)?));
        }
    }
    if !scope.only_types.is_empty() {
        types.retain(|one| scope.only_types.contains(&one.name));
    }
    Ok(types)
}

async fn figures(context: &SessionContext, run: &str) -> Result<Vec<(String, String, f64, String)>> {
    let sql = format!("SELECT scope, name, value, unit FROM metrics WHERE run_id = {}", literal(run));
    let mut figures = Vec::new();
    for batch in &query(context, &sql).await? {
        let (scopes, names) = (string_column(batch, 0)?, string_column(batch, 1)?);
        let (values, units) = (f64_column(batch, 2)?, string_column(batch, 3)?);
        let rows = scopes.into_iter().zip(names).zip(values).zip(units);
        figures.extend(rows.map(|(((scope, name), value), unit)| (scope, name, value.unwrap_or_default(), unit)));
    }
    Ok(figures)
}

/// Every run with the figures shown as trends.
async fn trend(context: &SessionContext, runs: impl Iterator<Item = Run>) -> Result<Vec<RunFigures>> {
    let names: Vec<String> = TREND.iter().map(|name| literal(name)).collect();
    let sql = format!("SELECT run_id, name, value FROM metrics WHERE scope = 'all' AND name IN ({})", names.join(", "));
    let mut found: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for batch in &query(context, &sql).await? {
        let rows = string_column(batch, 0)?.into_iter().zip(string_column(batch, 1)?).zip(f64_column(batch, 2)?);
        for ((run, name), value) in rows {
            found.entry(run).or_default().insert(name, value.unwrap_or_default());
        }
    }
    Ok(runs.map(|run| RunFigures { figures: found.remove(&run.id).unwrap_or_default(), run }).collect())
}

/// The rejects, counted like in the view `rejects_by_reason`. `last_commit` cannot be derived from `documents`, since a commit can hold
/// only rejects.
async fn rejects(context: &SessionContext, scope: &Scope, last_commit: i64) -> Result<Vec<Rejects>> {
    let sql = format!("SELECT * FROM rejects WHERE {} AND commit <= {last_commit}", scope.of_run());
    register(context, "rejects", &sql).await?;
    let sql = format!(
        "SELECT reason, CAST(total AS bigint), source, CASE WHEN \"row\" >= 0 THEN CAST(\"row\" AS varchar) END,
            CAST(doc_id AS varchar), substr(detail, 1, {MAX_NAME})
         FROM (SELECT *, count(*) OVER (PARTITION BY reason) AS total,
                row_number() OVER (PARTITION BY reason ORDER BY source, \"row\") AS place FROM ({LAST_REJECTS}) l)
         WHERE place <= {REJECTS} ORDER BY total DESC, reason, place"
    );
    let mut found: Vec<Rejects> = Vec::new();
    for batch in &query(context, &sql).await? {
        let texts: Vec<Vec<String>> =
            [2, 3, 4, 5].into_iter().map(|column| string_column(batch, column)).collect::<Result<_>>()?;
        for (row, reason) in string_column(batch, 0)?.into_iter().enumerate() {
            let example = std::array::from_fn(|column| without_login(&texts[column][row]));
            match found.last_mut().filter(|last| last.reason == reason) {
                Some(last) => last.examples.push(example),
                None => found.push(Rejects { reason, count: count_at(batch, 1, row)?, examples: vec![example] }),
            }
        }
    }
    Ok(found)
}

//! A matched table → the report. In: predicted ⋈ gold in the session. Out: all counts with their scores and intervals. It must not
//! print.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::load::{Loaded, LoadedSide};
use super::report::{Average, Confused, ErrorClass, Measure, Report, Row, TableReport, Worst};
use super::tables::{ERRORS, MATCHED};
use crate::error::Result;
use crate::query::error_analysis;
use crate::query::scoring::{NESTING, confusion, counts, counts_by, counts_by_document, overlaps, span_counts};
use crate::query::statement::{count, query};
use crate::sanitize::without_secrets;
use crate::score::bootstrap::{DocumentCounts, Intervals, Resampling, bootstrap};
use crate::score::counting::Counting;
use crate::score::counts::{Counts, Scores};
use crate::score::overlap::{Overlap, pair};
use crate::tables::result_row::result_rows;

/// Length classes: the largest length and the label.
const WORDS: [(usize, &str); 5] = [(1, "1"), (2, "2"), (3, "3"), (5, "4 to 5"), (usize::MAX, "6 and more")];
const CHARACTERS: [(usize, &str); 5] =
    [(4, "1 to 4"), (8, "5 to 8"), (16, "9 to 16"), (32, "17 to 32"), (usize::MAX, "33 and more")];

/// Counts everything in the matched table.
pub(super) async fn report(
    context: &SessionContext,
    loaded: &Loaded,
    counting: Counting,
    rule: Resampling,
    worst_documents: usize,
) -> Result<Report> {
    let types = counts_by(context, MATCHED, "entity_type").await?;
    let all: Counts = types.iter().map(|(_, counts)| *counts).sum();
    let intervals = intervals(context, MATCHED, &types, loaded.scored, rule).await?;
    let each: Vec<Scores> = types.iter().map(|(_, counts)| counts.scores()).collect();
    let interval = |of: fn(&Intervals) -> crate::score::bootstrap::Interval| intervals.as_ref().map(of);
    let pairs = pair(overlaps(context, MATCHED).await?);
    let overlap =
        Overlap { exact: all.true_positives, partial: pairs.len(), predicted: all.predicted(), gold: all.gold() };
    let nesting = counts_by(context, MATCHED, NESTING).await?;
    error_analysis::find(context, ERRORS, MATCHED).await?;
    Ok(Report {
        counting: counting.to_string(),
        predicted: table(&loaded.predicted),
        gold: table(&loaded.gold),
        against: loaded.against.as_ref().map(table),
        documents: loaded.scored,
        resampling: rule,
        micro: Row::new("all", all, interval(|found| found.micro)),
        macro_average: Average { scores: Scores::average(&each), interval: interval(|found| found.average) },
        types: types
            .iter()
            .enumerate()
            .map(|(index, (name, counts))| {
                Row::new(name, *counts, intervals.as_ref().and_then(|found| found.types[index]))
            })
            .collect(),
        span: Row::new("span", span_counts(context, MATCHED).await?, None),
        partial: Measure::new(overlap, 0.5),
        overlap: Measure::new(overlap, 1.0),
        nesting: nesting.into_iter().map(|(name, counts)| Row::new(name, counts, None)).collect(),
        words: lengths(context, "regexp_count(text, '\\S+')", &WORDS).await?,
        characters: lengths(context, "end_char - start_char", &CHARACTERS).await?,
        confusion: confusion(context, MATCHED)
            .await?
            .into_iter()
            .map(|(gold, predicted, mentions)| Confused { gold, predicted, mentions })
            .collect(),
        errors: errors(context).await?,
        worst: worst(context, worst_documents).await?,
        comparison: None,
    })
}

fn table(side: &LoadedSide) -> TableReport {
    TableReport { location: without_secrets(&side.location).into_owned(), tally: side.tally }
}

/// Bootstrap intervals over the documents of the table `matched`, including documents without mentions.
pub(super) async fn intervals(
    context: &SessionContext,
    matched: &str,
    types: &[(String, Counts)],
    documents: usize,
    rule: Resampling,
) -> Result<Option<Intervals>> {
    if rule.resamples == 0 {
        return Ok(None);
    }
    let indices: BTreeMap<&str, usize> =
        types.iter().enumerate().map(|(index, (name, _))| (name.as_str(), index)).collect();
    let rows = counts_by_document(context, matched).await?;
    let mut drawn = DocumentCounts::new(types.len());
    for document in rows.chunk_by(|one, next| one.0 == next.0) {
        drawn.push(document.iter().filter_map(|(_, name, counts)| Some((*indices.get(name.as_str())?, *counts))));
    }
    Ok(bootstrap(&drawn.of(documents), rule))
}

/// Strict scores by length class; empty if the length of a mention is unknown.
async fn lengths(context: &SessionContext, length: &str, classes: &[(usize, &str)]) -> Result<Vec<Row>> {
    if count(context, &format!("SELECT count(*) FROM {MATCHED} WHERE {length} IS NULL")).await? > 0 {
        return Ok(Vec::new());
    }
    let whens: Vec<String> = classes
        .iter()
        .enumerate()
        .map(|(number, (last, _))| format!("WHEN {length} <= {last} THEN {number}"))
        .collect();
    // The last class has no upper bound.
    let whens = whens[..classes.len() - 1].join(" ");
    let key = format!("CASE {whens} ELSE {} END", classes.len() - 1);
    let named = |(key, counts): (String, Counts)| {
        let class = key.parse::<usize>().ok().and_then(|number| classes.get(number));
        Row::new(class.map_or("", |(_, name)| name), counts, None)
    };
    Ok(counts_by(context, MATCHED, &key).await?.into_iter().map(named).collect())
}

async fn errors(context: &SessionContext) -> Result<Vec<ErrorClass>> {
    let found = error_analysis::kinds(context, ERRORS).await?.into_iter();
    Ok(found.map(|(kind, reason, mentions)| ErrorClass { kind, reason, mentions }).collect())
}

async fn worst(context: &SessionContext, documents: usize) -> Result<Vec<Worst>> {
    let sql = format!("{} LIMIT {documents}", error_analysis::by_document(MATCHED, "doc_id"));
    let mut found = Vec::new();
    for row in result_rows(&query(context, &sql).await?) {
        let counts = counts(&row)?;
        if counts.errors() > 0 {
            found.push(Worst { doc_id: row.get("doc_id")?, f1: counts.f1(), counts });
        }
    }
    Ok(found)
}

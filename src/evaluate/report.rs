//! The report of an evaluation. In: counts and scores. Out: JSON, and rows of the store's metrics. It must not query or print.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::query::mention_table::Tally;
use crate::score::bootstrap::{Difference, Interval, Resampling};
use crate::score::counts::{Counts, Scores};
use crate::score::overlap::Overlap;
use crate::tables::MetricRow;

/// All results.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// The counting method.
    pub(super) counting: String,
    pub(super) predicted: TableReport,
    pub(super) gold: TableReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against: Option<TableReport>,
    /// The number of scored documents.
    pub(super) documents: usize,
    #[serde(flatten)]
    pub(super) resampling: Resampling,
    /// Strict scores over all mentions.
    pub(super) micro: Row,
    /// The mean over types.
    pub(super) macro_average: Average,
    pub(super) types: Vec<Row>,
    /// Lenient scores.
    pub(super) span: Row,
    pub(super) partial: Measure,
    pub(super) overlap: Measure,
    /// Strict scores by properties of mentions.
    pub(super) nesting: Vec<Row>,
    pub(super) words: Vec<Row>,
    pub(super) characters: Vec<Row>,
    pub(super) confusion: Vec<Confused>,
    pub(super) errors: Vec<ErrorClass>,
    pub(super) worst: Vec<Worst>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comparison: Option<Comparison>,
}

/// A table of mentions.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TableReport {
    pub(super) location: String,
    #[serde(flatten)]
    pub(super) tally: Tally,
}

/// Strict scores of some of the mentions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) scores: Scores,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interval: Option<Interval>,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, counts: Counts, interval: Option<Interval>) -> Self {
        Self { name: name.into(), scores: counts.scores(), interval, counts }
    }
}

/// The mean over types.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Average {
    #[serde(flatten)]
    pub(super) scores: Scores,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interval: Option<Interval>,
}

/// Scores with partial credit for overlaps.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measure {
    /// The credit for a pair that overlaps without being equal.
    pub(super) credit: f64,
    #[serde(flatten)]
    pub(super) scores: Scores,
    #[serde(flatten)]
    pub(super) pairs: Overlap,
}

impl Measure {
    pub(super) fn new(pairs: Overlap, credit: f64) -> Self {
        Self { credit, scores: pairs.scores(credit), pairs }
    }
}

/// A cell of the confusion matrix; an empty name means no mention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Confused {
    pub(super) gold: String,
    pub(super) predicted: String,
    pub(super) mentions: usize,
}

/// The number of errors of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ErrorClass {
    /// `false_positive` or `false_negative`.
    pub(super) kind: String,
    /// The overlapping mention of the other table differs in `type`, `boundary` or `type_and_boundary`, or there is none
    /// (`nothing_there`).
    pub(super) reason: String,
    pub(super) mentions: usize,
}

/// A document with errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Worst {
    pub(super) doc_id: String,
    pub(super) f1: f64,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// Two systems on the same gold.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Comparison {
    /// The other system's strict micro scores.
    pub(super) against: Row,
    pub(super) changes: Vec<Changes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) difference: Option<Difference>,
}

/// The changes from the other system to this one, by type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Changes {
    pub(super) name: String,
    /// Right in this system, missed by the other.
    pub(super) found: usize,
    /// Missed by this system, right in the other.
    pub(super) lost: usize,
    /// Wrong only in this system.
    pub(super) new_errors: usize,
    /// Wrong only in the other system.
    pub(super) errors_gone: usize,
}

impl Report {
    /// The report as one JSON object.
    pub(super) fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|source| Error::Engine { doing: "write the scores as JSON".into(), source: source.into() })
    }

    /// Every figure: scope, name, value, unit. Scopes are `all`, a type, or a class such as `nesting:nested`.
    pub(super) fn figures(&self) -> Vec<(String, String, f64, &'static str)> {
        let mut figures = Vec::new();
        let mut scores = |scope: &str, prefix: &str, scores: &Scores, interval: Option<Interval>| {
            let mut add =
                |name: &str, value| figures.push((scope.to_owned(), format!("{prefix}{name}"), value, "share"));
            add("precision", scores.precision);
            add("recall", scores.recall);
            add("f1", scores.f1);
            if let Some(Interval { low, high }) = interval {
                add("f1_low", low);
                add("f1_high", high);
            }
        };
        scores("all", "", &self.micro.scores, self.micro.interval);
        scores("all", "macro_", &self.macro_average.scores, self.macro_average.interval);
        scores("all", "span_", &self.span.scores, None);
        scores("all", "partial_", &self.partial.scores, None);
        scores("all", "overlap_", &self.overlap.scores, None);
        let classes = [
            ("", &self.types),
            ("nesting:", &self.nesting),
            ("words:", &self.words),
            ("characters:", &self.characters),
        ];
        let rows = || {
            classes
                .into_iter()
                .flat_map(|(prefix, rows)| rows.iter().map(move |row| (format!("{prefix}{}", row.name), row)))
        };
        for (scope, row) in rows() {
            scores(&scope, "", &row.scores, row.interval);
        }
        for (scope, row) in std::iter::once(("all".to_owned(), &self.micro)).chain(rows()) {
            let Counts { true_positives, false_positives, false_negatives } = row.counts;
            for (name, count) in [
                ("true_positives", true_positives),
                ("false_positives", false_positives),
                ("false_negatives", false_negatives),
            ] {
                figures.push((scope.clone(), name.to_owned(), count as f64, "mentions"));
            }
        }
        let mut add = |name: &str, value: f64, unit| figures.push(("all".to_owned(), name.to_owned(), value, unit));
        add("scored_documents", self.documents as f64, "documents");
        if self.resampling.resamples > 0 {
            add("resamples", self.resampling.resamples as f64, "resamples");
            add("seed", self.resampling.seed as f64, "seed");
        }
        if let Some(difference) = self.comparison.as_ref().and_then(|comparison| comparison.difference) {
            add("f1_difference", difference.f1, "share");
            add("f1_difference_low", difference.interval.low, "share");
            add("f1_difference_high", difference.interval.high, "share");
            add("p_value", difference.p_value, "probability");
        }
        figures
    }

    /// The figures as rows of `metrics`.
    pub(super) fn metric_rows(&self, run_id: &str) -> Vec<MetricRow> {
        let row = |(scope, name, value, unit): (String, String, f64, &str)| MetricRow {
            run_id: run_id.to_owned(),
            scope,
            name,
            value,
            unit: unit.to_owned(),
        };
        self.figures().into_iter().map(row).collect()
    }
}

//! The summary of the page: everything except its documents. In: values from `figures` and `quality`. Out: a structure that the page embeds
//! as JSON. It must not read anything.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scope::Run;
use crate::score::calibration::Bin;
use crate::score::counts::{Counts, Scores};
use crate::score::side_by_side::SideBySide;

/// The number of score bins, from 0 to 1.
pub(super) const BINS: usize = 50;

/// Everything except the documents.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// The version of this program.
    pub(super) quarry: &'static str,
    pub(super) made_at: String,
    pub(super) store: String,
    /// The last part of the store's path.
    pub(super) name: String,
    /// The id of the run whose figures are shown.
    pub(super) run: Option<String>,
    /// Whether the page shows only this run's documents.
    pub(super) only_run: bool,
    /// Whether the page shows only some types.
    pub(super) only_types: bool,
    pub(super) totals: Totals,
    pub(super) types: Vec<TypeFigures>,
    pub(super) bins: usize,
    /// The settings of the run's job: key and value.
    pub(super) settings: Vec<(String, String)>,
    /// Every figure of the run: scope, name, value, unit.
    pub(super) figures: Vec<(String, String, f64, String)>,
    pub(super) runs: Vec<RunFigures>,
    /// The number of earlier runs, which are not shown.
    pub(super) earlier_runs: usize,
    pub(super) rejects: Vec<Rejects>,
    pub(super) quality: Option<Quality>,
    /// Systems side by side, as `quarry evaluate --compare --json` wrote them.
    pub(super) comparison: Option<SideBySide>,
    /// Why quality figures are missing although the run's job names gold.
    pub(super) quality_remark: Option<String>,
}

/// Totals of the page's scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) documents: usize,
    /// Documents with mentions of any type or none: the base of the share of rejects.
    pub(super) all_documents: usize,
    pub(super) characters: usize,
    pub(super) mentions: usize,
    pub(super) rejects: usize,
}

/// An entity type.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct TypeFigures {
    pub(super) name: String,
    /// The question; empty if the run does not have it.
    pub(super) question: String,
    pub(super) mentions: usize,
    /// Different texts among its mentions.
    pub(super) distinct: usize,
    pub(super) mean_score: f64,
    /// Mentions by score, in [`BINS`] bins.
    pub(super) scores: Vec<usize>,
    /// Right mentions by score, if there is gold.
    pub(super) right: Vec<usize>,
    /// The most frequent texts: text, mentions, documents.
    pub(super) names: Vec<(String, usize, usize)>,
}

/// A run and its figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RunFigures {
    #[serde(flatten)]
    pub(super) run: Run,
    pub(super) figures: BTreeMap<String, f64>,
}

/// The rejects with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Rejects {
    pub(super) reason: String,
    pub(super) count: usize,
    /// Some of them: source, row (empty for a file), id, detail.
    pub(super) examples: Vec<[String; 4]>,
}

/// Scores and errors.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Quality {
    /// Whether predicted and gold mentions were joined for this page; if not, the scores are those that the run measured.
    pub(super) joined: bool,
    pub(super) all: Scored,
    pub(super) types: Vec<Scored>,
    /// Gold type, predicted type, mentions; an empty name means no mention.
    pub(super) confusion: Vec<(String, String, usize)>,
    /// Kind, reason, mentions.
    pub(super) kinds: Vec<(String, String, usize)>,
    pub(super) frequent_errors: Vec<FrequentError>,
    /// Scores against the share of right mentions: all types, then each; empty if the mentions were not joined or have no scores.
    pub(super) reliability: Vec<Reliability>,
    /// Errors without a text: a gold table does not need to have texts.
    pub(super) without_text: usize,
}

/// The scores of some mentions against the share of right ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Reliability {
    pub(super) name: String,
    /// The expected calibration error.
    pub(super) error: f64,
    /// The mentions by score, in bins of equal width.
    pub(super) bins: Vec<Bin>,
}

/// Strict scores of some mentions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Scored {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) scores: Scores,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// An error and its frequency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FrequentError {
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) entity_type: String,
    /// The type of the overlapping mention on the other side; empty if there is none.
    pub(super) other_type: String,
    pub(super) text: String,
    pub(super) mentions: usize,
    pub(super) documents: usize,
}

impl Scored {
    pub(super) fn new(name: &str, counts: Counts) -> Self {
        Self { name: name.to_owned(), scores: counts.scores(), counts }
    }
}

impl Summary {
    /// The index of a type in [`Summary::types`]; a missing type is added.
    pub(super) fn type_index(&mut self, name: &str) -> usize {
        index_of(&mut self.types, name)
    }
}

/// The index of a type; a missing type is added.
pub(super) fn index_of(types: &mut Vec<TypeFigures>, name: &str) -> usize {
    types.iter().position(|one| one.name == name).unwrap_or_else(|| {
        types.push(TypeFigures::named(name, ""));
        types.len() - 1
    })
}

impl TypeFigures {
    pub(super) fn named(name: &str, question: &str) -> Self {
        Self { name: name.to_owned(), question: question.to_owned(), scores: vec![0; BINS], ..Self::default() }
    }
}

/// SQL expression: the bin of a score.
pub(super) fn bin(score: &str) -> String {
    format!("CAST(least(greatest(floor({score} * {BINS}), 0), {}) AS bigint)", BINS - 1)
}

//! What the page says beside its documents. In: nothing. Out: the values that figures and quality fill and the page writes as JSON. It must
//! not read anything.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scope::Run;
use crate::score::counts::{Counts, Scores};

/// Classes of scores, from 0 to 1.
pub(super) const BINS: usize = 50;

/// Everything but the documents.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// The version of this program.
    pub(super) quarry: &'static str,
    pub(super) made_at: String,
    pub(super) store: String,
    /// The last part of the store's path.
    pub(super) name: String,
    /// The id of the run whose figures these are.
    pub(super) run: Option<String>,
    /// Whether the page shows this run's documents only.
    pub(super) only_run: bool,
    /// Whether the page shows some types only.
    pub(super) only_types: bool,
    pub(super) totals: Totals,
    pub(super) types: Vec<TypeFigures>,
    pub(super) bins: usize,
    /// What the run's job said: key and value.
    pub(super) settings: Vec<(String, String)>,
    /// Every figure of the run: scope, name, value, unit.
    pub(super) figures: Vec<(String, String, f64, String)>,
    pub(super) runs: Vec<RunFigures>,
    /// How many runs came before those.
    pub(super) earlier_runs: usize,
    pub(super) rejects: Vec<Rejects>,
    pub(super) quality: Option<Quality>,
    /// Why there is less about quality than the run's job promises.
    pub(super) quality_remark: Option<String>,
}

/// What the page is about, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) documents: usize,
    /// Documents whatever their types: those that rejects stand beside.
    pub(super) all_documents: usize,
    pub(super) characters: usize,
    pub(super) mentions: usize,
    pub(super) rejects: usize,
}

/// An entity type.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct TypeFigures {
    pub(super) name: String,
    /// What the model was asked; empty where the run does not say.
    pub(super) question: String,
    pub(super) mentions: usize,
    /// Different texts among its mentions.
    pub(super) distinct: usize,
    pub(super) mean_score: f64,
    /// Mentions by score, in [`BINS`] classes.
    pub(super) scores: Vec<usize>,
    /// Those that are right, where there is gold.
    pub(super) right: Vec<usize>,
    /// The most frequent texts: text, mentions, documents.
    pub(super) names: Vec<(String, usize, usize)>,
}

/// A run and its course.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RunFigures {
    #[serde(flatten)]
    pub(super) run: Run,
    pub(super) figures: BTreeMap<String, f64>,
}

/// What was refused for one reason.
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
    /// Whether predicted and gold mentions were joined for this page; if not, the scores are those that a run measured.
    pub(super) joined: bool,
    pub(super) all: Scored,
    pub(super) types: Vec<Scored>,
    /// Gold type, predicted type, mentions; an empty name is none.
    pub(super) confusion: Vec<(String, String, usize)>,
    /// Kind, reason, mentions.
    pub(super) kinds: Vec<(String, String, usize)>,
    pub(super) mistakes: Vec<Mistake>,
    /// Errors whose text no table gives: gold mentions may come without.
    pub(super) nameless: usize,
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

/// An error, and how often it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Mistake {
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) entity_type: String,
    /// What the other side has there; empty where it has nothing.
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
    /// The place of a type among [`Summary::types`]; one that is not there is added.
    pub(super) fn type_index(&mut self, name: &str) -> usize {
        place(&mut self.types, name)
    }
}

/// The place of a type; one that is not there is added.
pub(super) fn place(types: &mut Vec<TypeFigures>, name: &str) -> usize {
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

/// SQL: the class of a score.
pub(super) fn bin(score: &str) -> String {
    format!("CAST(least(greatest(floor({score} * {BINS}), 0), {}) AS bigint)", BINS - 1)
}

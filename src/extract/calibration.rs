//! Calibration of a model. In: labelled documents with all candidates of a model. Out: a temperature and a threshold for each type, and figures
//! of a job with them. It must not run a model.
//!
//! Temperatures are fitted to pairs (logit, whether gold has the span). The spans of the pairs are all candidates: spans whose start and end pass
//! the boundary threshold in the window that owns them, whatever their score. Without nesting only the best of overlapping candidates counts, by
//! calibrated score: a job writes no other, except where a start has a nearer end that passes. The figures before and after are of the mentions
//! that a job writes: candidates decided again with the thresholds and temperatures, exactly as in extraction (but for starts with several ends
//! at the edge of a window).

use std::collections::BTreeSet;

use serde::Serialize;

use crate::score::calibration::{Bin, Goal, Judged, Temperature, bins, calibration_error, log_loss, sigmoid};
use crate::score::calibration::{temperatures, threshold};
use crate::score::counts::Counts;
use crate::task::answer::Acceptance;
use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
use crate::task::kind::Kind;
use crate::task::merge::{best, decide};
use crate::text::mention::Mention;
use crate::text::span::CharSpan;

/// How often temperatures are fitted: they decide which of overlapping candidates of different types is a pair.
const ROUNDS: usize = 3;

/// The parts of the documents for figures that are held out: each is scored by a fit to the others.
const FOLDS: usize = 5;

/// A document of the data that calibrates.
#[derive(Debug, Clone, Default)]
pub struct Labelled {
    /// All candidates, as [`crate::extract::spec::ExtractionSpec::of_candidates`] makes a model find them.
    pub candidates: Vec<Mention>,
    /// The gold mentions: place in code points, and index of the type.
    pub gold: BTreeSet<(CharSpan, usize)>,
}

/// The calibration of a model for a schema.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// The number of documents.
    pub documents: usize,
    /// The number of candidates.
    pub candidates: usize,
    /// By type.
    pub types: Vec<TypeCalibration>,
    /// Of a job with the earlier thresholds and temperatures.
    pub before: Reliability,
    /// Of a job with the new ones, on the documents that they were fitted to.
    pub after: Reliability,
    /// Of a job on each fifth of the documents, with what was fitted to the other four; `None` if those have too few spans.
    pub held_out: Option<Reliability>,
    /// The schema with the new thresholds and temperatures.
    #[serde(skip)]
    pub schema: EntitySchema,
}

/// The calibration of one type.
#[derive(Debug, Clone, Serialize)]
pub struct TypeCalibration {
    /// Its name.
    pub name: String,
    /// What its temperature was fitted to.
    pub fit: Temperature,
    /// Its temperature and threshold now.
    pub temperature: f32,
    /// A mention's score must be above this.
    pub threshold: f32,
    /// Whether a threshold met the goal; if not, it is the earlier one.
    pub met: bool,
    /// With the earlier values.
    pub before: TypeReliability,
    /// With the new values.
    pub after: TypeReliability,
}

/// The mentions of a type that a job writes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TypeReliability {
    /// Their expected calibration error.
    pub calibration_error: f64,
    /// How many are right, wrong and missed.
    #[serde(flatten)]
    pub counts: Counts,
    /// F1.
    pub f1: f64,
}

/// How the scores of the mentions that a job writes relate to gold.
#[derive(Debug, Clone, Serialize)]
pub struct Reliability {
    /// The expected calibration error of the mentions that a job writes.
    pub calibration_error: f64,
    /// The expected calibration error of all pairs, those below their threshold included.
    pub calibration_error_of_pairs: f64,
    /// The mean negative log likelihood of all pairs, in nats.
    pub log_loss_of_pairs: f64,
    /// How many mentions are right, wrong and missed.
    #[serde(flatten)]
    pub counts: Counts,
    /// F1.
    pub f1: f64,
    /// The mentions by score.
    pub bins: Vec<Bin>,
}

/// Fits temperatures and chooses thresholds for the types of `schema`, which has the earlier ones, of a model of this kind; `None` if there are too few pairs.
pub fn calibrate(documents: &[Labelled], (kind, schema): (Kind, &EntitySchema), goal: Goal) -> Option<Calibration> {
    let all: Vec<&Labelled> = documents.iter().collect();
    let (fitted, fits, met) = fit(&all, schema, goal)?;
    let measured = |schema| Measured::new(kind, schema).with(&all, schema);
    let (before, after) = (measured(schema), measured(&fitted));
    let mut held_out = Some(Measured::new(kind, schema));
    for fold in 0..FOLDS {
        let part = |held: bool| -> Vec<&Labelled> {
            documents
                .iter()
                .enumerate()
                .filter(|(index, _)| (index % FOLDS == fold) == held)
                .map(|(_, one)| one)
                .collect()
        };
        held_out =
            held_out.zip(fit(&part(false), schema, goal)).map(|(sum, (fitted, ..))| sum.with(&part(true), &fitted));
    }
    let types = fitted.types.iter().enumerate().map(|(index, one)| TypeCalibration {
        name: one.name.clone(),
        fit: fits[index],
        temperature: one.temperature(),
        threshold: one.threshold(),
        met: met[index],
        before: before.of_type(index),
        after: after.of_type(index),
    });
    Some(Calibration {
        documents: documents.len(),
        candidates: documents.iter().map(|document| document.candidates.len()).sum(),
        types: types.collect(),
        before: before.reliability(),
        after: after.reliability(),
        held_out: held_out.map(|measured| measured.reliability()),
        schema: fitted,
    })
}

/// The schema with fitted temperatures and thresholds, the fits, and for each type whether its threshold meets the goal.
fn fit(
    documents: &[&Labelled],
    schema: &EntitySchema,
    goal: Goal,
) -> Option<(EntitySchema, Vec<Temperature>, Vec<bool>)> {
    let pairs_at = |values: &[f64]| -> Vec<Judged> {
        documents.iter().flat_map(|document| pairs(document, values, schema.nested)).collect()
    };
    let mut fits = temperatures(&pairs_at(&vec![1.0; schema.types.len()]), schema.types.len())?;
    let values = |fits: &[Temperature]| fits.iter().map(|fit| fit.value).collect::<Vec<f64>>();
    for _ in 1..ROUNDS {
        fits = temperatures(&pairs_at(&values(&fits)), schema.types.len())?;
    }
    let spans = pairs_at(&values(&fits));
    let scored = |of: &dyn Fn(usize) -> bool| -> Vec<(f64, bool)> {
        let spans = spans.iter().filter(|span| of(span.entity_type));
        spans.map(|span| (sigmoid(span.logit / fits[span.entity_type].value), span.right)).collect()
    };
    let gold = |of: &dyn Fn(usize) -> bool| {
        documents.iter().flat_map(|document| &document.gold).filter(|(_, entity_type)| of(*entity_type)).count()
    };
    let shared = threshold(scored(&|_| true), gold(&|_| true), goal);
    let (mut fitted, mut met) = (schema.clone(), Vec::new());
    for (index, (one, fit)) in fitted.types.iter_mut().zip(&fits).enumerate() {
        let own = |entity_type: usize| entity_type == index;
        let found = if fit.shared { shared } else { threshold(scored(&own), gold(&own), goal) };
        met.push(found.is_some() || goal == Goal::Kept);
        one.temperature = Some(rounded(fit.value));
        one.threshold = Some(found.map_or(one.threshold(), rounded));
    }
    Some((fitted, fits, met))
}

/// Four decimals are more than the data determine.
fn rounded(value: f64) -> f32 {
    ((value * 1e4).round() / 1e4) as f32
}

/// The pairs of a document at these temperatures, by type.
fn pairs(document: &Labelled, temperatures: &[f64], nesting: Nesting) -> Vec<Judged> {
    let scaled =
        |one: &Mention| Mention { logit: (f64::from(one.logit) / temperatures[one.entity_type]) as f32, ..*one };
    let scaled: Vec<Mention> = document.candidates.iter().map(scaled).collect();
    let judged = |one: &Mention| Judged {
        entity_type: one.entity_type,
        logit: f64::from(one.logit) * temperatures[one.entity_type],
        right: document.gold.contains(&(one.chars, one.entity_type)),
    };
    best(&scaled, nesting).iter().map(judged).collect()
}

/// Scores, and whether they are right.
#[derive(Debug, Clone)]
struct Measured {
    /// The kind of the model.
    kind: Kind,
    /// Of the mentions that a job writes, by type.
    written: Vec<Vec<(f64, bool)>>,
    counts: Vec<Counts>,
    /// Of all pairs.
    pairs: Vec<(f64, bool)>,
}

impl Measured {
    fn new(kind: Kind, schema: &EntitySchema) -> Self {
        let types = schema.types.len();
        Self { kind, written: vec![Vec::new(); types], counts: vec![Counts::default(); types], pairs: Vec::new() }
    }

    /// Adds documents, decided with the thresholds and temperatures of `schema`.
    fn with(mut self, documents: &[&Labelled], schema: &EntitySchema) -> Self {
        let acceptance = Acceptance::new(schema, 0.0);
        let temperatures: Vec<f64> = schema.types.iter().map(EntityType::temperature).map(f64::from).collect();
        for document in documents {
            let spans = pairs(document, &temperatures, schema.nested);
            self.pairs
                .extend(spans.iter().map(|span| (sigmoid(span.logit / temperatures[span.entity_type]), span.right)));
            for (_, entity_type) in &document.gold {
                self.counts[*entity_type].false_negatives += 1;
            }
            for one in decide(&document.candidates, &acceptance, (self.kind, schema.nested)) {
                let right = document.gold.contains(&(one.chars, one.entity_type));
                self.written[one.entity_type].push((sigmoid(one.logit.into()), right));
                let counts = &mut self.counts[one.entity_type];
                if right {
                    counts.true_positives += 1;
                    counts.false_negatives -= 1;
                } else {
                    counts.false_positives += 1;
                }
            }
        }
        self
    }

    fn of_type(&self, index: usize) -> TypeReliability {
        let counts = self.counts[index];
        TypeReliability { calibration_error: calibration_error(&self.written[index]), counts, f1: counts.f1() }
    }

    fn reliability(&self) -> Reliability {
        let (written, counts): (Vec<_>, Counts) = (self.written.concat(), self.counts.iter().copied().sum());
        Reliability {
            calibration_error: calibration_error(&written),
            calibration_error_of_pairs: calibration_error(&self.pairs),
            log_loss_of_pairs: log_loss(&self.pairs),
            counts,
            f1: counts.f1(),
            bins: bins(&written).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::text::span::ByteSpan;

    /// Documents in which every place has a candidate of one of two types. The first type's scores are too sure by the factor 3, the second's
    /// right ones are rare below 0.8.
    fn documents(count: usize) -> Vec<Labelled> {
        let mut random = Random::new(5, 0);
        let mut document = || {
            let mut document = Labelled::default();
            for place in 0..20 {
                let (entity_type, logit) = (place % 2, 4.0 * random.normal());
                let truth = if entity_type == 0 { logit / 3.0 } else { 2.0 * logit - 2.0 };
                let (chars, bytes) = (CharSpan::new(2 * place, 2 * place + 1), ByteSpan::new(2 * place, 2 * place + 1));
                let (logit, score) = (logit as f32, sigmoid(logit) as f32);
                document.candidates.push(Mention { entity_type, chars, bytes, logit, score, window: 0 });
                if random.share() < sigmoid(truth) {
                    document.gold.insert((chars, entity_type));
                }
            }
            document
        };
        (0..count).map(|_| document()).collect()
    }

    fn schema() -> EntitySchema {
        EntitySchema { nested: Nesting::Flat, types: vec![EntityType::new("A", "a"), EntityType::new("B", "b")] }
    }

    #[test]
    fn temperatures_and_thresholds_of_each_type_are_found() {
        let documents = documents(400);
        let found = calibrate(&documents, (Kind::Mrc, &schema()), Goal::F1).unwrap();
        let [one, other] = found.types.as_slice() else { panic!("two types") };
        assert!((one.temperature - 3.0).abs() < 0.3 && other.temperature < 1.0, "{found:?}");
        assert!(other.threshold > 0.5 && one.threshold < 0.5, "{found:?}");
        assert!(one.after.f1 > one.before.f1 && other.after.f1 > other.before.f1, "{found:?}");
        assert!(found.before.calibration_error > 0.1 && one.after.calibration_error < 0.03, "{found:?}");
        assert!(found.after.log_loss_of_pairs < found.before.log_loss_of_pairs, "{found:?}");
        let held_out = found.held_out.as_ref().unwrap();
        assert!((held_out.f1 - found.after.f1).abs() < 0.02, "{found:?}");
        assert_eq!(held_out.counts.gold(), found.after.counts.gold());
        assert_eq!(found.schema.types[0].threshold, Some(one.threshold));
    }

    #[test]
    fn a_precision_is_met_or_the_threshold_kept() {
        let documents = documents(400);
        let at = |wanted: f64| calibrate(&documents, (Kind::Mrc, &schema()), Goal::Precision(wanted)).unwrap();
        let found = at(0.9);
        for one in &found.types {
            assert!(one.met && one.after.counts.precision() > 0.89 && one.after.counts.recall() > 0.1, "{one:?}");
        }
        let never = at(1.1);
        assert!(never.types.iter().all(|one| !one.met && one.threshold.to_bits() == 0.5_f32.to_bits()), "{never:?}");
        assert!(calibrate(&documents[..4], (Kind::Mrc, &schema()), Goal::F1).is_none());
    }
}

//! Calibration: scores that mean what they say. In: spans with the model's logits, and whether gold has them. Out: a temperature for each type,
//! thresholds for a goal, and how far scores are from the share of right mentions. It must not decide which spans are mentions.
//!
//! A score is σ(logit / temperature). The temperature minimizes the negative log likelihood of the labels (Platt 1999 without the shift; Guo et
//! al., ICML 2017). The expected calibration error (Naeini et al., AAAI 2015) is the mean distance between the mean score and the share of right
//! mentions over [`BINS`] bins of equal width, weighted by their mentions.

use serde::Serialize;

use crate::score::counts::Counts;

/// The number of bins of the expected calibration error.
pub const BINS: usize = 15;

/// A type with fewer spans than this shares the temperature and threshold of all types, and so does one with fewer than [`FEWEST_OF_A_KIND`]
/// right or wrong ones: they do not determine a temperature.
pub const FEWEST_SPANS: usize = 100;
/// See [`FEWEST_SPANS`].
pub const FEWEST_OF_A_KIND: usize = 10;

/// The range of temperatures.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// The range of thresholds.
const THRESHOLDS: [f64; 2] = [0.001, 0.999];

/// A span that a model considered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// The model's logit: that of the score at temperature 1.
    pub logit: f64,
    /// Whether gold has it.
    pub right: bool,
}

/// The temperature of a type.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Temperature {
    /// Its value.
    pub value: f64,
    /// The number of spans of the type.
    pub spans: usize,
    /// How many of them are right.
    pub right: usize,
    /// Whether it was fitted to the spans of all types, because the type has too few.
    pub shared: bool,
}

/// The temperatures of `types` types; `None` if all types together have too few spans.
pub fn temperatures(spans: &[Judged], types: usize) -> Option<Vec<Temperature>> {
    let enough = |spans: usize, right: usize| {
        spans >= FEWEST_SPANS && right >= FEWEST_OF_A_KIND && spans - right >= FEWEST_OF_A_KIND
    };
    let right = |spans: &[Judged]| spans.iter().filter(|span| span.right).count();
    if !enough(spans.len(), right(spans)) {
        return None;
    }
    let all = temperature(spans);
    let of_type = |entity_type: usize| {
        let own: Vec<Judged> = spans.iter().filter(|span| span.entity_type == entity_type).copied().collect();
        let (spans, right) = (own.len(), right(&own));
        let shared = !enough(spans, right);
        Temperature { value: if shared { all } else { temperature(&own) }, spans, right, shared }
    };
    Some((0..types).map(of_type).collect())
}

/// The temperature with the smallest negative log likelihood. That is convex in 1 / temperature, so its derivative has one zero.
fn temperature(spans: &[Judged]) -> f64 {
    let slope = |inverse: f64| -> f64 {
        let of = |span: &Judged| span.logit * (sigmoid(span.logit * inverse) - f64::from(u8::from(span.right)));
        spans.iter().map(of).sum()
    };
    let [mut low, mut high] = [1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]];
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    1.0 / f64::midpoint(low, high)
}

/// The mean negative log likelihood of labels under scores, in nats; 0 if there are none.
pub fn log_loss(scored: &[(f64, bool)]) -> f64 {
    // Scores of exactly 0 and 1 are rounded ones.
    let loss = |&(score, right): &(f64, bool)| -(if right { score } else { 1.0 - score }).max(1e-7).ln();
    if scored.is_empty() { 0.0 } else { scored.iter().map(loss).sum::<f64>() / scored.len() as f64 }
}

/// Scores and whether they are right, in [`BINS`] bins of equal width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bin {
    /// The number of mentions.
    pub mentions: usize,
    /// How many of them are right.
    pub right: usize,
    /// The sum of their scores.
    pub score: f64,
}

/// The bins of scores; each score has the bin ⌊score · [`BINS`]⌋, and 1 the last.
pub fn bins(scored: &[(f64, bool)]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for &(score, right) in scored {
        let bin = &mut bins[((score.max(0.0) * BINS as f64) as usize).min(BINS - 1)];
        bin.mentions += 1;
        bin.right += usize::from(right);
        bin.score += score;
    }
    bins
}

/// The expected calibration error, in 0..=1; 0 if there are no mentions.
pub fn calibration_error(scored: &[(f64, bool)]) -> f64 {
    error_of_bins(&bins(scored))
}

/// As [`calibration_error`], of mentions that are already in bins.
pub fn error_of_bins(bins: &[Bin]) -> f64 {
    let distances: f64 = bins.iter().map(|bin| (bin.score - bin.right as f64).abs()).sum();
    let mentions: usize = bins.iter().map(|bin| bin.mentions).sum();
    if mentions == 0 { 0.0 } else { distances / mentions as f64 }
}

/// What a threshold is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The best F1.
    F1,
    /// At least this precision, and of such thresholds the best recall.
    Precision(f64),
    /// None: the earlier threshold stays.
    Kept,
}

/// The threshold that meets a goal best, for spans with these scores of a type with `gold` gold mentions. It lies between two scores. `None` if no
/// threshold meets it: without a right span, or if the precision is never reached with at least [`FEWEST_OF_A_KIND`] mentions.
pub fn threshold(mut scored: Vec<(f64, bool)>, gold: usize, goal: Goal) -> Option<f64> {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut counts = Counts { false_negatives: gold, ..Counts::default() };
    let mut best: Option<(f64, f64)> = None;
    for (index, &(score, right)) in scored.iter().enumerate() {
        if right {
            counts.true_positives += 1;
            counts.false_negatives = counts.false_negatives.saturating_sub(1);
        } else {
            counts.false_positives += 1;
        }
        let next = scored.get(index + 1).map_or(0.0, |next| next.0);
        if next >= score {
            continue;
        }
        let middle = f64::midpoint(score, next);
        let (value, passes) = match goal {
            Goal::F1 => (counts.f1(), counts.true_positives > 0),
            Goal::Precision(wanted) => {
                (counts.recall(), counts.precision() >= wanted && counts.predicted() >= FEWEST_OF_A_KIND)
            }
            Goal::Kept => (0.0, false),
        };
        if passes && best.is_none_or(|(best, _)| value > best + 1e-12) {
            best = Some((value, middle));
        }
    }
    best.map(|(_, middle)| middle.clamp(THRESHOLDS[0], THRESHOLDS[1]))
}

/// The logistic function.
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Spans whose labels are drawn with probability σ(logit / `temperature`).
    fn drawn(entity_type: usize, temperature: f64, spans: usize) -> Vec<Judged> {
        let mut random = Random::new(3, entity_type as u64);
        let mut draw = || {
            let logit = 4.0 * random.normal();
            Judged { entity_type, logit, right: random.share() < sigmoid(logit / temperature) }
        };
        (0..spans).map(|_| draw()).collect()
    }

    fn scored(spans: &[Judged], temperature: f64) -> Vec<(f64, bool)> {
        spans.iter().map(|span| (sigmoid(span.logit / temperature), span.right)).collect()
    }

    #[test]
    fn a_fit_finds_the_temperature_of_the_labels_and_lowers_loss_and_error() {
        for temperature in [0.5, 1.0, 2.5] {
            let spans = drawn(0, temperature, 40_000);
            let found = temperatures(&spans, 1).unwrap()[0];
            assert!((found.value / temperature - 1.0).abs() < 0.05, "{found:?} for {temperature}");
            let loss = |value: f64| log_loss(&scored(&spans, value));
            assert!([0.9, 1.1].iter().all(|factor| loss(found.value * factor) > loss(found.value)), "{found:?}");
            let error = calibration_error(&scored(&spans, found.value));
            assert!(error < 0.01, "{error}");
            let off = calibration_error(&scored(&spans, found.value * 2.0));
            assert!(off > 0.05, "{off}");
        }
    }

    #[test]
    fn types_with_few_spans_share_the_temperature_of_all() {
        let mut spans = [drawn(0, 2.0, 5000), drawn(1, 2.0, FEWEST_SPANS - 1), drawn(2, 2.0, 500)].concat();
        // A type whose spans are all right has no temperature of its own.
        for span in spans.iter_mut().filter(|span| span.entity_type == 2) {
            span.right = true;
        }
        let found = temperatures(&spans, 4).unwrap();
        assert_eq!([0, 1, 2, 3].map(|one: usize| found[one].shared), [false, true, true, true]);
        assert!(found[1].value.to_bits() == found[3].value.to_bits() && (found[1].value - found[0].value).abs() > 1e-6);
        assert_eq!((found[1].spans, found[3].spans, found[2].right), (99, 0, 500));
        assert_eq!(temperatures(&spans[..FEWEST_SPANS - 1], 1), None);
    }

    #[test]
    fn the_calibration_error_is_that_of_hand() {
        // Bin 14: mean score 0.95, 1 of 2 right; bin 7: 0.5, right.
        let scored = [(0.94, true), (0.96, false), (0.5, true)];
        assert!((calibration_error(&scored) - (0.45 * 2.0 + 0.5) / 3.0).abs() < 1e-12);
        assert!(calibration_error(&[]).abs() < 1e-12);
        assert_eq!(bins(&[(1.0, true)])[BINS - 1], Bin { mentions: 1, right: 1, score: 1.0 });
    }

    #[test]
    fn thresholds_meet_their_goal() {
        let spans = [(0.9, true), (0.8, false), (0.7, true), (0.7, true), (0.4, false), (0.3, true)];
        // Down to 0.7: 3 of 4 right, of 5 gold ones 3 are found: F1 = 6 / 9. Down to 0.3: 4 of 6 and 4 of 5: 8 / 11.
        let best = threshold(spans.to_vec(), 5, Goal::F1).unwrap();
        assert!((best - 0.15).abs() < 1e-12, "{best}");
        let best = threshold(spans[..5].to_vec(), 5, Goal::F1).unwrap();
        assert!((best - 0.55).abs() < 1e-12, "{best}");
        assert_eq!(threshold(vec![(0.9, false)], 5, Goal::F1), None);
        let many: Vec<(f64, bool)> =
            (0..100).map(|number| (1.0 - f64::from(number) / 100.0, number % 10 != 9)).collect();
        let at = |wanted: f64| threshold(many.clone(), 90, Goal::Precision(wanted));
        let counts = |threshold: f64| {
            let passing: Vec<bool> = many.iter().filter(|one| one.0 > threshold).map(|one| one.1).collect();
            (passing.iter().filter(|right| **right).count(), passing.len())
        };
        // The last of all is wrong: without it the recall is the same.
        assert_eq!(counts(at(0.9).unwrap()), (90, 99));
        // 36 / 39 = 0.923, and of more mentions at most 45 / 49 = 0.918 are right.
        assert_eq!(counts(at(0.92).unwrap()), (36, 39));
        // Nine right ones before the first wrong one are too few.
        assert_eq!(at(0.999), None);
    }
}

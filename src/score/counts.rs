//! Counts → precision, recall, F1. In: true positives, false positives and false negatives. Out: the scores. It must not count:
//! that is a join of two tables, done where the tables are.
//!
//! A prediction is correct if document, type, start and end equal those of a gold mention (the strict measure of CoNLL-2003).

use serde::{Deserialize, Serialize};

/// True and false positives, false negatives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Predicted and gold.
    pub true_positives: usize,
    /// Predicted, not gold.
    pub false_positives: usize,
    /// Gold, not predicted.
    pub false_negatives: usize,
}

/// Precision, recall and F1, each in 0..=1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The share of predictions that are correct.
    pub precision: f64,
    /// The share of gold mentions that were found.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

impl Scores {
    /// Scores from precision and recall.
    pub fn new(precision: f64, recall: f64) -> Self {
        Self { precision, recall, f1: harmonic(precision, recall) }
    }

    /// The unweighted mean of the scores of several types (macro average); zeros if there are none.
    pub fn average(types: &[Self]) -> Self {
        let mean = |score: fn(&Self) -> f64| {
            if types.is_empty() { 0.0 } else { types.iter().map(score).sum::<f64>() / types.len() as f64 }
        };
        Self { precision: mean(|one| one.precision), recall: mean(|one| one.recall), f1: mean(|one| one.f1) }
    }
}

impl Counts {
    /// The share of predictions that are correct, 0 if there are none.
    pub fn precision(&self) -> f64 {
        ratio(self.true_positives, self.predicted())
    }

    /// The share of gold mentions that were found, 0 if there are none.
    pub fn recall(&self) -> f64 {
        ratio(self.true_positives, self.gold())
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        harmonic(self.precision(), self.recall())
    }

    /// Precision, recall and F1.
    pub fn scores(&self) -> Scores {
        Scores::new(self.precision(), self.recall())
    }

    /// How many mentions were predicted.
    pub const fn predicted(&self) -> usize {
        self.true_positives + self.false_positives
    }

    /// How many mentions are gold.
    pub const fn gold(&self) -> usize {
        self.true_positives + self.false_negatives
    }

    /// How many mentions are wrong or missing.
    pub const fn errors(&self) -> usize {
        self.false_positives + self.false_negatives
    }

    /// The sum of the two counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            true_positives: self.true_positives + other.true_positives,
            false_positives: self.false_positives + other.false_positives,
            false_negatives: self.false_negatives + other.false_negatives,
        }
    }
}

impl std::iter::Sum for Counts {
    fn sum<Each: Iterator<Item = Self>>(each: Each) -> Self {
        each.fold(Self::default(), Self::plus)
    }
}

/// The harmonic mean, with the order of operations of `seqeval` and scikit-learn, so that scores agree to the last bit.
fn harmonic(precision: f64, recall: f64) -> f64 {
    let sum = precision + recall;
    if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 }
}

fn ratio(part: usize, total: usize) -> f64 {
    if total == 0 { 0.0 } else { part as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_some_counts_and_of_none() {
        let counts = Counts { true_positives: 1, false_positives: 1, false_negatives: 2 };
        assert!((counts.precision() - 0.5).abs() < 1e-12);
        assert!((counts.recall() - 1.0 / 3.0).abs() < 1e-12);
        assert!((counts.f1() - 0.4).abs() < 1e-12);
        assert!(Counts::default().f1().abs() < 1e-12);
        assert_eq!(counts.plus(counts).false_negatives, 4);
        assert_eq!((counts.predicted(), counts.gold(), counts.errors()), (2, 3, 3));
    }

    #[test]
    fn the_average_counts_every_type_alike() {
        let average = Scores::average(&[Scores::new(1.0, 1.0), Scores::new(0.0, 0.0)]);
        assert_eq!(average, Scores { precision: 0.5, recall: 0.5, f1: 0.5 });
        assert_eq!(Scores::average(&[]), Scores::default());
    }
}

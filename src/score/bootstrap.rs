//! Counts per document → confidence intervals and significance. In: the counts of every document, a seed. Out: bootstrap
//! intervals of F1, and whether two systems differ. It must not treat mentions as independent: it resamples documents.
//!
//! Intervals are percentile bootstraps (Efron 1979) over documents; the test of a difference is approximate randomization
//! (Noreen 1989), which swaps the two systems' outputs on random documents. Equal seeds give equal results on any machine and
//! any number of cores: every resample has its own generator.

use crate::random::Random;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::score::counts::{Counts, Scores};

/// The settings of resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resampling {
    /// The number of resamples; 0 disables intervals and tests.
    pub resamples: usize,
    /// The seed of the random numbers.
    pub seed: u64,
}

/// The middle 95 % of the resampled values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// Counts by document and type; only non-zero counts are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentCounts {
    documents: usize,
    types: usize,
    /// The index of each document's first entry, and at the end the number of entries.
    starts: Vec<usize>,
    entries: Vec<(usize, Counts)>,
}

impl DocumentCounts {
    /// No counts yet, of `types` types.
    pub fn new(types: usize) -> Self {
        Self { documents: 0, types, starts: vec![0], entries: Vec::new() }
    }

    /// Adds a document with its counts by type number.
    pub fn push(&mut self, counts: impl IntoIterator<Item = (usize, Counts)>) {
        self.entries.extend(counts);
        self.starts.push(self.entries.len());
        self.documents = self.documents.max(self.starts.len() - 1);
    }

    /// Sets the number of documents, those without a mention included.
    #[must_use]
    pub fn of(mut self, documents: usize) -> Self {
        self.documents = self.documents.max(documents);
        self
    }

    /// Draws as many documents as there are, with replacement, and sums their counts by type.
    fn draw(&self, random: &mut Random, sums: &mut [Counts]) {
        sums.fill(Counts::default());
        for _ in 0..self.documents {
            let document = random.below(self.documents);
            let Some(&end) = self.starts.get(document + 1) else { continue };
            for &(entity_type, counts) in &self.entries[self.starts[document]..end] {
                sums[entity_type] = sums[entity_type].plus(counts);
            }
        }
    }
}

/// Confidence intervals of F1.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervals {
    /// The interval over the mentions of all types together.
    pub micro: Interval,
    /// The interval of the mean over the types in a resample.
    pub average: Interval,
    /// The interval of each type, over the resamples that contain it; `None` if none does.
    pub types: Vec<Option<Interval>>,
}

/// Bootstrap intervals of F1; `None` if there are no documents or `resamples` is 0.
pub fn bootstrap(counts: &DocumentCounts, rule: Resampling) -> Option<Intervals> {
    if rule.resamples == 0 || counts.documents == 0 {
        return None;
    }
    let values: Vec<Vec<Option<f64>>> = (0..rule.resamples)
        .into_par_iter()
        .map_init(
            || vec![Counts::default(); counts.types],
            |sums, number| {
                counts.draw(&mut Random::new(rule.seed, number as u64), sums);
                let drawn = |one: &Counts| one.predicted() + one.gold() > 0;
                let scores: Vec<Scores> = sums.iter().filter(|&one| drawn(one)).map(Counts::scores).collect();
                let mut row = vec![Some(sums.iter().copied().sum::<Counts>().f1()), Some(Scores::average(&scores).f1)];
                // A type that was not drawn has no F1; it is not 0.
                row.extend(sums.iter().map(|one| drawn(one).then(|| one.f1())));
                row
            },
        )
        .collect();
    let column = |index: usize| values.iter().filter_map(|row| row[index]).collect::<Vec<f64>>();
    let of_type = |index: usize| Some(column(index + 2)).filter(|values| !values.is_empty()).map(interval);
    Some(Intervals {
        micro: interval(column(0)),
        average: interval(column(1)),
        types: (0..counts.types).map(of_type).collect(),
    })
}

/// Two systems on the same documents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// F1 of the first minus F1 of the second.
    pub f1: f64,
    /// The paired bootstrap interval of the difference.
    pub interval: Interval,
    /// The probability of a difference at least as large by chance, in either direction (approximate randomization).
    pub p_value: f64,
}

/// Compares two systems by their counts in each document that has any; `documents` includes those without. `None` if there
/// are no documents or `resamples` is 0.
pub fn compare(pairs: &[[Counts; 2]], documents: usize, rule: Resampling) -> Option<Difference> {
    let documents = documents.max(pairs.len());
    if rule.resamples == 0 || documents == 0 {
        return None;
    }
    let difference = |[first, second]: [Counts; 2]| first.f1() - second.f1();
    let add = |sums: &mut [Counts; 2], pair: [Counts; 2]| *sums = [sums[0].plus(pair[0]), sums[1].plus(pair[1])];
    let mut sums = [Counts::default(); 2];
    for pair in pairs {
        add(&mut sums, *pair);
    }
    let f1 = difference(sums);
    let drawn: Vec<(f64, bool)> = (0..rule.resamples)
        .into_par_iter()
        .map(|number| {
            let mut random = Random::new(rule.seed, number as u64);
            let (mut sampled, mut swapped) = ([Counts::default(); 2], [Counts::default(); 2]);
            for _ in 0..documents {
                if let Some(pair) = pairs.get(random.below(documents)) {
                    add(&mut sampled, *pair);
                }
            }
            for &[first, second] in pairs {
                add(&mut swapped, if random.next() & 1 == 0 { [first, second] } else { [second, first] });
            }
            // Equal differences can differ in their last bits.
            (difference(sampled), difference(swapped).abs() >= f1.abs() - 1e-12)
        })
        .collect();
    let extreme = drawn.iter().filter(|(_, extreme)| *extreme).count();
    Some(Difference {
        f1,
        interval: interval(drawn.iter().map(|(value, _)| *value).collect()),
        p_value: (extreme + 1) as f64 / (rule.resamples + 1) as f64,
    })
}

/// The p-values of several tests, adjusted by the method of Holm (1979): if every adjusted value of at most α counts as significant, the
/// probability of any false one is at most α. In the order of `p_values`.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut ranked: Vec<usize> = (0..p_values.len()).collect();
    ranked.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let (mut adjusted, mut largest) = (vec![0.0; p_values.len()], 0.0_f64);
    for (rank, index) in ranked.into_iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[index]).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

/// The percentiles, interpolated between neighbours; `values` must not be empty.
fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (values.len() - 1) as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        (above - below).mul_add(place.fract(), below)
    };
    Interval { low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Resampling = Resampling { resamples: 400, seed: 7 };

    fn counts(true_positives: usize, false_positives: usize, false_negatives: usize) -> Counts {
        Counts { true_positives, false_positives, false_negatives }
    }

    #[test]
    fn an_interval_is_as_wide_as_the_documents_differ() {
        let mut same = DocumentCounts::new(2);
        let mut mixed = DocumentCounts::new(2);
        for number in 0..200 {
            same.push([(0, counts(1, 0, 1))]);
            mixed
                .push([(usize::from(number % 2 == 0), if number % 4 < 2 { counts(1, 0, 0) } else { counts(0, 1, 1) })]);
        }
        let narrow = bootstrap(&same, RULE).unwrap();
        assert!((narrow.micro.low - 2.0 / 3.0).abs() < 1e-12 && (narrow.micro.high - 2.0 / 3.0).abs() < 1e-12);
        // A share of one half over 200 draws: 1.96 · √(0.25 / 200) = 0.069 to each side.
        let wide = bootstrap(&mixed, RULE).unwrap();
        assert!((wide.micro.low - 0.431).abs() < 0.02 && (wide.micro.high - 0.569).abs() < 0.02, "{wide:?}");
        assert_eq!(bootstrap(&mixed, RULE), Some(wide.clone()), "equal seeds give equal intervals");
        assert_ne!(bootstrap(&mixed, Resampling { seed: 8, ..RULE }), Some(wide));
        assert_eq!(bootstrap(&mixed, Resampling { resamples: 0, ..RULE }), None);
        assert_eq!(bootstrap(&DocumentCounts::new(0), RULE), None);
    }

    #[test]
    fn a_resample_can_miss_a_type_and_every_mention() {
        let mut few = DocumentCounts::new(2);
        few.push([(0, counts(1, 0, 1))]);
        let drawn = bootstrap(&few.of(3), RULE).unwrap();
        // Without the one document that has mentions, the micro F1 is 0 and the type has none.
        assert!(drawn.micro.low.abs() < 1e-12 && (drawn.micro.high - 2.0 / 3.0).abs() < 1e-12);
        let [Some(there), None] = drawn.types[..] else { panic!("{drawn:?}") };
        assert!((there.low - 2.0 / 3.0).abs() < 1e-12 && (there.high - 2.0 / 3.0).abs() < 1e-12, "{there:?}");
    }

    #[test]
    fn a_clear_difference_is_significant_and_none_is_not() {
        let clear: Vec<[Counts; 2]> = (0..60).map(|_| [counts(2, 0, 0), counts(1, 1, 1)]).collect();
        let found = compare(&clear, 60, RULE).unwrap();
        assert!((found.f1 - 0.5).abs() < 1e-12 && found.interval.low > 0.4, "{found:?}");
        assert!((found.p_value - 1.0 / 401.0).abs() < 1e-12, "{found:?}");
        let none: Vec<[Counts; 2]> = (0..60).map(|_| [counts(1, 1, 1); 2]).collect();
        assert!((compare(&none, 60, RULE).unwrap().p_value - 1.0).abs() < 1e-12);
        // One document of many differs: chance does that half the time or more.
        let mut one = none;
        one[0][0] = counts(2, 0, 0);
        assert!(compare(&one, 60, RULE).unwrap().p_value > 0.4);
    }

    #[test]
    fn several_tests_are_adjusted_by_holm() {
        let adjusted = holm(&[0.04, 0.01, 0.03, 0.5]);
        // 4 · 0.01; 3 · 0.03; at least that, although 2 · 0.04 is less; 0.5.
        let expected = [0.09, 0.04, 0.09, 0.5];
        assert!(adjusted.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-12), "{adjusted:?}");
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn a_small_difference_has_the_p_value_that_all_swaps_give() {
        let pairs = [
            [counts(3, 0, 1), counts(2, 1, 2)],
            [counts(1, 2, 0), counts(1, 0, 0)],
            [counts(4, 0, 0), counts(2, 2, 2)],
        ];
        let sum = |swaps: usize| {
            let mut sums = [Counts::default(); 2];
            for (index, &[first, second]) in pairs.iter().enumerate() {
                let swapped = swaps >> index & 1 == 1;
                sums[0] = sums[0].plus(if swapped { second } else { first });
                sums[1] = sums[1].plus(if swapped { first } else { second });
            }
            (sums[0].f1() - sums[1].f1()).abs()
        };
        let exact = (0..8).filter(|swaps| sum(*swaps) >= sum(0) - 1e-12).count() as f64 / 8.0;
        let found = compare(&pairs, 3, Resampling { resamples: 20_000, seed: 1 }).unwrap();
        assert!((found.p_value - exact).abs() < 0.02, "{} is not {exact}", found.p_value);
    }
}

//! Overlapping mentions → pairs, and partial credit for them. In: which unmatched predictions share characters with which
//! unmatched gold mentions. Out: one-to-one pairs and the scores with partial credit. It must not pair mentions that match exactly.
//!
//! The measure is that of MUC-5 and of `SemEval` 2013 task 9: a mention is correct (the same place), partial (in a pair), spurious
//! or missing. A correct mention counts 1, a partial one counts the credit. Precision divides by all predictions, recall by all
//! gold mentions.

use serde::Serialize;

use crate::score::counts::Scores;

/// A prediction and a gold mention of the same document that share characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The prediction's number, in the order of document, start, end and type.
    pub predicted: usize,
    /// The gold mention's number, in the same order.
    pub gold: usize,
    /// The number of characters that they share.
    pub shared: usize,
}

/// Pairs predictions with gold mentions, each at most once: the largest overlap first; on a tie, the earlier prediction, then
/// the earlier gold mention.
pub fn pair(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(|one| (std::cmp::Reverse(one.shared), one.predicted, one.gold));
    let (mut predicted, mut gold) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    candidates.retain(|one| {
        let free = !predicted.contains(&one.predicted) && !gold.contains(&one.gold);
        if free {
            predicted.insert(one.predicted);
            gold.insert(one.gold);
        }
        free
    });
    candidates
}

/// Counts of exact and partial pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Pairs in the same place.
    pub exact: usize,
    /// Pairs that share some characters.
    pub partial: usize,
    /// All predictions.
    pub predicted: usize,
    /// All gold mentions.
    pub gold: usize,
}

impl Overlap {
    /// The scores if a partial pair counts `credit`, in 0..=1.
    pub fn scores(&self, credit: f64) -> Scores {
        let correct = credit.mul_add(self.partial as f64, self.exact as f64);
        let share = |total: usize| if total == 0 { 0.0 } else { correct / total as f64 };
        Scores::new(share(self.predicted), share(self.gold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(predicted: usize, gold: usize, shared: usize) -> Candidate {
        Candidate { predicted, gold, shared }
    }

    #[test]
    fn the_largest_overlap_is_paired_first() {
        // One long prediction over two gold mentions, and a short one inside the second.
        let pairs = pair(vec![candidate(0, 0, 5), candidate(0, 1, 9), candidate(1, 1, 3)]);
        assert_eq!(pairs, [candidate(0, 1, 9)]);
        let pairs = pair(vec![candidate(0, 0, 5), candidate(0, 1, 3), candidate(1, 1, 3)]);
        assert_eq!(pairs, [candidate(0, 0, 5), candidate(1, 1, 3)]);
    }

    #[test]
    fn partial_pairs_count_their_credit() {
        let overlap = Overlap { exact: 3, partial: 2, predicted: 8, gold: 5 };
        assert_eq!(overlap.scores(0.0), Scores::new(0.375, 0.6));
        assert_eq!(overlap.scores(0.5), Scores::new(0.5, 0.8));
        assert_eq!(overlap.scores(1.0), Scores::new(0.625, 1.0));
        assert_eq!(Overlap::default().scores(0.5), Scores::default());
    }

    proptest! {
        #[test]
        fn pairs_are_disjoint_and_complete(edges in proptest::collection::vec((0_usize..8, 0_usize..8, 1_usize..9), 0..40)) {
            let all: Vec<Candidate> = edges.iter().map(|&(predicted, gold, shared)| candidate(predicted, gold, shared)).collect();
            let pairs = pair(all.clone());
            for (index, one) in pairs.iter().enumerate() {
                prop_assert!(pairs[index + 1..].iter().all(|other| other.predicted != one.predicted && other.gold != one.gold));
            }
            for one in &all {
                prop_assert!(pairs.iter().any(|pair| (pair.predicted == one.predicted || pair.gold == one.gold) && pair.shared >= one.shared));
            }
        }
    }
}

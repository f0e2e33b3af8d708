//! Logits of words → mentions with their probabilities. In: a logit per word and tag, the [`TagSet`]. Out: the mentions of the best legal
//! sequence of tags. It must not know where words stand in a text.
//!
//! A sequence is legal if its first tag can start a text, each tag can follow the one before it, and its last tag can end a text. Its probability is
//! the product of the softmax of its tags, divided by the sum of these products over all legal sequences. The best is found by the algorithm
//! of Viterbi (1967). The probability of a mention is the sum of the probabilities of all legal sequences that have exactly this
//! mention: its type, its first and its last word. It is computed by the forward-backward algorithm (Rabiner 1989).

use crate::task::tagger::tag_set::TagSet;

/// The smallest logarithm of a tag's probability that sums over sequences use, so that no legal sequence gets probability 0.
const FLOOR: f64 = -50.0;
/// The largest logit of a probability: `f64` knows no probability nearer to 1.
const LARGEST: f64 = 36.0;

/// A mention among the words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaggedMention {
    /// The index of its type in the [`TagSet`].
    pub entity_type: usize,
    /// Its first word.
    pub first: usize,
    /// Its last word.
    pub last: usize,
    /// The logit of its probability.
    pub logit: f32,
}

/// The words of a window with what a model says of their tags.
#[derive(Debug)]
pub struct Lattice<'tags> {
    tags: &'tags TagSet,
    /// `[words, tags]`: logarithms of the softmax over the tags of a word.
    scores: Vec<f64>,
}

impl<'tags> Lattice<'tags> {
    /// The lattice of words; each item has the logits of a word, one per tag.
    pub fn new<'l>(tags: &'tags TagSet, words: impl Iterator<Item = &'l [f32]>) -> Self {
        let mut scores = Vec::new();
        for logits in words {
            // If all tags are impossible, none is more so.
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if largest == f32::NEG_INFINITY {
                scores.extend(logits.iter().map(|_| -(logits.len() as f64).ln()));
                continue;
            }
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            scores.extend(logits.iter().map(|logit| f64::from(*logit - largest) - sum.ln()));
        }
        Self { tags, scores }
    }

    fn words(&self) -> usize {
        self.scores.len() / self.tags.count()
    }

    fn of_word(&self, word: usize) -> &[f64] {
        &self.scores[word * self.tags.count()..(word + 1) * self.tags.count()]
    }

    /// The tags of the best legal sequence. Of equal sequences it is the one whose tags have the smaller numbers, compared from the last word.
    pub fn best(&self) -> Vec<usize> {
        let (count, words) = (self.tags.count(), self.words());
        let outside = self.tags.outside();
        // Most windows have no mention, and then the best sequence needs no search.
        let is_outside = |word: usize| self.of_word(word).iter().all(|score| *score <= self.of_word(word)[outside]);
        if (0..words).all(is_outside) {
            return vec![outside; words];
        }
        let mut behind = vec![0_usize; words * count];
        let mut reached = vec![0.0; count];
        for word in 0..words {
            let scores = self.of_word(word);
            let next: Vec<f64> = (0..count)
                .map(|tag| {
                    let start = if self.tags.can_start(tag) { 0.0 } else { f64::NEG_INFINITY };
                    let (from, best) = if word == 0 {
                        (tag, start)
                    } else {
                        let all = self.tags.before(tag).iter().map(|&before| (before, reached[before]));
                        all.reduce(|best, one| if one.1 > best.1 { one } else { best })
                            .unwrap_or((tag, f64::NEG_INFINITY))
                    };
                    behind[word * count + tag] = from;
                    best + scores[tag]
                })
                .collect();
            reached = next;
        }
        let ends = (0..count).filter(|&tag| self.tags.can_end(tag)).map(|tag| (tag, reached[tag]));
        let Some((mut tag, _)) = ends.reduce(|best, one| if one.1 > best.1 { one } else { best }) else {
            return vec![outside; words];
        };
        let mut sequence = vec![tag; words];
        for word in (1..words).rev() {
            tag = behind[word * count + tag];
            sequence[word - 1] = tag;
        }
        sequence
    }

    /// The mentions of the best legal sequence, in the order of the words.
    pub fn mentions(&self) -> Vec<TaggedMention> {
        let sequence = self.best();
        let mut places: Vec<(usize, usize, usize)> = Vec::new();
        for (word, &tag) in sequence.iter().enumerate() {
            let Some(entity_type) = self.tags.entity_type(tag) else { continue };
            match places.last_mut() {
                Some((_, _, last)) if word > 0 && *last + 1 == word && self.tags.continues(sequence[word - 1], tag) => {
                    *last = word;
                }
                _ => places.push((entity_type, word, word)),
            }
        }
        if places.is_empty() {
            return Vec::new();
        }
        let sums = Sums::new(self);
        let mention = |(entity_type, first, last): (usize, usize, usize)| {
            let probability = sums.probability(entity_type, first, last).min(1.0);
            let logit = probability.ln() - (1.0 - probability).ln();
            TaggedMention { entity_type, first, last, logit: logit.clamp(-LARGEST, LARGEST) as f32 }
        };
        places.into_iter().map(mention).collect()
    }
}

/// The sums over all legal sequences.
struct Sums<'l> {
    lattice: &'l Lattice<'l>,
    /// `[words, tags]`: the logarithm of the sum over the beginnings that end with this tag.
    forward: Vec<f64>,
    /// `[words, tags]`: the logarithm of the sum over what can follow this tag.
    backward: Vec<f64>,
    /// The logarithm of the sum over all.
    all: f64,
}

impl<'l> Sums<'l> {
    fn new(lattice: &'l Lattice<'l>) -> Self {
        let (tags, count, words) = (lattice.tags, lattice.tags.count(), lattice.words());
        let mut sums =
            Self { lattice, forward: Vec::new(), backward: vec![f64::NEG_INFINITY; words * count], all: 0.0 };
        for word in 0..words {
            let before = word.checked_sub(1).map(|before| Row::new(&sums.forward[before * count..]));
            for tag in 0..count {
                let sum = match &before {
                    Some(row) => row.sum(tags.before(tag).iter().copied()),
                    None if tags.can_start(tag) => 0.0,
                    None => f64::NEG_INFINITY,
                };
                sums.forward.push(sum + sums.score(word, tag));
            }
        }
        for word in (0..words).rev() {
            let next = (word + 1 < words).then(|| sums.following(word + 1));
            for tag in 0..count {
                sums.backward[word * count + tag] = match &next {
                    Some(row) => row.sum((0..count).filter(|&next| tags.before(next).binary_search(&tag).is_ok())),
                    None if tags.can_end(tag) => 0.0,
                    None => f64::NEG_INFINITY,
                };
            }
        }
        let last = Row::new(&sums.forward[(words - 1) * count..]);
        sums.all = last.sum((0..count).filter(|&tag| tags.can_end(tag)));
        sums
    }

    fn score(&self, word: usize, tag: usize) -> f64 {
        self.lattice.of_word(word)[tag].max(FLOOR)
    }

    /// For each tag of a word the sum over the ends of sequences that begin with it.
    fn following(&self, word: usize) -> Row {
        let count = self.lattice.tags.count();
        let ends: Vec<f64> = (0..count).map(|tag| self.score(word, tag) + self.backward[word * count + tag]).collect();
        Row::new(&ends)
    }

    /// The probability that the words `first..=last` are a mention of this type, and no longer one.
    fn probability(&self, entity_type: usize, first: usize, last: usize) -> f64 {
        let (tags, count) = (self.lattice.tags, self.lattice.tags.count());
        let own: Vec<usize> = (0..count).filter(|&tag| tags.entity_type(tag) == Some(entity_type)).collect();
        let before = first.checked_sub(1).map(|before| Row::new(&self.forward[before * count..(before + 1) * count]));
        let mut reached = vec![f64::NEG_INFINITY; count];
        for &tag in &own {
            let sum = match &before {
                Some(row) => row.sum(tags.before(tag).iter().copied().filter(|&before| !tags.continues(before, tag))),
                None if tags.can_start(tag) => 0.0,
                None => f64::NEG_INFINITY,
            };
            reached[tag] = sum + self.score(first, tag);
        }
        for word in first + 1..=last {
            let row = Row::new(&reached);
            let mut next = vec![f64::NEG_INFINITY; count];
            for &tag in &own {
                let inside = tags.before(tag).iter().copied().filter(|&before| tags.continues(before, tag));
                next[tag] = row.sum(inside) + self.score(word, tag);
            }
            reached = next;
        }
        let behind = (last + 1 < self.lattice.words()).then(|| self.following(last + 1));
        for &tag in &own {
            reached[tag] += match &behind {
                Some(row) => row.sum(
                    (0..count)
                        .filter(|&next| tags.before(next).binary_search(&tag).is_ok() && !tags.continues(tag, next)),
                ),
                None if tags.can_end(tag) => 0.0,
                None => f64::NEG_INFINITY,
            };
        }
        (Row::new(&reached).sum(own.iter().copied()) - self.all).exp()
    }
}

/// Logarithms of which parts are summed: each exponential is computed once.
struct Row {
    largest: f64,
    shares: Vec<f64>,
}

impl Row {
    fn new(logarithms: &[f64]) -> Self {
        let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Nothing is reached: every sum is 0.
        let base = if largest == f64::NEG_INFINITY { 0.0 } else { largest };
        Self { largest: base, shares: logarithms.iter().map(|one| (one - base).exp()).collect() }
    }

    /// The logarithm of the sum over some of the tags.
    fn sum(&self, tags: impl Iterator<Item = usize>) -> f64 {
        tags.map(|tag| self.shares[tag]).sum::<f64>().ln() + self.largest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::answer::sigmoid;
    use crate::task::tagger::scheme::Scheme;
    use crate::task::tagger::tag_set::tests::parsed;

    fn sets() -> Vec<TagSet> {
        let mut sets: Vec<TagSet> = [Scheme::Bio, Scheme::Io, Scheme::Bioes, Scheme::Bilou, Scheme::Bmes]
            .map(|scheme| TagSet::new(scheme, &["A"]))
            .into();
        sets.push(TagSet::new(Scheme::Bio, &["A", "B"]));
        sets.push(parsed(&["I-A", "B-A", "O", "I-B"]).expect("IOB1"));
        sets
    }

    /// All sequences of `words` tags.
    fn sequences(tags: usize, words: usize) -> Vec<Vec<usize>> {
        (0..words).fold(vec![Vec::new()], |all, _| {
            all.into_iter()
                .flat_map(|one| (0..tags).map(move |tag| one.iter().copied().chain([tag]).collect()))
                .collect()
        })
    }

    fn legal(set: &TagSet, sequence: &[usize]) -> bool {
        set.can_start(sequence[0])
            && set.can_end(sequence[sequence.len() - 1])
            && sequence.windows(2).all(|pair| set.before(pair[1]).contains(&pair[0]))
    }

    fn mentions(set: &TagSet, sequence: &[usize]) -> Vec<(usize, usize, usize)> {
        let mut found: Vec<(usize, usize, usize)> = Vec::new();
        for (word, &tag) in sequence.iter().enumerate() {
            if let Some(entity_type) = set.entity_type(tag) {
                if word > 0 && set.continues(sequence[word - 1], tag) {
                    found.last_mut().expect("a mention").2 = word;
                } else {
                    found.push((entity_type, word, word));
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn mentions_and_probabilities_equal_brute_force(
            which in 0_usize..7,
            words in 1_usize..6,
            values in proptest::collection::vec(-3.0_f32..3.0, 6 * 5),
        ) {
            let set = &sets()[which];
            let count = set.count();
            let logits = &values[..words * count];
            let lattice = Lattice::new(set, logits.chunks(count));
            let probability = |sequence: &[usize]| -> f64 {
                sequence.iter().enumerate().map(|(word, &tag)| {
                    let row = &logits[word * count..(word + 1) * count];
                    let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                    f64::from(row[tag]).exp() / sum
                }).product()
            };
            let all: Vec<(Vec<usize>, f64)> = sequences(count, words)
                .into_iter()
                .filter(|sequence| legal(set, sequence))
                .map(|sequence| { let share = probability(&sequence); (sequence, share) })
                .collect();
            let total: f64 = all.iter().map(|(_, share)| share).sum();
            let (best, largest) = all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("some are legal");
            let found = lattice.best();
            prop_assert!(legal(set, &found));
            prop_assert!((probability(&found) - largest).abs() < 1e-12 * largest.max(1.0), "{found:?} {best:?}");
            let tagged = lattice.mentions();
            let places: Vec<_> = tagged.iter().map(|one| (one.entity_type, one.first, one.last)).collect();
            prop_assert_eq!(&places, &mentions(set, &found));
            for one in tagged {
                let place = (one.entity_type, one.first, one.last);
                let sum: f64 = all.iter().filter(|(sequence, _)| mentions(set, sequence).contains(&place)).map(|(_, share)| share).sum();
                prop_assert!((f64::from(sigmoid(one.logit)) - sum / total).abs() < 1e-6, "{} {}", sigmoid(one.logit), sum / total);
            }
        }
    }

    #[test]
    fn certain_and_impossible_tags_give_finite_scores() {
        let set = TagSet::new(Scheme::Bioes, &["A"]);
        // O, B, I, E, S: the model is sure of a beginning without an end.
        let sure = [-900.0_f32, 900.0, -900.0, -900.0, -900.0];
        for words in 1..6 {
            let lattice = Lattice::new(&set, std::iter::repeat_n(sure.as_slice(), words));
            assert!(legal(&set, &lattice.best()));
            for one in lattice.mentions() {
                assert!(one.logit.is_finite(), "{words} words: {one:?}");
            }
        }
        let certain = [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0];
        let [one] = Lattice::new(&set, std::iter::once(certain.as_slice())).mentions()[..] else {
            panic!("one mention")
        };
        assert!((sigmoid(one.logit) - 1.0).abs() < 1e-6 && one.logit.is_finite());
        assert!(Lattice::new(&set, std::iter::empty()).mentions().is_empty());
    }
}

//! Words that training hides, so that names are also learned from their context and their shape. In: the tensors of a batch, a share. Out: the
//! tensors with `[MASK]` for every piece of that share of the words. It must not hide a question.

use crate::random::Random;
use crate::task::batch::BatchTensors;

/// How many words are hidden, and behind what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WordDropout {
    /// The share of the words.
    pub share: f64,
    /// The token in place of their pieces.
    pub mask: u32,
}

impl WordDropout {
    /// Hides words of the windows of a batch.
    pub fn apply(self, tensors: &mut BatchTensors, random: &mut Random) {
        if self.share <= 0.0 {
            return;
        }
        let mut hidden = false;
        for place in 0..tensors.input_ids.len() {
            if tensors.start_mask[place] {
                hidden = random.share() < self.share;
            }
            if hidden {
                tensors.input_ids[place] = self.mask.into();
                hidden = !tensors.end_mask[place];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::batch::Batch;
    use crate::task::batch::tests::queries;

    #[test]
    fn whole_words_of_windows_are_hidden() {
        let batch = Batch { inputs: queries(&["new york banker by the river".to_owned(), "bank".to_owned()]) };
        let original = batch.tensors();
        let hidden = |share: f64, seed| {
            let mut tensors = original.clone();
            WordDropout { share, mask: 77 }.apply(&mut tensors, &mut Random::new(seed, 0));
            let same = BatchTensors { input_ids: original.input_ids.clone(), ..tensors.clone() };
            assert_eq!(same, original, "only ids change");
            tensors.input_ids
        };
        assert_eq!(hidden(0.0, 1), original.input_ids);
        // All words: what is not hidden is no part of a word of a window.
        let (all, mut inside) = (hidden(1.0, 1), false);
        for (place, &id) in all.iter().enumerate() {
            inside |= original.start_mask[place];
            assert_eq!(id == 77, inside, "{place}");
            inside &= !original.end_mask[place];
        }
        assert!(all.contains(&77) && all != hidden(0.5, 1) && hidden(0.5, 1) != hidden(0.5, 2));
        // A word is hidden with all its pieces or not at all.
        for seed in 0..20 {
            let (ids, mut first) = (hidden(0.5, seed), None);
            for (place, &id) in ids.iter().enumerate() {
                if original.start_mask[place] {
                    first = Some(id == 77);
                }
                assert_eq!(id == 77, first.unwrap_or(false));
                if original.end_mask[place] {
                    first = None;
                }
            }
        }
    }
}

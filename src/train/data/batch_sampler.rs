//! Examples → batches, epoch by epoch. In: the lengths of the inputs, the recipe, the seed. Out: the batches of an epoch, always the same
//! in the same order. It must not read texts.
//!
//! An epoch is shuffled and divided into blocks. Each block is sorted by length and divided into batches, and the batches are shuffled:
//! inputs of similar length share a batch, so there is little padding, and the order stays random.

use crate::random::Random;
use crate::train::recipe::RecipeSection;

/// The approximate number of batches per block.
const BLOCK_BATCHES: usize = 100;
/// The version of the batch order: a training cannot resume from a checkpoint with another one.
pub const VERSION: u32 = 2;

/// Divides examples into the batches of each epoch.
#[derive(Debug, Clone)]
pub struct BatchSampler {
    lengths: Vec<usize>,
    seed: u64,
    batch_size: usize,
    batch_tokens: Option<usize>,
    /// Batches per step: accumulated batches times devices.
    batches_per_step: usize,
}

impl BatchSampler {
    /// A sampler over inputs of these lengths for a number of devices.
    pub fn new(lengths: Vec<usize>, recipe: &RecipeSection, devices: usize) -> Self {
        Self {
            lengths,
            seed: recipe.seed,
            batch_size: recipe.batch_size,
            batch_tokens: recipe.batch_tokens,
            batches_per_step: recipe.accumulate_grad_batches.saturating_mul(devices),
        }
    }

    /// The steps of epoch `epoch`: for each step its batches, for each batch the indices of its examples. The last step can have fewer
    /// batches.
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<Vec<usize>>> {
        let mut random = Random::new(self.seed, epoch as u64);
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        random.shuffle(&mut order);
        let mean = self.lengths.iter().sum::<usize>() / self.lengths.len().max(1);
        let mean_batch = self.batch_tokens.map_or(self.batch_size, |tokens| (tokens / mean.max(1)).max(1));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for block in order.chunks_mut(mean_batch.saturating_mul(BLOCK_BATCHES)) {
            block.sort_by_key(|&number| std::cmp::Reverse(self.lengths[number]));
            let mut width = 0;
            let mut open = false;
            for &number in block.iter() {
                let fits = |rows: usize| match self.batch_tokens {
                    Some(tokens) => rows.saturating_mul(width) <= tokens,
                    None => rows <= self.batch_size,
                };
                match batches.last_mut() {
                    Some(batch) if open && fits(batch.len() + 1) => batch.push(number),
                    _ => {
                        width = self.lengths[number];
                        open = true;
                        batches.push(vec![number]);
                    }
                }
            }
        }
        random.shuffle(&mut batches);
        batches.chunks(self.batches_per_step).map(<[Vec<usize>]>::to_vec).collect()
    }

    /// The number of steps of each of `epochs` epochs.
    pub fn steps(&self, epochs: usize) -> Vec<usize> {
        if self.batch_tokens.is_none() {
            // All batches are full except the last one, in any order.
            return vec![self.lengths.len().div_ceil(self.batch_size).div_ceil(self.batches_per_step); epochs];
        }
        (0..epochs).map(|epoch| self.epoch(epoch).len()).collect()
    }
}

/// The steps of an epoch after which dev is scored, ascending and without duplicates; the last step is always one.
pub fn scoring_steps(steps: usize, interval: f64) -> Vec<usize> {
    let every = if interval > 1.0 { interval } else { (interval * steps as f64).max(1.0) };
    let mut after: Vec<usize> = (1..=(steps as f64 / every).ceil() as u32)
        .map(|count| (f64::from(count) * every).round() as usize)
        .take_while(|&step| step < steps)
        .collect();
    after.push(steps);
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampler(lengths: Vec<usize>, batch_size: usize, batch_tokens: Option<usize>) -> BatchSampler {
        let recipe = RecipeSection { batch_size, batch_tokens, accumulate_grad_batches: 2, ..RecipeSection::default() };
        BatchSampler::new(lengths, &recipe, 1)
    }

    #[test]
    fn the_interval_is_a_fraction_of_an_epoch_or_a_number_of_steps() {
        assert_eq!(scoring_steps(10, 0.25), [3, 5, 8, 10]);
        assert_eq!(scoring_steps(10, 1.0), [10]);
        assert_eq!(scoring_steps(10, 4.0), [4, 8, 10]);
        assert_eq!(scoring_steps(3, 0.01), [1, 2, 3]);
        assert_eq!(scoring_steps(5, 1e-9), [1, 2, 3, 4, 5], "at most once after each step");
    }

    #[test]
    fn batches_of_similar_lengths_have_little_padding() {
        // Like sentences, most are short and a few are long.
        let mut random = Random::new(1, 2);
        let lengths: Vec<usize> = (0..20_000).map(|_| 12 + (random.normal().abs() * 15.0).powf(1.2) as usize).collect();
        let steps = sampler(lengths.clone(), 1, Some(4096)).epoch(0);
        let batches: Vec<&Vec<usize>> = steps.iter().flatten().collect();
        let padded: usize =
            batches.iter().map(|batch| batch.len() * batch.iter().map(|&one| lengths[one]).max().unwrap_or(0)).sum();
        let padding = 1.0 - lengths.iter().sum::<usize>() as f64 / padded as f64;
        assert!(padding < 0.03, "{padding}");
    }

    proptest! {
        #[test]
        fn an_epoch_has_every_example_once_and_is_deterministic(
            lengths in proptest::collection::vec(3_usize..200, 1..400),
            size in 1_usize..20,
            tokens in proptest::option::of(1_usize..2000),
        ) {
            let sampler = sampler(lengths.clone(), size, tokens);
            let steps = sampler.epoch(3);
            prop_assert_eq!(&steps, &sampler.epoch(3));
            prop_assert_eq!(sampler.steps(4)[3], steps.len());
            prop_assert!(steps.iter().all(|step| (1..=2).contains(&step.len())));
            let mut seen: Vec<usize> = steps.iter().flatten().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in steps.iter().flatten() {
                let width = batch.iter().map(|&number| lengths[number]).max().unwrap();
                match tokens {
                    Some(tokens) => prop_assert!(batch.len() == 1 || batch.len() * width <= tokens),
                    None => prop_assert!(batch.len() <= size),
                }
            }
        }
    }
}

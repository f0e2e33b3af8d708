//! Examples → batches, epoch by epoch. In: the queries' lengths, the recipe, the seed. Out: for each epoch the same batches in the same
//! order, whenever they are asked for. It may not look at texts.
//!
//! An epoch is shuffled, cut into blocks, each block sorted by length and cut into batches, and the batches shuffled: like lengths
//! come together, so little is padding, and no order is learned.

use crate::random::Random;
use crate::train::recipe::RecipeSection;

/// Batches that are sorted by length together, about.
const BLOCK_BATCHES: usize = 100;
/// Of the order of batches: a training that began with another one cannot go on.
pub const VERSION: u32 = 2;

/// How examples are gone through.
#[derive(Debug, Clone)]
pub struct BatchSampler {
    lengths: Vec<usize>,
    seed: u64,
    batch_size: usize,
    batch_tokens: Option<usize>,
    /// Batches that share a step: accumulated ones on every device.
    together: usize,
}

impl BatchSampler {
    /// A plan over queries of these lengths on so many devices.
    pub fn new(lengths: Vec<usize>, recipe: &RecipeSection, devices: usize) -> Self {
        Self {
            lengths,
            seed: recipe.seed,
            batch_size: recipe.batch_size,
            batch_tokens: recipe.batch_tokens,
            together: recipe.accumulate_grad_batches.saturating_mul(devices),
        }
    }

    /// The steps of epoch `epoch`: for each its batches, for each its examples' numbers. The last step may have fewer batches.
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<Vec<usize>>> {
        let mut random = Random::new(self.seed, epoch as u64);
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        random.shuffle(&mut order);
        let mean = self.lengths.iter().sum::<usize>() / self.lengths.len().max(1);
        let usual = self.batch_tokens.map_or(self.batch_size, |tokens| (tokens / mean.max(1)).max(1));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for block in order.chunks_mut(usual.saturating_mul(BLOCK_BATCHES)) {
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
        batches.chunks(self.together).map(<[Vec<usize>]>::to_vec).collect()
    }

    /// The steps of each of `epochs` epochs.
    pub fn steps(&self, epochs: usize) -> Vec<usize> {
        if self.batch_tokens.is_none() {
            // All batches are full but the last one, whatever the order.
            return vec![self.lengths.len().div_ceil(self.batch_size).div_ceil(self.together); epochs];
        }
        (0..epochs).map(|epoch| self.epoch(epoch).len()).collect()
    }
}

/// The steps of an epoch after which dev is scored, ascending; always the last one, and each once however short the interval is.
pub fn scorings(steps: usize, interval: f64) -> Vec<usize> {
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

    fn plan(lengths: Vec<usize>, batch_size: usize, batch_tokens: Option<usize>) -> BatchSampler {
        let recipe = RecipeSection { batch_size, batch_tokens, accumulate_grad_batches: 2, ..RecipeSection::default() };
        BatchSampler::new(lengths, &recipe, 1)
    }

    #[test]
    fn dev_is_scored_at_shares_of_an_epoch_or_every_so_many_steps() {
        assert_eq!(scorings(10, 0.25), [3, 5, 8, 10]);
        assert_eq!(scorings(10, 1.0), [10]);
        assert_eq!(scorings(10, 4.0), [4, 8, 10]);
        assert_eq!(scorings(3, 0.01), [1, 2, 3]);
        assert_eq!(scorings(5, 1e-9), [1, 2, 3, 4, 5], "after each step at most");
    }

    #[test]
    fn batches_of_like_lengths_have_little_padding() {
        // Most are short and a few are long, as sentences are.
        let mut random = Random::new(1, 2);
        let lengths: Vec<usize> = (0..20_000).map(|_| 12 + (random.normal().abs() * 15.0).powf(1.2) as usize).collect();
        let steps = plan(lengths.clone(), 1, Some(4096)).epoch(0);
        let batches: Vec<&Vec<usize>> = steps.iter().flatten().collect();
        let padded: usize =
            batches.iter().map(|batch| batch.len() * batch.iter().map(|&one| lengths[one]).max().unwrap_or(0)).sum();
        let padding = 1.0 - lengths.iter().sum::<usize>() as f64 / padded as f64;
        assert!(padding < 0.03, "{padding}");
    }

    proptest! {
        #[test]
        fn an_epoch_has_every_example_once_and_is_the_same_again(
            lengths in proptest::collection::vec(3_usize..200, 1..400),
            size in 1_usize..20,
            tokens in proptest::option::of(1_usize..2000),
        ) {
            let plan = plan(lengths.clone(), size, tokens);
            let steps = plan.epoch(3);
            prop_assert_eq!(&steps, &plan.epoch(3));
            prop_assert_eq!(plan.steps(4)[3], steps.len());
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

//! The weights of all steps → their exponential moving average. In: leaves after each step. Out: averaged weights, which are scored and kept
//! instead of the last ones. It must not change a leaf.

use std::collections::BTreeMap;

use tch::{Tensor, no_grad};

/// Steps from one addition to the next: each takes as long as a twentieth of a step of training.
const EVERY: usize = 8;

/// An exponential moving average of weights (Polyak and Juditsky 1992, with exponentially falling weights).
#[derive(Debug)]
pub struct Average {
    decay: f64,
    /// The averages, by the names of the leaves that learn.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Average {
    /// An average that begins with `leaves`.
    pub fn new(decay: f64, leaves: &BTreeMap<String, Tensor>) -> Self {
        let copy = |(name, leaf): (&String, &Tensor)| (name.clone(), leaf.detach().copy());
        Self { decay, tensors: leaves.iter().filter(|(_, leaf)| leaf.requires_grad()).map(copy).collect() }
    }

    /// Adds the leaves after step number `step`, from 1; only every eighth time, with the decay of eight steps. The first steps count less,
    /// since they are soon far behind: the decay of a step is at most (1 + step) / (10 + step).
    pub fn add(&mut self, leaves: &BTreeMap<String, Tensor>, step: usize) {
        if !step.is_multiple_of(EVERY) {
            return;
        }
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64)).powi(EVERY as i32);
        no_grad(|| {
            for (name, average) in &mut self.tensors {
                let _ = average.lerp_(&leaves[name], 1.0 - decay);
            }
        });
    }

    /// Exchanges the leaves with their averages.
    pub fn swap(&mut self, leaves: &mut BTreeMap<String, Tensor>) {
        for (name, average) in &mut self.tensors {
            if let Some(leaf) = leaves.get_mut(name) {
                std::mem::swap(leaf, average);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_steps_count_more_and_the_leaves_stay() {
        let leaf = |value: f64| Tensor::full([2], value, tch::kind::FLOAT_CPU).set_requires_grad(true);
        let leaves = |value: f64| BTreeMap::from([("a".to_owned(), leaf(value))]);
        let mut average = Average::new(0.99, &leaves(1.0));
        let value = |average: &Average| average.tensors["a"].double_value(&[1]);
        // The decays of a step are 9/18, 17/26, and in the end 0.99.
        for (step, leaf, decay) in [(8, 12.0, 0.5_f64), (16, 2.0, 17.0 / 26.0), (8000, 8.0, 0.99)] {
            let (leaves, before) = (leaves(leaf), value(&average));
            average.add(&leaves, step - 1);
            assert!((value(&average) - before).abs() < 1e-9, "between additions nothing changes");
            average.add(&leaves, step);
            let expected = leaf + (before - leaf) * decay.powi(8);
            assert!((value(&average) - expected).abs() < 1e-5, "{step}: {} {expected}", value(&average));
            assert!((leaves["a"].double_value(&[0]) - leaf).abs() < 1e-9);
        }
        let mut scored = leaves(3.0);
        scored.insert("frozen".to_owned(), Tensor::full([2], 7.0, tch::kind::FLOAT_CPU));
        assert_eq!(Average::new(0.99, &scored).tensors.len(), 1, "what does not learn has no average");
        let averaged = value(&average);
        average.swap(&mut scored);
        let found = ["a", "frozen"].map(|name| scored[name].double_value(&[0]));
        assert!((found[0] - averaged).abs() < 1e-9 && (found[1] - 7.0).abs() < 1e-9, "{found:?}");
        assert!((value(&average) - 3.0).abs() < 1e-9);
    }
}

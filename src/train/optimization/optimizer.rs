//! Gradients → new weights. In: leaves with gradients, a learning rate. Out: the leaves updated in place, and the updated moments. It
//! must not know where the gradients come from.
//!
//! `AdamW` follows Loshchilov and Hutter 2019 and PyTorch's implementation; SGD has momentum 0.9. Biases and layer normalizations do not
//! decay.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Device, Kind, Tensor, no_grad};

use crate::train::recipe::{OptimizerName, RecipeSection};

/// An optimizer and its moments.
#[derive(Debug)]
pub struct Optimizer {
    name: OptimizerName,
    decay: f64,
    epsilon: f64,
    clip: f64,
    /// The learning rate of `new` leaves, as a share of that of the others.
    new_rate: f64,
    /// The leaves that no pretraining has seen.
    new: BTreeSet<String>,
    /// The number of steps taken.
    pub steps: usize,
    /// First moments (or momentum), by name.
    pub first: BTreeMap<String, Tensor>,
    /// Second moments, by name; empty for SGD.
    pub second: BTreeMap<String, Tensor>,
}

const MOMENTUM: f64 = 0.9;
/// Weights per thread in one pass on the CPU: the smallest piece of work that LibTorch gives to a thread.
const WEIGHTS_PER_THREAD: i64 = 1 << 15;
/// Steps from one [`flush`] to the next.
const FLUSH_EVERY: usize = 256;
/// Smaller moments, first and second, change a weight by less than 10⁻¹⁵ of the learning rate; none above becomes subnormal (below 10⁻³⁸)
/// until the next flush.
const SMALLEST_MOMENTS: [f64; 2] = [1e-25, 1e-32];

impl Optimizer {
    /// An optimizer over `leaves` with zero moments; `is_new` says which of them no pretraining has seen, by their names.
    pub fn new(recipe: &RecipeSection, leaves: &BTreeMap<String, Tensor>, is_new: impl Fn(&str) -> bool) -> Self {
        let learned = || leaves.iter().filter(|(_, leaf)| leaf.requires_grad());
        let zeros = || learned().map(|(name, leaf)| (name.clone(), leaf.detach().zeros_like())).collect();
        let second = if recipe.optimizer == OptimizerName::Sgd { BTreeMap::new() } else { zeros() };
        Self {
            name: recipe.optimizer,
            decay: recipe.weight_decay,
            epsilon: recipe.adam_epsilon,
            clip: recipe.gradient_clip_val,
            new_rate: recipe.head_lr.map_or(1.0, |rate| rate / recipe.lr),
            new: leaves.keys().filter(|name| is_new(name)).cloned().collect(),
            steps: 0,
            first: zeros(),
            second,
        }
    }

    /// Clips the gradients, updates the leaves and clears the gradients; returns the norm before clipping. If the norm is not finite, no
    /// leaf is updated. `rate` is the encoder's. `momentum` replaces the first beta (or SGD's momentum).
    pub fn step(&mut self, leaves: &mut BTreeMap<String, Tensor>, rate: f64, momentum: Option<f64>) -> f64 {
        no_grad(|| {
            let norm = norm(leaves);
            if !norm.is_finite() {
                leaves.values_mut().for_each(clear_gradient);
                return norm;
            }
            let scale = if self.clip > 0.0 { (self.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
            self.steps += 1;
            for (name, leaf) in leaves.iter_mut() {
                let mut gradient = leaf.grad();
                if !gradient.defined() {
                    continue;
                }
                // Vectors are biases and the scales and shifts of layer normalizations.
                let decay = if leaf.dim() < 2 { 0.0 } else { self.decay };
                let momentum = momentum.unwrap_or(MOMENTUM);
                let rate = if self.new.contains(name) { rate * self.new_rate } else { rate };
                match self.name {
                    OptimizerName::Sgd => {
                        if scale < 1.0 {
                            let _ = gradient.g_mul_scalar_(scale);
                        }
                        self.sgd(name, leaf, &mut gradient, decay, rate, momentum);
                    }
                    OptimizerName::AdamW => self.adam(name, leaf, (&gradient, scale), [rate, decay], [momentum, 0.98]),
                    OptimizerName::TorchAdam => {
                        self.adam(name, leaf, (&gradient, scale), [rate, decay], [momentum, 0.999]);
                    }
                }
                clear_gradient(leaf);
            }
            norm
        })
    }

    /// One step of a leaf; its gradient is scaled first.
    fn adam(&self, name: &str, leaf: &Tensor, (gradient, scale): (&Tensor, f64), rates: [f64; 2], betas: [f64; 2]) {
        let (Some(first), Some(second)) = (self.first.get(name), self.second.get(name)) else { return };
        let [rate, decay] = rates;
        let [correction, correction_second] = betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
        // leaf -= (rate / correction) · first / (√(second / correction_second) + ε), with the factors in the denominator.
        let root = correction_second.sqrt();
        let (epsilon, factor) = (self.epsilon * root, -correction / (rate * root));
        let flat = [leaf, gradient, first, second].map(|tensor| tensor.detach().view(-1));
        let size = flat[0].size()[0];
        // On the CPU, work piece by piece and without new memory, so that the passes over a piece find it in the cache.
        let piece =
            if leaf.device() == Device::Cpu { WEIGHTS_PER_THREAD * i64::from(tch::get_num_threads()) } else { size };
        let scratch = Tensor::empty([piece.min(size)], (Kind::Float, leaf.device()));
        for from in (0..size).step_by(piece as usize) {
            let length = piece.min(size - from);
            let [mut leaf, mut gradient, mut first, mut second] =
                flat.each_ref().map(|tensor| tensor.narrow(0, from, length));
            if scale < 1.0 {
                let _ = gradient.g_mul_scalar_(scale);
            }
            if decay > 0.0 {
                let _ = leaf.g_mul_scalar_(1.0 - rate * decay);
            }
            let _ = first.lerp_(&gradient, 1.0 - betas[0]);
            let mut denominator = gradient.square_out(&scratch.narrow(0, 0, length));
            let _ = second.lerp_(&denominator, 1.0 - betas[1]);
            denominator = second.sqrt_out(&denominator);
            let _ = denominator.g_add_scalar_(epsilon).g_mul_scalar_(factor);
            let _ = leaf.addcdiv_(&first, &denominator);
            if self.steps.is_multiple_of(FLUSH_EVERY) {
                flush(&mut first, SMALLEST_MOMENTS[0]);
                flush(&mut second, SMALLEST_MOMENTS[1]);
            }
        }
    }

    /// PyTorch's SGD, which adds the decay to the gradient.
    fn sgd(&mut self, name: &str, leaf: &mut Tensor, gradient: &mut Tensor, decay: f64, rate: f64, momentum: f64) {
        let Some(first) = self.first.get_mut(name) else { return };
        if decay > 0.0 {
            let _ = gradient.g_add_(&(&*leaf * decay));
        }
        let _ = first.g_mul_scalar_(momentum).g_add_(gradient);
        let _ = leaf.g_sub_(&(&*first * rate));
    }
}

/// Sets moments that no longer change a weight to 0. The embedding of a word that is not seen for a while has moments that shrink at each step,
/// down to subnormal numbers, which take a processor some ten times as long.
fn flush(moment: &mut Tensor, smallest: f64) {
    let kept = moment.abs().ge(smallest);
    let _ = moment.g_mul_(&kept);
}

/// Replaces the leaf by one over the same memory without a gradient: the next gradient is then written, not added to zeros.
pub(crate) fn clear_gradient(leaf: &mut Tensor) {
    let learns = leaf.requires_grad();
    *leaf = leaf.detach().set_requires_grad(learns);
}

/// The joint norm of all gradients.
fn norm(leaves: &BTreeMap<String, Tensor>) -> f64 {
    let norms: Vec<Tensor> =
        leaves.values().map(Tensor::grad).filter(Tensor::defined).map(|gradient| gradient.norm()).collect();
    if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).to_kind(Kind::Double).norm().double_value(&[]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::head::Head;

    /// The weights after three steps on Σ(k·x)² from [1, -2, 0.5].
    fn three_steps(optimizer: OptimizerName, rate: f64, momenta: [Option<f64>; 3]) -> Vec<f32> {
        let leaf = Tensor::from_slice(&[1.0_f32, -2.0, 0.5]).view([1, 3]).set_requires_grad(true);
        let mut leaves = BTreeMap::from([("weight".to_owned(), leaf)]);
        let recipe = RecipeSection { optimizer, ..RecipeSection::default() };
        let mut optimizer = Optimizer::new(&recipe, &leaves, Head::owns);
        for momentum in momenta {
            let scaled = &leaves["weight"] * Tensor::from_slice(&[1.0_f32, 2.0, 3.0]);
            scaled.square().sum(Kind::Float).backward();
            optimizer.step(&mut leaves, rate, momentum);
        }
        Vec::try_from(leaves["weight"].detach().flatten(0, -1)).unwrap()
    }

    /// Optimizer, rate, weights after three steps with the default momentum, and with momenta of 0.85, 0.9 and 0.95.
    const EXPECTED: [(OptimizerName, f64, [f32; 3], [f32; 3]); 3] = [
        (OptimizerName::AdamW, 0.1, [0.698_720, -1.694_851, 0.203_314], [0.574_906, -1.575_339, 0.071_023]),
        (OptimizerName::TorchAdam, 0.1, [0.698_911, -1.694_945, 0.203_712], [0.575_289, -1.575_521, 0.071_863]),
        (OptimizerName::Sgd, 0.01, [0.889_170, -1.161_844, 0.069_745], [0.887_281, -1.147_266, 0.062_001]),
    ];

    // PyTorch 2.11 computed the figures with torch.optim.AdamW and torch.optim.SGD (momentum 0.9), weight decay 0.01;
    // tests/train/reference.py prints them.
    #[test]
    fn steps_equal_pytorch_s() {
        for (name, rate, by_default, scheduled) in EXPECTED {
            for (momenta, expected) in [([None; 3], by_default), ([0.85, 0.9, 0.95].map(Some), scheduled)] {
                for (found, expected) in three_steps(name, rate, momenta).iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-5, "{name:?}: {found} {expected}");
                }
            }
        }
    }

    /// The second value has a gradient at the first step only.
    #[test]
    fn moments_do_not_become_subnormal() {
        let leaf = Tensor::ones([1, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut leaves = BTreeMap::from([("weight".to_owned(), leaf)]);
        let mut optimizer = Optimizer::new(&RecipeSection::default(), &leaves, Head::owns);
        for step in 0..2 * FLUSH_EVERY {
            let factors = Tensor::from_slice(&[1.0_f32, if step == 0 { 1e-3 } else { 0.0 }]);
            (&leaves["weight"] * factors).sum(Kind::Float).backward();
            optimizer.step(&mut leaves, 1e-3, None);
        }
        let first = &optimizer.first["weight"];
        assert!((first.double_value(&[0, 0]) - 1.0).abs() < 1e-4);
        assert!(first.double_value(&[0, 1]).abs() < f64::MIN_POSITIVE, "{first:?}");
    }

    #[test]
    fn heads_have_their_own_rate() {
        let leaf = || Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let names = ["bert.embeddings.word_embeddings.weight", "start_outputs.bias", "boundary.start.token.inner.bias"];
        let mut leaves: BTreeMap<String, Tensor> = names.map(|name| (name.to_owned(), leaf())).into();
        let recipe =
            RecipeSection { lr: 0.5, head_lr: Some(2.0), optimizer: OptimizerName::Sgd, ..RecipeSection::default() };
        let mut optimizer = Optimizer::new(&recipe, &leaves, Head::owns);
        leaves.values().map(|leaf| leaf.sum(Kind::Float)).sum::<Tensor>().backward();
        // Half the rate of the schedule's top.
        optimizer.step(&mut leaves, 0.25, None);
        let moved = names.map(|name| 1.0 - leaves[name].double_value(&[0]));
        for (moved, expected) in moved.iter().zip([0.25, 1.0, 1.0]) {
            assert!((moved - expected).abs() < 1e-6, "{moved} {expected}");
        }
    }

    #[test]
    fn gradients_are_clipped_and_biases_do_not_decay() {
        let leaf = |shape: &[i64]| Tensor::full(shape, 10.0, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let both = || BTreeMap::from([("a.weight".to_owned(), leaf(&[2, 2])), ("a.bias".to_owned(), leaf(&[4]))]);
        let mut leaves = both();
        let recipe = RecipeSection {
            gradient_clip_val: 1.0,
            weight_decay: 0.0,
            optimizer: OptimizerName::Sgd,
            ..RecipeSection::default()
        };
        let mut optimizer = Optimizer::new(&recipe, &leaves, Head::owns);
        ((&leaves["a.weight"] * 3.0).sum(Kind::Float) + (&leaves["a.bias"] * 4.0).sum(Kind::Float)).backward();
        let norm = optimizer.step(&mut leaves, 1.0, None);
        assert!((norm - 10.0).abs() < 1e-4, "{norm}");
        let moved = (10.0 - leaves["a.weight"].double_value(&[0, 0]), 10.0 - leaves["a.bias"].double_value(&[0]));
        assert!((moved.0 - 0.3).abs() < 1e-4 && (moved.1 - 0.4).abs() < 1e-4, "{moved:?}");
        let mut leaves = both();
        let recipe = RecipeSection { weight_decay: 0.1, ..RecipeSection::default() };
        let mut optimizer = Optimizer::new(&recipe, &leaves, Head::owns);
        ((&leaves["a.weight"] * 0.0).sum(Kind::Float) + (&leaves["a.bias"] * 0.0).sum(Kind::Float)).backward();
        optimizer.step(&mut leaves, 0.5, None);
        assert!((leaves["a.weight"].double_value(&[0, 0]) - 9.5).abs() < 1e-4);
        assert!((leaves["a.bias"].double_value(&[0]) - 10.0).abs() < 1e-6);
    }
}

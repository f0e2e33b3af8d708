//! The learning rate and momentum of every step. In: the recipe and the number of steps. Out: the values of PyTorch's and
//! `transformers`' schedulers of the same names. It must not depend on anything else.

use crate::error::{Error, Result};
use crate::train::recipe::{RecipeSection, SchedulerName};

/// `onecycle` starts at the highest rate divided by this.
const DIV_FACTOR: f64 = 25.0;

/// The momentum of `onecycle`: at the first and last step, and at the highest rate.
const MOMENTA: [f64; 2] = [0.95, 0.85];

/// A learning rate schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    name: SchedulerName,
    highest: f64,
    lowest: f64,
    warmup: f64,
    steps: f64,
}

impl Schedule {
    /// The schedule for `steps` steps.
    ///
    /// # Errors
    /// [`Error::Setting`] if the warm-up is longer than the training, since the highest rate would never be reached.
    pub fn new(recipe: &RecipeSection, steps: usize) -> Result<Self> {
        if recipe.warmup_steps > steps {
            return Err(Error::Setting {
                origin: "the training job".into(),
                key: "recipe.warmup_steps".into(),
                reason: format!("{} steps are more than the whole training has ({steps})", recipe.warmup_steps),
                hint: "use fewer steps, or increase recipe.max_epochs".into(),
            });
        }
        let lowest = match recipe.lr_scheduler {
            SchedulerName::OneCycle => recipe.lr / DIV_FACTOR / recipe.final_div_factor,
            SchedulerName::Linear => 0.0,
            SchedulerName::PolyDecay => recipe.lr_mini.unwrap_or(recipe.lr / 5.0),
        };
        let warmup = recipe.warmup_steps as f64;
        Ok(Self { name: recipe.lr_scheduler, highest: recipe.lr, lowest, warmup, steps: steps as f64 })
    }

    /// The first beta (or momentum) of step `step`, if the schedule changes it.
    pub fn momentum(&self, step: usize) -> Option<f64> {
        let [ends, top] = MOMENTA;
        match (self.name, self.cycle(step as f64)) {
            (SchedulerName::OneCycle, (true, share)) => Some(between(ends, top, share)),
            (SchedulerName::OneCycle, (false, share)) => Some(between(top, ends, share)),
            _ => None,
        }
    }

    /// Whether the rate of `onecycle` rises at this step, and the fraction of the rise or fall. The rise ends at step `warmup - 1`, as in
    /// PyTorch's `OneCycleLR` with `pct_start` = warmup / steps.
    fn cycle(&self, step: f64) -> (bool, f64) {
        let top = self.warmup - 1.0;
        if step <= top && top > 0.0 {
            (true, step / top)
        } else {
            (false, (step - top) / (self.steps - 1.0 - top).max(1.0))
        }
    }

    /// The learning rate of step `step`, from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let step = step as f64;
        match self.name {
            SchedulerName::OneCycle => match self.cycle(step) {
                (true, share) => between(self.highest / DIV_FACTOR, self.highest, share),
                (false, share) => between(self.highest, self.lowest, share),
            },
            SchedulerName::Linear | SchedulerName::PolyDecay if step < self.warmup => self.highest * step / self.warmup,
            SchedulerName::Linear | SchedulerName::PolyDecay => {
                between(self.highest, self.lowest, (step - self.warmup) / (self.steps - self.warmup).max(1.0))
            }
        }
    }
}

fn between(from: f64, to: f64, share: f64) -> f64 {
    from + (to - from) * share.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(name: SchedulerName, warmup_steps: usize) -> Vec<f64> {
        let recipe = RecipeSection { lr: 1.0, lr_scheduler: name, warmup_steps, ..RecipeSection::default() };
        let schedule = Schedule::new(&recipe, 10).unwrap();
        (0..10).map(|step| (schedule.rate(step) * 1e6).round() / 1e6).collect()
    }

    // The values of `betas[0]` under PyTorch 2.11's OneCycleLR; tests/train/reference.py prints them.
    #[test]
    fn the_momentum_moves_opposite_to_the_rate() {
        let momenta = |lr_scheduler, warmup_steps| -> Vec<Option<f64>> {
            let recipe = RecipeSection { lr_scheduler, warmup_steps, ..RecipeSection::default() };
            let schedule = Schedule::new(&recipe, 10).unwrap();
            (0..10).map(|step| schedule.momentum(step).map(|momentum| (momentum * 1e6).round() / 1e6)).collect()
        };
        let rising = [0.95, 0.916_667, 0.883_333, 0.85, 0.866_667, 0.883_333, 0.9, 0.916_667, 0.933_333, 0.95];
        assert_eq!(momenta(SchedulerName::OneCycle, 4), rising.map(Some));
        let falling = [0.86, 0.87, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95];
        assert_eq!(momenta(SchedulerName::OneCycle, 0), falling.map(Some));
        assert_eq!(momenta(SchedulerName::Linear, 4), [None; 10]);
    }

    #[test]
    fn a_warm_up_longer_than_the_training_is_refused() {
        let of = |warmup_steps| Schedule::new(&RecipeSection { warmup_steps, ..RecipeSection::default() }, 10);
        assert!(of(10).is_ok());
        let refused = of(11).unwrap_err().to_string();
        assert!(
            refused.contains("`recipe.warmup_steps`: 11 steps are more than the whole training has (10)"),
            "{refused}"
        );
    }

    // The values of PyTorch 2.11's OneCycleLR and of the schedules of `transformers` for lr 1 and ten steps; tests/train/reference.py
    // prints them.
    #[test]
    fn rates_equal_those_of_the_schedulers_of_the_same_names() {
        assert_eq!(rates(SchedulerName::Linear, 2), [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
        assert_eq!(rates(SchedulerName::PolyDecay, 0), [1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44, 0.36, 0.28]);
        assert_eq!(
            rates(SchedulerName::OneCycle, 4),
            [0.04, 0.36, 0.68, 1.0, 0.833_334, 0.666_668, 0.500_002, 0.333_336, 0.166_67, 0.000_004]
        );
    }
}

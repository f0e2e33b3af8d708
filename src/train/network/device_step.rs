//! A device's batches of a step → its [`DeviceStep`]. In: the device's network, its batches, the loss. Out: gradients in the network's leaves,
//! and figures. It may not move a weight.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::train::data::examples::{Example, batch};
use crate::train::network::bert::{Dropout, Inputs, Network, torch};
use crate::train::network::loss::LossRule;

/// What a device's batches add to a step's figures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeviceStep {
    /// To the mean of the weighted loss.
    pub(crate) loss: f64,
    /// To the means of start, end and match loss.
    pub(crate) parts: [f64; 3],
    /// Pairs the match loss looked at.
    pub(crate) candidates: i64,
    /// Tokens, padding not counted.
    pub(crate) tokens: u64,
    /// Tokens, padding counted.
    pub(crate) padded: u64,
}

impl DeviceStep {
    /// Gathers the gradients of `batches`, those that fall to one device of the step's `count`; examples go by their numbers.
    pub(crate) fn of<'b>(
        network: &Network,
        examples: &[Example],
        (batches, count): (impl Iterator<Item = &'b Vec<usize>>, usize),
        (rule, dropout): (LossRule, Dropout),
    ) -> Result<Self> {
        let mut share = Self::default();
        let mut sums: Option<Tensor> = None;
        for numbers in batches {
            let (queries, targets) = batch(examples, numbers);
            let inputs = Inputs::new(&queries.inputs(), network.device());
            let loss = rule.loss(network, &inputs, &targets, dropout);
            (&loss.total / count as f64).backward();
            let [start, end, span] = &loss.parts;
            let values = Tensor::stack(&[&loss.total.detach(), start, end, span], 0);
            sums = Some(sums.map_or_else(|| values.shallow_clone(), |sums| sums + &values));
            share.candidates += loss.candidates;
            share.tokens += queries.real_tokens() as u64;
            share.padded += queries.padded_tokens() as u64;
        }
        // Read once a step: a card would be waited for each time.
        if let Some(sums) = sums {
            let means = Vec::<f64>::try_from(&(sums.to_kind(Kind::Double) / count as f64));
            if let [loss, start, end, span] = *means.map_err(torch("read the loss"))? {
                (share.loss, share.parts) = (loss, [start, end, span]);
            }
        }
        Ok(share)
    }

    /// Adds another device's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.candidates += other.candidates;
        self.tokens += other.tokens;
        self.padded += other.padded;
        for (sum, part) in self.parts.iter_mut().zip(other.parts) {
            *sum += part;
        }
    }
}

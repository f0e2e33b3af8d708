//! A device's part of a step → its [`DeviceStep`]. In: the device's network, its batches, the loss. Out: gradients in the network's
//! leaves, and figures. It must not change a weight.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::task::batch::BatchTensors;
use crate::task::tagger::TagReader;
use crate::train::data::examples::Example;
use crate::train::data::targets::batch;
use crate::train::network::encoder::Inputs;
use crate::train::network::failure::torch;
use crate::train::network::heads::{Dropout, Network};
use crate::train::network::loss::LossRule;

/// The contribution of a device's batches to a step's figures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeviceStep {
    /// The contribution to the mean weighted loss.
    pub(crate) loss: f64,
    /// The contributions to the mean start, end and match loss.
    pub(crate) parts: [f64; 3],
    /// Pairs in the match loss.
    pub(crate) candidates: i64,
    /// Tokens without padding.
    pub(crate) tokens: u64,
    /// Tokens with padding.
    pub(crate) padded: u64,
}

impl DeviceStep {
    /// Accumulates the gradients of `batches`, this device's part of the step's `count` batches; a batch holds indices into `examples`; the schema has
    /// `types` types, and `reader` reads the tags of a tagger. `hide` changes the inputs of each batch.
    pub(crate) fn of<'b>(
        network: &Network,
        examples: &[Example],
        (batches, count): (impl Iterator<Item = &'b Vec<usize>>, usize),
        (types, reader): (usize, Option<&TagReader>),
        (rule, dropout): (LossRule, Dropout),
        mut hide: impl FnMut(&mut BatchTensors),
    ) -> Result<Self> {
        let mut share = Self::default();
        let mut sums: Option<Tensor> = None;
        for numbers in batches {
            let (queries, targets) = batch(examples, numbers, types, reader);
            let mut tensors = queries.tensors();
            hide(&mut tensors);
            let inputs = Inputs::new(&tensors, network.device());
            let loss = rule.loss(network, &inputs, &targets, dropout);
            (&loss.total / count as f64).backward();
            let [start, end, span] = &loss.parts;
            let values = Tensor::stack(&[&loss.total.detach(), start, end, span], 0);
            sums = Some(sums.map_or_else(|| values.shallow_clone(), |sums| sums + &values));
            share.candidates += loss.candidates;
            share.tokens += queries.real_tokens() as u64;
            share.padded += queries.padded_tokens() as u64;
        }
        // Read once per step, since every read from a GPU synchronizes.
        if let Some(sums) = sums {
            let means = Vec::<f64>::try_from(&(sums.to_kind(Kind::Double) / count as f64));
            if let [loss, start, end, span] = *means.map_err(torch("read the loss"))? {
                (share.loss, share.parts) = (loss, [start, end, span]);
            }
        }
        Ok(share)
    }

    /// Adds the contribution of another device.
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

//! The network on every device. In: weights, devices, the part of a step that each device does. Out: what the parts came to, the
//! gradients gathered on the first device, its weights spread to the others. It may not know what a loss is.

use tch::{Device, Kind, no_grad};

use crate::error::Result;
use crate::model::encoder::config::BertConfig;
use crate::model::weights::tensors::Weights;
use crate::train::network::bert::Network;
use crate::train::network::failure::{broken, guarded};
use crate::train::network::optimizer::forget_gradient;

/// One network on each device; the first one's weights count.
pub(crate) struct DataParallel(Vec<Network>);

impl DataParallel {
    /// Copies weights to every device. `kind` is that of the products.
    pub(crate) fn new(weights: &Weights, config: &BertConfig, kind: Kind, devices: &[Device]) -> Self {
        Self(devices.iter().map(|&device| Network::new(weights, config, kind, device)).collect())
    }

    /// How many devices there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The one whose weights count.
    pub(crate) fn first(&self) -> &Network {
        &self.0[0]
    }

    /// The same, to be changed; the others follow with [`DataParallel::spread`].
    pub(crate) fn first_mut(&mut self) -> &mut Network {
        &mut self.0[0]
    }

    /// Lets every device do its part, given its number: one alone here, several in a thread each. The parts are in the devices' order.
    pub(crate) fn each<Part: Send>(
        &mut self,
        work: impl Fn(usize, &Network) -> Result<Part> + Sync,
    ) -> Result<Vec<Part>> {
        if let [only] = self.0.as_slice() {
            return Ok(vec![work(0, only)?]);
        }
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = self
                .0
                .iter_mut()
                .enumerate()
                .map(|(number, network)| scope.spawn(move || guarded(|| work(number, network))))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(broken("a device's thread died"))))
                .collect()
        })
    }

    /// Adds the other devices' gradients to the first one's.
    pub(crate) fn gather(&mut self) {
        let [first, others @ ..] = self.0.as_mut_slice() else { return };
        no_grad(|| {
            for other in others {
                for (name, leaf) in &mut other.leaves {
                    let gradient = leaf.grad();
                    if !gradient.defined() {
                        continue;
                    }
                    let own = &first.leaves[name];
                    if !own.grad().defined() {
                        // This device had no candidates: a gradient of zero, to add to.
                        tch::with_grad(|| (own * 0.0).sum(Kind::Float).backward());
                    }
                    let mut sum = own.grad();
                    let _ = sum.g_add_(&gradient.to_device(sum.device()));
                    forget_gradient(leaf);
                }
            }
        });
    }

    /// Copies the first device's weights to the others.
    pub(crate) fn spread(&mut self) {
        let [first, others @ ..] = self.0.as_mut_slice() else { return };
        no_grad(|| {
            for other in others {
                for (name, leaf) in &mut other.leaves {
                    leaf.copy_(&first.leaves[name]);
                }
            }
        });
    }

    /// Frees all of them: none can be asked for any more.
    pub(crate) fn let_go(&mut self) {
        self.0.clear();
    }
}

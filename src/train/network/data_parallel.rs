//! Data parallelism: one replica of the network per device. In: weights, devices, the work of each device in a step. Out: the results,
//! the gradients summed on the first device, its weights copied to the others. It must not know the loss.

use tch::{Device, Kind, no_grad};

use crate::error::Result;
use crate::model::weights::tensors::Weights;
use crate::task::batch::BatchTensors;
use crate::train::network::failure::{guarded, libtorch_error};
use crate::train::network::heads::Network;
use crate::train::optimization::optimizer::clear_gradient;

/// One replica per device; the first one is authoritative.
pub(crate) struct DataParallel(Vec<Network>);

impl DataParallel {
    /// Copies weights to every device. `kind` is the precision of products; `questions` are those of the job.
    pub(crate) fn new(weights: &Weights, kind: Kind, devices: &[Device], questions: &BatchTensors) -> Result<Self> {
        devices.iter().map(|&device| Network::new(weights, kind, device, questions)).collect::<Result<_>>().map(Self)
    }

    /// From here on the vectors of words do not change.
    pub(crate) fn freeze_words(&mut self) {
        self.0.iter_mut().for_each(Network::freeze_words);
    }

    /// The number of devices.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The authoritative replica.
    pub(crate) fn first(&self) -> &Network {
        &self.0[0]
    }

    /// The authoritative replica, mutable; [`DataParallel::broadcast`] updates the others.
    pub(crate) fn first_mut(&mut self) -> &mut Network {
        &mut self.0[0]
    }

    /// Runs `work` on every device, given its index: in this thread for a single device, else in one thread per device. The results are in
    /// the order of the devices.
    pub(crate) fn each<Output: Send>(
        &mut self,
        work: impl Fn(usize, &Network) -> Result<Output> + Sync,
    ) -> Result<Vec<Output>> {
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
                .map(|thread| thread.join().unwrap_or_else(|_| Err(libtorch_error("a device's thread panicked"))))
                .collect()
        })
    }

    /// Adds the gradients of the other devices to those of the first one.
    pub(crate) fn reduce_gradients(&mut self) {
        let [first, others @ ..] = self.0.as_mut_slice() else { return };
        no_grad(|| {
            for other in others {
                for (name, leaf) in &mut other.leaves.tensors {
                    let gradient = leaf.grad();
                    if !gradient.defined() {
                        continue;
                    }
                    let own = &first.leaves.tensors[name];
                    if !own.grad().defined() {
                        // This device had no candidates: create a zero gradient to add to.
                        tch::with_grad(|| (own * 0.0).sum(Kind::Float).backward());
                    }
                    let mut sum = own.grad();
                    let _ = sum.g_add_(&gradient.to_device(sum.device()));
                    clear_gradient(leaf);
                }
            }
        });
    }

    /// Copies the first device's weights to the others.
    pub(crate) fn broadcast(&mut self) {
        let [first, others @ ..] = self.0.as_mut_slice() else { return };
        no_grad(|| {
            for other in others {
                for (name, leaf) in &mut other.leaves.tensors {
                    leaf.copy_(&first.leaves.tensors[name]);
                }
            }
        });
    }

    /// Frees all replicas; none can be used afterwards.
    pub(crate) fn free(&mut self) {
        self.0.clear();
    }
}

//! Dropout. In: a tensor, a rate, the seed of a step. Out: the tensor with a share of its values at 0 and the others scaled up. It must not
//! know which layer asks.
//!
//! LibTorch draws the random numbers of the CPU in one thread, which took a seventh of a step. On the CPU a mask is therefore a piece of a pool of
//! scaled zeros and ones that is drawn once per rate; each use takes another piece, at a place that depends on the seed and the step only.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::random::Random;

/// Values in a pool.
const POOL: i64 = 1 << 23;
/// The longest piece: at most half of the pool, so that there are many.
const LONGEST: i64 = POOL / 2;
/// The random stream of the pools; those of the pieces are the steps' own.
const POOLS: u64 = 1 << 41;

/// The random numbers of dropout on one device.
#[derive(Debug)]
pub(crate) struct Masks {
    /// Where the next piece begins.
    places: RefCell<Random>,
    /// By the rate's bits, and in bfloat16 or not: 0 or 1 / (1 - rate), `[POOL]`.
    pools: RefCell<BTreeMap<(u64, bool), Tensor>>,
    device: Device,
}

impl Masks {
    /// Masks on `device`.
    pub(crate) fn new(device: Device) -> Self {
        let places = RefCell::new(Random::new(0, 0));
        Self { places, pools: RefCell::default(), device }
    }

    /// From here on the masks are those of `seed` and of this replica. On a GPU LibTorch's own seed decides; drawing some numbers in advance keeps
    /// replicas apart.
    pub(crate) fn reseed(&self, seed: u64, replica: usize) {
        self.places.replace(Random::new(seed, replica as u64));
        if self.device != Device::Cpu {
            let _ = Tensor::rand([replica as i64], (Kind::Float, self.device));
        }
    }

    /// `tensor` with a share of `rate` of its values dropped.
    pub(crate) fn apply(&self, tensor: &Tensor, rate: f64) -> Tensor {
        if rate <= 0.0 {
            return tensor.shallow_clone();
        }
        let kind = tensor.kind();
        if self.device != Device::Cpu || !matches!(kind, Kind::Float | Kind::BFloat16) {
            return tensor.dropout(rate, true);
        }
        let mut pools = self.pools.borrow_mut();
        let pool = pools.entry((rate.to_bits(), kind == Kind::BFloat16)).or_insert_with(|| pool(rate, kind));
        let mut places = self.places.borrow_mut();
        let count = tensor.numel() as i64;
        let pieces: Vec<Tensor> = (0..count)
            .step_by(LONGEST as usize)
            .map(|from| {
                let length = LONGEST.min(count - from);
                pool.narrow(0, places.below((POOL - length + 1) as usize) as i64, length)
            })
            .collect();
        let mask = if let [only] = pieces.as_slice() { only.shallow_clone() } else { Tensor::cat(&pieces, 0) };
        tensor * mask.view(tensor.size().as_slice())
    }
}

/// A pool for one rate.
fn pool(rate: f64, kind: Kind) -> Tensor {
    let mut random = Random::new(rate.to_bits(), POOLS);
    // Four values from each draw.
    let bound = (rate * f64::from(1_u32 << 16)).round() as u64;
    let scale = (1.0 / (1.0 - rate)) as f32;
    let mut values = Vec::with_capacity(POOL as usize);
    for _ in 0..POOL / 4 {
        let bits = random.next();
        values.extend([0, 16, 32, 48].map(|shift| if (bits >> shift) & 0xffff < bound { 0.0 } else { scale }));
    }
    Tensor::from_slice(&values).to_kind(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(masks: &Masks, size: &[i64], kind: Kind, rate: f64) -> Vec<f32> {
        let ones = Tensor::ones(size, (kind, Device::Cpu));
        Vec::try_from(masks.apply(&ones, rate).to_kind(Kind::Float).flatten(0, -1)).unwrap()
    }

    #[test]
    fn a_share_is_dropped_and_the_mean_is_kept() {
        let masks = Masks::new(Device::Cpu);
        masks.reseed(3, 0);
        for kind in [Kind::Float, Kind::BFloat16] {
            for rate in [0.1, 0.5] {
                let values = applied(&masks, &[1000, 300], kind, rate);
                let dropped = values.iter().filter(|&&value| value == 0.0).count() as f64 / values.len() as f64;
                assert!((dropped - rate).abs() < 0.004, "{rate}: {dropped}");
                let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
                assert!((mean - 1.0).abs() < 0.01, "{rate}: {mean}");
            }
        }
        assert_eq!(applied(&masks, &[7], Kind::Float, 0.0), [1.0; 7]);
    }

    /// Also of a tensor that is longer than a piece.
    #[test]
    fn masks_depend_on_the_seed_alone_and_differ_from_each_other() {
        let masks = Masks::new(Device::Cpu);
        let two = |seed| {
            masks.reseed(seed, 0);
            [(); 2].map(|()| applied(&masks, &[3, LONGEST / 2], Kind::Float, 0.1))
        };
        let [first, second] = two(5);
        assert_ne!(first, second);
        assert_eq!([first.clone(), second], two(5));
        assert_ne!(first, two(6)[0]);
        let third = first.len() / 3;
        assert_ne!(first[..third], first[2 * third..], "the second piece is at another place");
    }
}

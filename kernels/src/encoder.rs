//! The encoder. In: token vectors of a batch, one sequence after another without padding. Out: the last layer's, in their place. It must
//! not know instructions.

use std::sync::Mutex;

use crate::error::Error;
use crate::lanes::{Kernels, Lanes, Path, Work};
use crate::layer::{Block, BlockScratch, Layer, Shared, Sizes};
use crate::memory::Buffer;
use crate::product::ROWS;
use crate::schedule::{Blocks, Schedule};
use crate::weights::{LayerWeights, Shape, length};
use crate::workers::Workers;

/// The most rows of a block: its values between products take 0.6 MB in `MiniLM`'s sizes, so that they stay in the second cache.
const LARGEST_BLOCK: usize = 8 * ROWS;
/// The fewest, so that the weights, which every block reads once, do not become the limit.
const SMALLEST_BLOCK: usize = 4 * ROWS;

/// Layers of a BERT encoder, packed for one path.
pub struct Encoder {
    shape: Shape,
    sizes: Sizes,
    layers: Vec<Layer>,
    path: Path,
    kernels: Kernels,
}

impl Encoder {
    /// Packs layers for the fastest path of this processor.
    pub fn new(layers: &[LayerWeights<'_>], shape: Shape) -> Result<Self, Error> {
        Self::with_path(layers, shape, Path::best())
    }

    /// Packs layers for a path.
    pub fn with_path(layers: &[LayerWeights<'_>], shape: Shape, path: Path) -> Result<Self, Error> {
        shape.check()?;
        layers.iter().try_for_each(|layer| layer.check(shape))?;
        let kernels = path.kernels(layers.iter().all(|layer| layer.pairs_fit(shape)))?;
        let sizes = Sizes::new(shape, kernels.panel());
        let layers = layers.iter().map(|layer| Layer::new(layer, shape, sizes, kernels.panel())).collect();
        Ok(Self { shape, sizes, layers, path, kernels })
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The path.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Computes all layers. `states` is `[tokens, hidden]`, the sequences one after another; `lengths` has the tokens of each.
    ///
    /// The states of a sequence do not depend on the other sequences, the path or the number of workers, not even in a bit.
    pub fn forward(
        &self,
        states: &mut [f32],
        lengths: &[usize],
        scratch: &mut Scratch,
        workers: &dyn Workers,
    ) -> Result<(), Error> {
        let tokens = lengths.iter().fold(0_usize, |sum, length| sum.saturating_add(*length));
        length("the states", states.len(), tokens.saturating_mul(self.shape.hidden))?;
        if tokens == 0 {
            return Ok(());
        }
        let per_worker = tokens.div_ceil(workers.count().max(1)).next_multiple_of(ROWS);
        let block = per_worker.clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
        let blocks = Blocks::new(lengths, block);
        let shared = scratch.reserve(self.sizes, tokens, workers.count().max(1));
        let (hidden, width) = (self.shape.hidden, self.sizes.width);
        for (row, state) in states.chunks_exact(hidden).zip(scratch.states.as_mut_slice().chunks_exact_mut(width)) {
            state[..hidden].copy_from_slice(row);
            state[hidden..].fill(0.0);
        }
        let schedule = Schedule::new(&blocks, 2 * self.layers.len());
        let threads = &scratch.threads;
        workers.run(&|worker| {
            let mut scratch = match threads[worker % threads.len()].lock() {
                Ok(scratch) => scratch,
                Err(poisoned) => poisoned.into_inner(),
            };
            let work = Steps { encoder: self, blocks: &blocks, schedule: &schedule, shared, scratch: &mut scratch };
            self.kernels.run(work);
        });
        if schedule.failed() {
            return Err(Error::Panicked);
        }
        for (row, state) in states.chunks_exact_mut(hidden).zip(scratch.states.as_slice().chunks_exact(width)) {
            row.copy_from_slice(&state[..hidden]);
        }
        Ok(())
    }
}

/// Memory that batches share, one after another. It grows to the largest batch.
#[derive(Default)]
pub struct Scratch {
    /// The sizes that `threads` was made for.
    sizes: Option<Sizes>,
    states: Buffer<f32>,
    bytes: Buffer<u8>,
    scales: Buffer<f32>,
    planes: Buffer<f32>,
    threads: Vec<Mutex<BlockScratch>>,
}

impl Scratch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn reserve(&mut self, sizes: Sizes, tokens: usize, threads: usize) -> Shared {
        if self.sizes != Some(sizes) {
            self.threads.clear();
            self.sizes = Some(sizes);
        }
        while self.threads.len() < threads {
            self.threads.push(Mutex::new(BlockScratch::new(sizes, LARGEST_BLOCK)));
        }
        let rows = tokens.next_multiple_of(ROWS);
        self.states.reserve(rows * sizes.width);
        self.bytes.reserve(rows * sizes.width);
        self.scales.reserve(rows);
        self.planes.reserve(3 * tokens * sizes.context());
        Shared {
            states: self.states.as_mut_ptr(),
            bytes: self.bytes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            planes: self.planes.as_mut_ptr(),
            tokens,
        }
    }
}

/// What a thread does for a batch.
struct Steps<'a> {
    encoder: &'a Encoder,
    blocks: &'a Blocks,
    schedule: &'a Schedule<'a>,
    shared: Shared,
    scratch: &'a mut BlockScratch,
}

impl Work for Steps<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        while let Some(task) = self.schedule.next() {
            let (rows, sequences) = self.blocks.get(task.block);
            let block = Block { sizes: self.encoder.sizes, rows, sequences, shared: self.shared };
            let layer = &self.encoder.layers[task.step / 2];
            // SAFETY: the scratch was reserved for these sizes and this batch. The schedule hands a block to one thread at a time, and the
            // steps of its sequences' blocks in order: nobody writes planes that are read, and nobody reads planes that are written.
            unsafe {
                if task.step == 0 {
                    block.quantize_states(lanes);
                }
                if task.step.is_multiple_of(2) {
                    block.project(lanes, layer);
                } else {
                    block.finish(lanes, layer, self.scratch);
                }
            }
        }
    }
}

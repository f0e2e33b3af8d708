//! The encoder. In: token vectors of a batch, one sequence after another without padding. Out: the last layer's, in their place. It must
//! not know instructions.

use std::sync::Mutex;

use crate::block::{Block, BlockScratch, Planes, Shared};
use crate::error::Error;
use crate::lanes::{Kernels, LANES, Lanes, Path, Work};
use crate::layer::{Layer, Sizes};
use crate::memory::Buffer;
use crate::schedule::{Plan, Schedule, Step};
use crate::weights::{LayerWeights, Shape, length};
use crate::workers::Workers;

/// The most rows of a block. Sequences up to this length stay with one thread, with their queries, keys and values: 1.2 MB in `MiniLM`'s
/// sizes, which the second cache can hold.
const LARGEST_BLOCK: usize = 16 * LANES;
/// The fewest, so that the weights, which every block reads once, do not become the limit.
const SMALLEST_BLOCK: usize = 3 * LANES;
/// Blocks per thread, if the batch has enough rows, so that threads end together.
const BLOCKS_PER_THREAD: usize = 4;

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
        let sizes = Sizes::new(shape);
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
        let threads = workers.count().max(1);
        let size = (tokens / (BLOCKS_PER_THREAD * threads)).next_multiple_of(LANES);
        let plan = Plan::new(lengths, size.clamp(SMALLEST_BLOCK, LARGEST_BLOCK), threads);
        let shared = scratch.reserve(self.sizes, tokens, plan.padded, threads);
        let schedule = Schedule::new(&plan, self.layers.len());
        let rows = SharedRows(states.as_mut_ptr());
        workers.run(&|worker| {
            let mut scratch = match scratch.threads[worker % threads].lock() {
                Ok(scratch) => scratch,
                Err(poisoned) => poisoned.into_inner(),
            };
            let work =
                Steps { encoder: self, plan: &plan, schedule: &schedule, shared, rows: &rows, scratch: &mut scratch };
            self.kernels.run(work);
        });
        if schedule.is_complete() { Ok(()) } else { Err(Error::Incomplete) }
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

    fn reserve(&mut self, sizes: Sizes, tokens: usize, padded: usize, threads: usize) -> Shared {
        if self.sizes != Some(sizes) {
            self.threads.clear();
            self.sizes = Some(sizes);
        }
        while self.threads.len() < threads {
            self.threads.push(Mutex::new(BlockScratch::new(sizes, LARGEST_BLOCK)));
        }
        self.states.reserve(padded * sizes.width);
        self.bytes.reserve(padded * sizes.width);
        self.scales.reserve(padded);
        self.planes.reserve(3 * sizes.heads * tokens * sizes.head);
        Shared {
            states: self.states.as_mut_ptr(),
            bytes: self.bytes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            planes: Planes { start: self.planes.as_mut_ptr(), tokens, first: 0 },
        }
    }
}

/// The caller's states, `[tokens, hidden]`.
struct SharedRows(*mut f32);

// SAFETY: every block reads and writes its own rows only.
unsafe impl Sync for SharedRows {}

/// What a thread does for a batch.
struct Steps<'a> {
    encoder: &'a Encoder,
    plan: &'a Plan,
    schedule: &'a Schedule<'a>,
    shared: Shared,
    rows: &'a SharedRows,
    scratch: &'a mut BlockScratch,
}

impl Work for Steps<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        while let Some(task) = self.schedule.next() {
            let block = Block { sizes: self.encoder.sizes, rows: &self.plan.blocks[task.block], shared: self.shared };
            let layer = &self.encoder.layers[task.layer];
            let planes = if task.step == Step::Whole { block.own_planes(self.scratch) } else { self.shared.planes };
            // SAFETY: the scratch was reserved for these sizes and this batch. The schedule hands a block to one thread at a time, and the
            // steps of the blocks of a sequence in order: nobody writes planes that are read, and nobody reads planes that are written.
            unsafe {
                if task.layer == 0 && task.step != Step::Finish {
                    block.read(lanes, self.rows.0);
                }
                if task.step != Step::Finish {
                    block.project(lanes, layer, planes);
                }
                if task.step != Step::Project {
                    block.finish(lanes, layer, planes, self.scratch);
                    if task.layer + 1 == self.encoder.layers.len() {
                        block.write(self.rows.0);
                    }
                }
            }
        }
    }
}

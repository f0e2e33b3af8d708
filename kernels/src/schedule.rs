//! Which thread computes which block when. In: the lengths of the sequences, the number of layers. Out: steps of blocks, each handed to
//! one thread when all it reads has been written. It must not know what a step computes.
//!
//! A layer is two steps per block: projection, then everything else. A step of a block waits until all blocks that have rows of its
//! sequences have done the step before, which covers both what it reads and what it overwrites. Steps are handed out in order, so the
//! first step that is not done never waits, and there is no barrier.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The rows of a batch in blocks.
pub(crate) struct Blocks {
    /// Rows of each sequence that has any.
    sequences: Vec<Range<usize>>,
    blocks: Vec<BlockRows>,
}

/// A block.
struct BlockRows {
    rows: Range<usize>,
    /// The sequences that it has rows of.
    sequences: Range<usize>,
    /// The blocks that have rows of these sequences.
    neighbours: Range<usize>,
}

impl Blocks {
    /// Cuts the rows into blocks of `size` rows.
    pub(crate) fn new(lengths: &[usize], size: usize) -> Self {
        let mut sequences = Vec::with_capacity(lengths.len());
        let mut end = 0;
        for length in lengths.iter().filter(|length| **length > 0) {
            sequences.push(end..end + length);
            end += length;
        }
        let blocks = (0..end.div_ceil(size)).map(|index| {
            let rows = index * size..((index + 1) * size).min(end);
            let first = sequences.partition_point(|sequence| sequence.end <= rows.start);
            let last = sequences.partition_point(|sequence| sequence.start < rows.end);
            let neighbours = sequences[first].start / size..sequences[last - 1].end.div_ceil(size);
            BlockRows { rows, sequences: first..last, neighbours }
        });
        Self { blocks: blocks.collect(), sequences }
    }

    /// Rows of a block, and the rows of its sequences.
    pub(crate) fn get(&self, block: usize) -> (Range<usize>, &[Range<usize>]) {
        let block = &self.blocks[block];
        (block.rows.clone(), &self.sequences[block.sequences.clone()])
    }
}

/// The steps of a batch that are done.
pub(crate) struct Schedule<'a> {
    blocks: &'a Blocks,
    steps: usize,
    /// Steps handed out, over all blocks.
    next: AtomicUsize,
    /// Steps done, by block.
    done: Vec<AtomicUsize>,
    failed: AtomicBool,
}

/// A step of a block that one thread has.
pub(crate) struct Task<'a> {
    pub(crate) block: usize,
    pub(crate) step: usize,
    schedule: &'a Schedule<'a>,
}

impl<'a> Schedule<'a> {
    /// `steps` steps for every block.
    pub(crate) fn new(blocks: &'a Blocks, steps: usize) -> Self {
        let done = blocks.blocks.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { blocks, steps, next: AtomicUsize::new(0), done, failed: AtomicBool::new(false) }
    }

    /// The next step, once all it needs is there. None if there is none, or a thread panicked.
    pub(crate) fn next(&'a self) -> Option<Task<'a>> {
        let count = self.blocks.blocks.len();
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= count * self.steps {
            return None;
        }
        let (step, block) = (index / count, index % count);
        for neighbour in self.blocks.blocks[block].neighbours.clone() {
            let mut rounds = 0_u32;
            while self.done[neighbour].load(Ordering::Acquire) < step {
                if self.failed() {
                    return None;
                }
                rounds += 1;
                if rounds.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        }
        Some(Task { block, step, schedule: self })
    }

    /// Whether a thread panicked.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// A task is done when it is dropped.
impl Drop for Task<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.schedule.failed.store(true, Ordering::Relaxed);
        }
        self.schedule.done[self.block].store(self.step + 1, Ordering::Release);
    }
}

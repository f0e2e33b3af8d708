//! Which thread computes which block when. In: the lengths of the sequences, the number of layers. Out: tasks, each handed to one thread
//! when all it reads has been written. It must not know what a task computes.
//!
//! Short sequences share a block, which takes a whole layer in one step and needs no other block. A long sequence is cut into blocks that
//! take two steps: projection, then everything else. A step waits until the blocks of the same sequence have done the step before, which
//! covers what it reads and what it overwrites. Tasks are handed out in order, and one waits only for earlier ones, so there is no barrier
//! and no way to wait forever.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::compute::product::ROWS;
use crate::lanes::LANES;

/// The rows of a batch in blocks.
pub(crate) struct Plan {
    pub(crate) blocks: Vec<Rows>,
    /// Rows of the batch, with each block's padding.
    pub(crate) padded: usize,
    /// The tasks of a layer.
    order: Vec<(usize, Step)>,
}

/// A block.
pub(crate) struct Rows {
    pub(crate) tokens: Range<usize>,
    /// Where its first row is if every block is padded to [`ROWS`].
    pub(crate) place: usize,
    /// The rows of each of its sequences. For a part of a sequence, those of the whole sequence.
    pub(crate) sequences: Vec<Range<usize>>,
    /// The blocks that have rows of its sequences.
    neighbours: Range<usize>,
}

/// A step of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything, for whole sequences.
    Whole,
    /// Queries, keys and values.
    Project,
    /// Everything else.
    Finish,
}

impl Plan {
    /// Cuts a batch into blocks of at most `size` rows, a multiple of [`LANES`], for so many threads.
    pub(crate) fn new(lengths: &[usize], size: usize, threads: usize) -> Self {
        let mut blocks: Vec<Rows> = Vec::new();
        let mut order = Vec::new();
        // Long sequences of which the second step is not in order yet.
        let mut waiting: Vec<Range<usize>> = Vec::new();
        let (mut start, mut padded, mut open) = (0, 0, false);
        for length in lengths.iter().copied().filter(|length| *length > 0) {
            let sequence = start..start + length;
            start = sequence.end;
            if length <= size {
                if let Some(last) = blocks.last_mut().filter(|last| open && last.tokens.len() + length <= size) {
                    last.tokens.end = sequence.end;
                    last.sequences.push(sequence);
                } else {
                    let index = blocks.len();
                    let (tokens, neighbours) = (sequence.clone(), index..index + 1);
                    blocks.push(Rows { tokens, place: 0, sequences: vec![sequence], neighbours });
                    order.push((index, Step::Whole));
                }
                open = true;
                continue;
            }
            open = false;
            let part = length.div_ceil(length.div_ceil(size)).next_multiple_of(LANES);
            let neighbours = blocks.len()..blocks.len() + length.div_ceil(part);
            for index in 0..neighbours.len() {
                let first = sequence.start + index * part;
                let tokens = first..(first + part).min(sequence.end);
                blocks.push(Rows {
                    tokens,
                    place: 0,
                    sequences: vec![sequence.clone()],
                    neighbours: neighbours.clone(),
                });
            }
            order.extend(neighbours.clone().map(|block| (block, Step::Project)));
            waiting.push(neighbours);
            // So many first steps stay ahead that no thread waits for another one's.
            while waiting[1..].iter().map(ExactSizeIterator::len).sum::<usize>() >= threads {
                order.extend(waiting.remove(0).map(|block| (block, Step::Finish)));
            }
        }
        order.extend(waiting.into_iter().flatten().map(|block| (block, Step::Finish)));
        for block in &mut blocks {
            block.place = padded;
            padded += block.tokens.len().next_multiple_of(ROWS);
        }
        Self { blocks, padded, order }
    }
}

/// The steps of a batch that are done.
pub(crate) struct Schedule<'a> {
    plan: &'a Plan,
    layers: usize,
    /// Tasks handed out.
    next: AtomicUsize,
    /// Twice the layers that a block has done, plus one after its first step.
    done: Vec<AtomicUsize>,
    failed: AtomicBool,
}

/// A step of a block that one thread has. It is done when this is dropped.
pub(crate) struct Task<'a> {
    pub(crate) layer: usize,
    pub(crate) block: usize,
    pub(crate) step: Step,
    schedule: &'a Schedule<'a>,
}

impl<'a> Schedule<'a> {
    pub(crate) fn new(plan: &'a Plan, layers: usize) -> Self {
        let done = plan.blocks.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { plan, layers, next: AtomicUsize::new(0), done, failed: AtomicBool::new(false) }
    }

    /// The next task, once all it needs is there. None if there is none, or a thread panicked.
    pub(crate) fn next(&'a self) -> Option<Task<'a>> {
        let count = self.plan.order.len();
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= count * self.layers {
            return None;
        }
        let (layer, (block, step)) = (index / count, self.plan.order[index % count]);
        let needed = 2 * layer + usize::from(step == Step::Finish);
        for neighbour in self.plan.blocks[block].neighbours.clone() {
            let mut rounds = 0_u32;
            while self.done[neighbour].load(Ordering::Acquire) < needed {
                if self.failed() {
                    return None;
                }
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        }
        Some(Task { layer, block, step, schedule: self })
    }

    /// Whether every block has done every layer, and no thread panicked.
    pub(crate) fn is_complete(&self) -> bool {
        let all = 2 * self.layers;
        !self.failed() && self.done.iter().all(|done| done.load(Ordering::Acquire) == all)
    }

    /// Whether a thread panicked.
    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.schedule.failed.store(true, Ordering::Relaxed);
        }
        let done = 2 * self.layer + if self.step == Step::Project { 1 } else { 2 };
        self.schedule.done[self.block].store(done, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tasks of a layer, as text.
    fn order(plan: &Plan) -> Vec<String> {
        plan.order.iter().map(|(block, step)| format!("{step:?} {:?}", plan.blocks[*block].tokens)).collect()
    }

    #[test]
    fn short_sequences_share_blocks_and_long_ones_are_cut() {
        let plan = Plan::new(&[30, 0, 18, 20, 100, 7], 48, 2);
        let expected = ["Whole 0..48", "Whole 48..68", "Project 68..116", "Project 116..164", "Project 164..168"];
        assert_eq!(order(&plan)[..5], expected);
        assert_eq!(order(&plan)[5..], ["Whole 168..175", "Finish 68..116", "Finish 116..164", "Finish 164..168"]);
    }

    #[test]
    fn first_steps_stay_ahead_of_second_ones() {
        let plan = Plan::new(&[64, 64, 64], 32, 2);
        let steps: Vec<Step> = plan.order.iter().map(|(_, step)| *step).collect();
        let (project, finish) = (Step::Project, Step::Finish);
        let expected =
            [project, project, project, project, finish, finish, project, project, finish, finish, finish, finish];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_batch_is_complete_when_all_its_tasks_are_done() {
        let plan = Plan::new(&[100, 20], 48, 1);
        let schedule = Schedule::new(&plan, 2);
        let mut tasks = 0;
        while let Some(task) = schedule.next() {
            assert!(!schedule.is_complete());
            drop(task);
            tasks += 1;
        }
        assert_eq!(tasks, 2 * (3 + 3 + 1));
        assert!(schedule.is_complete());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        #[cfg_attr(miri, ignore = "has no unsafe code")]
        fn every_token_is_in_one_block_with_its_sequence(
            lengths in proptest::collection::vec(0_usize..300, 0..20),
            size in 1_usize..10,
            threads in 1_usize..5,
        ) {
            let size = size * LANES;
            let plan = Plan::new(&lengths, size, threads);
            let mut next = 0;
            for (index, block) in plan.blocks.iter().enumerate() {
                prop_assert_eq!(block.tokens.start, next);
                next = block.tokens.end;
                prop_assert!((1..=size).contains(&block.tokens.len()));
                prop_assert!(block.place.is_multiple_of(ROWS) && block.place + block.tokens.len() <= plan.padded);
                prop_assert!(block.neighbours.contains(&index));
                for sequence in &block.sequences {
                    let holders = &plan.blocks[block.neighbours.clone()];
                    prop_assert!(holders[0].tokens.start <= sequence.start && holders[holders.len() - 1].tokens.end >= sequence.end);
                }
            }
            prop_assert_eq!(next, lengths.iter().sum::<usize>());
            for (block, _) in plan.blocks.iter().enumerate() {
                let steps: Vec<Step> = plan.order.iter().filter(|(other, _)| *other == block).map(|(_, step)| *step).collect();
                prop_assert!(steps == [Step::Whole] || steps == [Step::Project, Step::Finish]);
            }
        }
    }
}

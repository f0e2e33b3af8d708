//! Document rows → mentions, through the scorer. In: slices of rows, on a blocking thread. Out: one [`SliceResult`] per slice,
//! in order. It must not hold more than the texts of the slices in flight and one block of inputs per worker.
//!
//! A reader thread hands slices to `workers` threads. Each worker tokenizes, cuts windows, makes the inputs of each and hands
//! batches to the scorer. `collect` decodes the answers and finishes documents and slices. Back-pressure: the scorer's bounded
//! channel makes workers wait for the device, and the reader waits while the in-flight limit is reached.
//!
//! The threads are our own, not rayon's pool: a worker streams the windows of a text of any length and waits for the device, and a thread of
//! a shared pool must not wait. Without inference, on two cores, the pool does the same work in 0.90 to 0.95 of the time, because it divides
//! a slice (`own_threads_and_rayon` in the tests measures it). In a whole job on a CPU, tokenizing and decoding take 1.4 % of the time, beside
//! inference, so there is nothing to gain.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::collect::{Asked, Collector, Event, InFlightSlice, Prepared};
use crate::extract::pipeline::in_flight::InFlightLimit;
use crate::extract::pipeline::slice::{Row, SliceResult, SliceRows};
use crate::model::runtime::scorer::{Answered, Scorer};
use crate::task::batch::batches;
use crate::task::input::ModelInput;
use crate::task::kind::Task;
use crate::text::document::{Document, LATER_ROW, Reject, RejectReason};
use crate::text::tokens::Tokenizer;
use crate::text::window::{WindowRule, Windows};

pub(crate) mod collect;
pub(crate) mod in_flight;
pub mod slice;
pub mod slices;

/// Inputs of a slice are sorted by length in blocks of at most this many full batches of tokens,
const LOOKAHEAD_BATCHES: usize = 64;
/// and of at most this many tokens, whatever the batch size, because their windows are held in memory.
const LOOKAHEAD_TOKENS: usize = 1 << 22;

/// Everything that turns a text into mentions, shared by all partitions.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// What the model is asked, and how its answer is read.
    pub(crate) task: Task,
    /// The model's tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// How documents are cut into windows.
    pub(crate) windows: WindowRule,
    /// Whether mentions can overlap.
    pub(crate) nested: bool,
    /// The maximum of padded tokens in a batch.
    pub(crate) batch_tokens: usize,
    /// The model's sessions.
    pub(crate) scorer: Scorer,
    /// Threads that tokenize.
    pub(crate) workers: usize,
}

/// The pipeline over the slices of one partition.
struct Partition<'run> {
    pipeline: &'run Pipeline,
    monitor: &'run Monitor,
    /// Set when the collector has ended.
    ended: AtomicBool,
}

/// A worker's channels.
struct Worker<Rows> {
    tasks: Receiver<(usize, Arc<Rows>)>,
    events: Sender<Event<Rows>>,
    reply: Sender<Result<Answered>>,
}

impl Pipeline {
    /// Runs over `slices` until they end or the monitor stops it. `emit` takes each finished slice, in order, and returns false to stop.
    pub(crate) fn run<Rows: SliceRows>(
        &self,
        monitor: &Monitor,
        slices: impl Iterator<Item = Result<Rows>> + Send,
        emit: impl FnMut(SliceResult<Rows>) -> bool + Send,
    ) -> Result<()> {
        let partition = Partition { pipeline: self, monitor, ended: AtomicBool::new(false) };
        let (events, incoming) = unbounded();
        let (reply, answers) = bounded(4);
        let (task, tasks) = bounded(0);
        // Each worker can have one slice in work and one waiting. The events of these slices are small, so their channel is unbounded.
        let (done, finished) = unbounded();
        let mut limit = InFlightLimit::new(2 * self.workers + 1, finished);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|_| {
                    let worker = Worker { tasks: tasks.clone(), events: events.clone(), reply: reply.clone() };
                    let partition = &partition;
                    scope.spawn(move || partition.guarded(&worker))
                })
                .collect();
            drop((tasks, reply));
            let reader = &partition;
            let read = scope.spawn(move || reader.read(slices, &task, &events, &mut limit));
            let collector = Collector::new(monitor, &self.task, self.nested, done, emit);
            let collected = collector.run(&incoming, &answers);
            if collected.is_err() || matches!(collected, Ok(false)) {
                partition.ended.store(true, Ordering::Relaxed);
            }
            // Drain answers in flight, so that no session blocks on a full channel.
            for _ in answers {}
            for worker in workers {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            let read = read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            collected.map(|_| ()).and(read)
        })
    }
}

impl Partition<'_> {
    fn is_stopped(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.monitor.is_stopped()
    }

    /// Numbers the documents and hands slices to the workers.
    fn read<Rows: SliceRows>(
        &self,
        slices: impl Iterator<Item = Result<Rows>>,
        task: &Sender<(usize, Arc<Rows>)>,
        events: &Sender<Event<Rows>>,
        limit: &mut InFlightLimit,
    ) -> Result<()> {
        let mut next = 0;
        for rows in slices {
            let rows = Arc::new(rows?);
            let bytes = rows.bytes();
            // The collector or the workers have ended, so the run is over.
            if !limit.enter(bytes) || self.is_stopped() {
                break;
            }
            let first = next;
            next += rows.count();
            let _ = events.send(Event::Slice(InFlightSlice { first, bytes, rows: Arc::clone(&rows) }));
            if task.send((first, rows)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Runs a worker and sends its failure or panic to the collector, which would otherwise wait forever for the lost slice.
    fn guarded<Rows: SliceRows>(&self, worker: &Worker<Rows>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(worker)));
        let failure = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a thread panicked");
                Error::Engine { doing: "prepare a document".into(), source: message.to_owned().into() }
            }
        };
        let _ = worker.reply.send(Err(failure));
    }

    fn work<Rows: SliceRows>(&self, worker: &Worker<Rows>) -> Result<()> {
        let Worker { tasks, events, reply } = worker;
        for (first, rows) in tasks {
            let mut block = Block { partition: self, inputs: Vec::new(), tokens: 0, reply };
            for row in 0..rows.count() {
                let Row { has_id, text, replaced } = rows.row(row);
                let asked = match Document::admit(has_id, text) {
                    Ok(_) if replaced => {
                        Asked { inputs: 0, outcome: Err(Reject::new(RejectReason::DuplicateId, LATER_ROW)) }
                    }
                    Ok(document) => self.ask(first + row, document, &mut block)?,
                    Err(reject) => Asked { inputs: 0, outcome: Err(reject) },
                };
                Monitor::add(&self.monitor.prepared, 1);
                let _ = events.send(Event::Document { number: first + row, asked });
                if self.is_stopped() {
                    return Ok(());
                }
            }
            block.flush()?;
        }
        Ok(())
    }

    /// Adds all inputs of a document to the block, which is sent to the scorer whenever it is full. A text that cannot be tokenized is
    /// refused at the failing window; inputs of its earlier windows can already be in flight.
    fn ask(&self, number: usize, document: Document<'_>, block: &mut Block<'_>) -> Result<Asked> {
        let Pipeline { task, tokenizer, windows, .. } = self.pipeline;
        let mut windows = Windows::new(tokenizer, *windows, document);
        let (mut count, mut inputs) = (0, 0);
        let outcome = loop {
            match self.monitor.tokenize.work(&trace_span!("tokenize"), || windows.next()) {
                None => break Ok(Prepared { counts: windows.counts(), windows: count }),
                Some(Err(reject)) => break Err(reject),
                Some(Ok(window)) => {
                    count += 1;
                    for input in task.ask(number, &window) {
                        inputs += 1;
                        Monitor::add(&self.monitor.asked, 1);
                        block.push(input)?;
                    }
                }
            }
        };
        Ok(Asked { inputs, outcome })
    }
}

/// Inputs collected for sorting by length.
struct Block<'run> {
    partition: &'run Partition<'run>,
    inputs: Vec<ModelInput>,
    tokens: usize,
    reply: &'run Sender<Result<Answered>>,
}

impl Block<'_> {
    fn push(&mut self, input: ModelInput) -> Result<()> {
        self.tokens += input.len();
        self.inputs.push(input);
        let limit = LOOKAHEAD_BATCHES.saturating_mul(self.partition.pipeline.batch_tokens).min(LOOKAHEAD_TOKENS);
        if self.tokens >= limit { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.tokens = 0;
        let inputs = std::mem::take(&mut self.inputs);
        let Pipeline { batch_tokens, scorer, .. } = self.partition.pipeline;
        let sorted = trace_span!("sort").in_scope(|| batches(inputs, *batch_tokens));
        for batch in sorted {
            if self.partition.is_stopped() {
                return Ok(());
            }
            scorer.ask(batch, self.reply)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

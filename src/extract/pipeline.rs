//! Document rows → mentions, through the scorer. In: slices of rows, on a blocking thread. Out: one [`SliceResult`] per slice,
//! in order. It must not hold more than the texts of the slices in flight and one block of inputs per worker.
//!
//! A reader thread hands slices to `workers` threads. Each worker tokenizes, cuts windows and makes the inputs of a slice on rayon's pool, which
//! divides the rows, and hands batches to the scorer. A slice of one row can be a text of any length: the worker streams its windows itself,
//! because it waits for the device between them, and a thread of a shared pool must not wait. `collect` decodes the answers and finishes
//! documents and slices. Back-pressure: the scorer's bounded channel makes workers wait for the device, and the reader waits while the in-flight
//! limit is reached.
//!
//! Without inference (release build, two cores, medians of five rounds in turn), workers with the pool took 0.69 of the time of workers alone
//! on slices of 16 KiB, 0.94 on slices of a megabyte, as on a GPU, and 0.96 to 0.99 on long texts; the pool alone, one slice after the other,
//! took 0.74, 0.94 and 0.98 to 1.78
//! (`threads_and_the_pool` in the tests measures it). Decoding a batch takes a tenth of a millisecond, so one thread does it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rayon::prelude::*;
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::collect::{Asked, Collector, Event, InFlightSlice, Prepared};
use crate::extract::pipeline::in_flight::InFlightLimit;
use crate::extract::pipeline::slice::{Row, SliceResult, SliceRows};
use crate::model::runtime::scorer::{Answered, Scorer};
use crate::task::batch::batches;
use crate::task::entity_schema::Nesting;
use crate::task::input::ModelInput;
use crate::task::kind::Task;
use crate::text::document::{Document, Reject, RejectReason};
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
    pub(crate) nesting: Nesting,
    /// The maximum of padded tokens in a batch.
    pub(crate) batch_tokens: usize,
    /// The model's sessions.
    pub(crate) scorer: Scorer,
    /// Threads that take slices.
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
            let collector = Collector::new(monitor, &self.task, self.nesting, done, emit);
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
            let finish = |number: usize, asked: Asked| {
                Monitor::add(&self.monitor.prepared, 1);
                let _ = events.send(Event::Document { number, asked });
            };
            if rows.count() == 1 {
                // It can be of any length, so its windows stream.
                let asked = self.prepare(first, rows.row(0), |input| block.push(input))?;
                // A stop abandons a document in the middle.
                if self.is_stopped() {
                    return Ok(());
                }
                finish(first, asked);
            } else {
                let prepare = |row: usize| {
                    let mut inputs = Vec::new();
                    let asked = self.prepare(first + row, rows.row(row), |input| {
                        inputs.push(input);
                        Ok(())
                    })?;
                    Ok((asked, inputs))
                };
                let prepared = (0..rows.count()).into_par_iter().map(prepare).collect::<Result<Vec<_>>>()?;
                for (row, (asked, inputs)) in prepared.into_iter().enumerate() {
                    for input in inputs {
                        block.push(input)?;
                    }
                    if self.is_stopped() {
                        return Ok(());
                    }
                    finish(first + row, asked);
                }
            }
            block.flush()?;
        }
        Ok(())
    }

    /// Checks a row and makes the inputs of its document.
    fn prepare(&self, number: usize, row: Row<'_>, push: impl FnMut(ModelInput) -> Result<()>) -> Result<Asked> {
        let Row { has_id, text, refused } = row;
        // A fault comes before what is missing because of it, an empty text before the same id in a later row.
        let refused = refused.and_then(|refused| refused.parse::<Reject>().ok());
        let fault = refused.clone().filter(|reject| reject.reason != RejectReason::DuplicateId);
        match fault.map_or_else(|| Document::admit(has_id, text), Err) {
            Ok(_) if let Some(reject) = refused => Ok(Asked { inputs: 0, outcome: Err(reject) }),
            Ok(document) => self.ask(number, document, push),
            Err(reject) => Ok(Asked { inputs: 0, outcome: Err(reject) }),
        }
    }

    /// Makes all inputs of a document, or fewer if the run is stopped. A text that cannot be tokenized is refused at the failing window;
    /// inputs of its earlier windows can already be in flight.
    fn ask(
        &self,
        number: usize,
        document: Document<'_>,
        mut push: impl FnMut(ModelInput) -> Result<()>,
    ) -> Result<Asked> {
        let Pipeline { task, tokenizer, windows, .. } = self.pipeline;
        let mut windows = Windows::new(tokenizer, *windows, document);
        let (mut count, mut inputs, mut split) = (0, 0, 0);
        let outcome = loop {
            match self.monitor.tokenize.work(&trace_span!("tokenize"), || windows.next()) {
                None => break Ok(Prepared { counts: windows.counts(), windows: count, split }),
                Some(Err(reject)) => break Err(reject),
                Some(Ok(_)) if self.is_stopped() => {
                    break Ok(Prepared { counts: windows.counts(), windows: count, split });
                }
                Some(Ok(window)) => {
                    count += 1;
                    let asked = task.ask(number, &window);
                    split += usize::from(task.splits_prompt(&asked));
                    for input in asked {
                        inputs += 1;
                        Monitor::add(&self.monitor.asked, 1);
                        push(input)?;
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

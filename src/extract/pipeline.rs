//! Document rows → mentions, through the sessions. In: slices of rows, on a blocking thread. Out: one [`SliceResult`] per slice,
//! in order. It must not hold more than the texts of the slices in flight and one block of queries per worker.
//!
//! A reader thread hands slices to `workers` threads. Each worker tokenizes, cuts windows, pairs them with the questions and hands
//! batches to the session pool. `collect` decodes the answers and finishes documents and slices. Back-pressure: the pool's bounded
//! channel makes workers wait for the device, and the reader waits while the in-flight limit is reached.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::extract::collect::{Asked, Collector, Event, InFlightSlice, Prepared};
use crate::extract::counters::Counters;
use crate::extract::in_flight::InFlightLimit;
use crate::extract::slice::{Row, SliceResult, SliceRows};
use crate::extract::slices::SliceRule;
use crate::model::runtime::pool::{Answered, PoolCounters, SessionPool};
use crate::task::batch::batches;
use crate::task::decode::DecodeRule;
use crate::task::entity_schema::EntitySchema;
use crate::task::query::{Encoded, Questions};
use crate::text::document::{Document, Reject, RejectReason};
use crate::text::tokens::Tokenizer;
use crate::text::window::{WindowRule, Windows};

/// Queries of a slice are sorted by length in blocks of at most this many full batches of tokens,
const LOOKAHEAD_BATCHES: usize = 64;
/// and of at most this many tokens, whatever the batch size, because their windows are held in memory.
const LOOKAHEAD_TOKENS: usize = 1 << 22;

/// Everything that turns a text into mentions, shared by all partitions.
#[derive(Debug)]
pub struct Extractor {
    /// The entity types.
    pub schema: EntitySchema,
    /// Their questions, tokenized.
    pub questions: Questions,
    /// The model's tokenizer.
    pub tokenizer: Tokenizer,
    /// How documents are cut into windows.
    pub windows: WindowRule,
    /// When a candidate is a mention.
    pub decode: DecodeRule,
    /// The maximum of padded tokens in a batch.
    pub batch_tokens: usize,
    /// Where slices of rows end.
    pub slices: SliceRule,
    /// The model's sessions.
    pub pool: SessionPool,
    /// Threads that tokenize.
    pub workers: usize,
    /// The run's counters.
    pub counters: Counters,
    /// Set to end early: slices that are already answered completely are still emitted, the others are dropped.
    pub stop: AtomicBool,
}

/// A worker's channels.
struct Worker<'run, Rows> {
    tasks: Receiver<(usize, Arc<Rows>)>,
    events: Sender<Event<Rows>>,
    reply: Sender<Result<Answered>>,
    stopped: &'run AtomicBool,
}

impl Extractor {
    /// Runs the pipeline over `slices` until they end or [`Extractor::stop`] is set. `emit` takes each finished slice, in order, and
    /// returns false to stop.
    pub fn run<Rows: SliceRows>(
        &self,
        slices: impl Iterator<Item = Result<Rows>> + Send,
        emit: impl FnMut(SliceResult<Rows>) -> bool + Send,
    ) -> Result<()> {
        let stopped = AtomicBool::new(false);
        let (events, incoming) = unbounded();
        let (reply, answers) = bounded(4);
        let (task, tasks) = bounded(0);
        // Each worker can have one slice in work and one waiting. The events of these slices are small, so their channel is unbounded.
        let (done, finished) = unbounded();
        let mut limit = InFlightLimit::new(2 * self.workers + 1, finished);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|_| {
                    let worker = Worker {
                        tasks: tasks.clone(),
                        events: events.clone(),
                        reply: reply.clone(),
                        stopped: &stopped,
                    };
                    scope.spawn(move || self.guarded(&worker))
                })
                .collect();
            drop((tasks, reply));
            let stopped = &stopped;
            let read = scope.spawn(move || self.read(slices, &task, &events, &mut limit, stopped));
            let nested = self.schema.nested;
            let collector = Collector::new(&self.counters, &self.decode, nested, &self.stop, done, emit);
            let collected = collector.run(&incoming, &answers);
            if collected.is_err() || matches!(collected, Ok(false)) {
                stopped.store(true, Ordering::Relaxed);
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

    /// Seconds spent in each stage, summed over threads, in pipeline order.
    pub fn stages(&self) -> [(&'static str, f64); 9] {
        let PoolCounters { tensors, wait, inference, .. } = self.pool.counters();
        let Counters { start, read, tokenize, decode, write, commit, .. } = &self.counters;
        let stages = [
            ("start", start),
            ("read", read),
            ("tokenize", tokenize),
            ("tensors", tensors),
            ("wait", wait),
            ("inference", inference),
            ("decode", decode),
            ("write", write),
            ("commit", commit),
        ];
        stages.map(|(name, stage)| (name, stage.seconds()))
    }

    fn is_stopped(&self, stopped: &AtomicBool) -> bool {
        stopped.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed)
    }

    /// Numbers the documents and hands slices to the workers.
    fn read<Rows: SliceRows>(
        &self,
        slices: impl Iterator<Item = Result<Rows>>,
        task: &Sender<(usize, Arc<Rows>)>,
        events: &Sender<Event<Rows>>,
        limit: &mut InFlightLimit,
        stopped: &AtomicBool,
    ) -> Result<()> {
        let mut next = 0;
        for rows in slices {
            let rows = Arc::new(rows?);
            let bytes = rows.bytes();
            // The collector or the workers have ended, so the run is over.
            if !limit.enter(bytes) || self.is_stopped(stopped) {
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
    fn guarded<Rows: SliceRows>(&self, worker: &Worker<'_, Rows>) {
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

    fn work<Rows: SliceRows>(&self, worker: &Worker<'_, Rows>) -> Result<()> {
        let Worker { tasks, events, reply, stopped } = worker;
        for (first, rows) in tasks {
            let mut block = Block { extractor: self, queries: Vec::new(), tokens: 0, reply, stopped };
            for row in 0..rows.count() {
                let Row { has_id, text, replaced } = rows.row(row);
                let asked = match Document::admit(has_id, text) {
                    Ok(_) if replaced => {
                        let detail = "a later document of this run has the same id";
                        Asked { queries: 0, outcome: Err(Reject::new(RejectReason::DuplicateId, detail)) }
                    }
                    Ok(document) => self.ask(first + row, document, &mut block)?,
                    Err(reject) => Asked { queries: 0, outcome: Err(reject) },
                };
                self.counters.prepared.fetch_add(1, Ordering::Relaxed);
                let _ = events.send(Event::Document { number: first + row, asked });
                if self.is_stopped(stopped) {
                    return Ok(());
                }
            }
            block.flush()?;
        }
        Ok(())
    }

    /// Adds all queries of a document to the block, which is sent to the sessions whenever it is full. A text that cannot
    /// be tokenized is refused at the failing window; queries about its earlier windows can already be in flight.
    fn ask(&self, number: usize, document: Document<'_>, block: &mut Block<'_>) -> Result<Asked> {
        let mut windows = Windows::new(&self.tokenizer, self.windows, document);
        let (mut count, mut queries) = (0, 0);
        let outcome = loop {
            match self.counters.tokenize.work(&trace_span!("tokenize"), || windows.next()) {
                None => break Ok(Prepared { counts: windows.counts(), windows: count }),
                Some(Err(reject)) => break Err(reject),
                Some(Ok(window)) => {
                    count += 1;
                    for query in self.questions.ask(number, &window) {
                        queries += 1;
                        self.counters.asked.fetch_add(1, Ordering::Relaxed);
                        block.push(query)?;
                    }
                }
            }
        };
        Ok(Asked { queries, outcome })
    }
}

/// Queries collected for sorting by length.
struct Block<'run> {
    extractor: &'run Extractor,
    queries: Vec<Encoded>,
    tokens: usize,
    reply: &'run Sender<Result<Answered>>,
    stopped: &'run AtomicBool,
}

impl Block<'_> {
    fn push(&mut self, query: Encoded) -> Result<()> {
        self.tokens += query.len();
        self.queries.push(query);
        let limit = LOOKAHEAD_BATCHES.saturating_mul(self.extractor.batch_tokens).min(LOOKAHEAD_TOKENS);
        if self.tokens >= limit { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.tokens = 0;
        let queries = std::mem::take(&mut self.queries);
        let sorted = trace_span!("sort").in_scope(|| batches(queries, self.extractor.batch_tokens));
        for batch in sorted {
            if self.extractor.is_stopped(self.stopped) {
                return Ok(());
            }
            self.extractor.pool.ask(batch, self.reply)?;
        }
        Ok(())
    }
}

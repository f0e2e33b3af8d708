//! Sessions on their threads. In: batches from any number of askers through one bounded channel. Out: each batch with its
//! logits, back to the asker that sent it, in parts where the device's memory is too small for it whole. It may not drop or join
//! batches, and holds one batch per session in wait.
//!
//! A batch's tensors are made on the asker's thread, while the session computes the batch before it. Making them, waiting for a session
//! and computing are stages of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::machine::stage_timer::StageTimer;
use crate::model::runtime::library::Library;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::batch::{BatchInputs, QueryBatch};
use crate::task::decode::Logits;
use crate::text::tokens::said;

/// A batch on its way to a session.
struct Request {
    batch: QueryBatch,
    inputs: BatchInputs,
    reply: Sender<Result<Answered>>,
}

/// A batch with its answer.
#[derive(Debug)]
pub struct Answered {
    /// The batch as it was sent, or a part of it: all parts together are the batch.
    pub batch: QueryBatch,
    /// What the graph says.
    pub logits: Logits,
}

/// What sessions have done; read at any time.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Batches answered; of one that was halved, each part.
    pub batches: AtomicU64,
    /// Tokens computed that were not padding.
    pub real_tokens: AtomicU64,
    /// Tokens computed.
    pub padded_tokens: AtomicU64,
    /// How often a batch was halved because the device's memory was full.
    pub halved: AtomicU64,
    /// How often a batch was halved untried, because a smaller one had been too large.
    pub cut: AtomicU64,
    /// Making tensors.
    pub tensors: StageTimer,
    /// Waiting until a session is free to take a batch.
    pub wait: StageTimer,
    /// Computing, all sessions together.
    pub inference: StageTimer,
}

impl PoolCounters {
    /// Forgets what was done so far.
    pub fn clear(&self) {
        let Self { batches, real_tokens, padded_tokens, halved, cut, tensors, wait, inference } = self;
        for counter in [batches, real_tokens, padded_tokens, halved, cut] {
            counter.store(0, Ordering::Relaxed);
        }
        for stage in [tensors, wait, inference] {
            stage.clear();
        }
    }

    fn tensors_of(&self, batch: &QueryBatch) -> BatchInputs {
        self.tensors.work(&trace_span!("make tensors"), || batch.inputs())
    }
}

/// Session threads and the channel to them. Clones ask the same sessions; the threads end with the last clone.
#[derive(Debug, Clone)]
pub struct SessionPool {
    requests: Sender<Request>,
    counters: Arc<PoolCounters>,
}

impl SessionPool {
    /// Opens `sessions` sessions of the graph, each on a thread of its own; the first error stops it. With a `trial`, each
    /// answers that first, to show that it is computed where it should be.
    pub fn open(
        library: &Library,
        graph: &Path,
        options: SessionOptions,
        sessions: usize,
        boundary: f32,
        trial: Option<&QueryBatch>,
    ) -> Result<Self> {
        let (requests, incoming) = bounded::<Request>(sessions);
        let counters = Arc::new(PoolCounters::default());
        for number in 0..sessions {
            let (ready, opened) = bounded(1);
            let (library, graph, incoming) = (library.clone(), graph.to_path_buf(), incoming.clone());
            let (counted, trial) = (Arc::clone(&counters), trial.cloned());
            let open = move || match trial {
                Some(trial) => Session::open_on_its_device(&library, &graph, options, &trial),
                None => Session::open(&library, &graph, options),
            };
            let serve = move || match open() {
                Ok(session) => {
                    // The opener waits for this word; if it is gone, so is every asker.
                    let _ = ready.send(Ok(()));
                    serve(session, boundary, &incoming, &counted);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            };
            let thread = std::thread::Builder::new().name(format!("session-{number}")).spawn(serve);
            thread
                .map_err(|source| Error::Inference { doing: "start a session thread".into(), source: source.into() })?;
            opened.recv().unwrap_or_else(|_| Err(gone()))?;
        }
        Ok(Self { requests, counters })
    }

    /// Hands a batch to the next free session; blocks while all are busy and one batch each is waiting. The answer goes
    /// to `reply`.
    pub fn ask(&self, batch: QueryBatch, reply: &Sender<Result<Answered>>) -> Result<()> {
        let inputs = self.counters.tensors_of(&batch);
        let request = Request { batch, inputs, reply: reply.clone() };
        let sent = || self.requests.send(request).map_err(|_| gone());
        self.counters.wait.work(&trace_span!("wait for a session"), sent)
    }

    /// Has a batch answered and waits for it: how long that took.
    pub fn answer(&self, batch: QueryBatch) -> Result<Duration> {
        let queries = batch.queries.len();
        let (reply, answers) = bounded(queries);
        let started = Instant::now();
        self.ask(batch, &reply)?;
        drop(reply);
        let mut answered = 0;
        while answered < queries {
            answered += answers.recv().map_err(|_| gone())??.batch.queries.len();
        }
        Ok(started.elapsed())
    }

    /// What the sessions have done so far.
    pub fn counters(&self) -> &PoolCounters {
        &self.counters
    }
}

fn gone() -> Error {
    Error::Inference { doing: "keep its session thread alive".into(), source: "the thread ended".into() }
}

/// What answers batches: a session, or in tests something that fails as a full device does.
trait Answer {
    fn answer(&mut self, inputs: &BatchInputs, boundary: f32) -> Result<Logits>;
}

impl Answer for Session {
    fn answer(&mut self, inputs: &BatchInputs, boundary: f32) -> Result<Logits> {
        self.answer_inputs(inputs, boundary)
    }
}

fn serve(mut session: impl Answer, boundary: f32, incoming: &Receiver<Request>, counters: &PoolCounters) {
    // The padded tokens that fit the device's memory, as far as is known.
    let mut fits = usize::MAX;
    for Request { batch, inputs, reply } in incoming {
        let mut parts = vec![(batch, Some(inputs))];
        while let Some((batch, inputs)) = parts.pop() {
            let (divisible, padded) = (batch.queries.len() > 1, batch.padded_tokens());
            if divisible && padded > fits {
                counters.cut.fetch_add(1, Ordering::Relaxed);
                parts.extend(batch.halves().map(|half| (half, None)));
                continue;
            }
            let inputs = inputs.unwrap_or_else(|| counters.tensors_of(&batch));
            let span = trace_span!("infer", queries = batch.queries.len(), tokens = padded);
            let result = counters.inference.work(&span, || guarded(|| session.answer(&inputs, boundary)));
            drop(inputs);
            match result {
                Err(error) if divisible && out_of_memory(&error) => {
                    fits = padded.div_ceil(2);
                    counters.halved.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        padded_tokens = padded,
                        "the device's memory is full: batches are halved from here on"
                    );
                    parts.extend(batch.halves().map(|half| (half, None)));
                }
                result => {
                    if result.is_ok() {
                        counters.batches.fetch_add(1, Ordering::Relaxed);
                        counters.real_tokens.fetch_add(batch.real_tokens() as u64, Ordering::Relaxed);
                        counters.padded_tokens.fetch_add(padded as u64, Ordering::Relaxed);
                    }
                    // An asker that is gone (its query was cancelled) wants no answer.
                    let _ = reply.send(result.map(|logits| Answered { batch, logits }));
                }
            }
        }
    }
}

/// Asks, and makes an error of a panic: an asker whose thread was lost to one would take what it has for all there is.
fn guarded(ask: impl FnOnce() -> Result<Logits>) -> Result<Logits> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        Err(Error::Inference { doing: "answer a batch".into(), source: said(&*panic).to_owned().into() })
    })
}

/// Whether ONNX Runtime, CUDA, cuBLAS or cuDNN said that an allocation failed.
fn out_of_memory(error: &Error) -> bool {
    let text = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let text: String = text.map(|error| error.to_string().to_lowercase()).collect();
    ["out of memory", "failed to allocate", "bfcarena", "bad_alloc", "alloc_failed", "allocation_failed"]
        .iter()
        .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use tracing::Subscriber;
    use tracing::span::Id;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};
    use tracing_subscriber::registry::LookupSpan;

    use super::*;
    use crate::task::batch::tests::queries;

    /// A device that takes eight queries at a time.
    struct Small;

    impl Answer for Small {
        fn answer(&mut self, inputs: &BatchInputs, _: f32) -> Result<Logits> {
            if inputs.rows > 8 {
                let source = "BFCArena: Failed to allocate memory for requested buffer of size 7".into();
                return Err(Error::Inference { doing: "answer a batch".into(), source });
            }
            Ok(Logits::default())
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved_and_the_size_remembered() {
        let counters = PoolCounters::default();
        let (requests, incoming) = bounded(4);
        let (reply, answers) = bounded(64);
        let texts = vec!["new york".to_owned(); 30];
        for document in [0, 1] {
            let batch = QueryBatch { queries: queries(&texts)[document * 30..][..30].to_vec() };
            let inputs = batch.inputs();
            requests.send(Request { batch, inputs, reply: reply.clone() }).unwrap();
        }
        drop((requests, reply));
        serve(Small, 0.0, &incoming, &counters);
        let mut seen: Vec<usize> =
            answers.iter().flat_map(|answer| answer.unwrap().batch.queries).map(|query| query.document).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..60).map(|query| query / 2).collect::<Vec<_>>());
        // 30 → 15 → 8: two failures, and none in the second batch.
        assert_eq!(counters.halved.load(Ordering::Relaxed), 2);
        assert!(counters.cut.load(Ordering::Relaxed) > 1);
    }

    /// Tells the name of each span that is entered.
    struct Entered(Sender<&'static str>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Entered {
        fn on_enter(&self, id: &Id, context: Context<'_, S>) {
            let name = context.span(id).expect("the span is there").name();
            // Nobody listens any more once the session has its batch.
            let _ = self.0.send(name);
        }
    }

    #[test]
    fn making_tensors_and_waiting_for_a_session_are_two_stages() {
        let (requests, incoming) = bounded(0);
        let pool = SessionPool { requests, counters: Arc::default() };
        let (reply, _answers) = bounded(1);
        let batch = QueryBatch { queries: queries(&["new york".to_owned()]) };
        let (entered, spans) = bounded(2);
        let counters = Arc::clone(&pool.counters);
        // Takes the batch when the asker waits, and not before.
        let session = std::thread::spawn(move || {
            assert_eq!((spans.recv(), spans.recv()), (Ok("make tensors"), Ok("wait for a session")));
            let (made, waited) = (counters.tensors.seconds(), counters.wait.seconds());
            let seen = Instant::now();
            while seen.elapsed().is_zero() {}
            let busy = seen.elapsed();
            incoming.recv().expect("a batch");
            (made, waited, busy.as_secs_f64())
        });
        let told = tracing_subscriber::registry().with(Entered(entered));
        tracing::subscriber::with_default(told, || pool.ask(batch, &reply)).unwrap();
        let (made, waited, busy) = session.join().expect("the session got its batch");
        let PoolCounters { tensors, wait, inference, .. } = pool.counters();
        assert!(made > 0.0 && waited == 0.0, "{made} s, {waited} s");
        assert!(wait.seconds() >= busy, "{} s of {busy} s", wait.seconds());
        assert_eq!((tensors.seconds(), inference.seconds()), (made, 0.0), "waiting is counted twice");
        pool.counters().clear();
        assert!(pool.counters().wait.seconds() == 0.0 && pool.counters().tensors.seconds() == 0.0);
    }

    /// A session whose graph breaks its contract in a way that nobody thought of.
    struct Panicking(bool);

    impl Answer for Panicking {
        fn answer(&mut self, _: &BatchInputs, _: f32) -> Result<Logits> {
            assert!(!std::mem::take(&mut self.0), "no shape at all");
            Ok(Logits::default())
        }
    }

    #[test]
    fn a_panic_is_an_answer_and_the_thread_goes_on() {
        let counters = PoolCounters::default();
        let (requests, incoming) = bounded(2);
        let (reply, answers) = bounded(2);
        for _ in 0..2 {
            let batch = QueryBatch { queries: queries(&["new york".to_owned()]) };
            let inputs = batch.inputs();
            requests.send(Request { batch, inputs, reply: reply.clone() }).unwrap();
        }
        drop((requests, reply));
        serve(Panicking(true), 0.0, &incoming, &counters);
        let error = answers.recv().unwrap().unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("no shape at all"), "{error}");
        assert!(answers.recv().unwrap().is_ok());
        assert_eq!(counters.batches.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn cuda_says_in_several_ways_that_its_memory_is_full() {
        let full =
            |text: &str| out_of_memory(&Error::Inference { doing: "answer a batch".into(), source: text.into() });
        for text in [
            "CUDA failure 2: out of memory ; GPU=0",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
            "CUDNN failure 2: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
            "CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
        ] {
            assert!(full(text), "{text}");
        }
        assert!(!full("CUDA failure 700: an illegal memory access was encountered"));
    }
}

//! The scorer of a model: its sessions, each on its own thread. In: batches from any number of callers through one bounded channel. Out:
//! each batch with its outputs, sent to its caller; in parts if the device's memory is too small for the whole batch, or if the answers
//! to some inputs are not finite. It must not drop or merge batches, or queue more than one batch per session.
//!
//! The caller's thread makes a batch's tensors while the session computes the previous batch. Making tensors, waiting for a session
//! and inference are separate stages. The scorer gets tensors that are the same for every batch once, when it is opened: for a model of
//! two graphs, the outputs of the graph that runs once a job.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::model::runtime::library::Library;
use crate::model::runtime::scorer_counters::ScorerCounters;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::batch::Batch;
use crate::task::kind::Kind;
use crate::task::tensor::Tensors;
use crate::text::tokens::panic_message;

/// A batch on its way to a session.
struct Request {
    batch: Batch,
    tensors: Tensors,
    reply: Sender<Result<Answered>>,
}

/// A batch with the outputs of the graph.
#[derive(Debug)]
pub struct Answered {
    /// The batch that was sent, or a part of it; all parts together are the batch.
    pub batch: Batch,
    /// The graph's outputs; none if they are not finite, also in fp32.
    pub outputs: Option<Tensors>,
}

/// Opens a session in fp32 for inputs whose answers are not finite in the precision of the run.
pub type OpenExact = Arc<dyn Fn() -> Result<Session> + Send + Sync>;

fn tensors_of(counters: &ScorerCounters, kind: Kind, batch: &Batch) -> Tensors {
    counters.tensors.work(&trace_span!("make tensors"), || kind.tensors(batch))
}

/// Session threads and the channel to them. Clones share the sessions; the threads end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Scorer {
    kind: Kind,
    requests: Sender<Request>,
    counters: Arc<ScorerCounters>,
}

impl Scorer {
    /// Opens a session of the graph for each of `options`, on a thread of its own; it fails on the first error. The graph gets the tensors `fixed`
    /// with every batch. With a `trial` batch, each session computes it first, to check that the graph runs on its device. Inputs whose
    /// answers are not finite are asked again in the session of `exact`, if there is one.
    pub fn open(
        library: &Library,
        graph: &Path,
        kind: Kind,
        options: &[SessionOptions],
        fixed: &Tensors,
        trial: Option<&Batch>,
        exact: Option<&OpenExact>,
    ) -> Result<Self> {
        let (requests, incoming) = bounded::<Request>(options.len());
        let counters = Arc::new(ScorerCounters::default());
        for (number, options) in options.iter().copied().enumerate() {
            let (ready, opened) = bounded(1);
            let (library, graph, incoming) = (library.clone(), graph.to_path_buf(), incoming.clone());
            let (counted, fixed, trial) = (Arc::clone(&counters), fixed.clone(), trial.cloned());
            let exact = Exact::new(exact.cloned());
            let open = move |fixed: &Tensors| match trial {
                Some(trial) => Session::open_on_its_device(&library, &graph, kind, options, (&trial, fixed)),
                None => Session::open(&library, &graph, kind, options),
            };
            let serve = move || match open(&fixed) {
                Ok(session) => {
                    // `open` waits for this message; if the receiver is gone, there are no callers.
                    let _ = ready.send(Ok(()));
                    serve(session, exact, kind, &fixed, &incoming, &counted);
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
        Ok(Self { kind, requests, counters })
    }

    /// A scorer whose only session is `answer`, for tests.
    #[cfg(test)]
    pub(crate) fn answering(kind: Kind, answer: impl Fn(&Batch) -> Tensors + Send + 'static) -> Self {
        let (requests, incoming) = bounded::<Request>(1);
        std::thread::spawn(move || {
            for Request { batch, reply, .. } in incoming {
                let outputs = answer(&batch);
                // If the caller is gone, nobody needs the answer.
                let _ = reply.send(Ok(Answered { batch, outputs: Some(outputs) }));
            }
        });
        Self { kind, requests, counters: Arc::default() }
    }

    /// Sends a batch to the next free session. It blocks while all sessions are busy and the queue has one batch per session. The
    /// answer goes to `reply`.
    pub fn ask(&self, batch: Batch, reply: &Sender<Result<Answered>>) -> Result<()> {
        let tensors = tensors_of(&self.counters, self.kind, &batch);
        let request = Request { batch, tensors, reply: reply.clone() };
        let sent = || self.requests.send(request).map_err(|_| gone());
        self.counters.wait.work(&trace_span!("wait for a session"), sent)
    }

    /// Computes a batch, waits for the answer and returns the time it took.
    pub fn answer(&self, batch: Batch) -> Result<Duration> {
        self.answer_all(vec![batch])
    }

    /// Computes batches, on all sessions, waits for the answers and returns the time they took.
    pub fn answer_all(&self, batches: Vec<Batch>) -> Result<Duration> {
        let inputs: usize = batches.iter().map(|batch| batch.inputs.len()).sum();
        // An input is at most one answer, so no session waits.
        let (reply, answers) = bounded(inputs);
        let started = Instant::now();
        for batch in batches {
            self.ask(batch, &reply)?;
        }
        drop(reply);
        let mut answered = 0;
        while answered < inputs {
            answered += answers.recv().map_err(|_| gone())??.batch.inputs.len();
        }
        Ok(started.elapsed())
    }

    /// The counters of the sessions.
    pub fn counters(&self) -> &ScorerCounters {
        &self.counters
    }
}

fn gone() -> Error {
    Error::Inference { doing: "keep its session thread alive".into(), source: "the thread ended".into() }
}

/// Computes batches: a session, or in tests a fake that fails like a device without free memory.
trait Compute {
    fn compute(&mut self, given: &[&Tensors]) -> Result<Tensors>;
}

impl Compute for Session {
    fn compute(&mut self, given: &[&Tensors]) -> Result<Tensors> {
        self.run(given)
    }
}

/// The session in fp32, which is opened when it is first needed.
enum Exact<S> {
    Closed(Arc<dyn Fn() -> Result<S> + Send + Sync>),
    Open(S),
    /// There is none, or it could not be opened.
    Missing,
}

impl<S: Compute> Exact<S> {
    fn new(open: Option<Arc<dyn Fn() -> Result<S> + Send + Sync>>) -> Self {
        open.map_or(Self::Missing, Self::Closed)
    }

    /// Answers a batch whose answers were not finite: all its inputs, in parts.
    fn answer(&mut self, batch: Batch, kind: Kind, fixed: &Tensors) -> Result<Vec<Answered>> {
        if let Self::Closed(open) = self {
            *self = match open() {
                Ok(session) => Self::Open(session),
                Err(error) => {
                    tracing::warn!(
                        "texts whose logits are not finite are refused, because the model cannot be opened in fp32: {error}"
                    );
                    Self::Missing
                }
            };
        }
        let Self::Open(session) = self else { return Ok(vec![Answered { batch, outputs: None }]) };
        // One by one: there are few, and the answer to one must not depend on the others that failed.
        let mut answered = Vec::with_capacity(batch.inputs.len());
        for input in batch.inputs {
            let batch = Batch { inputs: vec![input] };
            let outputs = guarded(|| session.compute(&[&kind.tensors(&batch), fixed]))?;
            let outputs = kind.unanswered(&outputs).is_empty().then_some(outputs);
            answered.push(Answered { batch, outputs });
        }
        Ok(answered)
    }
}

fn serve<S: Compute>(
    mut session: S,
    mut exact: Exact<S>,
    kind: Kind,
    fixed: &Tensors,
    incoming: &Receiver<Request>,
    counters: &ScorerCounters,
) {
    // The number of padded tokens that fit into the device's memory, as far as known.
    let mut fits = usize::MAX;
    for Request { batch, tensors, reply } in incoming {
        let mut parts = vec![(batch, Some(tensors))];
        while let Some((batch, tensors)) = parts.pop() {
            let (divisible, padded) = (batch.inputs.len() > 1, batch.padded_tokens());
            if divisible && padded > fits {
                counters.cut.fetch_add(1, Ordering::Relaxed);
                parts.extend(batch.halves().map(|half| (half, None)));
                continue;
            }
            let tensors = tensors.unwrap_or_else(|| tensors_of(counters, kind, &batch));
            let span = trace_span!("infer", queries = batch.inputs.len(), tokens = padded);
            let result = counters.inference.work(&span, || guarded(|| session.compute(&[&tensors, fixed])));
            drop(tensors);
            match result {
                Err(error) if divisible && out_of_memory(&error) => {
                    fits = padded.div_ceil(2);
                    counters.halved.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        padded_tokens = padded,
                        "the device is out of memory: large batches are split in half from now on"
                    );
                    parts.extend(batch.halves().map(|half| (half, None)));
                }
                // If the caller is gone (its query was cancelled), nobody needs the answer.
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
                Ok(outputs) => {
                    let unanswered = kind.unanswered(&outputs);
                    if !unanswered.is_empty() {
                        counters.not_finite.fetch_add(unanswered.len() as u64, Ordering::Relaxed);
                        let [failed, others] = batch.divided(&unanswered);
                        if !others.inputs.is_empty() {
                            parts.push((others, None));
                        }
                        match exact.answer(failed, kind, fixed) {
                            Ok(answered) => answered.into_iter().for_each(|one| {
                                let _ = reply.send(Ok(one));
                            }),
                            Err(error) => {
                                let _ = reply.send(Err(error));
                            }
                        }
                        continue;
                    }
                    counters.batches.fetch_add(1, Ordering::Relaxed);
                    counters.real_tokens.fetch_add(batch.real_tokens() as u64, Ordering::Relaxed);
                    counters.padded_tokens.fetch_add(padded as u64, Ordering::Relaxed);
                    let _ = reply.send(Ok(Answered { batch, outputs: Some(outputs) }));
                }
            }
        }
    }
}

/// Calls a session and turns a panic into an error. Otherwise the thread would end, and its caller would take the answers so far for
/// all answers.
fn guarded(call: impl FnOnce() -> Result<Tensors>) -> Result<Tensors> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(Error::Inference { doing: "answer a batch".into(), source: panic_message(&*panic).to_owned().into() })
    })
}

/// Whether an error of ONNX Runtime, CUDA, cuBLAS or cuDNN is a failed allocation.
fn out_of_memory(error: &Error) -> bool {
    let text = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let text: String = text.map(|error| error.to_string().to_lowercase()).collect();
    ["out of memory", "failed to allocate", "bfcarena", "bad_alloc", "alloc_failed", "allocation_failed"]
        .iter()
        .any(|phrase| text.contains(phrase))
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
    use crate::task::tensor::{Tensor, Values};

    /// A device with memory for eight queries.
    struct Small;

    impl Compute for Small {
        fn compute(&mut self, given: &[&Tensors]) -> Result<Tensors> {
            if given[0].get("input_ids").is_none_or(|ids| ids.shape[0] > 8) {
                let source = "BFCArena: Failed to allocate memory for requested buffer of size 7".into();
                return Err(Error::Inference { doing: "answer a batch".into(), source });
            }
            Ok(Tensors::default())
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_split_and_its_size_remembered() {
        let counters = ScorerCounters::default();
        let (requests, incoming) = bounded(4);
        let (reply, answers) = bounded(64);
        let texts = vec!["new york".to_owned(); 30];
        for document in [0, 1] {
            let batch = Batch { inputs: queries(&texts)[document * 30..][..30].to_vec() };
            let tensors = Kind::Mrc.tensors(&batch);
            requests.send(Request { batch, tensors, reply: reply.clone() }).unwrap();
        }
        drop((requests, reply));
        serve(Small, Exact::Missing, Kind::Mrc, &Tensors::default(), &incoming, &counters);
        let mut documents: Vec<usize> =
            answers.iter().flat_map(|answer| answer.unwrap().batch.inputs).map(|query| query.document).collect();
        documents.sort_unstable();
        assert_eq!(documents, (0..60).map(|query| query / 2).collect::<Vec<_>>());
        // 30 → 15 → 8: two failures in the first batch, none in the second.
        assert_eq!(counters.halved.load(Ordering::Relaxed), 2);
        assert!(counters.cut.load(Ordering::Relaxed) > 1);
    }

    /// A session whose logits for inputs with a certain token are NaN.
    struct Overflowing(Option<i64>);

    impl Compute for Overflowing {
        fn compute(&mut self, given: &[&Tensors]) -> Result<Tensors> {
            let Some(Tensor { shape, values: Values::I64(ids) }) = given[0].get("input_ids") else { panic!("no ids") };
            let logits: Vec<f32> = ids
                .chunks(shape[1])
                .flat_map(|row| {
                    let overflows = self.0.is_some_and(|token| row.contains(&token));
                    row.iter().map(move |_| if overflows { f32::NAN } else { -9.0 })
                })
                .collect();
            Ok(Tensors::default()
                .with("start_logits", shape, Values::F32(logits.clone()))
                .with("end_logits", shape, Values::F32(logits))
                .with("span_index", &[0, 3], Values::I64(Vec::new()))
                .with("span_logits", &[0], Values::F32(Vec::new())))
        }
    }

    /// The inputs that a scorer answers, and those that it does not, for a batch in which one of three texts overflows.
    fn asked(exact: Exact<Overflowing>) -> [Vec<usize>; 2] {
        let counters = ScorerCounters::default();
        let (requests, incoming) = bounded(4);
        let (reply, answers) = bounded(64);
        let batch = Batch { inputs: queries(&["new york".to_owned(), "banker".to_owned(), "new york".to_owned()]) };
        let only_here: Vec<i64> = batch
            .inputs
            .iter()
            .filter(|input| input.document == 1)
            .flat_map(|input| {
                Kind::Mrc
                    .tensors(&Batch { inputs: vec![input.clone()] })
                    .take("input_ids")
                    .map(|ids| match ids.values {
                        Values::I64(ids) => ids,
                        _ => Vec::new(),
                    })
                    .unwrap_or_default()
            })
            .collect();
        let Some(Tensor { values: Values::I64(others), .. }) = Kind::Mrc
            .tensors(&Batch { inputs: vec![batch.inputs[0].clone(), batch.inputs[1].clone()] })
            .take("input_ids")
        else {
            panic!("no ids")
        };
        let token = only_here.into_iter().find(|token| !others.contains(token)).unwrap();
        let failing = batch.inputs.iter().filter(|input| input.document == 1).count();
        let tensors = Kind::Mrc.tensors(&batch);
        requests.send(Request { batch, tensors, reply: reply.clone() }).unwrap();
        drop((requests, reply));
        serve(Overflowing(Some(token)), exact, Kind::Mrc, &Tensors::default(), &incoming, &counters);
        assert_eq!(counters.not_finite.load(Ordering::Relaxed), failing as u64);
        let mut found = [Vec::new(), Vec::new()];
        for Answered { batch, outputs } in answers.iter().map(Result::unwrap) {
            found[usize::from(outputs.is_none())].extend(batch.inputs.iter().map(|input| input.document));
        }
        for documents in &mut found {
            documents.sort_unstable();
        }
        found
    }

    #[test]
    fn inputs_whose_logits_are_not_finite_are_asked_again_in_fp32() {
        let open: Arc<dyn Fn() -> Result<Overflowing> + Send + Sync> = Arc::new(|| Ok(Overflowing(None)));
        assert_eq!(asked(Exact::Closed(open)), [vec![0, 0, 1, 1, 2, 2], vec![]]);
    }

    #[test]
    fn only_the_inputs_whose_logits_are_not_finite_stay_unanswered() {
        assert_eq!(asked(Exact::Missing), [vec![0, 0, 2, 2], vec![1, 1]]);
        let refused: Arc<dyn Fn() -> Result<Overflowing> + Send + Sync> = Arc::new(|| Err(gone()));
        assert_eq!(asked(Exact::Closed(refused)), [vec![0, 0, 2, 2], vec![1, 1]]);
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
    fn making_tensors_and_waiting_for_a_session_are_separate_stages() {
        let (requests, incoming) = bounded(0);
        let scorer = Scorer { kind: Kind::Mrc, requests, counters: Arc::default() };
        let (reply, _answers) = bounded(1);
        let batch = Batch { inputs: queries(&["new york".to_owned()]) };
        let (entered, spans) = bounded(2);
        let counters = Arc::clone(&scorer.counters);
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
        tracing::subscriber::with_default(told, || scorer.ask(batch, &reply)).unwrap();
        let (made, waited, busy) = session.join().expect("the session got its batch");
        let ScorerCounters { tensors, wait, inference, .. } = scorer.counters();
        assert!(made > 0.0 && waited == 0.0, "{made} s, {waited} s");
        assert!(wait.seconds() >= busy, "{} s of {busy} s", wait.seconds());
        assert_eq!((tensors.seconds(), inference.seconds()), (made, 0.0), "waiting is counted twice");
        scorer.counters().clear();
        assert!(scorer.counters().wait.seconds() == 0.0 && scorer.counters().tensors.seconds() == 0.0);
    }

    /// A session that panics once.
    struct Panicking(bool);

    impl Compute for Panicking {
        fn compute(&mut self, _: &[&Tensors]) -> Result<Tensors> {
            assert!(!std::mem::take(&mut self.0), "no shape at all");
            Ok(Tensors::default())
        }
    }

    #[test]
    fn a_panic_becomes_an_error_and_the_thread_continues() {
        let counters = ScorerCounters::default();
        let (requests, incoming) = bounded(2);
        let (reply, answers) = bounded(2);
        for _ in 0..2 {
            let batch = Batch { inputs: queries(&["new york".to_owned()]) };
            let tensors = Kind::Mrc.tensors(&batch);
            requests.send(Request { batch, tensors, reply: reply.clone() }).unwrap();
        }
        drop((requests, reply));
        serve(Panicking(true), Exact::Missing, Kind::Mrc, &Tensors::default(), &incoming, &counters);
        let error = answers.recv().unwrap().unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("no shape at all"), "{error}");
        assert!(answers.recv().unwrap().is_ok());
        assert_eq!(counters.batches.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn all_out_of_memory_errors_of_cuda_are_recognized() {
        let recognized =
            |text: &str| out_of_memory(&Error::Inference { doing: "answer a batch".into(), source: text.into() });
        for text in [
            "CUDA failure 2: out of memory ; GPU=0",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
            "CUDNN failure 2: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
            "CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
        ] {
            assert!(recognized(text), "{text}");
        }
        assert!(!recognized("CUDA failure 700: an illegal memory access was encountered"));
    }
}

//! Answers → documents → slices. In: events from the workers and answers from the sessions, in any order. Out: finished slices, in the
//! order in which they were read. It must not wait on one channel while the other has a message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, select};
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::extract::counters::Counters;
use crate::extract::slice::{Extracted, SliceResult, SliceRows};
use crate::model::runtime::pool::Answered;
use crate::task::decode::{DecodeRule, decode};
use crate::task::merge::Mentions;
use crate::text::document::Reject;
use crate::text::window::TokenCounts;

/// A message from the reader or a worker to the collector. Documents are numbered across the partition.
pub(crate) enum Event<Rows> {
    Slice(InFlightSlice<Rows>),
    Document { number: usize, asked: Asked },
}

/// A slice that was read and is not finished.
pub(crate) struct InFlightSlice<Rows> {
    /// The number of its first document.
    pub(crate) first: usize,
    /// The bytes of its texts.
    pub(crate) bytes: usize,
    pub(crate) rows: Arc<Rows>,
}

/// A document whose last query was sent.
pub(crate) struct Asked {
    /// How many queries were sent. A document that is refused at a later window has some too, and they are answered.
    pub(crate) queries: usize,
    pub(crate) outcome: Result<Prepared, Reject>,
}

/// The size of a tokenized document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    pub(crate) counts: TokenCounts,
    pub(crate) windows: usize,
}

/// A document that is not finished.
#[derive(Default)]
struct Open {
    mentions: Mentions,
    answered: usize,
    capped: u64,
    undecided: u64,
    asked: Option<Asked>,
}

impl Open {
    fn done(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.queries == self.answered)
    }
}

pub(crate) struct Collector<'run, Rows, Emit> {
    counters: &'run Counters,
    rule: &'run DecodeRule,
    /// Whether mentions may overlap.
    nested: bool,
    /// Set if unfinished slices are no error, because the run was stopped.
    stop: &'run AtomicBool,
    slices: VecDeque<InFlightSlice<Rows>>,
    documents: BTreeMap<usize, Open>,
    /// Sends the bytes of each finished slice.
    done: Sender<usize>,
    emit: Emit,
}

impl<'run, Rows: SliceRows, Emit: FnMut(SliceResult<Rows>) -> bool> Collector<'run, Rows, Emit> {
    pub(crate) fn new(
        counters: &'run Counters,
        rule: &'run DecodeRule,
        nested: bool,
        stop: &'run AtomicBool,
        done: Sender<usize>,
        emit: Emit,
    ) -> Self {
        Self { counters, rule, nested, stop, slices: VecDeque::new(), documents: BTreeMap::new(), done, emit }
    }

    /// Takes events and answers until both channels close. Returns false if `emit` asked to stop.
    ///
    /// # Errors
    /// [`Error::Inference`] if unfinished slices remain and the run was not stopped: a session's thread ended with their queries.
    pub(crate) fn run(mut self, events: &Receiver<Event<Rows>>, answers: &Receiver<Result<Answered>>) -> Result<bool> {
        let mut open = (true, true);
        while open.0 || open.1 {
            if open == (false, true) {
                match answers.recv() {
                    Ok(answered) => self.answered(&answered?),
                    Err(_) => open.1 = false,
                }
            } else {
                select! {
                    recv(events) -> event => match event {
                        Ok(event) => self.event(event),
                        Err(_) => open.0 = false,
                    },
                    recv(answers) -> answer => match answer {
                        Ok(answered) => self.answered(&answered?),
                        // Workers close both channels together, except for answers in flight.
                        Err(_) => open = (false, false),
                    },
                }
            }
            if !self.close_slices() {
                return Ok(false);
            }
        }
        while let Ok(event) = events.try_recv() {
            self.event(event);
        }
        if !self.close_slices() {
            return Ok(false);
        }
        if self.slices.is_empty() || self.stop.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let source = format!("the thread ended before {} slice(s) were answered", self.slices.len());
        Err(Error::Inference { doing: "keep its session thread alive".into(), source: source.into() })
    }

    fn event(&mut self, event: Event<Rows>) {
        match event {
            Event::Slice(slice) => self.slices.push_back(slice),
            Event::Document { number, asked } => self.documents.entry(number).or_default().asked = Some(asked),
        }
    }

    fn answered(&mut self, answered: &Answered) {
        let counters = self.counters;
        counters.decode.work(&trace_span!("decode", queries = answered.batch.queries.len()), || {
            let Answered { batch, logits } = answered;
            for (query, answer) in batch.queries.iter().zip(decode(batch, logits, self.rule)) {
                let document = self.documents.entry(query.document).or_default();
                document.mentions.add(query, &answer);
                document.answered += 1;
                document.capped += answer.capped as u64;
                document.undecided += answer.undecided as u64;
                counters.answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Emits every slice at the front whose documents are all done.
    fn close_slices(&mut self) -> bool {
        while let Some(InFlightSlice { first, rows, .. }) = self.slices.front() {
            let numbers = *first..first + rows.count();
            let done = numbers.clone().rev().all(|number| self.documents.get(&number).is_some_and(Open::done));
            if !done {
                return true;
            }
            let Some(InFlightSlice { bytes, rows, .. }) = self.slices.pop_front() else { return true };
            let later = self.documents.split_off(&numbers.end);
            let open = std::mem::replace(&mut self.documents, later).into_values().enumerate();
            let documents = self.counters.decode.work(&trace_span!("close a slice"), || {
                open.map(|(row, open)| self.close(rows.row(row).text, open)).collect()
            });
            if !(self.emit)(SliceResult { rows, documents }) {
                return false;
            }
            // If the reader has ended, nobody waits for the limit.
            let _ = self.done.send(bytes);
        }
        true
    }

    /// Finishes a document and counts it. Documents are counted with their slice, so the counters cover exactly the slices emitted so far.
    fn close(&self, text: Option<&str>, open: Open) -> Extracted {
        self.counters.capped.fetch_add(open.capped, Ordering::Relaxed);
        self.counters.undecided.fetch_add(open.undecided, Ordering::Relaxed);
        match open.asked {
            Some(Asked { queries, outcome: Ok(Prepared { counts, windows }) }) => {
                let mentions = open.mentions.finish(text.unwrap_or_default(), self.nested);
                self.counters.count_document(&counts, windows, queries, &mentions);
                Extracted { counts, windows, outcome: Ok(mentions) }
            }
            Some(Asked { outcome: Err(reject), .. }) => {
                self.counters.count_reject(reject.reason);
                Extracted { outcome: Err(reject), ..Extracted::default() }
            }
            None => Extracted::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::extract::slice::Row;
    use crate::task::batch::QueryBatch;
    use crate::task::batch::tests::queries;
    use crate::task::decode::Logits;
    use crate::text::document::RejectReason;

    const RULE: DecodeRule =
        DecodeRule { threshold: 0.0, boundary: 0.0, nested: true, max_candidates: 4096, tolerance: 1e-3 };

    /// A slice of one row.
    struct One;

    impl SliceRows for One {
        fn count(&self) -> usize {
            1
        }

        fn row(&self, _: usize) -> Row<'_> {
            Row { has_id: true, text: Some("new york"), replaced: false }
        }
    }

    fn slice(first: usize) -> Event<One> {
        Event::Slice(InFlightSlice { first, bytes: 8, rows: Arc::new(One) })
    }

    /// The event of a document with two queries.
    fn asked(number: usize, outcome: Result<(), Reject>) -> Event<One> {
        let prepared = Prepared { counts: TokenCounts::default(), windows: 1 };
        Event::Document { number, asked: Asked { queries: 2, outcome: outcome.map(|()| prepared) } }
    }

    /// The answers to the two queries about a document, which find nothing.
    fn nothing(number: usize) -> Answered {
        let all = queries(&vec!["new york".to_owned(); number + 1]);
        let batch = QueryBatch { queries: all.into_iter().filter(|query| query.document == number).collect() };
        assert_eq!(batch.queries.len(), 2);
        let low = vec![-9.0; batch.padded_tokens()];
        Answered { batch, logits: Logits { start: low.clone(), end: low, ..Logits::default() } }
    }

    fn collector<'run, Emit: FnMut(SliceResult<One>) -> bool>(
        counters: &'run Counters,
        stop: &'run AtomicBool,
        done: Sender<usize>,
        emit: Emit,
    ) -> Collector<'run, One, Emit> {
        Collector::new(counters, &RULE, true, stop, done, emit)
    }

    #[test]
    fn a_document_refused_at_a_later_window_shifts_no_row() {
        let (counters, stop) = (Counters::new(2), AtomicBool::new(false));
        let (done, finished) = unbounded();
        let mut emitted = Vec::new();
        let mut collector = collector(&counters, &stop, done, |slice| {
            emitted.push(slice.documents);
            true
        });
        collector.event(slice(0));
        collector.event(asked(0, Err(Reject::new(RejectReason::Tokenizer, "a torn text"))));
        assert!(collector.close_slices() && finished.is_empty(), "its first windows are not answered");
        collector.event(slice(1));
        collector.answered(&nothing(0));
        collector.event(asked(1, Ok(())));
        collector.answered(&nothing(1));
        assert!(collector.close_slices() && collector.documents.is_empty());
        drop(collector);
        assert_eq!(finished.iter().collect::<Vec<_>>(), [8, 8]);
        let outcomes: Vec<Vec<bool>> = emitted
            .iter()
            .map(|documents| documents.iter().map(|document| document.outcome.is_ok()).collect())
            .collect();
        assert_eq!(outcomes, [[false], [true]]);
    }

    #[test]
    fn a_slice_whose_queries_a_session_lost_is_an_error_unless_the_run_was_stopped() {
        for stopped in [false, true] {
            let (counters, stop) = (Counters::new(2), AtomicBool::new(stopped));
            let (events, incoming) = unbounded();
            let (reply, answers) = unbounded();
            for event in [slice(0), asked(0, Ok(())), slice(1), asked(1, Ok(()))] {
                events.send(event).unwrap();
            }
            reply.send(Ok(nothing(0))).unwrap();
            drop((events, reply));
            let mut slices = 0;
            let ended = collector(&counters, &stop, unbounded().0, |_| {
                slices += 1;
                true
            })
            .run(&incoming, &answers);
            match ended {
                Ok(all) => assert!(all && stopped),
                Err(error) => assert!(matches!(error, Error::Inference { .. }) && !stopped, "{error}"),
            }
            assert_eq!(slices, 1);
        }
    }
}

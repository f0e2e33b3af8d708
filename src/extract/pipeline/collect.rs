//! Answers → documents → slices. In: events from the workers and answers from the sessions, in any order. Out: finished slices, in the
//! order in which they were read. It must not wait on one channel while the other has a message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, select};
use tracing::trace_span;

use crate::error::{Error, Result};
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::slice::{Extracted, SliceResult, SliceRows};
use crate::model::runtime::scorer::Answered;
use crate::model::runtime::session::contract;
use crate::task::entity_schema::Nesting;
use crate::task::kind::Task;
use crate::task::merge::Mentions;
use crate::text::document::{Reject, RejectReason};
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

/// A document whose last input was sent.
pub(crate) struct Asked {
    /// How many inputs were sent. A document that is refused at a later window has some too, and they are answered.
    pub(crate) inputs: usize,
    pub(crate) outcome: Result<Prepared, Reject>,
}

/// The size of a tokenized document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    pub(crate) counts: TokenCounts,
    pub(crate) windows: usize,
    /// How many of the windows are asked in several prompts.
    pub(crate) split: usize,
}

/// A document that is not finished.
#[derive(Default)]
struct Open {
    mentions: Mentions,
    answered: usize,
    capped: usize,
    undecided: usize,
    /// The first of its windows that the model could not answer.
    unanswered: Option<Unanswered>,
    asked: Option<Asked>,
}

/// A window that the model could not answer: its number, from 0, and its bytes in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Unanswered {
    window: usize,
    start: usize,
    end: usize,
}

impl Open {
    fn done(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.inputs == self.answered)
    }
}

/// A run fails if the model cannot answer more documents than this,
const UNANSWERABLE: usize = 10;
/// and more than one in this many: then the model is at fault, and not a text.
const UNANSWERABLE_SHARE: usize = 10;

pub(crate) struct Collector<'run, Rows, Emit> {
    /// Says whether the run was stopped; unfinished slices are then no error.
    monitor: &'run Monitor,
    task: &'run Task,
    /// Whether mentions can overlap.
    nesting: Nesting,
    slices: VecDeque<InFlightSlice<Rows>>,
    documents: BTreeMap<usize, Open>,
    /// Sends the bytes of each finished slice.
    done: Sender<usize>,
    emit: Emit,
    /// Documents of finished slices that the model was asked about,
    asked: usize,
    /// and those among them that it could not answer.
    refused: usize,
}

impl<'run, Rows: SliceRows, Emit: FnMut(SliceResult<Rows>) -> bool> Collector<'run, Rows, Emit> {
    pub(crate) fn new(
        monitor: &'run Monitor,
        task: &'run Task,
        nesting: Nesting,
        done: Sender<usize>,
        emit: Emit,
    ) -> Self {
        Self {
            monitor,
            task,
            nesting,
            slices: VecDeque::new(),
            documents: BTreeMap::new(),
            done,
            emit,
            asked: 0,
            refused: 0,
        }
    }

    /// Takes events and answers until both channels close. Returns false if `emit` asked to stop.
    ///
    /// # Errors
    /// [`Error::Inference`] if unfinished slices remain and the run was not stopped: a session's thread ended with their inputs.
    /// [`Error::Unanswerable`] if the model cannot answer a large share of the documents.
    pub(crate) fn run(mut self, events: &Receiver<Event<Rows>>, answers: &Receiver<Result<Answered>>) -> Result<bool> {
        let mut open = (true, true);
        while open.0 || open.1 {
            if open == (false, true) {
                match answers.recv() {
                    Ok(answered) => self.answered(answered?)?,
                    Err(_) => open.1 = false,
                }
            } else {
                select! {
                    recv(events) -> event => match event {
                        Ok(event) => self.event(event),
                        Err(_) => open.0 = false,
                    },
                    recv(answers) -> answer => match answer {
                        Ok(answered) => self.answered(answered?)?,
                        // Workers close both channels together, except for answers in flight.
                        Err(_) => open = (false, false),
                    },
                }
            }
            if !self.close_slices()? {
                return Ok(false);
            }
        }
        while let Ok(event) = events.try_recv() {
            self.event(event);
        }
        if !self.close_slices()? {
            return Ok(false);
        }
        if self.slices.is_empty() || self.monitor.is_stopped() {
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

    fn answered(&mut self, Answered { batch, outputs }: Answered) -> Result<()> {
        let monitor = self.monitor;
        let Some(outputs) = outputs else {
            for input in &batch.inputs {
                let document = self.documents.entry(input.document).or_default();
                let tokens = &input.window.tokens;
                let unanswered = Unanswered {
                    window: input.window.index,
                    start: tokens.first().map_or(0, |token| token.bytes.start),
                    end: tokens.last().map_or(0, |token| token.bytes.end),
                };
                // The windows of a document are answered in any order.
                document.unanswered = Some(document.unanswered.map_or(unanswered, |other| other.min(unanswered)));
                document.answered += 1;
                Monitor::add(&monitor.answered, 1);
            }
            return Ok(());
        };
        monitor.decode.work(&trace_span!("decode", queries = batch.inputs.len()), || {
            let answers = self.task.read(&batch, outputs).map_err(contract)?;
            for (input, answer) in batch.inputs.iter().zip(answers) {
                let document = self.documents.entry(input.document).or_default();
                document.mentions.add(input, &answer);
                document.answered += 1;
                document.capped += answer.capped;
                document.undecided += answer.undecided;
                Monitor::add(&monitor.answered, 1);
            }
            Ok(())
        })
    }

    /// Emits every slice at the front whose documents are all done.
    fn close_slices(&mut self) -> Result<bool> {
        while let Some(InFlightSlice { first, rows, .. }) = self.slices.front() {
            let numbers = *first..first + rows.count();
            let done = numbers.clone().rev().all(|number| self.documents.get(&number).is_some_and(Open::done));
            if !done {
                return Ok(true);
            }
            let Some(InFlightSlice { bytes, rows, .. }) = self.slices.pop_front() else { return Ok(true) };
            let later = self.documents.split_off(&numbers.end);
            let open = std::mem::replace(&mut self.documents, later).into_values().enumerate();
            let documents: Vec<Extracted> = self.monitor.decode.work(&trace_span!("close a slice"), || {
                open.map(|(row, open)| self.close(rows.row(row).text, open)).collect()
            });
            self.count_unanswerable(&documents)?;
            if !(self.emit)(SliceResult { rows, documents }) {
                return Ok(false);
            }
            // If the reader has ended, nobody waits for the limit.
            let _ = self.done.send(bytes);
        }
        Ok(true)
    }

    /// Fails if the model cannot answer a large share of the documents.
    fn count_unanswerable(&mut self, documents: &[Extracted]) -> Result<()> {
        for document in documents {
            match &document.outcome {
                Ok(_) => self.asked += 1,
                Err(reject) if reject.reason == RejectReason::Unanswerable => {
                    self.asked += 1;
                    self.refused += 1;
                }
                Err(_) => {}
            }
        }
        if self.refused > UNANSWERABLE && self.refused * UNANSWERABLE_SHARE > self.asked {
            return Err(Error::Unanswerable { refused: self.refused, documents: self.asked });
        }
        Ok(())
    }

    /// Finishes a document.
    fn close(&self, text: Option<&str>, open: Open) -> Extracted {
        let counts = Extracted { capped: open.capped, undecided: open.undecided, ..Extracted::default() };
        match open.asked {
            Some(Asked { inputs, outcome: Ok(Prepared { counts: tokens, windows, split }) }) => {
                if let Some(Unanswered { start, end, .. }) = open.unanswered {
                    let detail = format!("the model's logits are not finite for bytes {start} to {end} of the text");
                    return Extracted { outcome: Err(Reject::new(RejectReason::Unanswerable, detail)), ..counts };
                }
                let mentions = open.mentions.finish(text.unwrap_or_default(), self.nesting);
                Monitor::add(&self.monitor.mentions, mentions.len());
                Extracted { tokens, windows, inputs, split, outcome: Ok(mentions), ..counts }
            }
            Some(Asked { outcome: Err(reject), .. }) => Extracted { outcome: Err(reject), ..counts },
            None => counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::extract::pipeline::slice::Row;
    use crate::task::batch::Batch;
    use crate::task::batch::tests::{queries, task};
    use crate::task::tensor::{Tensors, Values};

    /// A slice of one row.
    struct One;

    impl SliceRows for One {
        fn count(&self) -> usize {
            1
        }

        fn row(&self, _: usize) -> Row<'_> {
            Row { has_id: true, text: Some("new york"), refused: None }
        }
    }

    fn slice(first: usize) -> Event<One> {
        Event::Slice(InFlightSlice { first, bytes: 8, rows: Arc::new(One) })
    }

    /// The event of a document with two queries.
    fn asked(number: usize, outcome: Result<(), Reject>) -> Event<One> {
        let prepared = Prepared { counts: TokenCounts::default(), windows: 1, split: 0 };
        Event::Document { number, asked: Asked { inputs: 2, outcome: outcome.map(|()| prepared) } }
    }

    /// The answers to the two queries about a document, which find nothing.
    fn nothing(number: usize) -> Answered {
        let all = queries(&vec!["new york".to_owned(); number + 1]);
        let batch = Batch { inputs: all.into_iter().filter(|query| query.document == number).collect() };
        assert_eq!(batch.inputs.len(), 2);
        let shape = [batch.inputs.len(), batch.tokens()];
        let low = || Values::F32(vec![-9.0; batch.padded_tokens()]);
        let outputs = Tensors::default()
            .with("start_logits", &shape, low())
            .with("end_logits", &shape, low())
            .with("span_index", &[0, 3], Values::I64(Vec::new()))
            .with("span_logits", &[0], Values::F32(Vec::new()));
        Answered { batch, outputs: Some(outputs) }
    }

    fn collector<'run, Emit: FnMut(SliceResult<One>) -> bool>(
        monitor: &'run Monitor,
        task: &'run Task,
        done: Sender<usize>,
        emit: Emit,
    ) -> Collector<'run, One, Emit> {
        Collector::new(monitor, task, Nesting::Nested, done, emit)
    }

    #[test]
    fn a_document_refused_at_a_later_window_shifts_no_row() {
        let (monitor, task) = (Monitor::default(), task());
        let (done, finished) = unbounded();
        let mut emitted = Vec::new();
        let mut collector = collector(&monitor, &task, done, |slice| {
            emitted.push(slice.documents);
            true
        });
        collector.event(slice(0));
        collector.event(asked(0, Err(Reject::new(RejectReason::Tokenizer, "a torn text"))));
        assert!(collector.close_slices().unwrap() && finished.is_empty(), "its first windows are not answered");
        collector.event(slice(1));
        collector.answered(nothing(0)).unwrap();
        collector.event(asked(1, Ok(())));
        collector.answered(nothing(1)).unwrap();
        assert!(collector.close_slices().unwrap() && collector.documents.is_empty());
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
            let (monitor, task) = (Monitor::default(), task());
            if stopped {
                monitor.stop();
            }
            let (events, incoming) = unbounded();
            let (reply, answers) = unbounded();
            for event in [slice(0), asked(0, Ok(())), slice(1), asked(1, Ok(()))] {
                events.send(event).unwrap();
            }
            reply.send(Ok(nothing(0))).unwrap();
            drop((events, reply));
            let mut slices = 0;
            let ended = collector(&monitor, &task, unbounded().0, |_| {
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

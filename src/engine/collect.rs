//! Answers → documents → slices. In: what workers asked and what sessions answered, in any order. Out: finished slices, in the
//! order in which they were read. It may not wait for one channel while the other has something to say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, select};
use tracing::trace_span;

use super::pipeline::{Extracted, Extractor, SliceResult, SliceRows};
use crate::error::Result;
use crate::model::pool::Answered;
use crate::mrc::decode::decode;
use crate::mrc::documents::Reject;
use crate::mrc::mention::Mentions;
use crate::mrc::window::TokenCounts;

/// What reader and workers tell the collector; documents are numbered through the partition.
pub(super) enum Event<Rows> {
    Slice { first: usize, rows: Arc<Rows> },
    Document { number: usize, prepared: Result<Prepared, Reject> },
}

/// A document all of whose queries are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prepared {
    pub(super) counts: TokenCounts,
    pub(super) windows: usize,
    pub(super) queries: usize,
}

/// A document between its first answer and its last.
#[derive(Default)]
struct Open {
    mentions: Mentions,
    answered: usize,
    prepared: Option<Result<Prepared, Reject>>,
}

impl Open {
    fn done(&self) -> bool {
        match &self.prepared {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(prepared)) => prepared.queries == self.answered,
        }
    }
}

pub(super) struct Collector<'run, Rows, Emit> {
    extractor: &'run Extractor,
    slices: VecDeque<(usize, Arc<Rows>)>,
    documents: BTreeMap<usize, Open>,
    permits: Sender<()>,
    emit: Emit,
}

impl<'run, Rows: SliceRows, Emit: FnMut(SliceResult<Rows>) -> bool> Collector<'run, Rows, Emit> {
    pub(super) fn new(extractor: &'run Extractor, permits: Sender<()>, emit: Emit) -> Self {
        Self { extractor, slices: VecDeque::new(), documents: BTreeMap::new(), permits, emit }
    }

    /// Takes events and answers until both end; false where `emit` asked to stop.
    pub(super) fn run(mut self, events: &Receiver<Event<Rows>>, answers: &Receiver<Result<Answered>>) -> Result<bool> {
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
                        // Both senders end together, but for answers under way.
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
        Ok(self.close_slices())
    }

    fn event(&mut self, event: Event<Rows>) {
        match event {
            Event::Slice { first, rows } => self.slices.push_back((first, rows)),
            Event::Document { number, prepared } => {
                self.documents.entry(number).or_default().prepared = Some(prepared);
            }
        }
    }

    fn answered(&mut self, answered: &Answered) {
        let counters = &self.extractor.counters;
        counters.decode.work(&trace_span!("decode", queries = answered.batch.queries.len()), || {
            let Answered { batch, logits } = answered;
            for (query, answer) in batch.queries.iter().zip(decode(batch, logits, &self.extractor.decode)) {
                let document = self.documents.entry(query.document).or_default();
                document.mentions.add(query, &answer);
                document.answered += 1;
                counters.answered.fetch_add(1, Ordering::Relaxed);
                counters.capped.fetch_add(answer.capped as u64, Ordering::Relaxed);
                counters.undecided.fetch_add(answer.undecided as u64, Ordering::Relaxed);
            }
        });
    }

    /// Emits every slice at the front whose documents are all done.
    fn close_slices(&mut self) -> bool {
        while let Some((first, rows)) = self.slices.front() {
            let numbers = *first..first + rows.count();
            let done = numbers.clone().rev().all(|number| self.documents.get(&number).is_some_and(Open::done));
            if !done {
                return true;
            }
            let later = self.documents.split_off(&numbers.end);
            let open = std::mem::replace(&mut self.documents, later).into_values().enumerate();
            let documents = self.extractor.counters.decode.work(&trace_span!("close a slice"), || {
                open.map(|(row, open)| self.close(rows.row(row).text, open)).collect()
            });
            let result = SliceResult { rows: Arc::clone(rows), documents };
            self.slices.pop_front();
            if !(self.emit)(result) {
                return false;
            }
            // A reader that is gone needs no permit.
            let _ = self.permits.try_send(());
        }
        true
    }

    fn close(&self, text: Option<&str>, open: Open) -> Extracted {
        let counters = &self.extractor.counters;
        match open.prepared {
            Some(Ok(prepared)) => {
                let mentions = open.mentions.finish(text.unwrap_or_default(), self.extractor.schema.nested);
                counters.count_document(&prepared.counts, prepared.windows, prepared.queries, &mentions);
                Extracted { counts: prepared.counts, windows: prepared.windows, outcome: Ok(mentions) }
            }
            Some(Err(reject)) => {
                counters.count_reject(reject.reason);
                Extracted { outcome: Err(reject), ..Extracted::default() }
            }
            None => Extracted::default(),
        }
    }
}

//! Rolls counters back to the last commit, so no document is counted twice. In: emitted slices, commits, the failure of a
//! plan. Out: corrected counters. It must not count anything itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::extract::counters::Counters;
use crate::source::input::SLICE_ROWS;

/// A run's totals over documents: as of its last commit, and as of each slice emitted since.
#[derive(Debug)]
pub struct Marks(Mutex<Marked>);

#[derive(Debug)]
struct Marked {
    committed: Vec<u64>,
    ahead: VecDeque<Mark>,
}

/// The first row after a slice, and the totals including the slice.
#[derive(Debug)]
struct Mark {
    source: String,
    row: i64,
    totals: Vec<u64>,
}

impl Marks {
    /// Marks that take the current counters as committed.
    pub fn new(counters: &Counters) -> Self {
        Self(Mutex::new(Marked { committed: values(counters), ahead: VecDeque::new() }))
    }

    /// Records the totals after a slice, whose rows are those of `batch`. The next slice must not be counted yet.
    pub(crate) fn record_slice(&self, batch: &RecordBatch, counters: &Counters) {
        let Some(last) = batch.num_rows().checked_sub(1) else { return };
        let source = batch["source"].as_string::<i32>().value(last).to_owned();
        let row = batch["row"].as_primitive::<Int64Type>().value(last);
        let row = (row / SLICE_ROWS + 1) * SLICE_ROWS;
        self.marked().ahead.push_back(Mark { source, row, totals: values(counters) });
    }

    /// Records that all slices before `row` of `source` are committed: the end of a commit batch.
    pub fn committed(&self, source: &str, row: i64) {
        let mut marked = self.marked();
        let Some(place) = marked.ahead.iter().position(|mark| mark.source == source && mark.row == row) else { return };
        let last = marked.ahead.drain(..=place).next_back();
        if let Some(mark) = last {
            marked.committed = mark.totals;
        }
    }

    /// Rolls the counters back to the last commit. The plan that counted since then must have ended.
    pub fn roll_back(&self, counters: &Counters) {
        let mut marked = self.marked();
        marked.ahead.clear();
        for (counter, committed) in totals(counters).zip(&marked.committed) {
            counter.store(*committed, Ordering::Relaxed);
        }
        // The progress display uses these. They run ahead of finished documents, and nothing is in flight now.
        let finished = Counters::get(&counters.documents) + Counters::get(&counters.rejects);
        counters.prepared.store(finished, Ordering::Relaxed);
        for queries in [&counters.asked, &counters.answered] {
            queries.store(Counters::get(&counters.queries), Ordering::Relaxed);
        }
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn values(counters: &Counters) -> Vec<u64> {
    totals(counters).map(Counters::get).collect()
}

/// The counters that documents add to, always in the same order.
fn totals(counters: &Counters) -> impl Iterator<Item = &AtomicU64> {
    let Counters { documents, rejects, windows, queries, tokens, unknown, words_cut, capped, undecided, .. } = counters;
    let by_type = counters.by_type.iter().flat_map(|(mentions, scores)| [mentions, scores]);
    let single = [documents, rejects, windows, queries, tokens, unknown, words_cut, capped, undecided];
    single.into_iter().chain(&counters.rejects_by_reason).chain(by_type)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::text::document::RejectReason;
    use crate::text::window::TokenCounts;

    #[test]
    fn counts_after_the_last_commit_are_rolled_back() {
        let counters = Counters::new(1);
        let marks = Marks::new(&counters);
        let slice = |row: i64| {
            counters.count_document(&TokenCounts::default(), 1, 4, &[]);
            counters.count_reject(RejectReason::EmptyText);
            let (sources, rows): (ArrayRef, ArrayRef) =
                (Arc::new(StringArray::from(vec!["a"; 2])), Arc::new(Int64Array::from(vec![row, row + 1])));
            marks.record_slice(&RecordBatch::try_from_iter([("source", sources), ("row", rows)]).unwrap(), &counters);
        };
        let counted = || [&counters.documents, &counters.rejects, &counters.queries].map(Counters::get);
        for number in 0..4 {
            slice(number * SLICE_ROWS);
        }
        marks.committed("a", 2 * SLICE_ROWS);
        // Another file's slice of the same rows is another slice.
        marks.committed("b", 4 * SLICE_ROWS);
        assert_eq!(counted(), [4, 4, 16]);
        marks.roll_back(&counters);
        assert_eq!(counted(), [2, 2, 8]);
        assert_eq!(Counters::get(&counters.rejects_by_reason[RejectReason::EmptyText as usize]), 2);
        assert_eq!((Counters::get(&counters.prepared), counters.documents_done()), (4, 4));
        for number in 2..4 {
            slice(number * SLICE_ROWS);
        }
        marks.committed("a", 4 * SLICE_ROWS);
        marks.roll_back(&counters);
        assert_eq!(counted(), [4, 4, 16]);
    }
}

//! What is counted, brought back to what is committed. In: slices as they are given out, commits, the failure of a
//! plan. Out: counters that tell of no document twice. It may not count anything itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::extract::counters::Counters;
use crate::source::input::SLICE_ROWS;

/// A run's totals over documents: as of its last commit, and as of each slice given out since.
#[derive(Debug)]
pub struct Marks(Mutex<Marked>);

#[derive(Debug)]
struct Marked {
    committed: Vec<u64>,
    ahead: VecDeque<Mark>,
}

/// The first row behind a slice, and the totals with it.
#[derive(Debug)]
struct Mark {
    source: String,
    row: i64,
    totals: Vec<u64>,
}

impl Marks {
    /// What is counted so far is committed, or nothing is counted yet.
    pub fn new(counters: &Counters) -> Self {
        Self(Mutex::new(Marked { committed: values(counters), ahead: VecDeque::new() }))
    }

    /// Takes down the totals with a slice, whose rows are those of `batch`; the next one must not be counted yet.
    pub(crate) fn given_out(&self, batch: &RecordBatch, counters: &Counters) {
        let Some(last) = batch.num_rows().checked_sub(1) else { return };
        let source = batch["source"].as_string::<i32>().value(last).to_owned();
        let row = batch["row"].as_primitive::<Int64Type>().value(last);
        let row = (row / SLICE_ROWS + 1) * SLICE_ROWS;
        self.marked().ahead.push_back(Mark { source, row, totals: values(counters) });
    }

    /// All slices up to the one before `row` of `source` are committed: a cut says where it ends in these words.
    pub fn committed(&self, source: &str, row: i64) {
        let mut marked = self.marked();
        let Some(place) = marked.ahead.iter().position(|mark| mark.source == source && mark.row == row) else { return };
        let last = marked.ahead.drain(..=place).next_back();
        if let Some(mark) = last {
            marked.committed = mark.totals;
        }
    }

    /// Takes back what was counted since the last commit; the plan that counted it must have ended.
    pub fn take_back(&self, counters: &Counters) {
        let mut marked = self.marked();
        marked.ahead.clear();
        for (counter, committed) in totals(counters).zip(&marked.committed) {
            counter.store(*committed, Ordering::Relaxed);
        }
        // The progress display goes by these; they run ahead of what is finished, and nothing is under way now.
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
    fn what_no_commit_took_is_taken_back() {
        let counters = Counters::new(1);
        let marks = Marks::new(&counters);
        let slice = |row: i64| {
            counters.count_document(&TokenCounts::default(), 1, 4, &[]);
            counters.count_reject(RejectReason::EmptyText);
            let (sources, rows): (ArrayRef, ArrayRef) =
                (Arc::new(StringArray::from(vec!["a"; 2])), Arc::new(Int64Array::from(vec![row, row + 1])));
            marks.given_out(&RecordBatch::try_from_iter([("source", sources), ("row", rows)]).unwrap(), &counters);
        };
        let counted = || [&counters.documents, &counters.rejects, &counters.queries].map(Counters::get);
        for number in 0..4 {
            slice(number * SLICE_ROWS);
        }
        marks.committed("a", 2 * SLICE_ROWS);
        // Another file's slice of the same rows is another slice.
        marks.committed("b", 4 * SLICE_ROWS);
        assert_eq!(counted(), [4, 4, 16]);
        marks.take_back(&counters);
        assert_eq!(counted(), [2, 2, 8]);
        assert_eq!(Counters::get(&counters.rejects_by_reason[RejectReason::EmptyText as usize]), 2);
        assert_eq!((Counters::get(&counters.prepared), counters.documents_done()), (4, 4));
        for number in 2..4 {
            slice(number * SLICE_ROWS);
        }
        marks.committed("a", 4 * SLICE_ROWS);
        marks.take_back(&counters);
        assert_eq!(counted(), [4, 4, 16]);
    }
}

//! Batches → slices. In: the scan's batches, in file order. Out: the slices, one after another. It must not copy rows.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::error::Result;

use crate::extract::pipeline::slice::{Row, SliceRows};
use crate::model::runtime::device::Device;
use crate::source::input::SLICE_ROWS;

/// Bytes of text, times questions, in a GPU's slice: about four thousand inputs of news wire, enough to fill large batches with
/// inputs of similar length.
const GPU_BYTES: usize = 4 << 20;

/// Where slices end. It depends only on rows and texts and starts over at each border, so a resumed run has the same slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRule {
    /// A slice always ends at multiples of this many rows of the file; a multiple of [`SLICE_ROWS`].
    pub border: i64,
    /// A slice that has this many bytes of text ends earlier, at the next multiple of [`SLICE_ROWS`].
    pub bytes: usize,
}

impl SliceRule {
    /// On the CPU slices are small, because batches are small and a stopped run then loses little. On a GPU a slice takes more text the
    /// fewer questions there are.
    pub fn new(device: Device, questions: usize) -> Self {
        match device {
            Device::Cpu => Self { border: SLICE_ROWS, bytes: 0 },
            Device::Cuda(_) => Self { border: 16 * SLICE_ROWS, bytes: GPU_BYTES / questions.max(1) },
        }
    }
}

/// The rows of one slice: pieces of the scan's batches.
pub(crate) struct Slice {
    pub(crate) pieces: Vec<RecordBatch>,
    rows: usize,
}

impl SliceRows for Slice {
    fn count(&self) -> usize {
        self.rows
    }

    fn row(&self, mut row: usize) -> Row<'_> {
        for piece in &self.pieces {
            if row < piece.num_rows() {
                let (text, refused) = (piece.column(3).as_string_view(), piece.column(4).as_string::<i32>());
                return Row {
                    has_id: piece.column(2).is_valid(row),
                    text: text.is_valid(row).then(|| text.value(row)),
                    replaced: refused.is_valid(row),
                };
            }
            row -= piece.num_rows();
        }
        Row { has_id: false, text: None, replaced: false }
    }
}

/// A slice that can still grow.
struct OpenSlice {
    source: String,
    /// Its last row so far.
    row: i64,
    bytes: usize,
    slice: Slice,
}

impl OpenSlice {
    /// Adds the next row, which has `bytes` of text. Returns false if a new slice starts with it.
    fn add(&mut self, rule: SliceRule, source: &str, row: i64, bytes: usize) -> bool {
        let same_block = |rows: i64| row / rows == self.row / rows;
        let fits = same_block(SLICE_ROWS) || self.bytes < rule.bytes;
        if source != self.source || !same_block(rule.border) || !fits {
            return false;
        }
        self.row = row;
        self.bytes += bytes;
        true
    }
}

/// Cuts the scan's batches at the ends of slices and joins the pieces of a slice.
pub(crate) struct Slices<Incoming> {
    incoming: Incoming,
    rule: SliceRule,
    rest: Option<RecordBatch>,
    ended: bool,
}

impl<Incoming: Iterator<Item = Result<RecordBatch>>> Slices<Incoming> {
    pub(crate) fn new(incoming: Incoming, rule: SliceRule) -> Self {
        Self { incoming, rule, rest: None, ended: false }
    }
}

impl<Incoming: Iterator<Item = Result<RecordBatch>>> Iterator for Slices<Incoming> {
    type Item = Result<Slice>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut open: Option<OpenSlice> = None;
        loop {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None if self.ended => return open.map(|open| Ok(open.slice)),
                None => match self.incoming.next() {
                    Some(Ok(batch)) => batch,
                    Some(Err(error)) => return Some(Err(error)),
                    None => {
                        self.ended = true;
                        continue;
                    }
                },
            };
            let count = batch.num_rows();
            if count == 0 {
                continue;
            }
            let (sources, rows) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            let texts = batch.column(3).as_string_view();
            let slice = open.get_or_insert_with(|| OpenSlice {
                source: sources.value(0).to_owned(),
                row: rows.value(0),
                bytes: 0,
                slice: Slice { pieces: Vec::new(), rows: 0 },
            });
            let bytes = |row: usize| if texts.is_valid(row) { texts.value(row).len() } else { 0 };
            let taken = (0..count)
                .take_while(|&row| slice.add(self.rule, sources.value(row), rows.value(row), bytes(row)))
                .count();
            if taken > 0 {
                slice.slice.pieces.push(batch.slice(0, taken));
                slice.slice.rows += taken;
            }
            if taken < count {
                self.rest = Some(batch.slice(taken, count - taken));
                return open.map(|open| Ok(open.slice));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, StringViewArray};

    use super::*;

    const GPU: Device = Device::Cuda(0);

    /// Batches as the scan emits them: rows of a file from `first` on, with texts of these lengths.
    fn scanned(source: &str, first: i64, lengths: &[usize]) -> Vec<Result<RecordBatch>> {
        let batch = |(number, lengths): (usize, &[usize])| {
            let first = first + 100 * number as i64;
            let numbers: ArrayRef = Arc::new((first..first + lengths.len() as i64).collect::<Int64Array>());
            let texts = lengths.iter().map(|&length| Some("x".repeat(length))).collect::<StringViewArray>();
            let columns: [(&str, ArrayRef); 6] = [
                ("source", Arc::new(StringArray::from(vec![source; lengths.len()]))),
                ("row", Arc::clone(&numbers)),
                ("id", numbers),
                ("text", Arc::new(texts)),
                ("refused", Arc::new(StringArray::new_null(lengths.len()))),
                ("in_force", Arc::new(StringArray::new_null(lengths.len()))),
            ];
            Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap())
        };
        lengths.chunks(100).enumerate().map(batch).collect()
    }

    /// The first row and the number of rows of each slice.
    fn slices(rule: SliceRule, batches: Vec<Result<RecordBatch>>) -> Vec<(i64, usize)> {
        let first = |slice: &Slice| slice.pieces[0].column(1).as_primitive::<Int64Type>().value(0);
        Slices::new(batches.into_iter(), rule).map(Result::unwrap).map(|slice| (first(&slice), slice.count())).collect()
    }

    #[test]
    fn on_the_cpu_slices_have_one_size_and_one_file() {
        let mut rows = scanned("a", 0, &[9000; 600]);
        rows.extend(scanned("b", 0, &[1; 300]));
        let expected = [(0, 256), (256, 256), (512, 88), (0, 256), (256, 44)];
        assert_eq!(slices(SliceRule::new(Device::Cpu, 4), rows), expected);
    }

    #[test]
    fn on_a_gpu_slices_grow_with_shorter_texts_and_fewer_questions() {
        let sizes = |questions: usize, length: usize| -> Vec<usize> {
            let slices = slices(SliceRule::new(GPU, questions), scanned("a", 0, &vec![length; 5000]));
            slices.into_iter().map(|(_, count)| count).collect()
        };
        assert_eq!(sizes(4, 1024), [1024, 1024, 1024, 1024, 904]);
        assert_eq!(sizes(1, 1024), [4096, 904]);
        assert_eq!(sizes(1, 10), [4096, 904]);
        assert_eq!(sizes(18, 1024).iter().max(), Some(&256));
        assert_eq!(sizes(4, 5000).iter().max(), Some(&256));
    }

    #[test]
    fn a_run_that_resumes_after_a_slice_has_the_same_slices() {
        let rule = SliceRule::new(GPU, 4);
        let lengths: Vec<usize> = (0..9000).map(|row| if row % 4000 < 900 { 4000 } else { row % 700 }).collect();
        let all = slices(rule, scanned("a", 0, &lengths));
        assert!(all.len() > 5 && all.iter().any(|(_, count)| *count > 256), "{all:?}");
        for (number, (first, _)) in all.iter().enumerate() {
            assert_eq!(first % SLICE_ROWS, 0);
            assert_eq!(slices(rule, scanned("a", *first, &lengths[*first as usize..])), all[number..]);
        }
    }
}

//! Batches → slices. In: the scan's batches, in file order. Out: the slices, one after another. It must not copy rows.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::error::Result;

use crate::extract::pipeline::slice::{Row, SliceRows};
use crate::model::runtime::device::Device;
use crate::source::input::SLICE_ROWS;

/// Bytes of text, times questions, in a CPU's slice: about seventy thousand tokens of news wire. More would make the batches hardly fuller.
const CPU_BYTES: usize = 256 << 10;

/// A model that multiplies every token by more weights than this has smaller slices on the CPU, so that each is about half a minute of work for
/// two cores, with BERT-base (85 million weights) and BERT-large (302 million) in fp32.
const CPU_WEIGHTS: usize = 20_000_000;

/// Bytes of text, times questions, in a GPU's slice: about four thousand inputs of news wire, enough to fill large batches with
/// inputs of similar length.
const GPU_BYTES: usize = 4 << 20;

/// Where slices end. It depends only on the rows and texts from a slice's first row on, so a run that resumes after any slice has the same
/// slices as one that was not interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRule {
    /// A slice always ends at multiples of this many rows of the file; a multiple of [`SLICE_ROWS`].
    pub border: i64,
    /// A slice ends before the row that would give it more bytes of text than this. A longer text is a slice of its own: the documents
    /// before it are committed while it is read.
    pub bytes: usize,
}

impl SliceRule {
    /// A slice takes more text the fewer questions there are. On the CPU slices are small, because batches are small, and a slice is what
    /// a stopped run loses; smaller for a model that multiplies a token by many `weights`. Unknown ones count as those of BERT-base.
    pub fn new(device: Device, questions: usize, weights: Option<usize>) -> Self {
        let (border, bytes) = match device {
            Device::Cpu => {
                let times = weights.unwrap_or(85_000_000).div_ceil(CPU_WEIGHTS);
                (SLICE_ROWS, CPU_BYTES / times.max(1))
            }
            Device::Cuda(_) => (16 * SLICE_ROWS, GPU_BYTES),
        };
        Self { border, bytes: bytes / questions.max(1) }
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
                    refused: refused.is_valid(row).then(|| refused.value(row)),
                };
            }
            row -= piece.num_rows();
        }
        Row { has_id: false, text: None, refused: None }
    }
}

/// A slice that can still grow.
struct OpenSlice {
    source: String,
    /// Its last row so far.
    row: i64,
    bytes: usize,
    is_empty: bool,
    slice: Slice,
}

impl OpenSlice {
    /// Adds the next row, which has `bytes` of text. Returns false if a new slice starts with it.
    fn add(&mut self, rule: SliceRule, source: &str, row: i64, bytes: usize) -> bool {
        let same_block = row / rule.border == self.row / rule.border;
        let fits = self.is_empty || self.bytes + bytes <= rule.bytes;
        if source != self.source || !same_block || !fits {
            return false;
        }
        (self.row, self.is_empty) = (row, false);
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
                is_empty: true,
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
    use proptest::prelude::*;

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
    fn short_texts_make_slices_of_one_size_and_one_file() {
        let mut rows = scanned("a", 0, &[60; 600]);
        rows.extend(scanned("b", 0, &[1; 300]));
        let expected = [(0, 256), (256, 256), (512, 88), (0, 256), (256, 44)];
        assert_eq!(slices(SliceRule::new(Device::Cpu, 4, Some(10_616_832)), rows), expected);
    }

    #[test]
    fn slices_grow_with_shorter_texts_and_fewer_questions() {
        let sizes = |device: Device, questions: usize, length: usize| -> Vec<usize> {
            let slices =
                slices(SliceRule::new(device, questions, Some(10_616_832)), scanned("a", 0, &vec![length; 5000]));
            slices.into_iter().map(|(_, count)| count).collect()
        };
        assert_eq!(sizes(GPU, 4, 1024), [1024, 1024, 1024, 1024, 904]);
        assert_eq!(sizes(GPU, 1, 1024), [4096, 904]);
        assert_eq!(sizes(GPU, 1, 10), [4096, 904]);
        assert_eq!(sizes(GPU, 18, 1024)[..2], [227, 227]);
        assert_eq!(sizes(Device::Cpu, 4, 1000)[..5], [65, 65, 65, 61, 65]);
        assert_eq!(sizes(Device::Cpu, 1, 1000)[..2], [256, 256]);
        // BERT-large, and a graph of unknown size.
        assert_eq!(SliceRule::new(Device::Cpu, 4, Some(302_000_000)).bytes, 4096);
        assert_eq!(SliceRule::new(Device::Cpu, 4, None).bytes, SliceRule::new(Device::Cpu, 4, Some(85_000_000)).bytes);
        assert_eq!(SliceRule::new(GPU, 4, None).bytes, 1 << 20);
    }

    #[test]
    fn a_long_text_is_a_slice_of_its_own() {
        let limit = CPU_BYTES / 4;
        let lengths = [10, 10, 20 * limit, 10, limit, 1, 0, limit, limit + 1, 10];
        let found = slices(SliceRule::new(Device::Cpu, 4, Some(10_616_832)), scanned("a", 0, &lengths));
        assert_eq!(found, [(0, 2), (2, 1), (3, 1), (4, 1), (5, 2), (7, 1), (8, 1), (9, 1)]);
    }

    proptest! {
        #[test]
        fn a_run_that_resumes_after_a_slice_has_the_same_slices(
            lengths in prop::collection::vec(prop_oneof![6 => 0_usize..40, 3 => 0_usize..900, 1 => 800_usize..3000], 1..1500),
            (border, bytes) in (prop::sample::select(vec![256, 4096]), 1_usize..2000),
            first in 0_i64..600,
        ) {
            let rule = SliceRule { border, bytes };
            let rest = |row: i64| scanned("a", row, &lengths[(row - first) as usize..]);
            let all = slices(rule, rest(first));
            let mut next = first;
            for (number, &(row, count)) in all.iter().enumerate() {
                // No row is lost; no slice crosses a border; none has too much text, unless it is one row; none could be longer.
                prop_assert_eq!(row, next);
                next = row + count as i64;
                let length = |row: i64| lengths.get((row - first) as usize).copied();
                let text = (row..next).filter_map(length).sum::<usize>();
                prop_assert_eq!(row / border, (next - 1) / border);
                prop_assert!(text <= bytes || count == 1);
                let ends = next % border == 0 || length(next).is_none_or(|more| text + more > bytes);
                prop_assert!(ends, "{} rows from {} on", count, row);
                // The scan's batches end elsewhere in a run that resumes here.
                if number % 7 == 0 {
                    prop_assert_eq!(slices(rule, rest(row)), &all[number..]);
                }
            }
            prop_assert_eq!(next, first + lengths.len() as i64);
        }
    }
}

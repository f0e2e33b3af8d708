//! A sample of the documents. In: documents still to be read. Out: how many of the sampled documents are new, changed, done or refused,
//! and the windows, inputs and tokens of the new ones. It must not run the model, except on a few batches to measure its rate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use crate::error::Result;
use crate::extract::extractor::Extractor;
use crate::extract::known_documents::{KnownDocuments, digest};
use crate::extract::skip_known::{SkipKnown, SkipKnownExec};
use crate::query::statement::query_store;
use crate::run::failure::run_error;
use crate::run::known::documents::{input, known};
use crate::run::preflight::{Preflight, Preview};
use crate::source::chunk::{Chunk, RowRange};
use crate::source::input::SLICE_ROWS;
use crate::tables::result_row::scalar;
use crate::task::batch::Batch;
use crate::task::input::ModelInput;
use crate::text::document::Document;

/// Number of slices in a sample, spread over the input.
const SLICES: i64 = 8;
/// Time limit of taking a sample.
const TIME_LIMIT: Duration = Duration::from_secs(4);
/// Number of batches whose rate is measured, after one warm-up batch.
const BATCHES: usize = 2;

/// The counts of a sample.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Documents in the sample.
    pub(crate) documents: u64,
    /// Of these, still to be extracted, including refused ones.
    pub(crate) admitted: u64,
    /// Of these, in the store with another text.
    pub(crate) changed: u64,
    /// Of these, refused.
    pub(crate) refused: u64,
    pub(crate) windows: u64,
    pub(crate) queries: u64,
    /// Windows that are asked in several prompts.
    pub(crate) split: u64,
    /// Tokens of all inputs.
    pub(crate) tokens: u64,
    /// Whether the sample covers all documents.
    pub(crate) complete: bool,
    /// Some of the inputs, to measure the rate on.
    queries_kept: Vec<ModelInput>,
    /// The text of each new or changed document, by id, as digests.
    accepted: HashMap<u128, u128>,
}

impl Sample {
    /// Samples slices spread over all rows to be read, or all rows if they are few. Corrupt files are found on the way and recorded in
    /// `preview`.
    pub(crate) async fn take(preview: &mut Preview) -> Result<Self> {
        loop {
            let (chunk, complete) = spread(&preview.all_rows());
            if chunk.ranges.is_empty() {
                return Ok(Self { complete, ..Self::default() });
            }
            match Self::of(preview, &chunk, complete).await {
                Ok(sample) => return Ok(sample),
                Err(error) => preview.exclude_corrupt(error, &chunk).await?,
            }
        }
    }

    async fn of(preview: &Preview, chunk: &Chunk, complete: bool) -> Result<Self> {
        let Preflight { context, documents, extractor, ledger, store, location, .. } = &preview.preflight;
        let mut sample = Self { complete, ..Self::default() };
        let known = match store {
            Some(store) => known(context, documents, chunk, store, extractor.spec_id(), ledger).await?,
            None => KnownDocuments::default(),
        };
        input(context, documents, chunk).await?;
        let count = query_store(context, location, "SELECT count(*) FROM input").await?;
        sample.documents = scalar::<usize>(&count)? as u64;
        let known_documents = Arc::new(known);
        let plan =
            SkipKnownExec::try_new(documents.plan(chunk), SkipKnown { known_documents, killers: BTreeMap::new() })
                .map_err(run_error)?;
        let plan: Arc<dyn ExecutionPlan> = Arc::new(plan);
        let mut rows = execute_stream(plan, context.task_ctx()).map_err(run_error)?;
        let started = Instant::now();
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(run_error)?;
            sample.add(extractor, &batch);
            if started.elapsed() > TIME_LIMIT && batch.num_rows() > 0 {
                let last = batch.num_rows() - 1;
                let source = batch.column(0).as_string::<i32>().value(last);
                let file = documents.files.iter().position(|file| file.path == source).unwrap_or(0);
                let row = batch.column(1).as_primitive::<Int64Type>().value(last);
                let share = share_before(chunk, file, row);
                sample.documents = ((sample.documents as f64 * share) as u64).max(sample.admitted);
                sample.complete = false;
                break;
            }
        }
        Ok(sample)
    }

    fn add(&mut self, extractor: &Extractor, batch: &RecordBatch) {
        let (texts, refused) = (batch.column(3).as_string_view(), batch.column(4).as_string::<i32>());
        let in_force = batch.column(5).as_string::<i32>();
        let ids: Option<ArrayRef> = cast(batch.column(2), &DataType::Utf8).ok();
        for row in 0..batch.num_rows() {
            self.admitted += 1;
            let text = texts.is_valid(row).then(|| texts.value(row));
            let admitted = Document::admit(batch.column(2).is_valid(row), text);
            let (Ok(document), true) = (admitted, refused.is_null(row)) else {
                self.refused += 1;
                continue;
            };
            let id = ids.as_ref().map_or("", |ids| ids.as_string::<i32>().value(row));
            match self.accepted.insert(digest(id), digest(document.text)) {
                // A row that repeats the text of an earlier one is done, and one with another text replaces that one.
                Some(text) if text == digest(document.text) => {
                    self.admitted -= 1;
                    continue;
                }
                Some(_) => self.refused += 1,
                None => self.changed += u64::from(in_force.is_valid(row)),
            }
            for window in extractor.windows(document).flatten() {
                self.windows += 1;
                let asked = extractor.task().ask(0, &window);
                self.split += u64::from(extractor.task().splits_prompt(&asked));
                for query in asked {
                    self.queries += 1;
                    self.tokens += query.len() as u64;
                    if self.queries_kept.iter().map(ModelInput::len).sum::<usize>() < BATCHES * extractor.batch_tokens()
                    {
                        self.queries_kept.push(query);
                    }
                }
            }
        }
    }

    /// Tokens per second of the model, measured on the kept inputs; none if there are none.
    pub(crate) fn measure(&mut self, extractor: &Extractor) -> Result<Option<f64>> {
        let kept = std::mem::take(&mut self.queries_kept);
        let batches = crate::task::batch::batches(kept, extractor.batch_tokens());
        let Some(first) = batches.first() else { return Ok(None) };
        let warm_up = Batch { inputs: first.inputs.iter().take(1).cloned().collect() };
        extractor.scorer().answer(warm_up)?;
        let tokens: usize = batches.iter().map(Batch::real_tokens).sum();
        let elapsed = extractor.scorer().answer_all(batches)?;
        Ok(Some(tokens as f64 / elapsed.as_secs_f64().max(1e-6)))
    }
}

/// The share of a chunk's rows up to and including `row` of `file`.
fn share_before(chunk: &Chunk, file: usize, row: i64) -> f64 {
    let length = |chunk: &Chunk| -> i64 {
        chunk.ranges.iter().map(|range| range.rows.end.saturating_sub(range.rows.start)).sum()
    };
    let before = chunk.clone().before(file, row + 1).map_or(0, |before| length(&before));
    before as f64 / length(chunk).max(1) as f64
}

/// Slices spread evenly over the rows of a chunk, and whether they cover all of it. Files of unknown length are sampled from their
/// beginning.
fn spread(all_rows: &Chunk) -> (Chunk, bool) {
    let length = |range: &RowRange| range.rows.end.saturating_sub(range.rows.start);
    if all_rows.ranges.iter().any(|range| range.rows.end == i64::MAX) {
        let files = all_rows.ranges.len();
        let step = files.div_ceil(SLICES as usize).max(1);
        let begin = |range: &RowRange| {
            let end = range.rows.end.min(range.rows.start + SLICES * SLICE_ROWS / files.min(SLICES as usize) as i64);
            RowRange { file: range.file, rows: range.rows.start..end }
        };
        return (Chunk { ranges: all_rows.ranges.iter().step_by(step).map(begin).collect() }, false);
    }
    let rows: i64 = all_rows.ranges.iter().map(length).sum();
    if rows <= SLICES * SLICE_ROWS {
        return (all_rows.clone(), true);
    }
    let starts: Vec<i64> = (0..SLICES).map(|number| number * (rows / SLICES)).collect();
    let mut ranges: Vec<RowRange> = Vec::new();
    let mut before = 0;
    for range in &all_rows.ranges {
        let length = length(range);
        for start in starts.iter().filter(|start| (before..before + length).contains(start)) {
            let first = range.rows.start + start - before;
            let end = (first + SLICE_ROWS).min(range.rows.end);
            ranges.push(RowRange { file: range.file, rows: first..end });
        }
        before += length;
    }
    (Chunk { ranges }, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(ranges: &[(usize, std::ops::Range<i64>)]) -> Chunk {
        Chunk { ranges: ranges.iter().cloned().map(|(file, rows)| RowRange { file, rows }).collect() }
    }

    #[test]
    fn a_sample_is_spread_over_all_rows() {
        assert!((share_before(&chunk(&[(0, 0..100), (1, 0..300)]), 1, 99) - 0.5).abs() < 1e-9);
        let (few, complete) = spread(&chunk(&[(0, 5..500), (1, 0..300)]));
        assert!(complete && few == chunk(&[(0, 5..500), (1, 0..300)]));
        let (spread_out, complete) = spread(&chunk(&[(0, 1000..9000), (2, 0..8000)]));
        assert!(!complete);
        let starts: Vec<(usize, i64)> = spread_out.ranges.iter().map(|range| (range.file, range.rows.start)).collect();
        assert_eq!(starts, [(0, 1000), (0, 3000), (0, 5000), (0, 7000), (2, 0), (2, 2000), (2, 4000), (2, 6000)]);
        assert!(spread_out.ranges.iter().all(|range| range.rows.end - range.rows.start == SLICE_ROWS));
        let (text, complete) = spread(&chunk(&[(0, 7..i64::MAX), (1, 0..i64::MAX)]));
        assert!(!complete && text == chunk(&[(0, 7..1031), (1, 0..1024)]));
    }
}

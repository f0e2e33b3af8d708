//! The `runs` table: one row per run, written at its start and again at its end. In: a run's row. Out: transactions
//! in the `runs` table. It must not change the rows of other runs, except of those that never wrote their end.

use arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{and_not, concat_batches, filter_record_batch, not};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake_core::kernel::Action;
use futures::TryStreamExt;

use crate::error::Result;
use crate::store::delta_store::Store;
use crate::store::table_files::TableFiles;
use crate::store::write::transaction::{ATTEMPTS, Change};
use crate::tables::{RunOutcome, RunRow, Table, run_rows};

/// What is shown for a run that is [`RunOutcome::Running`] if no lock can tell whether it is alive.
pub const UNKNOWN: &str = "running or killed (an object store does not tell which)";

const TABLE: Table = Table::Runs;

impl Store {
    /// Records the start of a run: `row` with the outcome [`RunOutcome::Running`] and no end.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the table cannot be written.
    pub async fn begin_run(&mut self, row: &RunRow) -> Result<()> {
        let begun = RunRow { outcome: RunOutcome::Running, finished_at: None, ..row.clone() };
        let rows = run_rows(&[begun]).map_err(|cause| self.failed("write to", cause))?;
        self.append(TABLE, &rows, &row.run_id).await
    }

    /// Records the end of a run: `row` replaces every earlier row of the run, in one transaction. Without an
    /// earlier row it is added. Rows of other runs in the same file stay.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the table cannot be read or written.
    pub async fn end_run(&mut self, row: &RunRow) -> Result<()> {
        let ended = run_rows(std::slice::from_ref(row)).map_err(|cause| self.failed("write to", cause))?;
        let others = |batch: &RecordBatch| {
            let earlier = is(batch, "run_id", &row.run_id);
            Ok((filter_record_batch(batch, &not(&earlier)?)?, earlier.true_count()))
        };
        self.change_runs(("run_id", &row.run_id), others, Some(&ended), &row.run_id).await?;
        Ok(())
    }

    /// Gives every run that is still [`RunOutcome::Running`], except `except_run_id`, the outcome [`RunOutcome::Interrupted`], in one transaction, and
    /// returns how many there were. Only the run that holds the store must call it, because live runs are marked too, until they end.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the table cannot be read or written.
    pub async fn mark_interrupted(&mut self, except_run_id: &str) -> Result<usize> {
        let marked = |batch: &RecordBatch| {
            let dead = and_not(&is(batch, "outcome", RunOutcome::Running.word()), &is(batch, "run_id", except_run_id))?;
            let mut columns = batch.columns().to_vec();
            let outcome = batch.schema().index_of("outcome")?;
            columns[outcome] = zip(&dead, &StringArray::new_scalar(RunOutcome::Interrupted.word()), &columns[outcome])?;
            Ok((RecordBatch::try_new(batch.schema(), columns)?, dead.true_count()))
        };
        self.change_runs(("outcome", RunOutcome::Running.word()), marked, None, except_run_id).await
    }

    /// Rewrites the files that can have `value` in `column` and in which `change` finds rows to change, and adds the
    /// rows `added`, all in one transaction. Returns how many rows were changed.
    async fn change_runs(
        &mut self,
        (column, value): (&str, &str),
        change: impl Fn(&RecordBatch) -> Result<(RecordBatch, usize), ArrowError>,
        added: Option<&RecordBatch>,
        run_id: &str,
    ) -> Result<usize> {
        let schema = self.schema(TABLE);
        for _ in 0..ATTEMPTS {
            let (mut actions, mut changed) = (Vec::new(), 0);
            let mut writer = TableFiles::new(TABLE, self.location(), "").with_file_bytes(usize::MAX);
            for file in self.data_files(TABLE)? {
                if !file.may_hold(column, |least, greatest| (least..=greatest).contains(&value)) {
                    continue;
                }
                let rows = async {
                    let batches: Vec<_> = file.read(self.location().objects(), &schema).await?.try_collect().await?;
                    let (rows, count) = change(&concat_batches(&schema, &batches)?)?;
                    if count > 0 {
                        writer.write(&rows).await?;
                    }
                    Ok::<_, DataFusionError>(count)
                };
                let count = rows.await.map_err(|cause| self.failed("rewrite a file of", cause))?;
                changed += count;
                actions.extend((count > 0).then(|| file.remove(true)));
            }
            let written = async {
                if let Some(rows) = added {
                    writer.write(rows).await?;
                }
                writer.finish().await
            };
            let Some(written) = written.await.map_err(|cause| self.failed("write to", cause))? else { return Ok(0) };
            actions.push(Action::Add(self.parse(&written)?));
            if self.attempt(TABLE, Change { actions, run_id, number: None, compaction: false }).await? {
                return Ok(changed);
            }
        }
        Err(self.overtaken(TABLE))
    }
}

/// Which strings of a column equal `value`.
fn is(batch: &RecordBatch, column: &str, value: &str) -> BooleanArray {
    batch[column].as_string::<i32>().iter().map(|each| Some(each == Some(value))).collect()
}

#[cfg(test)]
pub(crate) mod tests;

//! Rejects of a job's input, whichever runs wrote them. In: the store's tables, the listing. Out: the numbers of rejects and documents that
//! `max_rejects` compares. It must not read the input.

use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::error::Result;
use crate::job::Limit;
use crate::query::session::register_store;
use crate::query::statement::stream_store;
use crate::run::known::ledger::Ledger;
use crate::store::delta_store::Store;
use crate::tables::result_row::result_rows;

/// Whether the rejects in force exceed a limit: those of the listed files under `spec_id` and the job's `where`, `id` and `text`. A run that
/// resumes another one therefore ends as that one would have.
pub(crate) async fn exceed(
    context: &SessionContext,
    store: &Store,
    ledger: &mut Ledger,
    spec_id: &str,
    limit: Limit,
) -> Result<bool> {
    if limit == Limit::None {
        return Ok(false);
    }
    register_store(context, store).await?;
    // Unreadable files have the row -1 and set the exit code by themselves.
    let rejects =
        count(context, store, ledger, &format!("rejects WHERE spec_id = '{spec_id}' AND \"row\" >= 0")).await?;
    if rejects == 0 {
        return Ok(false);
    }
    let documents = match limit {
        Limit::Share(_) => count(context, store, ledger, &format!("documents WHERE spec_id = '{spec_id}'")).await?,
        Limit::None | Limit::Count(_) => 0,
    };
    Ok(limit.exceeded(rejects, rejects + documents))
}

/// The rows of a table, given with a condition, from listed files by runs of this input. They are streamed, because they are many.
async fn count(context: &SessionContext, store: &Store, ledger: &mut Ledger, table: &str) -> Result<u64> {
    let others = ledger.other_runs(context, store).await?.clone();
    let sql = format!("SELECT source, run_id FROM {table}");
    let mut batches = stream_store(context, store.location(), &sql).await?;
    let (mut total, mut last) = (0, (String::new(), String::new(), false));
    while let Some(batch) = batches.try_next().await? {
        for row in result_rows([&batch]) {
            let (source, run_id): (&str, &str) = (row.get("source")?, row.get("run_id")?);
            if last.0 != source || last.1 != run_id {
                let counts = ledger.is_listed(source) && !others.contains(run_id);
                last = (source.to_owned(), run_id.to_owned(), counts);
            }
            total += u64::from(last.2);
        }
    }
    Ok(total)
}

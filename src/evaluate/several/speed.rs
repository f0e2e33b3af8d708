//! The speed of a run. In: a store's tables in the session. Out: tokens per second and the cost of a type. It must not run a model.

use datafusion::prelude::SessionContext;
use serde_json::Value;

use crate::error::Result;
use crate::query::statement::query;
use crate::score::side_by_side::Speed;
use crate::tables::result_row::first_row;

/// The speed of the last run that extracted anything, of the store whose tables were registered for the view `view`; `None` if there is none.
pub(super) async fn of_store(context: &SessionContext, view: &str) -> Result<Option<Speed>> {
    let table = |name: &str| format!("{view}_{name}");
    let sql = format!(
        "SELECT r.run_id, r.job, r.device, r.precision, tokens.value AS tokens, took.value AS seconds, d.characters FROM {} r
         JOIN {metrics} tokens ON r.run_id = tokens.run_id AND tokens.scope = 'all' AND tokens.name = 'real_tokens'
         JOIN {metrics} took ON r.run_id = took.run_id AND took.scope = 'all' AND took.name = 'seconds'
         JOIN (SELECT run_id, CAST(sum(n_chars) AS double) AS characters FROM {} GROUP BY run_id) d ON r.run_id = d.run_id
         WHERE tokens.value > 0 ORDER BY r.started_at DESC LIMIT 1",
        table("runs"),
        table("documents"),
        metrics = table("metrics"),
    );
    let batches = query(context, &sql).await?;
    let Some(run) = first_row(&batches) else { return Ok(None) };
    let job: Value = serde_json::from_str(run.get("job")?).unwrap_or_default();
    let types = job["spec"]["schema"]["type"].as_array().map_or(0, Vec::len);
    let [id, device, precision]: [&str; 3] = [run.get("run_id")?, run.get("device")?, run.get("precision")?];
    let measured = format!("run {id}, {device}, {precision}");
    Ok(Speed::new(run.get("tokens")?, run.get("seconds")?, run.get("characters")?, types, measured))
}

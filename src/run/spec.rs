//! What to do about another specification. In: the specifications that the store has rows of. Out: go on, replace, or an error that
//! says what changed. It may not write.

use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::ledger::Ledger;
use crate::engine::query::{query_store, words};
use crate::engine::store::Store;
use crate::error::{Error, Result};
use crate::job::{Ready, spec_changes};

/// Whether this run extracts beside rows of another specification, to replace them: because it was asked to, or because an
/// earlier run was and did not come to its end.
pub(super) async fn check(
    context: &SessionContext,
    store: &Store,
    ready: &Ready,
    ledger: &Ledger,
    asked: bool,
) -> Result<bool> {
    let Some(other) = ledger.other_spec() else { return Ok(false) };
    let runs = |spec_id: &str| {
        let sql = format!("SELECT job FROM runs WHERE spec_id = '{spec_id}' ORDER BY started_at DESC");
        async move {
            let mut jobs: Vec<Value> = Vec::new();
            for batch in query_store(context, store.location(), &sql).await? {
                jobs.extend(words(&batch, 0)?.iter().filter_map(|job| serde_json::from_str(job).ok()));
            }
            Ok::<_, Error>(jobs)
        }
    };
    // The rows that views show are the oldest; a run of a newer specification can only be a replacement of them.
    let replacing = ledger.is_newest() && runs(&ready.spec_id).await?.iter().any(|job| job["replace"] == true);
    if asked || replacing {
        return Ok(true);
    }
    let earlier = runs(other).await?.into_iter().next().unwrap_or_default();
    let changes = spec_changes(&earlier["spec"], &ready.spec_parts);
    let changes = if changes.is_empty() { "something that is not on record".to_owned() } else { changes.join(", ") };
    Err(Error::Refused {
        store: store.location().to_string(),
        reason: format!(
            "holds documents extracted under another specification ({other}, now {}): {changes}",
            ready.spec_id
        ),
        hint: "undo the change, name another store, or say --replace to extract everything anew beside the old rows"
            .into(),
    })
}

//! Rows of another specification in the store. In: the store's specifications and this run's. Out: continue, replace, or an error that
//! names what changed. It must not write.

use datafusion::prelude::SessionContext;

use crate::error::{Error, Result};
use crate::extract::spec::ExtractionSpec;
use crate::query::run_history::{Standing, standing};
use crate::store::delta_store::Store;

/// Whether this run extracts beside rows of another specification, to replace them: because of `--replace`, or because an earlier
/// replacement did not finish.
pub(crate) async fn check(
    context: &SessionContext,
    store: &Store,
    spec: &ExtractionSpec,
    replace: bool,
) -> Result<bool> {
    let id = spec.id();
    let other = match standing(context, store, &id).await? {
        Standing::Alone => return Ok(false),
        Standing::Foreign(other) if !replace => other,
        Standing::Replacing(_) | Standing::Foreign(_) => return Ok(true),
    };
    Err(Error::Refused {
        store: store.location().to_string(),
        reason: format!(
            "holds documents extracted under another specification ({}, now {id}): {}",
            other.spec_id,
            other.changes(spec)
        ),
        hint: "undo the change, name another store, or use --replace to extract everything again beside the old rows"
            .into(),
    })
}

//! What to do about another specification. In: how the store stands to this run's. Out: go on, replace, or an error
//! that says what changed. It may not write.

use datafusion::prelude::SessionContext;

use crate::error::{Error, Result};
use crate::job::{Ready, spec_changes};
use crate::query::run_history::{Standing, standing};
use crate::store::delta_store::Store;

/// Whether this run extracts beside rows of another specification, to replace them: because it was asked to, or because an
/// earlier run was and did not come to its end.
pub(crate) async fn check(context: &SessionContext, store: &Store, ready: &Ready, asked: bool) -> Result<bool> {
    let other = match standing(context, store, &ready.spec_id).await? {
        Standing::Alone => return Ok(false),
        Standing::Foreign(other) if !asked => other,
        Standing::Replacing(_) | Standing::Foreign(_) => return Ok(true),
    };
    let changes = spec_changes(&other.parts, &ready.spec_parts);
    let changes = if changes.is_empty() { "something that is not on record".to_owned() } else { changes.join(", ") };
    Err(Error::Refused {
        store: store.location().to_string(),
        reason: format!(
            "holds documents extracted under another specification ({}, now {}): {changes}",
            other.spec_id, ready.spec_id
        ),
        hint: "undo the change, name another store, or say --replace to extract everything anew beside the old rows"
            .into(),
    })
}

//! What the `runs` table says of a specification. In: a store's tables in a session. Out: how the store stands to the specification of
//! a run. It must not write.

use datafusion::prelude::SessionContext;
use serde_json::Value;

use crate::error::Result;
use crate::query::statement::{query_store, words};
use crate::store::delta_store::Store;

/// How a store stands to the specification that a run would extract under.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It has no documents of another.
    Alone,
    /// It has documents of another, whose place this one is taking: of all replacements, its own was begun last.
    Replacing(Other),
    /// It has documents of another, and nobody asked for this one's in their place, or another replacement was begun
    /// since.
    Foreign(Other),
}

/// Another specification that a store has documents of, the oldest.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Its id.
    pub spec_id: String,
    /// Its parts, as its last run wrote them down; null where no run did.
    pub parts: Value,
}

/// How `store`, whose tables `context` knows, stands to a specification. With the last commit of a replacement the
/// documents of others go, so where there are some, the last one has not come to its end.
///
/// # Errors
/// [`crate::error::Error::Store`] where the store cannot be read.
pub async fn standing(context: &SessionContext, store: &Store, spec_id: &str) -> Result<Standing> {
    let Some(other) = store.specs()?.into_iter().find(|one| one != spec_id) else { return Ok(Standing::Alone) };
    let sql = "SELECT spec_id, job FROM runs ORDER BY started_at DESC, run_id DESC";
    let (mut replacement, mut parts) = (None, None);
    for batch in query_store(context, store.location(), sql).await? {
        for (spec, job) in words(&batch, 0)?.into_iter().zip(words(&batch, 1)?) {
            let job: Value = serde_json::from_str(&job).unwrap_or_default();
            if parts.is_none() && spec == other {
                parts = Some(job["spec"].clone());
            }
            if replacement.is_none() && job["replace"] == true {
                replacement = Some(spec);
            }
        }
    }
    let other = Other { spec_id: other, parts: parts.unwrap_or_default() };
    let ours = replacement.is_some_and(|last| last == spec_id);
    Ok(if ours { Standing::Replacing(other) } else { Standing::Foreign(other) })
}

#[cfg(test)]
mod tests;

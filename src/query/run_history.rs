//! The `runs` table → the store's state relative to a specification. In: a store's tables in a session. Out: whether the store has
//! documents of another specification, and whether this one replaces it. It must not write.

use datafusion::prelude::SessionContext;
use serde_json::Value;

use crate::error::Result;
use crate::extract::spec::ExtractionSpec;
use crate::query::statement::query_store;
use crate::store::delta_store::Store;
use crate::tables::result_row::result_rows;

/// The state of a store relative to a run's specification.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It has no documents of another specification.
    Alone,
    /// It has documents of another specification, and this one is replacing it: its replacement was started last.
    Replacing(Other),
    /// It has documents of another specification, and no run was started to replace it by this one, or another replacement was
    /// started since.
    Foreign(Other),
}

/// The oldest other specification that a store has documents of.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Its id.
    pub spec_id: String,
    /// Its parts, as its last run recorded them; null if no run did.
    pub parts: Value,
}

impl Other {
    /// What differs in the specification `now`, for messages.
    pub fn changes(&self, now: &ExtractionSpec) -> String {
        let recorded = serde_json::from_value::<ExtractionSpec>(self.parts.clone());
        let changes = recorded.map(|recorded| now.changes(&recorded)).unwrap_or_default();
        if changes.is_empty() {
            return "a setting that is not recorded".to_owned();
        }
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The state of `store`, whose tables are registered in `context`, relative to a specification. The last commit of a replacement
/// removes the documents of other specifications; as long as there are some, the last replacement is unfinished.
///
/// # Errors
/// [`crate::error::Error::Store`] if the store cannot be read.
pub async fn standing(context: &SessionContext, store: &Store, spec_id: &str) -> Result<Standing> {
    let Some(other) = store.specs()?.into_iter().find(|one| one != spec_id) else { return Ok(Standing::Alone) };
    let sql = "SELECT spec_id, job FROM runs ORDER BY started_at DESC, run_id DESC";
    let (mut replacement, mut parts) = (None, None);
    for run in result_rows(&query_store(context, store.location(), sql).await?) {
        let spec: String = run.get("spec_id")?;
        let job: Value = serde_json::from_str(run.get("job")?).unwrap_or_default();
        if parts.is_none() && spec == other {
            parts = Some(job["spec"].clone());
        }
        if replacement.is_none() && job["replace"] == true {
            replacement = Some(spec);
        }
    }
    let other = Other { spec_id: other, parts: parts.unwrap_or_default() };
    let ours = replacement.is_some_and(|last| last == spec_id);
    Ok(if ours { Standing::Replacing(other) } else { Standing::Foreign(other) })
}

#[cfg(test)]
mod tests;

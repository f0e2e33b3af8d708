//! Files as tables in SQL: `SELECT … FROM 'docs/*.jsonl'`. In: a quoted path, glob or URL where a table's name may stand. Out: a table of
//! the files behind it, known by their ending. It may not take a name for a path that is none.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{DynamicFileCatalog, TableProvider, UrlTableFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use crate::query::external_table::ExternalTable;
use crate::source::listing::Format;

/// What a session knows now, while there is one.
type CurrentState = Box<dyn Fn() -> Option<SessionState> + Send + Sync>;

/// Makes tables of paths for one session.
#[derive(Default)]
struct FileCatalog {
    /// The session, held weakly: it holds this.
    state: OnceLock<CurrentState>,
}

impl std::fmt::Debug for FileCatalog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FileCatalog").finish_non_exhaustive()
    }
}

#[async_trait]
impl UrlTableFactory for FileCatalog {
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let state = self.state.get().filter(|_| is_path(name)).and_then(|state| state());
        let Some(context) = state.map(SessionContext::new_with_state) else { return Ok(None) };
        let files = ExternalTable { table: name, what: "files", location: name };
        let (_, provider) = files.table(&context).await.map_err(|error| DataFusionError::External(error.into()))?;
        Ok(Some(provider))
    }
}

/// Whether a name in SQL is meant as a path: a table's name has no slash, star or ending of a data file.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name.contains(['/', '*', '?']) || Format::of(name).is_some()
}

/// The same session, where quoted paths are tables.
#[must_use]
pub fn with_files(context: SessionContext) -> SessionContext {
    let files = Arc::new(FileCatalog::default());
    let catalogs = Arc::clone(context.state_ref().read().catalog_list());
    let catalogs = Arc::new(DynamicFileCatalog::new(catalogs, Arc::clone(&files) as Arc<dyn UrlTableFactory>));
    let context: SessionContext = context.into_state_builder().with_catalog_list(catalogs).build().into();
    let state = context.state_weak_ref();
    // It is empty: this is the only place that makes one.
    let _ = files.state.set(Box::new(move || state.upgrade().map(|state| state.read().clone())));
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_slash_a_star_or_an_ending() {
        for path in ["docs.parquet", "docs.jsonl", "./docs", "s3://lake/docs/", "docs*", "/data/a b.CSV"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["entities", "current_entities", "entities.text", "Docs"] {
            assert!(!is_path(name), "{name}");
        }
    }
}

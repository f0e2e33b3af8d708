//! Files as tables in SQL: `SELECT … FROM 'docs/*.jsonl'`. In: a quoted path, glob or URL in place of a table name. Out: a table of its
//! files, with the format of their extension. It must not mistake a table name for a path.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{DynamicFileCatalog, TableProvider, UrlTableFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use crate::query::external_table::ExternalTable;
use crate::source::listing::Format;

/// Returns the session's current state, as long as the session exists.
type CurrentState = Box<dyn Fn() -> Option<SessionState> + Send + Sync>;

/// Creates tables from paths for one session.
#[derive(Default)]
struct FileCatalog {
    /// The session, held weakly because the session owns this catalog.
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
        let (_, provider) =
            files.table(&context, &[]).await.map_err(|error| DataFusionError::External(error.into()))?;
        Ok(Some(provider))
    }
}

/// Whether a name in SQL is a path: table names have no slash, wildcard or data file extension.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name.contains(['/', '*', '?']) || Format::of(name).is_some()
}

/// The same session, with quoted paths as tables.
#[must_use]
pub fn with_files(context: SessionContext) -> SessionContext {
    let files = Arc::new(FileCatalog::default());
    let catalogs = Arc::clone(context.state_ref().read().catalog_list());
    let catalogs = Arc::new(DynamicFileCatalog::new(catalogs, Arc::clone(&files) as Arc<dyn UrlTableFactory>));
    let context: SessionContext = context.into_state_builder().with_catalog_list(catalogs).build().into();
    let state = context.state_weak_ref();
    // Setting it cannot fail: it is empty, and nothing else sets it.
    let _ = files.state.set(Box::new(move || state.upgrade().map(|state| state.read().clone())));
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_slash_a_wildcard_or_an_extension() {
        for path in ["docs.parquet", "docs.jsonl", "./docs", "s3://lake/docs/", "docs*", "/data/a b.CSV"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["entities", "current_entities", "entities.text", "Docs"] {
            assert!(!is_path(name), "{name}");
        }
    }
}

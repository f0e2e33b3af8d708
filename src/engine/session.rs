//! The query engine's session. In: limits of memory, threads and batches; stores. Out: a `DataFusion` context that knows the
//! stores' tables and views. It may not run queries of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::location::StoreLocation;
use super::objects::ObjectStores;
use super::store::Store;
use super::yielding::YieldingJoins;
use crate::error::{Error, Result};
use crate::tables::Table;

/// How many of the greediest operators an out-of-memory message names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(5).expect("five is not zero");

/// Views that hide what a reader must not count: rows of a commit that is not whole yet, and, while `--replace` extracts
/// under a new specification beside the old, the new rows. They are plain SQL over the tables and mean the same in any engine.
pub const VIEWS: [(&str, &str); 2] = [
    (
        "current_entities",
        "SELECT * FROM entities \
         WHERE commit <= (SELECT max(commit) FROM documents) \
         AND spec_id = (SELECT spec_id FROM documents ORDER BY commit LIMIT 1)",
    ),
    (
        "current_documents",
        "SELECT * FROM documents WHERE spec_id = (SELECT spec_id FROM documents ORDER BY commit LIMIT 1)",
    ),
];

/// What a session may use; `None` leaves it to the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionSettings {
    /// Bytes that sorts, joins and aggregations may hold before they spill to disk.
    pub memory_bytes: Option<usize>,
    /// Partitions that run at once; the machine's cores unless said.
    pub target_partitions: Option<usize>,
    /// Rows in a batch; 8192 unless said.
    pub batch_rows: Option<usize>,
}

/// A new session.
///
/// # Errors
/// [`Error::Engine`] where the engine cannot be set up (no folder for spilling).
pub fn session(settings: &SessionSettings) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_information_schema(true);
    // Texts are the largest column by far: decode them only in rows that pass the filters on the others.
    config.options_mut().execution.parquet.pushdown_filters = true;
    // A folder is all that is in it.
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    if let Some(partitions) = settings.target_partitions {
        config = config.with_target_partitions(partitions.max(1));
    }
    if let Some(rows) = settings.batch_rows {
        config = config.with_batch_size(rows.max(1));
    }
    let mut runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(ObjectStores::default()));
    if let Some(bytes) = settings.memory_bytes {
        runtime =
            runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(bytes), NAMED_CONSUMERS)));
    }
    let runtime = runtime.build_arc().map_err(|cause| failed("set up the query engine", cause))?;
    let state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    Ok(SessionContext::new_with_state(state.with_physical_optimizer_rule(Arc::new(YieldingJoins)).build()))
}

/// Lets a session read from where `location` lies.
///
/// # Errors
/// [`Error::Engine`] where the engine takes the URL for something else.
pub fn register_location(context: &SessionContext, location: &StoreLocation) -> Result<()> {
    let url = location.object_store_url()?;
    context.register_object_store(url.as_ref(), Arc::clone(location.objects()));
    Ok(())
}

/// Makes the store's six tables, as they are now, and its [`VIEWS`] known to a session; a second time, anew.
///
/// # Errors
/// [`Error::Store`] where the store cannot be read, [`Error::Engine`] where a view cannot be planned.
pub async fn register_store(context: &SessionContext, store: &Store) -> Result<()> {
    register_store_as(context, store, "").await
}

/// The same with `prefix` before every name. Two stores in one query need two: the planner takes subqueries over tables of the
/// same name for the same, and answers them once.
///
/// # Errors
/// As [`register_store`].
pub async fn register_store_as(context: &SessionContext, store: &Store, prefix: &str) -> Result<()> {
    register_location(context, store.location())?;
    for table in Table::ALL {
        let (name, provider) = (format!("{prefix}{}", table.name()), store.provider(table)?);
        let register = || {
            context.deregister_table(name.as_str())?;
            context.register_table(name.as_str(), provider)
        };
        register().map_err(|cause| failed(&format!("register the table `{name}`"), cause))?;
    }
    for (name, query) in VIEWS {
        let query = query.replace("FROM ", &format!("FROM {prefix}"));
        let created = context.sql(&format!("CREATE OR REPLACE VIEW {prefix}{name} AS {query}")).await;
        created.map_err(|cause| failed(&format!("plan the view `{prefix}{name}`"), cause))?;
    }
    Ok(())
}

fn failed(doing: &str, cause: datafusion::error::DataFusionError) -> Error {
    Error::Engine { doing: doing.to_owned(), source: Box::new(cause) }
}

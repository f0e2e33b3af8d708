//! `DataFusion`'s session. In: limits of memory, threads and batches; stores. Out: a `DataFusion` context with the stores' tables and
//! views. It must not run queries of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use sysinfo::{MemoryRefreshKind, System};

use crate::error::{Error, Result};
use crate::extract::monitor::Monitor;
use crate::query::cooperative_joins::CooperativeJoins;
use crate::source::object_stores::ObjectStores;
use crate::source::object_stores::register_location;
use crate::store::delta_store::Store;
use crate::tables::Table;

/// How many of the largest memory consumers an out-of-memory message names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(5).expect("five is not zero");

/// Rows per batch of an extraction's scan: few, because texts can be long.
const SCAN_ROWS: usize = 256;
/// Memory limit in bytes of an extraction's sorts and joins over ids before they spill to disk.
const QUERY_BYTES: usize = 256 << 20;

/// Views that hide rows which readers must not count: rows of an incomplete commit, and, while `--replace` extracts under a new
/// specification next to the old one, the new rows. They are plain SQL over the tables and mean the same in any SQL engine.
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

/// A control group's files for its memory limit, its usage and its statistics, and the name of the statistic for the file cache that the
/// kernel drops under memory pressure: version 2, then version 1.
const GROUPS: [[&str; 4]; 2] = [
    ["memory.max", "memory.current", "memory.stat", "inactive_file"],
    ["memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"],
];

/// Limits of a session; `None` means DataFusion's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionSettings {
    /// Bytes that sorts, joins and aggregations can hold before they spill to disk.
    pub memory_bytes: Option<usize>,
    /// Partitions that run concurrently; by default, the number of cores.
    pub target_partitions: Option<usize>,
    /// Rows in a batch; by default, 8192.
    pub batch_rows: Option<usize>,
}

/// Creates a session.
///
/// # Errors
/// [`Error::Engine`] if DataFusion cannot be set up (no folder to spill to).
pub fn session(settings: &SessionSettings) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_information_schema(true);
    // Texts are by far the largest column: decode them only in rows that pass the filters on other columns.
    config.options_mut().execution.parquet.pushdown_filters = true;
    // A folder includes its subfolders.
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    if let Some(partitions) = settings.target_partitions {
        config = config.with_target_partitions(partitions.max(1));
    }
    if let Some(rows) = settings.batch_rows {
        config = config.with_batch_size(rows.max(1));
    }
    // List a folder each time, because files can be added while a shell is open.
    let mut runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(ObjectStores::default()))
        .with_object_list_cache_limit(0);
    if let Some(bytes) = settings.memory_bytes {
        config = without_exchanges(config);
        runtime =
            runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(bytes), NAMED_CONSUMERS)));
    }
    let runtime = runtime.build_arc().map_err(|cause| failed("set up the query engine", cause))?;
    let state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    Ok(SessionContext::new_with_state(state.with_physical_optimizer_rule(Arc::new(CooperativeJoins)).build()))
}

/// A session for the scans and queries of an extraction, which `monitor` watches and stops.
///
/// # Errors
/// As for [`session`].
pub fn extraction_session(monitor: &Arc<Monitor>) -> Result<SessionContext> {
    let settings =
        SessionSettings { batch_rows: Some(SCAN_ROWS), memory_bytes: Some(QUERY_BYTES), ..SessionSettings::default() };
    let mut state = session(&settings)?.state();
    state.config_mut().set_extension(Arc::clone(monitor));
    Ok(SessionContext::new_with_state(state))
}

/// Disables exchanges of rows between partitions (`RepartitionExec`), which can hang under a memory limit: a batch that does not fit is
/// spilled to a file, and two partitions that spill concurrently write two files, of which the reader sees only the older one
/// (<https://github.com/apache/datafusion/issues/24883>). `DataFusion` 55.2 has this bug; pull request 24891 fixes it, and this function
/// can be removed with a release that contains the fix. Partitions still scan, filter, pre-aggregate and probe joins concurrently; one
/// partition merges the results.
fn without_exchanges(config: SessionConfig) -> SessionConfig {
    config
        .with_repartition_aggregations(false)
        .with_repartition_joins(false)
        .with_repartition_windows(false)
        .with_round_robin_repartition(false)
}

/// Registers the store's six tables, as they are now, and its [`VIEWS`] in a session, replacing earlier ones.
///
/// # Errors
/// [`Error::Store`] if the store cannot be read, [`Error::Engine`] if a view cannot be planned.
pub async fn register_store(context: &SessionContext, store: &Store) -> Result<()> {
    register_store_as(context, store, "").await
}

/// Like [`register_store`], with `prefix` before every name. Two stores in one query need different prefixes, because the planner
/// treats subqueries over tables of the same name as equal and runs them only once.
///
/// # Errors
/// As for [`register_store`].
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

/// Available memory in bytes, if the kernel reports it: that of the machine, or the rest of the control group's limit if that is less.
#[must_use]
pub fn free_memory() -> Option<usize> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let group = |[limit, usage, statistics, cache]: [&str; 4]| {
        let read = |file: &str| read(&format!("/sys/fs/cgroup/{file}"));
        available(&read(limit)?, &read(usage)?, &read(statistics).unwrap_or_default(), cache)
    };
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = (system.total_memory() > 0).then(|| system.available_memory() as usize);
    machine.into_iter().chain(GROUPS.into_iter().filter_map(group)).min()
}

/// Available bytes under a control group's limit; `None` if it has no limit (`max`). `sysinfo` counts the file cache as used.
fn available(limit: &str, usage: &str, statistics: &str, cache: &str) -> Option<usize> {
    let limit: usize = limit.trim().parse().ok()?;
    let usage: usize = usage.trim().parse().ok()?;
    let cached = statistics.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<usize>().ok());
    Some(limit.saturating_sub(usage.saturating_sub(cached.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::physical_plan::displayable;

    use super::*;

    /// How many exchanges the plan of a query has.
    async fn exchanges(memory_bytes: Option<usize>, sql: &str) -> usize {
        let settings = SessionSettings { memory_bytes, target_partitions: Some(4), ..SessionSettings::default() };
        let plan = session(&settings).unwrap().sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string().matches("RepartitionExec").count()
    }

    #[tokio::test]
    async fn partitions_exchange_no_rows_under_a_memory_limit() {
        let (a, b) = ("generate_series(1, 100000) AS a(v)", "generate_series(1, 100000) AS b(w)");
        for sql in [
            format!("SELECT v % 7, count(*) FROM (SELECT v FROM {a} UNION ALL SELECT w FROM {b}) GROUP BY v % 7"),
            format!("SELECT count(*) FROM {a} FULL JOIN {b} ON v = w"),
            format!("SELECT v, max(v) OVER (PARTITION BY v % 7) FROM {a}"),
            format!("SELECT v + 1 FROM (SELECT v FROM {a} UNION ALL SELECT w FROM {b}) WHERE v % 3 = 0"),
        ] {
            assert!(exchanges(None, &sql).await > 0, "{sql}");
            assert_eq!(exchanges(Some(1 << 20), &sql).await, 0, "{sql}");
        }
    }

    /// The query of `DataFusion`'s issue 24883. With exchanges, three of four attempts at five of it hung.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_query_with_little_memory_finishes() {
        let settings =
            SessionSettings { memory_bytes: Some(4 << 20), target_partitions: Some(2), batch_rows: Some(64) };
        let context = session(&settings).unwrap();
        let table = "CREATE TABLE t AS SELECT v % 13 AS g, md5(CAST(v % 337 AS varchar)) AS id FROM generate_series(1, 40000) AS s(v)";
        context.sql(table).await.unwrap();
        for _ in 0..5 {
            let answer = context.sql("SELECT g, count(DISTINCT id) FROM t GROUP BY g").await.unwrap().collect();
            let rows = tokio::time::timeout(Duration::from_mins(1), answer).await.expect("it hangs").unwrap();
            assert_eq!(rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 13);
        }
    }

    #[test]
    fn available_memory_is_limited_by_machine_and_control_group() {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
        let all = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        assert!((1..=all.unwrap().parse::<usize>().unwrap() * 1024).contains(&free_memory().unwrap()));
        let statistics = "anon 10\nfile 50\ninactive_file 40\nactive_file 10\n";
        let of_group = |limit, usage, statistics| available(limit, usage, statistics, "inactive_file");
        // The file cache stays in memory until the memory is needed.
        assert_eq!(of_group("100\n", "70\n", statistics), Some(70));
        assert_eq!(of_group("100\n", "70\n", ""), Some(30));
        assert_eq!(of_group("100\n", "120\n", ""), Some(0));
        assert_eq!(of_group("max\n", "70\n", statistics), None);
    }
}

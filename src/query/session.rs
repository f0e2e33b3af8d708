//! The query engine's session. In: limits of memory, threads and batches; stores. Out: a `DataFusion` context that knows the
//! stores' tables and views. It may not run queries of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use sysinfo::{MemoryRefreshKind, System};

use crate::error::{Error, Result};
use crate::query::cooperative_joins::CooperativeJoins;
use crate::source::object_stores::ObjectStores;
use crate::source::object_stores::register_location;
use crate::store::delta_store::Store;
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

/// Where a control group says its limit, what it holds, and its statistics, and what these call pages of files that are dropped where
/// room is needed: version 2, then version 1.
const GROUPS: [[&str; 4]; 2] = [
    ["memory.max", "memory.current", "memory.stat", "inactive_file"],
    ["memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"],
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
    // What a folder holds is asked each time: files come while a shell is open.
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

/// Plans without exchanges of rows between partitions (`RepartitionExec`), which may wait for ever where memory is limited: a batch that
/// finds no room goes to a file, and two partitions that write at the same time write two files, of which the reader sees only the
/// older one (<https://github.com/apache/datafusion/issues/24883>). `DataFusion` 55.2 has it; pull request 24891 mends it, and
/// with a release that has that, this can go. Partitions still scan, filter, aggregate what they have, and look up what is joined,
/// at once; what they come to is put together by one.
fn without_exchanges(config: SessionConfig) -> SessionConfig {
    config
        .with_repartition_aggregations(false)
        .with_repartition_joins(false)
        .with_repartition_windows(false)
        .with_round_robin_repartition(false)
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

/// The bytes of memory that are free, where the kernel says so: those of the machine, or what the control group leaves if that is less.
#[must_use]
pub fn free_memory() -> Option<usize> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let group = |[limit, held, statistics, dropped]: [&str; 4]| {
        let read = |file: &str| read(&format!("/sys/fs/cgroup/{file}"));
        left(&read(limit)?, &read(held)?, &read(statistics).unwrap_or_default(), dropped)
    };
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = (system.total_memory() > 0).then(|| system.available_memory() as usize);
    machine.into_iter().chain(GROUPS.into_iter().filter_map(group)).min()
}

/// What a control group leaves of its limit, in bytes; `None` where it has no limit (`max`). `sysinfo` counts files that were read as held.
fn left(limit: &str, held: &str, statistics: &str, dropped: &str) -> Option<usize> {
    let limit: usize = limit.trim().parse().ok()?;
    let held: usize = held.trim().parse().ok()?;
    let dropped = statistics.lines().find_map(|line| line.strip_prefix(dropped)?.trim().parse::<usize>().ok());
    Some(limit.saturating_sub(held.saturating_sub(dropped.unwrap_or(0))))
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
    async fn partitions_exchange_no_rows_where_memory_is_limited() {
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
    async fn a_query_with_little_memory_comes_to_its_end() {
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
    fn memory_is_free_as_far_as_machine_and_control_group_leave_it() {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
        let all = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        assert!((1..=all.unwrap().parse::<usize>().unwrap() * 1024).contains(&free_memory().unwrap()));
        let statistics = "anon 10\nfile 50\ninactive_file 40\nactive_file 10\n";
        let of_group = |limit, held, statistics| left(limit, held, statistics, "inactive_file");
        // Files that were read lie in memory as long as nobody wants the room.
        assert_eq!(of_group("100\n", "70\n", statistics), Some(70));
        assert_eq!(of_group("100\n", "70\n", ""), Some(30));
        assert_eq!(of_group("100\n", "120\n", ""), Some(0));
        assert_eq!(of_group("max\n", "70\n", statistics), None);
    }
}

//! Statements that only read. In: a planned statement. Out: an error if running it could write to a file or an object store, or weaken
//! what the session guarantees. It must not look at the text of a statement, which can hide what it does.
//!
//! It is the first of two walls. The second: a session's object stores refuse to write (`source::object_stores`).

use datafusion::catalog::MemTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::dml::DmlStatement;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement};

use crate::query::views;

/// Settings that a statement must not change, and why: prefixes of their names.
const FIXED: [(&str, &str); 3] = [
    ("datafusion.runtime.", "memory is limited with --memory, and rows that do not fit are spilled to $TMPDIR"),
    ("datafusion.optimizer.repartition_", HANGS),
    ("datafusion.optimizer.enable_round_robin_repartition", HANGS),
];

/// See `session::without_exchanges`.
const HANGS: &str = "exchanges of rows between partitions can hang under a memory limit";

/// Refuses a statement that does more than read, at any depth of its plan: in EXPLAIN, in PREPARE, below a view. It can create views and
/// tables in memory, name files as tables, and change tables in memory, but not the store's tables and views.
///
/// # Errors
/// A plan error that names what is refused.
pub fn refuse_writing(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| check(node).map(|()| TreeNodeRecursion::Continue)).map(drop)
}

fn check(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Copy(_) => {
            refuse("COPY writes files, which statements cannot: write the rows of a query with --out")
        }
        LogicalPlan::Dml(write) => check_change(write),
        LogicalPlan::Ddl(statement) => check_definition(statement),
        LogicalPlan::Statement(Statement::SetVariable(set)) => check_setting(&set.variable),
        LogicalPlan::Statement(Statement::ResetVariable(reset)) => check_setting(&reset.variable),
        _ => Ok(()),
    }
}

/// A change of rows: of a table in memory only.
fn check_change(write: &DmlStatement) -> Result<()> {
    not_of_the_store(write.table_name.table())?;
    let in_memory =
        source_as_provider(&write.target).is_ok_and(|provider| provider.downcast_ref::<MemTable>().is_some());
    if in_memory {
        return Ok(());
    }
    refuse(&format!("`{}` is not a table in memory, and statements write nothing else", write.table_name.table()))
}

fn check_definition(statement: &DdlStatement) -> Result<()> {
    not_of_the_store(match statement {
        DdlStatement::CreateMemoryTable(create) => create.name.table(),
        DdlStatement::CreateExternalTable(create) => create.name.table(),
        DdlStatement::CreateView(create) => create.name.table(),
        DdlStatement::DropTable(drop) => drop.name.table(),
        DdlStatement::DropView(drop) => drop.name.table(),
        other => return refuse(&format!("{} is not available here", other.name())),
    })
}

fn check_setting(name: &str) -> Result<()> {
    let name = name.to_ascii_lowercase();
    match FIXED.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        Some((_, reason)) => refuse(&format!("`{name}` cannot be changed: {reason}")),
        None => Ok(()),
    }
}

/// Only `quarry run` and `quarry evaluate` write to a store.
fn not_of_the_store(name: &str) -> Result<()> {
    match views::what(name) {
        Some(_) => refuse(&format!("`{name}` belongs to the store, which is read-only here")),
        None => Ok(()),
    }
}

fn refuse(reason: &str) -> Result<()> {
    Err(DataFusionError::Plan(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::query::file_catalog::with_files;
    use crate::query::session::{SessionSettings, session};

    /// A session with the tables in memory `t` and `metrics`, and the external table `ext`; the folder of `ext`.
    async fn made() -> (SessionContext, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "a\n1\n").unwrap();
        let context = with_files(session(&SessionSettings::default()).unwrap());
        let external = format!(
            "CREATE EXTERNAL TABLE ext (a BIGINT) STORED AS CSV LOCATION '{}/' OPTIONS ('format.has_header' 'true')",
            folder.path().display()
        );
        for sql in ["CREATE TABLE t AS SELECT 1 AS a", "CREATE TABLE metrics AS SELECT 1 AS a", &external] {
            context.sql(sql).await.unwrap();
        }
        (context, folder)
    }

    async fn checked(context: &SessionContext, sql: &str) -> Result<()> {
        refuse_writing(&context.state().create_logical_plan(sql).await?)
    }

    #[tokio::test]
    async fn statements_that_write_are_refused_however_deep() {
        let (context, _folder) = made().await;
        for sql in [
            "COPY t TO 'x.csv'",
            "COPY (SELECT * FROM t) TO 'x.json' STORED AS JSON",
            "EXPLAIN COPY t TO 'x.csv'",
            "EXPLAIN ANALYZE COPY t TO 'x.csv'",
            "INSERT INTO ext VALUES (2)",
            "INSERT OVERWRITE ext VALUES (2)",
            "EXPLAIN ANALYZE INSERT INTO ext VALUES (2)",
            "PREPARE p(BIGINT) AS INSERT INTO ext VALUES ($1)",
            "DELETE FROM ext",
            "UPDATE ext SET a = 2",
            "INSERT INTO metrics VALUES (2)",
            "CREATE OR REPLACE VIEW entities AS SELECT 1",
            "DROP TABLE metrics",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA other",
            "CREATE DATABASE other",
            "SET datafusion.runtime.temp_directory = '/store'",
            "SET DATAFUSION.RUNTIME.temp_directory = '/store'",
            "RESET datafusion.runtime.memory_limit",
            "SET datafusion.optimizer.repartition_joins = true",
            "SET datafusion.optimizer.enable_round_robin_repartition = true",
        ] {
            let planned =
                context.state().create_logical_plan(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert!(refuse_writing(&planned).is_err(), "{sql}");
        }
    }

    #[tokio::test]
    async fn statements_that_read_and_tables_in_memory_pass() {
        let (context, _folder) = made().await;
        for sql in [
            "SELECT * FROM t WHERE a IN (SELECT a FROM ext)",
            "EXPLAIN ANALYZE SELECT * FROM t",
            "CREATE VIEW v AS SELECT * FROM t",
            "CREATE TABLE u AS SELECT * FROM t",
            "INSERT INTO t VALUES (2)",
            "PREPARE p(BIGINT) AS INSERT INTO t VALUES ($1)",
            "DROP TABLE t",
            "SET datafusion.execution.batch_size = 100",
            "SHOW TABLES",
            "DESCRIBE t",
        ] {
            checked(&context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}

//! The SQL session over a store. In: the settings. Out: a session with the store's current tables and views, their names, and results as
//! streams. It must not print a result.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableType};
use datafusion::prelude::SessionContext;
use deltalake_core::kernel::Version;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::query::external_table::ExternalTable;
use crate::query::file_catalog::with_files;
use crate::query::read_only::refuse_writing;
use crate::query::session::{SessionSettings, free_memory, register_store, session};
use crate::query::views;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::tables::Table;

/// The table of a job's documents.
const INPUT: &str = "input_documents";

/// A store and its session.
pub(super) struct SqlSession {
    pub(super) context: SessionContext,
    store: Store,
    /// The registered versions of the tables.
    versions: Vec<Version>,
}

/// An event of a running statement.
pub(super) enum Event {
    /// The columns; none for a statement without rows.
    Columns(SchemaRef),
    /// Rows.
    Rows(RecordBatch),
}

/// A running statement. Dropping it cancels it.
pub(super) struct RunningStatement {
    pub(super) events: mpsc::Receiver<Event>,
    task: SpawnedTask<Result<(), DataFusionError>>,
}

impl SqlSession {
    /// Opens the store that the settings name.
    pub(super) async fn open(settings: &Settings) -> Result<Self> {
        let job = match Path::new(&settings.store) {
            path if path.extension().is_some_and(|end| end == "toml") => Some(Job::read(path, &settings.set)?),
            _ => None,
        };
        let location = StoreLocation::parse(job.as_ref().map_or(&settings.store, |job| &job.file.store.path))?;
        if location.folder().is_some_and(|folder| !folder.is_dir()) {
            return Err(Error::Refused {
                store: location.to_string(),
                reason: "does not exist".to_owned(),
                hint: match job {
                    Some(_) => "run the job with `quarry run` first".to_owned(),
                    None => "check the path; `quarry run` creates a store".to_owned(),
                },
            });
        }
        let store = Store::open_existing(location).await?;
        let memory = settings.memory.or_else(|| free_memory().map(|free| free / 4 * 3));
        let context = session(&SessionSettings { memory_bytes: memory, ..SessionSettings::default() })?;
        // Errors must have their position in the SQL.
        context.state_ref().write().config_mut().options_mut().sql_parser.collect_spans = true;
        let context = with_files(context);
        let mut session = Self { context, store, versions: Vec::new() };
        session.register().await?;
        if let Some(job) = job {
            let files = ExternalTable { table: INPUT, what: "documents", location: &job.input.documents };
            if let Err(cause) = files.register(&session.context).await {
                tracing::info!("the table {INPUT} is not available: {cause}");
            }
        }
        Ok(session)
    }

    /// The store's location.
    pub(super) fn location(&self) -> &StoreLocation {
        self.store.location()
    }

    /// Loads commits of other processes.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        self.store.refresh().await?;
        if self.versions != self.current_versions() {
            self.register().await?;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<()> {
        register_store(&self.context, &self.store).await?;
        views::register(&self.context).await?;
        self.renew_views().await.map_err(|cause| Error::Engine {
            doing: "plan the views of this session again".into(),
            source: cause.into(),
        })?;
        self.versions = self.current_versions();
        Ok(())
    }

    /// Plans the user's views again, because a view keeps the table versions of its creation.
    async fn renew_views(&self) -> Result<(), DataFusionError> {
        let mut views = Vec::new();
        for name in self.names().into_iter().filter(|name| views::what(name).is_none()) {
            let table = self.context.table_provider(TableReference::bare(name.as_str())).await?;
            if table.table_type() == TableType::View {
                views.extend(table.get_table_definition().map(str::to_owned));
            }
        }
        // Views can use each other in any order: after as many rounds as there are views, all use the new versions.
        for sql in std::iter::repeat_n(&views, views.len()).flatten() {
            // A view that can no longer be planned stays unchanged.
            if let Ok(LogicalPlan::Ddl(DdlStatement::CreateView(mut view))) =
                self.context.state().create_logical_plan(sql).await
            {
                view.or_replace = true;
                self.context.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::CreateView(view))).await?;
            }
        }
        Ok(())
    }

    fn current_versions(&self) -> Vec<Version> {
        Table::ALL.into_iter().map(|table| self.store.version(table)).collect()
    }

    /// The names of all tables and views: the store's, then the user's.
    pub(super) fn names(&self) -> Vec<String> {
        let ours = Table::ALL.into_iter().map(Table::name).chain(views::all().map(|(name, _)| name)).map(str::to_owned);
        let mut names: Vec<String> = ours.collect();
        let catalog = self.context.catalog("datafusion").and_then(|catalog| catalog.schema("public"));
        let mut more = catalog.map(|schema| schema.table_names()).unwrap_or_default();
        more.retain(|name| !names.contains(name));
        more.sort_unstable();
        names.extend(more);
        names
    }

    /// The columns of a table, view or file.
    pub(super) async fn columns(&self, name: &str) -> Result<SchemaRef, DataFusionError> {
        let reference = TableReference::bare(name);
        Ok(self.context.table_provider(reference).await?.schema())
    }

    /// Starts a statement.
    pub(super) fn execute(&self, sql: &str) -> RunningStatement {
        let (sender, events) = mpsc::channel(2);
        // A separate task, so that signals are handled whatever the engine does.
        let task = SpawnedTask::spawn(run_statement(self.context.clone(), sql.to_owned(), sender));
        RunningStatement { events, task }
    }
}

impl RunningStatement {
    /// Waits for the end of the statement and returns its error, if it failed.
    pub(super) async fn finish(self) -> Result<(), DataFusionError> {
        // Closing the channel ends the task.
        drop(self.events);
        self.task.join().await.map_err(|cause| DataFusionError::ExecutionJoin(Box::new(cause)))?
    }
}

async fn run_statement(
    context: SessionContext,
    sql: String,
    events: mpsc::Sender<Event>,
) -> Result<(), DataFusionError> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(&sql, &dialect)?;
    let plan = state.statement_to_plan(statement).await?;
    refuse_writing(&plan)?;
    let frame = context.execute_logical_plan(plan).await?;
    let mut rows = frame.execute_stream().await?;
    if events.send(Event::Columns(rows.schema())).await.is_err() {
        return Ok(());
    }
    while let Some(batch) = rows.try_next().await? {
        if events.send(Event::Rows(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The names that a shell completes: tables and views with their columns, and functions.
#[derive(Debug, Clone, Default)]
pub(super) struct Vocabulary {
    pub(super) tables: Vec<(String, Vec<String>)>,
    pub(super) functions: Vec<String>,
}

impl SqlSession {
    /// The names that a statement can use.
    pub(super) async fn vocabulary(&self) -> Vocabulary {
        let mut tables = Vec::new();
        for name in self.names() {
            if let Ok(columns) = self.columns(&name).await {
                tables.push((name, columns.fields().iter().map(|field| field.name().clone()).collect()));
            }
        }
        let state = self.context.state();
        let (scalar, aggregate, window) =
            (state.scalar_functions(), state.aggregate_functions(), state.window_functions());
        let mut functions: Vec<String> =
            scalar.keys().chain(aggregate.keys()).chain(window.keys()).map(ToString::to_string).collect();
        functions.sort_unstable();
        functions.dedup();
        Vocabulary { tables, functions }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::query::statement::count;
    use crate::tables::{MetricRow, metric_rows};

    #[tokio::test]
    async fn a_user_view_shows_later_commits() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
        let store = Store::open(location.clone(), DataType::Utf8).await.unwrap();
        let context = with_files(session(&SessionSettings::default()).unwrap());
        let mut session = SqlSession { context, store, versions: Vec::new() };
        session.register().await.unwrap();
        // One view uses the other, whose name sorts after its own.
        for sql in ["CREATE VIEW b AS SELECT count(*) AS n FROM metrics", "CREATE VIEW a AS SELECT n + 1 AS n FROM b"] {
            session.context.sql(sql).await.unwrap();
        }
        let mut other = Store::open_existing(location).await.unwrap();
        let [run_id, scope, name, unit] = ["run", "all", "f1", "share"].map(str::to_owned);
        let rows = metric_rows(&[MetricRow { run_id, scope, name, value: 1.0, unit }]).unwrap();
        other.append(Table::Metrics, &rows, "run").await.unwrap();
        session.refresh().await.unwrap();
        assert_eq!(count(&session.context, "SELECT n FROM a").await.unwrap(), 2);
    }
}

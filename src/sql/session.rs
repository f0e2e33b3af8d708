//! What is asked: a store's tables and views in a session. In: the arguments. Out: a session that knows the store as it is now, the names in
//! it, and answers as they come. It may not print.

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

use crate::cli::SqlArgs;
use crate::console;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::query::external_table::ExternalTable;
use crate::query::file_catalog::with_files;
use crate::query::session::{SessionSettings, free_memory, register_store, session};
use crate::query::views;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::tables::Table;

/// The table of a job's documents.
const INPUT: &str = "input_documents";

/// A store and the session that knows it.
pub(super) struct SqlSession {
    pub(super) context: SessionContext,
    store: Store,
    /// The versions of the tables that the session knows.
    versions: Vec<Version>,
}

/// What comes back of a statement.
pub(super) enum Event {
    /// The columns; none for a statement that gives no rows.
    Columns(SchemaRef),
    /// Rows.
    Rows(RecordBatch),
}

/// A statement that is being answered; dropped, it is cancelled.
pub(super) struct Answer {
    pub(super) events: mpsc::Receiver<Event>,
    task: SpawnedTask<Result<(), DataFusionError>>,
}

impl SqlSession {
    /// Opens the store that the arguments name.
    pub(super) async fn open(arguments: &SqlArgs) -> Result<Self> {
        let job = match Path::new(&arguments.store) {
            path if path.extension().is_some_and(|end| end == "toml") => Some(Job::read(path, &arguments.set)?),
            _ => None,
        };
        let location = StoreLocation::parse(job.as_ref().map_or(&arguments.store, |job| &job.file.store.path))?;
        if location.folder().is_some_and(|folder| !folder.is_dir()) {
            return Err(Error::Refused {
                store: location.to_string(),
                reason: "is not there".to_owned(),
                hint: match job {
                    Some(_) => "start the job with `quarry run` first".to_owned(),
                    None => "check the path; `quarry run` makes a store where there is none".to_owned(),
                },
            });
        }
        let store = Store::open_existing(location).await?;
        let memory = arguments.memory.or_else(|| free_memory().map(|free| free / 4 * 3));
        let context = session(&SessionSettings { memory_bytes: memory, ..SessionSettings::default() })?;
        // Errors shall say where in the SQL they are.
        context.state_ref().write().config_mut().options_mut().sql_parser.collect_spans = true;
        let context = with_files(context);
        let mut asked = Self { context, store, versions: Vec::new() };
        asked.register().await?;
        if let Some(job) = job {
            let files = ExternalTable { table: INPUT, what: "documents", location: &job.input.documents };
            if let Err(cause) = files.register(&asked.context).await {
                console::note(&format!("there is no table {INPUT}: {cause}"));
            }
        }
        Ok(asked)
    }

    /// Where the store lies.
    pub(super) fn location(&self) -> &StoreLocation {
        self.store.location()
    }

    /// Reads what others have committed since.
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
            doing: "plan the views of this session anew".into(),
            source: cause.into(),
        })?;
        self.versions = self.current_versions();
        Ok(())
    }

    /// Plans the user's views anew, for a view keeps the tables as they were when it was made.
    async fn renew_views(&self) -> Result<(), DataFusionError> {
        let mut views = Vec::new();
        for name in self.names().into_iter().filter(|name| views::what(name).is_none()) {
            let table = self.context.table_provider(TableReference::bare(name.as_str())).await?;
            if table.table_type() == TableType::View {
                views.extend(table.get_table_definition().map(str::to_owned));
            }
        }
        // One may use another, whatever their order: after so many rounds all use what is new.
        for sql in std::iter::repeat_n(&views, views.len()).flatten() {
            // What cannot be planned any more stays as it was.
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

    /// The names of all tables and views: the store's in the order of the design page, then what the user made.
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

    /// Begins to answer a statement.
    pub(super) fn ask(&self, sql: &str) -> Answer {
        let (sender, events) = mpsc::channel(2);
        // A task of its own, so that a signal is heard whatever the engine does.
        let task = SpawnedTask::spawn(answer(self.context.clone(), sql.to_owned(), sender));
        Answer { events, task }
    }
}

impl Answer {
    /// How it ended, once there are no more events.
    pub(super) async fn ended(self) -> Result<(), DataFusionError> {
        // Whoever wants no more rows closes the channel, and the task ends.
        drop(self.events);
        self.task.join().await.map_err(|cause| DataFusionError::ExecutionJoin(Box::new(cause)))?
    }
}

async fn answer(context: SessionContext, sql: String, events: mpsc::Sender<Event>) -> Result<(), DataFusionError> {
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

/// A store's tables and views can neither be written to nor replaced: only `quarry run` and `quarry evaluate` write to a store.
fn refuse_writing(plan: &LogicalPlan) -> Result<(), DataFusionError> {
    let name = match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => &create.name,
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => &create.name,
        LogicalPlan::Ddl(DdlStatement::CreateView(create)) => &create.name,
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => &drop.name,
        LogicalPlan::Ddl(DdlStatement::DropView(drop)) => &drop.name,
        LogicalPlan::Dml(write) => &write.table_name,
        _ => return Ok(()),
    };
    if views::what(name.table()).is_none() {
        return Ok(());
    }
    Err(DataFusionError::Plan(format!("`{}` belongs to the store, which is only read here", name.table())))
}

/// Every table and view with the names of its columns, and the functions: what a shell completes.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) tables: Vec<(String, Vec<String>)>,
    pub(super) functions: Vec<String>,
}

impl SqlSession {
    /// What there is to be named in a statement.
    pub(super) async fn known(&self) -> Known {
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
        Known { tables, functions }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::query::statement::{i64_row, query};
    use crate::tables::{MetricRow, metric_rows};

    #[tokio::test]
    async fn a_view_of_the_users_shows_what_others_committed_since() {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::parse(folder.path().to_str().unwrap()).unwrap();
        let store = Store::open(location.clone(), DataType::Utf8).await.unwrap();
        let context = with_files(session(&SessionSettings::default()).unwrap());
        let mut asked = SqlSession { context, store, versions: Vec::new() };
        asked.register().await.unwrap();
        // One uses the other, whose name comes behind its own.
        for sql in ["CREATE VIEW b AS SELECT count(*) AS n FROM metrics", "CREATE VIEW a AS SELECT n + 1 AS n FROM b"] {
            asked.context.sql(sql).await.unwrap();
        }
        let mut other = Store::open_existing(location).await.unwrap();
        let [run_id, scope, name, unit] = ["run", "all", "f1", "share"].map(str::to_owned);
        let rows = metric_rows(&[MetricRow { run_id, scope, name, value: 1.0, unit }]).unwrap();
        other.append(Table::Metrics, &rows, "run").await.unwrap();
        asked.refresh().await.unwrap();
        assert_eq!(i64_row(&query(&asked.context, "SELECT n FROM a").await.unwrap()).unwrap(), [2]);
    }
}

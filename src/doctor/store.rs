//! The store. In: its location, and the job if there is one. Out: its tables and rows, the outcome of the last run, the run that writes
//! to it, and what the next run would find. It must not create or repair anything.

use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;

use crate::console;
use crate::console::thousands;
use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::error::Result;
use crate::extract::spec::ExtractionSpec;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::query::run_history::{Standing, standing};
use crate::query::session::{SessionSettings, register_store, session};
use crate::query::statement::{count, query};
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::lock::StoreLock;
use crate::store::runs::UNKNOWN;
use crate::tables::result_row::first_row;
use crate::tables::{RunOutcome, Table};

/// The run that is writing to the store.
#[derive(Debug)]
enum Writer {
    /// The run that holds the lock, as the lock file describes it.
    Run(String),
    Nobody,
    /// An object store has no lock.
    Unknown,
}

impl Writer {
    fn of(location: &StoreLocation) -> Self {
        match (StoreLock::holder(location), location.folder()) {
            (Some(run), _) => Self::Run(run),
            (None, Some(_)) => Self::Nobody,
            (None, None) => Self::Unknown,
        }
    }
}

pub(super) fn check(subject: &Subject, report: &mut Report) {
    let Some(store) = &subject.store else { return };
    if let Err(error) = subject.runtime.block_on(state(store, subject, report)) {
        report.error("store", &error);
    }
}

async fn state(store: &str, subject: &Subject, report: &mut Report) -> Result<()> {
    let location = StoreLocation::parse(store)?;
    let writer = Writer::of(&location);
    if Store::id_type_at(&location).await?.is_none() {
        if let Writer::Run(writer) = writer {
            report.ok("store", format!("`{location}` is being created by run {writer}"));
        } else if subject.job.is_some() {
            report.ok("store", format!("`{location}` does not exist yet: `quarry run` creates it"));
        } else {
            report.fix(
                "store",
                format!("there is no store at `{location}`"),
                "check the path; `quarry run` creates a store",
            );
        }
        return Ok(());
    }
    let context = session(&SessionSettings::default())?;
    let store = Store::open_existing(location).await?;
    register_store(&context, &store).await?;
    let mut counts = Vec::new();
    for table in Table::ALL {
        let rows = count(&context, &format!("SELECT count(*) AS n FROM {}", table.name())).await?;
        counts.push(format!("{} {}", table.name(), thousands(rows as u64)));
    }
    let commit = store.last_commit().map_or_else(|| "no commit yet".to_owned(), |commit| format!("commit {commit}"));
    report.ok("store", format!("`{}`, {commit}; rows: {}", store.location(), counts.join(", ")));
    if let Some(number) = store.incomplete_commit() {
        incomplete_commit(number, &writer, report);
    }
    last_run(&context, &writer, report).await?;
    if let Writer::Run(writer) = writer {
        report.ok("writer", format!("run {writer} holds the store's lock"));
    }
    if let Some(job) = &subject.job {
        let model =
            resolve::here(&subject.model).ok().flatten().and_then(|place| ModelDirectory::open(&place.path).ok());
        // A model that cannot be opened, or does not fit the questions, is a finding of the model check.
        if let Some(spec) = model.and_then(|model| job.extraction.specify(&model).ok()) {
            specification(&context, &store, &spec, report).await?;
        }
    }
    Ok(())
}

fn incomplete_commit(number: i64, writer: &Writer, report: &mut Report) {
    let hidden = "the views do not show it";
    match writer {
        Writer::Run(_) => report.ok("commit", format!("commit {number} is in progress")),
        Writer::Nobody => {
            let text = format!("a killed run left commit {number} incomplete; {hidden}");
            report.warning("commit", text, "start the job again: the run removes this commit and resumes");
        }
        Writer::Unknown => {
            let text = format!("commit {number} is incomplete; its run is {UNKNOWN}; {hidden}");
            report.warning(
                "commit",
                text,
                "if no run is active, start the job again: the run removes this commit and resumes",
            );
        }
    }
}

async fn last_run(context: &SessionContext, writer: &Writer, report: &mut Report) -> Result<()> {
    let sql = "SELECT run_id, outcome, started_at, finished_at FROM runs ORDER BY started_at DESC LIMIT 1";
    let batches = query(context, sql).await?;
    let Some(run) = first_row(&batches) else {
        report.ok("last run", "none yet");
        return Ok(());
    };
    let (id, outcome): (&str, &str) = (run.get("run_id")?, run.get("outcome")?);
    let (began, ended): (DateTime<Utc>, Option<DateTime<Utc>>) = (run.get("started_at")?, run.get("finished_at")?);
    let started = format!(", started {}", began.format("%Y-%m-%d %H:%M:%S UTC"));
    let took = ended.and_then(|ended| (ended - began).to_std().ok());
    let took = took.map_or_else(String::new, |took| format!(", took {}", console::duration(took)));
    let text = format!("{id}: {outcome}{started}{took}");
    let resume = "start the job again: the run resumes after the last commit";
    match (outcome.parse(), writer) {
        (Ok(RunOutcome::Done | RunOutcome::Limited), _) | (Ok(RunOutcome::Running), Writer::Run(_)) => {
            report.ok("last run", text);
        }
        (Ok(RunOutcome::Running), Writer::Unknown) => report.warning(
            "last run",
            format!("{id}: {UNKNOWN}{started}"),
            "if it is not running, start the job again: the run resumes after the last commit",
        ),
        (Ok(RunOutcome::Running | RunOutcome::Interrupted), _) => {
            report.warning("last run", format!("{text}; it did not finish"), resume);
        }
        (Ok(RunOutcome::Stopped), _) => report.warning("last run", text, resume),
        (Ok(RunOutcome::Failed(_)), _) => {
            report.warning("last run", text, "fix the cause and start the job again: nothing was lost");
        }
        (Err(unknown), _) => {
            report.warning("last run", format!("{id}: {unknown}"), "use the version of quarry that ran it");
        }
    }
    Ok(())
}

/// Whether the job's next run would continue in this store.
async fn specification(
    context: &SessionContext,
    store: &Store,
    spec: &ExtractionSpec,
    report: &mut Report,
) -> Result<()> {
    let id = spec.id();
    match standing(context, store, &id).await? {
        Standing::Alone => {
            let known = !store.specs()?.is_empty();
            let text =
                if known { "the store's documents were extracted with it" } else { "the store has no documents yet" };
            report.ok("specification", format!("{id}: {text}"));
        }
        Standing::Replacing(other) => {
            let changes = other.changes(spec);
            let text = format!("{} is being replaced by {id}: {changes}", other.spec_id);
            report.warning("specification", text, "run the job to completion: it then drops the old rows");
        }
        Standing::Foreign(other) => {
            let changes = other.changes(spec);
            report.fix(
                "specification",
                format!("the store has {}, the job has {id}: {changes}", other.spec_id),
                "undo the change, name another store, or use --replace to extract everything again beside the old rows",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use object_store::memory::InMemory;
    use url::Url;

    use super::*;
    use crate::doctor::report::{Finding, Message, Status};
    use crate::store::runs::tests::run;

    #[tokio::test]
    async fn without_a_lock_no_run_is_reported_as_killed() {
        let url = Url::parse("memory:///lake/store").unwrap();
        let location = StoreLocation::within(std::sync::Arc::new(InMemory::new()), url);
        let mut store = Store::open(location.clone(), arrow::datatypes::DataType::Utf8).await.unwrap();
        store.begin_run(&run("run-1", RunOutcome::Running)).await.unwrap();
        let context = session(&SessionSettings::default()).unwrap();
        register_store(&context, &store).await.unwrap();
        let (sender, messages) = channel();
        let mut report = Report::new(0, sender);
        let writer = Writer::of(&location);
        incomplete_commit(3, &writer, &mut report);
        last_run(&context, &writer, &mut report).await.unwrap();
        last_run(&context, &Writer::Nobody, &mut report).await.unwrap();
        let warning = || match messages.recv() {
            Ok((_, Message::Finding(Finding { status: Status::Warning, text, .. }))) => text,
            _ => panic!("no warning"),
        };
        assert!(warning().starts_with(&format!("commit 3 is incomplete; its run is {UNKNOWN}; ")));
        assert!(warning().starts_with(&format!("run-1: {UNKNOWN}, started ")));
        assert!(warning().ends_with("it did not finish"));
    }
}

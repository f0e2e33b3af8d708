//! The store. In: its location, and the job if there is one. Out: its tables and rows, the outcome of the last run, the run that writes
//! to it, and what the next run would find. It must not create or repair anything.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use serde_json::Value;

use crate::console;
use crate::console::thousands;
use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::error::Result;
use crate::job::spec_changes;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::query::run_history::{Standing, standing};
use crate::query::session::{SessionSettings, register_store, session};
use crate::query::statement::{i64_row, query, string_column};
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::store::lock::StoreLock;
use crate::store::runs::{INTERRUPTED, RUNNING, UNKNOWN};
use crate::tables::Table;

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
        let rows = query(&context, &format!("SELECT count(*) FROM {}", table.name())).await?;
        let rows = i64_row(&rows)?.first().copied().unwrap_or(0);
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
        let loaded = model.and_then(|model| job.questions(&model).ok().map(|(_, _, windows)| (model, windows)));
        if let Some((model, windows)) = loaded {
            specification(&context, &store, &job.spec_parts(&model, windows), report).await?;
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
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else {
        report.ok("last run", "none yet");
        return Ok(());
    };
    let (id, outcome) = (string_column(batch, 0)?.concat(), string_column(batch, 1)?.concat());
    let time = |column: usize| -> Option<DateTime<Utc>> {
        let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>()?;
        times.is_valid(0).then(|| DateTime::from_timestamp_micros(times.value(0))).flatten()
    };
    let began =
        time(2).map_or_else(String::new, |began| format!(", started {}", began.format("%Y-%m-%d %H:%M:%S UTC")));
    let took = time(2).zip(time(3)).and_then(|(began, ended)| (ended - began).to_std().ok());
    let took = took.map_or_else(String::new, |took| format!(", took {}", console::duration(took)));
    let text = format!("{id}: {outcome}{began}{took}");
    match (outcome.as_str(), writer) {
        ("done" | "limited", _) | (RUNNING, Writer::Run(_)) => report.ok("last run", text),
        (RUNNING, Writer::Unknown) => report.warning(
            "last run",
            format!("{id}: {UNKNOWN}{began}"),
            "if it is not running, start the job again: the run resumes after the last commit",
        ),
        (RUNNING | INTERRUPTED, _) => {
            report.warning(
                "last run",
                format!("{text}; it did not finish"),
                "start the job again: the run resumes after the last commit",
            );
        }
        ("stopped", _) => {
            report.warning("last run", text, "start the job again: the run resumes after the last commit");
        }
        _ => report.warning("last run", text, "fix the cause and start the job again: nothing was lost"),
    }
    Ok(())
}

/// Whether the job's next run would continue in this store.
async fn specification(context: &SessionContext, store: &Store, parts: &Value, report: &mut Report) -> Result<()> {
    let id = crate::job::spec_id(parts);
    match standing(context, store, &id).await? {
        Standing::Alone => {
            let known = !store.specs()?.is_empty();
            let text =
                if known { "the store's documents were extracted with it" } else { "the store has no documents yet" };
            report.ok("specification", format!("{id}: {text}"));
        }
        Standing::Replacing(other) => {
            let changes = spec_changes(&other.parts, parts).join(", ");
            let text = format!("{} is being replaced by {id}: {changes}", other.spec_id);
            report.warning("specification", text, "run the job to completion: it then drops the old rows");
        }
        Standing::Foreign(other) => {
            let changes = spec_changes(&other.parts, parts).join(", ");
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
        store.begin_run(&run("run-1", "")).await.unwrap();
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

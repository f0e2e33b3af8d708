//! The store. In: its location, and the job if there is one. Out: its tables and rows, the last run and how it ended, who writes to it,
//! and what the next run would find. It may not create or repair anything.

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

/// Who writes to the store at this moment.
#[derive(Debug)]
enum Writer {
    /// The run that holds the lock, as it wrote itself down.
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

pub(super) fn look(subject: &Subject, report: &mut Report) {
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
            report.ok("store", format!("`{location}` is being made by the run {writer}"));
        } else if subject.job.is_some() {
            report.ok("store", format!("`{location}` is not there yet: `quarry run` makes it"));
        } else {
            report.fix(
                "store",
                format!("there is no store at `{location}`"),
                "check the path; `quarry run` makes a store",
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
    if let Some(number) = store.half_done() {
        half_done(number, &writer, report);
    }
    last_run(&context, &writer, report).await?;
    if let Writer::Run(writer) = writer {
        report.ok("writer", format!("the run {writer} holds the store's lock"));
    }
    if let Some(job) = &subject.job {
        let model =
            resolve::here(&subject.model).ok().flatten().and_then(|place| ModelDirectory::open(&place.path).ok());
        // A model that cannot be opened, or asked, is a finding of its own.
        let asked = model.and_then(|model| job.questions(&model).ok().map(|(_, _, windows)| (model, windows)));
        if let Some((model, windows)) = asked {
            specification(&context, &store, &job.spec_parts(&model, windows), report).await?;
        }
    }
    Ok(())
}

fn half_done(number: i64, writer: &Writer, report: &mut Report) {
    let unseen = "readers of the views do not see it";
    match writer {
        Writer::Run(_) => report.ok("commit", format!("commit {number} is under way")),
        Writer::Nobody => {
            let text = format!("commit {number} was left half done by a killed run; {unseen}");
            report.warning("commit", text, "start the run again: it removes the commit and goes on");
        }
        Writer::Unknown => {
            let text = format!("commit {number} is half done; its run is {UNKNOWN}; {unseen}");
            report.warning("commit", text, "where no run is under way, start one: it removes the commit and goes on");
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
    let began = time(2).map_or_else(String::new, |began| format!(", began {}", began.format("%Y-%m-%d %H:%M:%S UTC")));
    let took = time(2).zip(time(3)).and_then(|(began, ended)| (ended - began).to_std().ok());
    let took = took.map_or_else(String::new, |took| format!(", took {}", console::duration(took)));
    let text = format!("{id}: {outcome}{began}{took}");
    match (outcome.as_str(), writer) {
        ("done" | "limited", _) | (RUNNING, Writer::Run(_)) => report.ok("last run", text),
        (RUNNING, Writer::Unknown) => report.warning(
            "last run",
            format!("{id}: {UNKNOWN}{began}"),
            "where it is not running, start it again: it goes on from its last commit",
        ),
        (RUNNING | INTERRUPTED, _) => {
            report.warning(
                "last run",
                format!("{text}; it did not come to its end"),
                "start it again: it goes on from its last commit",
            );
        }
        ("stopped", _) => report.warning("last run", text, "start it again: it goes on from its last commit"),
        _ => report.warning("last run", text, "mend the cause and start it again: nothing was lost"),
    }
    Ok(())
}

/// Whether the job's next run would go on in this store.
async fn specification(context: &SessionContext, store: &Store, parts: &Value, report: &mut Report) -> Result<()> {
    let id = crate::job::spec_id(parts);
    match standing(context, store, &id).await? {
        Standing::Alone => {
            let known = !store.specs()?.is_empty();
            let text = if known { "the store's documents were extracted under it" } else { "the store has none yet" };
            report.ok("specification", format!("{id}: {text}"));
        }
        Standing::Replacing(other) => {
            let changes = spec_changes(&other.parts, parts).join(", ");
            let text = format!("{} is being replaced by {id}: {changes}", other.spec_id);
            report.warning("specification", text, "run the job to its end: then the old rows go");
        }
        Standing::Foreign(other) => {
            let changes = spec_changes(&other.parts, parts).join(", ");
            report.fix(
                "specification",
                format!("the store has {}, the job is {id}: {changes}", other.spec_id),
                "undo the change, name another store, or say --replace to extract everything anew beside the old rows",
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
    use crate::doctor::report::{Finding, Said, Status};
    use crate::store::runs::tests::run;

    #[tokio::test]
    async fn where_there_is_no_lock_no_run_is_called_dead() {
        let url = Url::parse("memory:///lake/store").unwrap();
        let location = StoreLocation::within(std::sync::Arc::new(InMemory::new()), url);
        let mut store = Store::open(location.clone(), arrow::datatypes::DataType::Utf8).await.unwrap();
        store.begin_run(&run("run-1", "")).await.unwrap();
        let context = session(&SessionSettings::default()).unwrap();
        register_store(&context, &store).await.unwrap();
        let (say, heard) = channel();
        let mut report = Report::new(0, say);
        let writer = Writer::of(&location);
        half_done(3, &writer, &mut report);
        last_run(&context, &writer, &mut report).await.unwrap();
        last_run(&context, &Writer::Nobody, &mut report).await.unwrap();
        let said = || match heard.recv() {
            Ok((_, Said::Finding(Finding { status: Status::Warning, text, .. }))) => text,
            _ => panic!("no warning"),
        };
        let unknown = "running, or killed: on an object store nobody can tell";
        assert!(said().starts_with(&format!("commit 3 is half done; its run is {unknown}; ")));
        assert!(said().starts_with(&format!("run-1: {unknown}, began ")));
        assert!(said().ends_with("it did not come to its end"));
    }
}

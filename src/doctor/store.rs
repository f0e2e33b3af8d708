//! The store. In: its location, and the job if there is one. Out: its tables and rows, the last run and how it ended, who writes to it,
//! and what the next run would find. It may not create or repair anything.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::Subject;
use super::report::Report;
use crate::console::{self, thousands};
use crate::engine::location::StoreLocation;
use crate::engine::lock::StoreLock;
use crate::engine::query::{numbers, query, words};
use crate::engine::runs::{INTERRUPTED, RUNNING};
use crate::engine::session::{SessionSettings, register_store, session};
use crate::engine::store::Store;
use crate::error::Result;
use crate::job::spec_changes;
use crate::model::directory::ModelDirectory;
use crate::model::find;
use crate::tables::Table;

pub(super) fn look(subject: &Subject, report: &mut Report) {
    let Some(store) = &subject.store else { return };
    if let Err(error) = subject.runtime.block_on(state(store, subject, report)) {
        report.error("store", &error);
    }
}

async fn state(store: &str, subject: &Subject, report: &mut Report) -> Result<()> {
    let location = StoreLocation::parse(store)?;
    let writer = StoreLock::holder(&location);
    if Store::id_type_at(&location).await?.is_none() {
        if let Some(writer) = writer {
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
        let rows = numbers(&rows).first().copied().unwrap_or(0);
        counts.push(format!("{} {}", table.name(), thousands(rows as u64)));
    }
    let commit = store.last_commit().map_or_else(|| "no commit yet".to_owned(), |commit| format!("commit {commit}"));
    report.ok("store", format!("`{}`, {commit}; rows: {}", store.location(), counts.join(", ")));
    if let Some(number) = store.half_done() {
        if writer.is_some() {
            report.ok("commit", format!("commit {number} is under way"));
        } else {
            let text =
                format!("commit {number} was left half done by a killed run; readers of the views do not see it");
            report.warning("commit", text, "start the run again: it removes the commit and goes on");
        }
    }
    last_run(&context, writer.is_some(), report).await?;
    if let Some(writer) = writer {
        report.ok("writer", format!("the run {writer} holds the store's lock"));
    }
    if let Some(job) = &subject.job {
        let model = find::here(&subject.model).ok().flatten().and_then(|place| ModelDirectory::open(&place.path).ok());
        // A model that cannot be opened is a finding of its own.
        if let Some(model) = model {
            specification(&context, &job.spec_parts(model.model_hash()), report).await?;
        }
    }
    Ok(())
}

async fn last_run(context: &SessionContext, writing: bool, report: &mut Report) -> Result<()> {
    let sql = "SELECT run_id, outcome, started_at, finished_at FROM runs ORDER BY started_at DESC LIMIT 1";
    let batches = query(context, sql).await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else {
        report.ok("last run", "none yet");
        return Ok(());
    };
    let (id, outcome) = (words(batch, 0)?.concat(), words(batch, 1)?.concat());
    let time = |column: usize| -> Option<DateTime<Utc>> {
        let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>()?;
        times.is_valid(0).then(|| DateTime::from_timestamp_micros(times.value(0))).flatten()
    };
    let began = time(2).map_or_else(String::new, |began| format!(", began {}", began.format("%Y-%m-%d %H:%M:%S UTC")));
    let took = time(2).zip(time(3)).and_then(|(began, ended)| (ended - began).to_std().ok());
    let took = took.map_or_else(String::new, |took| format!(", took {}", console::duration(took)));
    let text = format!("{id}: {outcome}{began}{took}");
    match outcome.as_str() {
        "done" | "limited" => report.ok("last run", text),
        RUNNING if writing => report.ok("last run", text),
        RUNNING | INTERRUPTED => {
            report.warning(
                "last run",
                format!("{text}; it did not come to its end"),
                "start it again: it goes on from its last commit",
            );
        }
        "stopped" => report.warning("last run", text, "start it again: it goes on from its last commit"),
        _ => report.warning("last run", text, "mend the cause and start it again: nothing was lost"),
    }
    Ok(())
}

/// Whether the job's next run would go on in this store.
async fn specification(context: &SessionContext, parts: &Value, report: &mut Report) -> Result<()> {
    let id = crate::job::spec_id(parts);
    let batches = query(context, "SELECT spec_id FROM documents GROUP BY spec_id ORDER BY min(commit)").await?;
    let mut known = Vec::new();
    for batch in &batches {
        known.extend(words(batch, 0)?);
    }
    let Some(other) = known.iter().find(|known| **known != id) else {
        let text =
            if known.is_empty() { "the store has none yet" } else { "the store's documents were extracted under it" };
        report.ok("specification", format!("{id}: {text}"));
        return Ok(());
    };
    let sql = format!("SELECT job FROM runs WHERE spec_id = '{other}' ORDER BY started_at DESC LIMIT 1");
    let mut before = Value::Null;
    for batch in query(context, &sql).await? {
        before = serde_json::from_str(&words(&batch, 0)?.concat()).unwrap_or_default();
    }
    let changes = spec_changes(&before["spec"], parts).join(", ");
    if known.contains(&id) {
        let text = format!("{other} is being replaced by {id}: {changes}");
        report.warning("specification", text, "run the job to its end: then the old rows go");
    } else {
        report.fix(
            "specification",
            format!("the store has {other}, the job is {id}: {changes}"),
            "undo the change, name another store, or say --replace to extract everything anew beside the old rows",
        );
    }
    Ok(())
}

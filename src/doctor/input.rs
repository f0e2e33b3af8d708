//! The job's documents. In: a job. Out: the files found, and those that cannot be read. It must not read a document.

use crate::console::{bytes, thousands};
use crate::doctor::report::Report;
use crate::doctor::subject::Subject;
use crate::error::Result;
use crate::job::Job;
use crate::query::session::{SessionSettings, session};
use crate::source::input::Documents;
use crate::source::listing::Listing;

/// Maximum number of unreadable files that are named.
const NAMED: usize = 3;

pub(super) fn check(subject: &Subject, report: &mut Report) {
    let Some(job) = &subject.job else { return };
    if let Err(error) = subject.runtime.block_on(documents(job, report)) {
        report.error("input", &error);
    }
    if let Some(gold) = &job.file.input.gold {
        match subject.runtime.block_on(gold_mentions(job)) {
            Ok(()) => report.ok("gold", format!("`{gold}` has the columns of mentions")),
            Err(error) => report.error("gold", &error),
        }
    }
}

async fn documents(job: &Job, report: &mut Report) -> Result<()> {
    let context = session(&SessionSettings::default())?;
    let listing = Listing::find(&context, &job.input.documents).await?;
    let (listed, size) = (listing.files.len(), listing.files.iter().map(|file| file.meta.size).sum());
    let passed_over = listing.passed_over();
    let documents = Documents::inspect(&context, job.input.clone(), listing, 0).await?;
    let rows = documents.rows().map_or_else(String::new, |rows| format!(", {} rows", thousands(rows.unsigned_abs())));
    report.ok(
        "input",
        format!(
            "`{}`: {listed} files, {}{rows}; column `{}` is {}, `{}` is text",
            job.input.documents,
            bytes(size),
            job.input.id,
            documents.id_type,
            job.input.text
        ),
    );
    if let Some(passed_over) = passed_over {
        report.warning("input", passed_over, "convert these files, or move them elsewhere if they are no documents");
    }
    for (file, reason) in documents.unreadable.iter().take(NAMED) {
        report.warning(
            "input",
            format!("`{}` cannot be read: {reason}", file.path),
            "repair or remove the file; a run extracts the other files and exits with code 3",
        );
    }
    if let Some(more) = documents.unreadable.len().checked_sub(NAMED + 1) {
        report.warning("input", format!("{} more files cannot be read", more + 1), "`quarry run` names all of them");
    }
    Ok(())
}

async fn gold_mentions(job: &Job) -> Result<()> {
    job.check_gold(&session(&SessionSettings::default())?).await
}

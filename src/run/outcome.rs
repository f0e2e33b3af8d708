//! How a run ends. In: counters, the job's limits. Out: what is said at its start and end, and the exit code. It must not end the process.

use crate::console;
use crate::extract::counters::Counters;
use crate::job::{Job, Ready};
use crate::source::input::Documents;

/// The exit code of a run that is done but for files it could not read, or with more rejects than the job allows.
const DONE_WITH_REJECTS: u8 = 3;

/// How a run came to its end.
pub(crate) enum Ended {
    Done(u8),
    /// `--limit` was reached before the input ended.
    Limited(u8),
    Stopped,
}

/// Says where it runs, what is to be read, and what cannot be.
pub(crate) fn announce(job: &Job, ready: &Ready, documents: &Documents, skipped: usize) {
    let chosen = &ready.chosen;
    console::note(&format!(
        "device {} ({}), precision {}, ONNX Runtime {}{}",
        chosen.device,
        chosen.reason,
        chosen.precision,
        chosen.library.version,
        chosen.distribution.beside()
    ));
    let files = documents.files.len();
    let rows = documents
        .rows()
        .map_or_else(String::new, |rows| format!(" with {} rows", console::thousands(rows.unsigned_abs())));
    let done = if skipped > 0 { format!(", {skipped} more are done") } else { String::new() };
    console::note(&format!(
        "{files} file(s){rows} to read from `{}`{done}; {} entity types",
        job.input.documents,
        job.schema.types.len()
    ));
    for (file, reason) in &documents.unreadable {
        console::warn(&format!("`{}` cannot be read: {reason}", file.path));
    }
}

/// The end of a run that was not stopped, and its exit code.
pub(crate) fn ended(job: &Job, ready: &Ready, documents: &Documents, limited: bool) -> Ended {
    let rejects = Counters::get(&ready.extractor.counters.rejects);
    let all = rejects + Counters::get(&ready.extractor.counters.documents);
    let bad = !documents.unreadable.is_empty() || job.max_rejects.exceeded(rejects, all);
    let code = if bad { DONE_WITH_REJECTS } else { 0 };
    if limited { Ended::Limited(code) } else { Ended::Done(code) }
}

//! The outcome of a run. In: counters, the job's limits. Out: the messages at its start, and its exit code. It must not end the
//! process.

use crate::console;
use crate::extract::extractor::Extractor;
use crate::run::settings::RunSettings;
use crate::source::input::Documents;

/// The exit code of a run that finished, but found unreadable files or more rejects than the job allows.
const DONE_WITH_REJECTS: u8 = 3;

/// How a run ended.
pub(crate) enum Ended {
    Done(u8),
    /// `--limit` was reached before the input ended.
    Limited(u8),
    Stopped,
}

/// Logs the device, the input to read, and the unreadable files.
pub(crate) fn announce(settings: &RunSettings, extractor: &Extractor, documents: &Documents, skipped: usize) {
    let (job, chosen) = (&settings.job, extractor.selection());
    if !settings.extracts_elsewhere() {
        tracing::info!(
            "device {} ({}), precision {}, ONNX Runtime {}{}",
            chosen.devices,
            chosen.reason,
            chosen.precision,
            chosen.library.version,
            chosen.distribution.beside()
        );
    }
    let files = documents.files.len();
    let rows = documents
        .rows()
        .map_or_else(String::new, |rows| format!(" with {} rows", console::thousands(rows.unsigned_abs())));
    let done = if skipped > 0 { format!(", {skipped} more already done") } else { String::new() };
    tracing::info!(
        "{files} file(s){rows} to read from `{}`{done}; {} entity types",
        job.input.documents,
        job.extraction.schema.types.len()
    );
    for (file, reason) in &documents.unreadable {
        tracing::warn!("`{}` cannot be read: {reason}", file.path);
    }
}

/// The outcome of a run that was not stopped, with its exit code; `rejected` is whether it has more rejects than the job allows.
pub(crate) fn ended(documents: &Documents, rejected: bool, limited: bool) -> Ended {
    let incomplete = !documents.unreadable.is_empty() || rejected;
    let code = if incomplete { DONE_WITH_REJECTS } else { 0 };
    if limited { Ended::Limited(code) } else { Ended::Done(code) }
}

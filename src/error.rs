//! Every error of this crate. In: a cause (an I/O error, a library's error, an invalid value). Out: one sentence that names
//! the path or value, the chain of causes, and a hint with the way out. It must not print, and what it says must not hold a log-in or a
//! signature of a URL.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::sanitize::{escaped_lines, without_secrets};

/// The cause of an [`Error`], kept so that the whole chain can be printed.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Every way in which a command can fail. The message names the failed operation and its object, the `caused by` lines
/// come from `source`, and [`Error::hint`] gives the way out.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant shows what its fields hold")]
pub enum Error {
    /// A setting of the job file (or of the command line) cannot be used.
    #[error("{}: `{}`: {}", shown(origin), shown(key), shown(reason))]
    Setting { origin: String, key: String, reason: String, hint: String },
    /// The job, schema or configuration file cannot be parsed.
    #[error("cannot parse `{}`", shown_path(path))]
    Parse { path: PathBuf, source: Cause, hint: String },
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", shown_path(path))]
    Read { path: PathBuf, source: Cause },
    /// A file or folder cannot be written.
    #[error("cannot write `{}`", shown_path(path))]
    Write { path: PathBuf, source: Cause },
    /// The input has no documents, or not in the format that the job names.
    #[error("cannot use the documents at `{}`: {}", shown(location), shown(reason))]
    Input { location: String, reason: String, hint: String },
    /// A table that a command reads (mentions, documents) is missing or has other columns.
    #[error("cannot use the {} at `{}`: {}", shown(what), shown(location), shown(reason))]
    Table { what: String, location: String, reason: String, hint: String },
    /// A corpus violates its format.
    #[error("cannot prepare `{}`, {}: {}", shown_path(path), shown(place), shown(reason))]
    Corpus { path: PathBuf, place: String, reason: String, hint: String },
    /// A checkpoint (safetensors, PyTorch, Lightning) cannot be used.
    #[error("cannot use checkpoint `{}`: {}", shown_path(path), shown(reason))]
    Checkpoint { path: PathBuf, reason: String, hint: String },
    /// A model directory cannot be loaded.
    #[error("cannot load model `{}`: {}", shown_path(path), shown(reason))]
    Model { path: PathBuf, reason: String, hint: String },
    /// A model cannot be fetched from the Hugging Face hub.
    #[error("cannot fetch model `{}` from the hub", shown(model))]
    Hub { model: String, missing: bool, source: Cause },
    /// The model's tokenizer cannot be loaded or fails on a text.
    #[error("cannot use tokenizer `{}`", shown_path(path))]
    Tokenizer { path: PathBuf, source: Cause },
    /// ONNX Runtime's library is missing, damaged or of the wrong version.
    #[error("cannot use ONNX Runtime: {}", shown(reason))]
    Library { reason: String, hint: String, retry: bool },
    /// The device that the job names is not available.
    #[error("cannot use device `{}`: {}", shown(device), shown(reason))]
    Device { device: String, reason: String, hint: String },
    /// ONNX Runtime rejected a graph or failed on a batch.
    #[error("ONNX Runtime failed to {}", shown(doing))]
    Inference { doing: String, source: Cause },
    /// The model's logits are not finite for a large share of the documents.
    #[error("the model cannot answer {refused} of {documents} documents: its logits are not finite")]
    Unanswerable { refused: usize, documents: usize },
    /// The store's tables cannot be read or committed to.
    #[error("cannot {} the store `{}`", shown(doing), shown(store))]
    Store { doing: String, store: String, source: Cause },
    /// The store has documents of another specification, ids of another type, or unexpected tables.
    #[error("the store `{}` {}", shown(store), shown(reason))]
    Refused { store: String, reason: String, hint: String },
    /// A table of the store has lost something that it needs, as after a power failure on a disk that does not keep what it is told to.
    #[error("the table `{table}` of the store `{}` is damaged: {}", shown(store), shown(reason))]
    Damaged { store: String, table: String, reason: String, hint: String },
    /// A table of the store asks something of its readers or writers that this version does not honour.
    #[error(
        "the table `{table}` of the store `{}` has {feature}, which this version of quarry does not honour",
        shown(store)
    )]
    Unsupported { store: String, table: String, feature: String },
    /// The object store ignores the condition of conditional puts.
    #[error("the object store of `{}` ignores conditional puts (`If-None-Match: *`)", shown(store))]
    UnsafeStore { store: String },
    /// Another run writes to the store at the same time.
    #[error("the store `{}` is being written to by {}", shown(store), shown(other))]
    Conflict { store: String, other: String, source: Cause },
    /// Training cannot continue.
    #[error("cannot continue training: {}", shown(reason))]
    Training { reason: String, hint: String },
    /// An executor of a cluster failed, in a way that ends the run as it would have ended here.
    #[error("on the executor `{}`: {}", shown(executor), shown(message))]
    Executor { executor: String, message: String, source: Option<Cause>, hint: String, exit_code: u8 },
    /// The query engine failed.
    #[error("cannot {}", shown(doing))]
    Engine { doing: String, source: Cause },
    /// A user's SQL cannot be parsed or answered; the excerpt shows where.
    #[error("cannot answer the query: {}{}", shown(reason), shown(excerpt))]
    Sql { reason: String, excerpt: String, hint: String },
    /// A signal stopped the run; all finished documents are committed.
    #[error("stopped by {signal}")]
    Stopped { signal: &'static str, exit_code: u8 },
}

/// What an error says of a value that it was given.
fn shown(value: &str) -> Cow<'_, str> {
    without_secrets(value)
}

/// The same of a path, which can be a mistaken URL.
fn shown_path(path: &Path) -> String {
    without_secrets(&path.to_string_lossy()).into_owned()
}

/// The result type of all fallible functions in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the user can do about the error, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Setting { hint, .. }
            | Self::Parse { hint, .. }
            | Self::Input { hint, .. }
            | Self::Table { hint, .. }
            | Self::Corpus { hint, .. }
            | Self::Checkpoint { hint, .. }
            | Self::Model { hint, .. }
            | Self::Library { hint, .. }
            | Self::Device { hint, .. }
            | Self::Training { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Executor { hint, .. }
            | Self::Damaged { hint, .. }
            | Self::Sql { hint, .. } => Some(hint.as_str()).filter(|hint| !hint.is_empty()),
            Self::Read { .. } => Some("check that the path is right and that you may read it"),
            Self::Write { source, .. } | Self::Store { source, .. } if is_denied(source.as_ref()) => Some(
                "check that you may read and write there, that every part of the path is a folder, and that the file system is not read-only",
            ),
            Self::Write { .. } => {
                Some("check that the folder exists, that you may write there and that the disk is not full")
            }
            Self::Hub { missing: true, .. } => {
                Some("check the name; where the model is private, set HF_TOKEN to a token that may read it")
            }
            Self::Hub { missing: false, .. } => Some(
                "check the network, HTTPS_PROXY and HF_ENDPOINT; without a network, copy the model's folder to this machine and name its path",
            ),
            Self::Tokenizer { .. } => {
                Some("the model directory needs a tokenizer.json as the `tokenizers` library writes it")
            }
            Self::Inference { .. } => Some("run with `--log debug` to see ONNX Runtime's own messages"),
            Self::Unanswerable { .. } => {
                Some("check the weights (`quarry doctor`), or name another precision, such as `precision = \"fp32\"`")
            }
            Self::Store { .. } => {
                Some("nothing was lost: start the run again once the store is reachable and has free space")
            }
            Self::Unsupported { .. } => Some(
                "nothing was read or written: another tool has changed the table. Drop the feature with that tool (deletion vectors: purge them first), or restore the table, or name a new store",
            ),
            Self::UnsafeStore { .. } => Some(
                "two runs could overwrite each other's commits there: use an object store that honours the condition (S3, Google Cloud Storage, Azure and MinIO do), or a local folder",
            ),
            Self::Conflict { .. } => {
                Some("what this run committed is kept: wait for the other run to end, then start this one again")
            }
            Self::Engine { .. } | Self::Stopped { .. } => None,
        }
    }

    /// The messages of the causes, the nearest first. A cause that only repeats the message before it is skipped.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut previous = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            // Libraries name the URL that they asked, with everything in it.
            let message = without_secrets(&source.to_string()).into_owned();
            if !previous.contains(message.trim()) {
                causes.push(message.trim().to_owned());
                previous = message;
            }
            cause = source.source();
        }
        causes
    }

    /// The error as a person reads it: the message, its causes and its hint, a line each, with control characters escaped.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}\n");
        for cause in self.causes() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  caused by: {}", cause.replace('\n', "\n             "));
        }
        if let Some(hint) = self.hint() {
            let _ = writeln!(text, "hint: {}", without_secrets(hint));
        }
        escaped_lines(&text).into_owned()
    }

    /// The process's exit code: 1 if the user must fix something, 2 if a retry can help, 130/143 if a signal stopped it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Store { source, .. } | Self::Engine { source, .. } if is_denied(source.as_ref()) => 1,
            Self::Write { source, .. } if is_denied(source.as_ref()) || is_of_kind(source.as_ref(), &NO_PLACE) => 1,
            Self::Inference { source, .. } if is_bad_graph(source.as_ref()) => 1,
            Self::Inference { .. }
            | Self::Hub { missing: false, .. }
            | Self::Library { retry: true, .. }
            | Self::Store { .. }
            | Self::Conflict { .. }
            | Self::Engine { .. }
            | Self::Write { .. } => 2,
            Self::Stopped { exit_code, .. } | Self::Executor { exit_code, .. } => *exit_code,
            _ => 1,
        }
    }
}

/// Places that cannot be written to. What is read can be missing because another program replaces it, and be there in a retry.
const NO_PLACE: [ErrorKind; 5] = [
    ErrorKind::AlreadyExists,
    ErrorKind::NotFound,
    ErrorKind::NotADirectory,
    ErrorKind::IsADirectory,
    ErrorKind::InvalidFilename,
];

/// Whether the operating system refused for a reason that does not go away by itself.
pub(crate) fn is_denied(cause: &(dyn std::error::Error + 'static)) -> bool {
    is_of_kind(cause, &[ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotADirectory])
}

/// Whether ONNX Runtime rejected the graph itself: it is damaged, or has an operator that the library does not have.
fn is_bad_graph(cause: &(dyn std::error::Error + 'static)) -> bool {
    use ort::ErrorCode::{InvalidGraph, InvalidProtobuf, NoSuchFile, NotImplemented};
    let code = cause.downcast_ref::<ort::Error>().map(ort::Error::code);
    matches!(code, Some(InvalidGraph | InvalidProtobuf | NoSuchFile | NotImplemented))
}

/// Whether the operating system's error, at any depth of a cause, is of one of these kinds.
fn is_of_kind(cause: &(dyn std::error::Error + 'static), kinds: &[ErrorKind]) -> bool {
    let causes = std::iter::successors(Some(cause), |error| error.source());
    causes.filter_map(|error| error.downcast_ref::<std::io::Error>()).any(|error| kinds.contains(&error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once_and_in_order() {
        let failed = |doing: &str, source: Cause| Error::Engine { doing: doing.into(), source };
        let error = failed("continue", failed("read a row", "the row is truncated\n".into()).into());
        assert_eq!(error.causes(), ["cannot read a row", "the row is truncated"]);
        let error = failed("continue", failed("continue", "cannot continue".into()).into());
        assert!(error.causes().is_empty());
        assert!(Error::Stopped { signal: "SIGTERM", exit_code: 143 }.causes().is_empty());
    }

    #[test]
    fn a_report_has_the_error_its_causes_and_its_hint() {
        let error = Error::Model {
            path: "models/genia".into(),
            reason: "span_logits has shape [8, 128], expected [k]".into(),
            hint: "write the graph with `quarry export`".into(),
        };
        assert_eq!(
            error.report(),
            "error: cannot load model `models/genia`: span_logits has shape [8, 128], expected [k]\nhint: write the graph with `quarry export`\n"
        );
        let error =
            Error::Read { path: "job.toml".into(), source: std::io::Error::from(std::io::ErrorKind::NotFound).into() };
        assert_eq!(
            error.report(),
            "error: cannot read `job.toml`\n  caused by: entity not found\nhint: check that the path is right and that you may read it\n"
        );
    }

    #[test]
    fn a_retry_helps_against_a_full_disk_and_not_against_missing_permission() {
        let code = |kind: ErrorKind| {
            // As an object store wraps it.
            let cause = || -> Cause {
                object_store::Error::Generic { store: "LocalFileSystem", source: std::io::Error::from(kind).into() }
                    .into()
            };
            let errors = [
                Error::Write { path: "a".into(), source: cause() },
                Error::Engine { doing: "list".into(), source: cause() },
                Error::Store { doing: "open".into(), store: "a".into(), source: cause() },
            ];
            errors.map(|error| error.exit_code())
        };
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
            assert_eq!(code(kind), [1; 3], "{kind}");
        }
        assert_eq!(code(ErrorKind::NotFound), [1, 2, 2]);
        for kind in [ErrorKind::StorageFull, ErrorKind::TimedOut, ErrorKind::ConnectionRefused, ErrorKind::Other] {
            assert_eq!(code(kind), [2; 3], "{kind}");
        }
    }

    #[test]
    fn no_part_of_an_error_has_a_log_in_or_acts_on_the_terminal() {
        let url = "https://me:secret@host/a?sig=secret\u{1b}[31m";
        let error = Error::Table {
            what: "files".into(),
            location: url.into(),
            reason: format!("at {url}"),
            hint: format!("see {url}"),
        };
        let read = Error::Read { path: url.into(), source: format!("error for url ({url})").into() };
        for error in [error, read] {
            assert!(!error.to_string().contains("secret") && !error.causes().concat().contains("secret"));
            let report = error.report();
            assert!(
                !report.contains("secret") && !report.contains('\u{1b}') && report.contains("https://host/a?…"),
                "{report}"
            );
        }
    }
}

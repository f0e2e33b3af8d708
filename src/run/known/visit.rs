//! Earlier visits to input files. In: rows of `sources`, a listing. Out: whether a file is as it was at its visit. It must stay small: there
//! are as many as files.

use chrono::{DateTime, Utc};

use crate::extract::known_documents::digest;
use crate::source::listing::SourceFile;
use crate::tables::{SourceOutcome, SourceRow};

/// The state of a file, as a listing or a row of `sources` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    size: i64,
    /// A hash of the object store's tag.
    etag: Option<u64>,
    /// Microseconds since 1970.
    modified: Option<i64>,
}

impl FileState {
    pub(super) fn of(file: &SourceFile) -> Self {
        Self::new(file.meta.size as i64, file.meta.e_tag.as_deref(), modified(file))
    }

    pub(super) fn new(size: i64, etag: Option<&str>, modified: Option<DateTime<Utc>>) -> Self {
        let etag = etag.filter(|tag| !tag.is_empty()).map(hash);
        Self { size, etag, modified: modified.map(|time| time.timestamp_micros()) }
    }

    /// Whether a file of this state is unchanged in the state `now`.
    pub(super) fn is_still(self, now: Self) -> bool {
        let same_tag = match (self.etag, now.etag) {
            (Some(before), Some(now)) => before == now,
            // A server that sends neither tag nor time can have changed the file.
            _ => self.modified.is_some() || now.modified.is_some(),
        };
        self.size == now.size && same_tag && (self.modified.is_none() || self.modified == now.modified)
    }
}

/// An earlier visit to a file. A store has as many as its input has files, so it is small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub(super) state: FileState,
    pub(super) rows: i64,
    /// As in `sources`; 0 for none.
    pub(super) changed_in: i64,
    pub(super) done: bool,
    /// Whether the file was read as far as it can be, and not to its end.
    pub(super) refused: bool,
    /// A hash of the reason why some rows could not be read.
    pub(super) reason: Option<u64>,
    /// Whether the file is listed in this state.
    pub(super) listed: bool,
}

impl Visit {
    pub(super) fn new(row: &SourceRow, listed: bool) -> Self {
        Self {
            state: FileState::new(row.size, row.etag.as_deref(), row.modified_at),
            rows: row.rows,
            changed_in: row.changed_in.unwrap_or(0),
            done: row.outcome == SourceOutcome::Done,
            refused: matches!(row.outcome, SourceOutcome::Refused(_)),
            reason: row.outcome.reason().map(hash),
            listed,
        }
    }

    /// Whether rows of the file were read.
    pub(super) fn was_read(&self) -> bool {
        !self.refused || self.rows > 0
    }
}

/// The first 64 bits of a text's SHA-256. Of a million paths, two have the same with a probability of 3 in 100 million, and then the file
/// is still compared by size, tag and time.
pub(super) fn hash(text: &str) -> u64 {
    (digest(text) >> 64) as u64
}

/// The time of a file's last change, if known: a web server need not send it.
pub(super) fn modified(file: &SourceFile) -> Option<DateTime<Utc>> {
    Some(file.meta.last_modified).filter(|time| *time != DateTime::UNIX_EPOCH)
}

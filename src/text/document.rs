//! Cell → [`Document`] or [`Reject`]. In: the id and text cells of a row. Out: a document with text, or the reason why the
//! row is rejected. It must not drop a row: every row becomes exactly one of the two.

use std::fmt;

/// A document whose text can be extracted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'row> {
    /// The whole text as the source has it; it is never changed, so offsets into it stay valid.
    pub text: &'row str,
}

/// Why a document or a file was rejected; the `reason` column of the `rejects` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The id column is null.
    NullId,
    /// The text column is null.
    NullText,
    /// The text is empty or only white space.
    EmptyText,
    /// A later row of the input has the same id and another text.
    DuplicateId,
    /// The tokenizer failed on the text.
    Tokenizer,
    /// The model's logits for the text are not finite.
    Unanswerable,
    /// The record cannot be read, or its id or text is of another type than in other records.
    InvalidRow,
    /// The job's condition fails on the row, as a cast of its value.
    FilterFailed,
    /// Every process that extracts the document ends, as by a lack of memory: only a cluster finds it.
    KillsExecutor,
    /// The file cannot be read, or lacks a column that the job names.
    UnreadableFile,
}

impl RejectReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 10] = [
        Self::NullId,
        Self::NullText,
        Self::EmptyText,
        Self::DuplicateId,
        Self::Tokenizer,
        Self::Unanswerable,
        Self::InvalidRow,
        Self::FilterFailed,
        Self::KillsExecutor,
        Self::UnreadableFile,
    ];

    /// The code in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NullId => "null_id",
            Self::NullText => "null_text",
            Self::EmptyText => "empty_text",
            Self::DuplicateId => "duplicate_id",
            Self::Tokenizer => "tokenizer",
            Self::Unanswerable => "unanswerable",
            Self::InvalidRow => "invalid_row",
            Self::FilterFailed => "filter_failed",
            Self::KillsExecutor => "kills_executor",
            Self::UnreadableFile => "unreadable_file",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The detail of [`RejectReason::DuplicateId`].
pub const LATER_ROW: &str = "a later row has the same id";

/// A rejected document: the code for programs, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The rule that the row breaks.
    pub reason: RejectReason,
    /// What was wrong, as a sentence.
    pub detail: String,
}

impl Reject {
    /// A reject with its detail.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl std::str::FromStr for Reject {
    type Err = std::convert::Infallible;

    /// A reject from `code: detail`. Every text is one: without a known code it is the detail of an invalid row.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(": ").unwrap_or((text, ""));
        let reason = RejectReason::ALL.into_iter().find(|reason| reason.as_str() == parts.0);
        Ok(reason.map_or_else(|| Self::new(RejectReason::InvalidRow, text), |reason| Self::new(reason, parts.1)))
    }
}

impl<'row> Document<'row> {
    /// Checks a row's id and text cells; `has_id` is false if the id is null.
    pub fn admit(has_id: bool, text: Option<&'row str>) -> Result<Self, Reject> {
        if !has_id {
            return Err(Reject::new(
                RejectReason::NullId,
                "the id is null, so its mentions could not be assigned to a document",
            ));
        }
        match text {
            None => Err(Reject::new(RejectReason::NullText, "the text is null")),
            Some(text) if text.chars().all(char::is_whitespace) => {
                Err(Reject::new(RejectReason::EmptyText, format!("the text has {} bytes, all white space", text.len())))
            }
            Some(text) => Ok(Self { text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reject_is_read_as_it_is_written() {
        let read = |text: &str| text.parse::<Reject>().unwrap();
        assert_eq!(read("invalid_row: line 7: a: b"), Reject::new(RejectReason::InvalidRow, "line 7: a: b"));
        assert_eq!(read("duplicate_id"), Reject::new(RejectReason::DuplicateId, ""));
        assert_eq!(read("other: x"), Reject::new(RejectReason::InvalidRow, "other: x"));
    }

    #[test]
    fn every_bad_cell_has_its_reason() {
        let reason = |has_id, text| Document::admit(has_id, text).map_err(|reject| reject.reason);
        assert_eq!(reason(false, Some("text")), Err(RejectReason::NullId));
        assert_eq!(reason(true, None), Err(RejectReason::NullText));
        assert_eq!(reason(true, Some("")), Err(RejectReason::EmptyText));
        assert_eq!(reason(true, Some(" \u{3000}\r\n")), Err(RejectReason::EmptyText));
        assert_eq!(reason(true, Some(" x ")), Ok(Document { text: " x " }));
    }
}

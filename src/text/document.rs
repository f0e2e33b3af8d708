//! Cell → [`Document`] or [`Reject`]. In: what a row holds in its id and text columns. Out: a text worth asking about, or
//! the reason why there is none. It may not drop a row: every row ends as exactly one of the two.

use std::fmt;

/// A document whose text can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'row> {
    /// The whole text as the source holds it; never changed, so that offsets into it stay true.
    pub text: &'row str,
}

/// Why a document or a file was refused; the `reason` column of the `rejects` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The id column is null.
    NullId,
    /// The text column is null.
    NullText,
    /// The text is empty or only white space.
    EmptyText,
    /// A later row of the same run has the same id.
    DuplicateId,
    /// The tokenizer failed on the text.
    Tokenizer,
    /// The file cannot be read, or lacks a column the job names.
    UnreadableFile,
}

impl RejectReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 6] =
        [Self::NullId, Self::NullText, Self::EmptyText, Self::DuplicateId, Self::Tokenizer, Self::UnreadableFile];

    /// The code as it stands in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NullId => "null_id",
            Self::NullText => "null_text",
            Self::EmptyText => "empty_text",
            Self::DuplicateId => "duplicate_id",
            Self::Tokenizer => "tokenizer",
            Self::UnreadableFile => "unreadable_file",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A refused document: the code for machines, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Which rule it broke.
    pub reason: RejectReason,
    /// What was found, in words.
    pub detail: String,
}

impl Reject {
    /// A reject with its explanation.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl<'row> Document<'row> {
    /// Takes a row's id and text cells; `has_id` is false where the id is null.
    pub fn admit(has_id: bool, text: Option<&'row str>) -> Result<Self, Reject> {
        if !has_id {
            return Err(Reject::new(
                RejectReason::NullId,
                "the id is null, so its mentions could not be told from others",
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
    fn every_bad_cell_has_its_reason() {
        let reason = |has_id, text| Document::admit(has_id, text).map_err(|reject| reject.reason);
        assert_eq!(reason(false, Some("text")), Err(RejectReason::NullId));
        assert_eq!(reason(true, None), Err(RejectReason::NullText));
        assert_eq!(reason(true, Some("")), Err(RejectReason::EmptyText));
        assert_eq!(reason(true, Some(" \u{3000}\r\n")), Err(RejectReason::EmptyText));
        assert_eq!(reason(true, Some(" x ")), Ok(Document { text: " x " }));
    }
}

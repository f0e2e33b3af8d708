//! A slice of document rows on its way through the pipeline. In: rows as the scan emits them. Out: the same rows with what was found in
//! each. It must not copy a text.

use std::sync::Arc;

use crate::text::document::Reject;
use crate::text::mention::Mention;
use crate::text::window::TokenCounts;

/// The rows of one slice, as the scan gave them.
pub trait SliceRows: Send + Sync + 'static {
    /// How many rows.
    fn count(&self) -> usize;
    /// One of them.
    fn row(&self, row: usize) -> Row<'_>;
    /// The bytes of their texts.
    fn bytes(&self) -> usize {
        (0..self.count()).filter_map(|row| self.row(row).text).map(str::len).sum()
    }
}

/// A document row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'slice> {
    /// Whether its id is not null.
    pub has_id: bool,
    /// Its text, if it is not null.
    pub text: Option<&'slice str>,
    /// Whether a later row of the run has the same id.
    pub replaced: bool,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    /// Its tokens.
    pub counts: TokenCounts,
    /// Its windows.
    pub windows: usize,
    /// What was found, in the order of the text; or why nothing could be looked for.
    pub outcome: Result<Vec<Mention>, Reject>,
}

/// A slice whose documents are all answered.
pub struct SliceResult<Rows> {
    /// The rows as they came in.
    pub rows: Arc<Rows>,
    /// One per row.
    pub documents: Vec<Extracted>,
}

impl Default for Extracted {
    fn default() -> Self {
        Self { counts: TokenCounts::default(), windows: 0, outcome: Ok(Vec::new()) }
    }
}

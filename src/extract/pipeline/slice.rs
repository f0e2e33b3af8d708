//! A slice of document rows in the pipeline. In: rows as the scan emits them. Out: the same rows with the results of each. It must not
//! copy a text.

use std::sync::Arc;

use crate::text::document::Reject;
use crate::text::mention::Mention;
use crate::text::window::TokenCounts;

/// The rows of one slice, as the scan emitted them.
pub trait SliceRows: Send + Sync + 'static {
    /// How many rows.
    fn count(&self) -> usize;
    /// The row at this index.
    fn row(&self, row: usize) -> Row<'_>;
    /// The total bytes of the texts.
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
    /// Why it is refused, if it is: the reject's code and detail.
    pub refused: Option<&'slice str>,
}

/// The result for one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    /// Its token counts.
    pub tokens: TokenCounts,
    /// How many windows it has.
    pub windows: usize,
    /// How many inputs of the model they make.
    pub inputs: usize,
    /// How many of its windows were asked in several prompts, because one would have pushed their text out.
    pub split: usize,
    /// Candidates dropped because an input had too many.
    pub capped: usize,
    /// Decisions within the precision's tolerance of a threshold.
    pub undecided: usize,
    /// Its mentions, in text order, or why the document was refused.
    pub outcome: Result<Vec<Mention>, Reject>,
}

/// A slice whose documents are all finished.
pub struct SliceResult<Rows> {
    /// The rows as they came in.
    pub rows: Arc<Rows>,
    /// One per row.
    pub documents: Vec<Extracted>,
}

impl Default for Extracted {
    fn default() -> Self {
        let tokens = TokenCounts::default();
        Self { tokens, windows: 0, inputs: 0, split: 0, capped: 0, undecided: 0, outcome: Ok(Vec::new()) }
    }
}

/// One text as a slice of one row.
pub(crate) struct OneText(pub(crate) String);

impl SliceRows for OneText {
    fn count(&self) -> usize {
        1
    }

    fn row(&self, _: usize) -> Row<'_> {
        Row { has_id: true, text: Some(&self.0), refused: None }
    }
}

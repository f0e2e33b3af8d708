//! The names of the tables and views in the session, by which the steps of a report hand mentions on. Ids in them are text. It must not hold
//! anything else.

/// The mentions of the runs and types that were asked for.
pub(super) const MENTIONS: &str = "report_entities";
/// The documents that have some.
pub(super) const DOCUMENTS: &str = "report_documents";
/// All documents of the runs.
pub(super) const ALL_DOCUMENTS: &str = "report_all_documents";
/// Predicted ⋈ gold.
pub(super) const MATCHED: &str = "matched";
/// The errors in it.
pub(super) const MISTAKES: &str = "mistakes";

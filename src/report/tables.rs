//! Names of the tables and views in the session, through which the steps of a report pass mentions. Their ids are text. It must not hold
//! anything else.

/// The mentions of the requested runs and types.
pub(super) const MENTIONS: &str = "report_entities";
/// The documents to show.
pub(super) const DOCUMENTS: &str = "report_documents";
/// All documents of the runs.
pub(super) const ALL_DOCUMENTS: &str = "report_all_documents";
/// Predicted ⋈ gold.
pub(super) const MATCHED: &str = "matched";
/// False positives and false negatives.
pub(super) const ERRORS: &str = "mention_errors";

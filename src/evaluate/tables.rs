//! Names of the tables and views in the session, through which the steps of an evaluation pass mentions. It must not hold anything else.

/// The valid predicted mentions in scope.
pub(super) const PREDICTED: &str = "predicted_mentions";
/// The valid gold mentions in scope.
pub(super) const GOLD: &str = "gold_mentions";
/// The valid mentions of the other system in scope.
pub(super) const AGAINST: &str = "against_mentions";
/// Predicted ⋈ gold.
pub(super) const MATCHED: &str = "matched";
/// The other system's mentions ⋈ gold.
pub(super) const MATCHED_AGAINST: &str = "matched_against";
/// The texts of documents: one row with `doc_id` and `text` per document.
pub(super) const TEXTS: &str = "document_texts";
/// False positives and false negatives.
pub(super) const ERRORS: &str = "errors";
/// Mentions that are right, or wrong, in only one of the two systems.
pub(super) const CHANGES: &str = "changed_mentions";

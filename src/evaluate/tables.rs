//! The names of the tables and views in the session, by which the steps of an evaluation hand mentions on. It must not hold anything else.

/// The views of mentions that count.
pub(super) const PREDICTED: &str = "predicted_mentions";
/// Those of the gold.
pub(super) const GOLD: &str = "gold_mentions";
/// Those of the other system.
pub(super) const AGAINST: &str = "against_mentions";
/// Predicted ⋈ gold.
pub(super) const MATCHED: &str = "matched";
/// The other system's ⋈ gold.
pub(super) const MATCHED_AGAINST: &str = "matched_against";
/// The documents' texts: `doc_id` and text, one row each.
pub(super) const TEXTS: &str = "document_texts";
/// False positives and false negatives.
pub(super) const ERRORS: &str = "errors";
/// Mentions that only one of two systems has right, or wrong.
pub(super) const CHANGES: &str = "changed_mentions";

//! The names of heads in checkpoints of other programs. In: nothing. Out: for each kind the name of its layer, and the class of models with it.
//! It must not know sizes. An architecture whose checkpoints name a head otherwise has its names here.

/// The layer that gives the logits of tags: `*ForTokenClassification` of every architecture.
pub(super) const TAGGER: &str = "classifier";
/// Its two layers in the reference implementation of BERT-MRC.
pub(super) const TAGGER_HIDDEN: &str = "classifier.classifier1";
/// The second.
pub(super) const TAGGER_LOGITS: &str = "classifier.classifier2";
/// The layer that gives the logits of starts and ends: `*ForQuestionAnswering` of every architecture but ModernBERT, which calls it [`TAGGER`].
pub(super) const QA: &str = "qa_outputs";
/// The layer before both in models of ModernBERT.
pub(super) const PREDICTION: &str = "head";

/// The end of the names of classes with a head of tags.
pub(super) const TAGGER_CLASS: &str = "ForTokenClassification";
/// The end of the names of classes with a head of question answering.
pub(super) const QA_CLASS: &str = "ForQuestionAnswering";

/// The beginning of the names of ModernBERT's classes.
pub(super) const MODERN: &str = "ModernBert";

/// Whether a tensor belongs to a layer, by its name.
pub(super) fn is_of(layer: &str, tensor: &str) -> bool {
    tensor.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'))
}

//! The heads of token classification and of question answering: a linear layer, or two, over each token. In: the width of the encoder's vectors,
//! the tags. Out: a [`TaggerHead`] or [`QaHead`] with the name of every tensor. It must not know the encoder.

use std::collections::BTreeMap;

use crate::model::blocks::Linear;
use crate::model::head::names;
use crate::model::head::prediction::PredictionLayer;
use crate::model::head::two_layers::{Activation, TwoLayers};
use crate::task::tagger::tag_set::TagSet;

/// The head of a tagger: a logit per token and tag.
#[derive(Debug, Clone, PartialEq)]
pub struct TaggerHead {
    /// Applied to the encoder's vectors first, if it is there.
    pub prediction: Option<PredictionLayer>,
    /// h → tags.
    pub classifier: Classifier,
    /// The tags, in the order of the logits.
    pub tags: TagSet,
}

/// The layers of a [`TaggerHead`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classifier {
    /// One layer, as in Hugging Face's `*ForTokenClassification`.
    Linear(Linear),
    /// The two layers of the reference implementation.
    TwoLayers(TwoLayers),
}

/// The head of question answering.
#[derive(Debug, Clone, PartialEq)]
pub struct QaHead {
    /// Applied to the encoder's vectors first, if it is there.
    pub prediction: Option<PredictionLayer>,
    /// h → start logit and end logit.
    pub outputs: Linear,
}

impl TaggerHead {
    /// The head on an encoder of width `hidden_size`; `width` values are between its two layers, or it has one.
    pub fn new(hidden_size: usize, tags: TagSet, width: Option<usize>, activation: Activation) -> Self {
        let classifier = match width {
            None => Classifier::Linear(Linear::new(names::TAGGER, hidden_size, tags.count())),
            Some(width) => Classifier::TwoLayers(TwoLayers {
                hidden: Linear::new(names::TAGGER_HIDDEN, hidden_size, width),
                activation,
                logit: Linear::new(names::TAGGER_LOGITS, width, tags.count()),
            }),
        };
        Self { prediction: None, classifier, tags }
    }

    /// The layer whose output is the logits.
    pub const fn logits(&self) -> &Linear {
        match &self.classifier {
            Classifier::Linear(layer) => layer,
            Classifier::TwoLayers(layers) => &layers.logit,
        }
    }

    /// The width between the two layers of a checkpoint's head, if it has two; `shape` says the shape of a tensor by its name.
    pub(super) fn found<'s>(shape: impl Fn(&str) -> Option<&'s [usize]>) -> Option<usize> {
        shape(&format!("{}.weight", names::TAGGER_HIDDEN)).and_then(|shape| shape.first().copied())
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let hidden = match &self.classifier {
            Classifier::Linear(_) => None,
            Classifier::TwoLayers(layers) => Some(&layers.hidden),
        };
        let layers = [self.logits()].into_iter().chain(hidden).flat_map(Linear::shapes);
        layers.chain(self.prediction.iter().flat_map(PredictionLayer::shapes)).collect()
    }
}

impl QaHead {
    /// The head on an encoder of width `hidden_size`.
    pub fn new(hidden_size: usize, prediction: Option<PredictionLayer>) -> Self {
        let name = if prediction.is_some() { names::TAGGER } else { names::QA };
        Self { prediction, outputs: Linear::new(name, hidden_size, 2) }
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.outputs.shapes().chain(self.prediction.iter().flat_map(PredictionLayer::shapes)).collect()
    }
}

//! The MRC head of early interaction: the encoder reads question and window together. In: the width of the encoder's vectors, the layers of the
//! match head. Out: an [`MrcHead`] with the name of every tensor. It must not know the encoder.

use std::collections::BTreeMap;

use crate::model::blocks::Linear;
use crate::model::head::two_layers::{Activation, TwoLayers};

// The names of the reference implementation. The match head is two layers there, and a single one in the paper.
const START: &str = "start_outputs";
const END: &str = "end_outputs";
const MATCH: &str = "span_embedding";
const MATCH_HIDDEN: &str = "span_embedding.classifier1";
const MATCH_LOGIT: &str = "span_embedding.classifier2";

/// The heads of an MRC model: whether a token is the first or the last of a mention, and whether a first and a last belong together. h =
/// width of the encoder's vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MrcHead {
    /// h → start logit.
    pub start: Linear,
    /// h → end logit.
    pub end: Linear,
    /// 2h → match logit.
    pub matching: MatchHead,
}

/// The match head, over the vectors of a start and an end side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatchHead {
    /// The paper's single layer.
    OneLayer(Linear),
    /// The two layers of the reference implementation.
    TwoLayers(TwoLayers),
}

/// The match head of a checkpoint, as far as the names and shapes of its tensors tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A single layer.
    OneLayer,
    /// Two layers, with the width of the hidden one if its tensor is there.
    TwoLayers(Option<usize>),
}

impl MrcHead {
    /// The head whose match head is one layer, on an encoder of width `hidden_size`.
    pub fn one_layer(hidden_size: usize) -> Self {
        Self::with(hidden_size, MatchHead::OneLayer(Linear::new(MATCH, 2 * hidden_size, 1)))
    }

    /// The head whose match head is two layers with `width` values between them, on an encoder of width `hidden_size`.
    pub fn two_layers(hidden_size: usize, width: usize, activation: Activation) -> Self {
        let layers = TwoLayers {
            hidden: Linear::new(MATCH_HIDDEN, 2 * hidden_size, width),
            activation,
            logit: Linear::new(MATCH_LOGIT, width, 1),
        };
        Self::with(hidden_size, MatchHead::TwoLayers(layers))
    }

    /// The match head of a checkpoint; `shape` says the shape of a tensor by its name.
    pub(super) fn found<'s>(shape: impl Fn(&str) -> Option<&'s [usize]>) -> Found {
        let hidden = shape(&format!("{MATCH_HIDDEN}.weight"));
        if hidden.is_none() && shape(&format!("{MATCH}.weight")).is_some() {
            return Found::OneLayer;
        }
        Found::TwoLayers(hidden.and_then(|shape| shape.first().copied()))
    }

    /// Whether a tensor is one of an MRC head's, by its name.
    pub fn owns(name: &str) -> bool {
        [START, END, MATCH].iter().any(|head| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The layers whose outputs are logits: start, end and match.
    pub fn logits(&self) -> [&Linear; 3] {
        let matching = match &self.matching {
            MatchHead::OneLayer(layer) => layer,
            MatchHead::TwoLayers(layers) => &layers.logit,
        };
        [&self.start, &self.end, matching]
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let hidden = match &self.matching {
            MatchHead::OneLayer(_) => None,
            MatchHead::TwoLayers(layers) => Some(&layers.hidden),
        };
        self.logits().into_iter().chain(hidden).flat_map(Linear::shapes).collect()
    }

    fn with(hidden_size: usize, matching: MatchHead) -> Self {
        Self { start: Linear::new(START, hidden_size, 1), end: Linear::new(END, hidden_size, 1), matching }
    }
}

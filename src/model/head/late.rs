//! The head of late interaction: the encoder reads each question once and each window once, and the head compares their vectors. In: the widths
//! of its layers. Out: a [`LateHead`] with the name of every tensor. It must not know the encoder.

use std::collections::BTreeMap;

use crate::model::blocks::{FeedForward, Linear};
use crate::model::head::two_layers::{Activation, TwoLayers};

const BOUNDARY: &str = "boundary";
const BOUNDARY_BIAS: &str = "boundary.bias";
const MATCH: &str = "match";
const MATCH_HIDDEN: &str = "match.hidden";
const MATCH_LOGIT: &str = "match.logit";

/// The head of a model with late interaction. h = width of the encoder's vectors, d = [`Self::boundary_size`], m = width of the match
/// head's hidden layer, T = number of questions. A question's vector is the encoder's first state over the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateHead {
    /// Whether a token begins a mention: logit = token(xᵢ) · question(t) / √d + b, where b is the first value of `boundary.bias`.
    pub start: Boundary,
    /// Whether it ends one; b is the second value of `boundary.bias`.
    pub end: Boundary,
    /// 3h → match logit, over the vectors of a start, an end and a question side by side.
    pub matching: TwoLayers,
}

/// The two networks of one side (starts or ends): h → h → d each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// Applied to every token of a window.
    pub token: FeedForward,
    /// Applied to a question's vector.
    pub question: FeedForward,
}

/// The widths of a checkpoint's layers, as far as its tensors are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// d.
    pub(super) boundary_size: Option<usize>,
    /// m.
    pub(super) match_width: Option<usize>,
}

impl LateHead {
    /// The head on an encoder of width `hidden_size`.
    pub fn new(hidden_size: usize, boundary_size: usize, match_width: usize, activation: Activation) -> Self {
        let network = |name: String| FeedForward {
            inner: Linear::new(format!("{name}.inner"), hidden_size, hidden_size),
            outer: Linear::new(format!("{name}.outer"), hidden_size, boundary_size),
        };
        let [start, end] = ["start", "end"].map(|side| Boundary {
            token: network(format!("{BOUNDARY}.{side}.token")),
            question: network(format!("{BOUNDARY}.{side}.question")),
        });
        let matching = TwoLayers {
            hidden: Linear::new(MATCH_HIDDEN, 3 * hidden_size, match_width),
            activation,
            logit: Linear::new(MATCH_LOGIT, match_width, 1),
        };
        Self { start, end, matching }
    }

    /// The widths of a checkpoint's layers; `shape` says the shape of a tensor by its name.
    pub(super) fn found<'s>(shape: impl Fn(&str) -> Option<&'s [usize]>) -> Found {
        let rows = |name: &str| shape(name).and_then(|shape| shape.first().copied());
        Found {
            boundary_size: rows("boundary.start.token.outer.weight"),
            match_width: rows(&format!("{MATCH_HIDDEN}.weight")),
        }
    }

    /// Width of the vectors whose product is a start or end logit (d).
    pub fn boundary_size(&self) -> usize {
        self.start.token.outer.outputs
    }

    /// The name of the tensor with the biases of start and end logits: `[2]`.
    pub const fn boundary_bias(&self) -> &'static str {
        BOUNDARY_BIAS
    }

    /// Whether a tensor is one of a late head's, by its name.
    pub fn owns(name: &str) -> bool {
        [BOUNDARY, MATCH].iter().any(|head| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let networks = [&self.start, &self.end].into_iter().flat_map(|boundary| [&boundary.token, &boundary.question]);
        let layers = networks.flat_map(|network| [&network.inner, &network.outer]);
        let layers = layers.chain([&self.matching.hidden, &self.matching.logit]);
        layers.flat_map(Linear::shapes).chain([(BOUNDARY_BIAS.to_owned(), vec![2])]).collect()
    }
}

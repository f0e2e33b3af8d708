//! The MRC head. In: its keys in `config.json`, the width of the encoder's vectors. Out: an [`MrcHead`] with every layer and the name of
//! every tensor, from which the graph writer, the training network and the reader of checkpoints take them. It must not know the encoder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::blocks::Linear;
use crate::model::config_error::{ConfigError, check_sizes};

// The names of the reference implementation. The match head is two layers there, and a single one in the paper.
const START: &str = "start_outputs";
const END: &str = "end_outputs";
const MATCH: &str = "span_embedding";
const MATCH_HIDDEN: &str = "span_embedding.classifier1";
const MATCH_LOGIT: &str = "span_embedding.classifier2";

/// The width of the match head where neither configuration nor weights say it.
const DEFAULT_WIDTH: usize = 1024;

/// The head's keys in `config.json`, with the names of the reference implementation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Width of the match head's hidden layer (m); if absent, it is taken from the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier_intermediate_hidden_size: Option<usize>,
    /// Activation of the match head.
    #[serde(default)]
    pub classifier_act_func: Activation,
}

/// Activations that a match head may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x·Φ(x), by the error function.
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

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

/// logit(activation(hidden(x))).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoLayers {
    /// 2h → m.
    pub hidden: Linear,
    /// Applied to its output.
    pub activation: Activation,
    /// m → match logit.
    pub logit: Linear,
}

impl HeadConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        check_sizes(&[(
            "classifier_intermediate_hidden_size",
            config.classifier_intermediate_hidden_size.unwrap_or(DEFAULT_WIDTH),
        )])?;
        Ok(config)
    }

    /// The head whose match head is two layers, on an encoder of width `hidden_size`.
    pub fn two_layers(&self, hidden_size: usize) -> MrcHead {
        let width = self.classifier_intermediate_hidden_size.unwrap_or(DEFAULT_WIDTH);
        MrcHead::with(
            hidden_size,
            MatchHead::TwoLayers(TwoLayers {
                hidden: Linear::new(MATCH_HIDDEN, 2 * hidden_size, width),
                activation: self.classifier_act_func,
                logit: Linear::new(MATCH_LOGIT, width, 1),
            }),
        )
    }

    /// The head of a checkpoint on an encoder of width `hidden_size`; `shape` says the shape of a tensor by its name. Sets
    /// `classifier_intermediate_hidden_size` if it is missing.
    pub fn of_checkpoint<'s>(&mut self, hidden_size: usize, shape: impl Fn(&str) -> Option<&'s [usize]>) -> MrcHead {
        let hidden = shape(&format!("{MATCH_HIDDEN}.weight"));
        if hidden.is_none() && shape(&format!("{MATCH}.weight")).is_some() {
            return MrcHead::one_layer(hidden_size);
        }
        let width = hidden.and_then(|shape| shape.first().copied()).filter(|width| *width > 0);
        self.classifier_intermediate_hidden_size = self.classifier_intermediate_hidden_size.or(width);
        self.two_layers(hidden_size)
    }
}

impl MrcHead {
    /// The head whose match head is one layer, on an encoder of width `hidden_size`.
    pub fn one_layer(hidden_size: usize) -> Self {
        Self::with(hidden_size, MatchHead::OneLayer(Linear::new(MATCH, 2 * hidden_size, 1)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_tells_the_layers_of_its_match_head() {
        let of = |width: Option<usize>, tensors: &'static [(&str, &[usize])]| {
            let mut config = HeadConfig { classifier_intermediate_hidden_size: width, ..HeadConfig::default() };
            let head = config
                .of_checkpoint(8, |name| tensors.iter().find(|(tensor, _)| *tensor == name).map(|(_, shape)| *shape));
            (head.shapes(), config.classifier_intermediate_hidden_size)
        };
        let (two, width) = of(None, &[("span_embedding.classifier1.weight", &[12, 16])]);
        assert_eq!((two["span_embedding.classifier1.weight"].as_slice(), width), ([12, 16].as_slice(), Some(12)));
        let (two, width) = of(Some(5), &[("span_embedding.classifier1.weight", &[12, 16])]);
        assert_eq!((two["span_embedding.classifier2.weight"].as_slice(), width), ([1, 5].as_slice(), Some(5)));
        let (one, width) = of(None, &[("span_embedding.weight", &[1, 16])]);
        assert_eq!((one["span_embedding.weight"].as_slice(), one.len(), width), ([1, 16].as_slice(), 6, None));
    }

    #[test]
    fn a_head_owns_its_names_and_no_others() {
        for head in [MrcHead::one_layer(4), HeadConfig::default().two_layers(4)] {
            assert!(head.shapes().keys().all(|name| MrcHead::owns(name)));
        }
        for name in ["classifier.weight", "start_outputs_2.weight", "start_outputs"] {
            assert!(!MrcHead::owns(name), "{name}");
        }
    }
}

//! Two layers with an activation between them, as in match heads. In: layers. Out: their description. It must not know what they
//! are applied to.

use serde::{Deserialize, Serialize};

use crate::model::blocks::Linear;

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

/// logit(activation(hidden(x))).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoLayers {
    /// The vectors side by side → m: 2h of a start and an end, and in late interaction h more of the question.
    pub hidden: Linear,
    /// Applied to its output.
    pub activation: Activation,
    /// m → match logit.
    pub logit: Linear,
}

//! The layer between encoder and classifier that models of ModernBERT have. In: keys of `config.json`, the width of the encoder's vectors. Out: a
//! [`PredictionLayer`] with the name of every tensor. It must not know the encoder.

use serde::{Deserialize, Serialize};

use crate::model::blocks::{Linear, Norm};
use crate::model::config_error::ConfigError;
use crate::model::head::names;
use crate::model::head::two_layers::Activation;

/// Added to the variance where the configuration does not say it.
const EPSILON: f32 = 1e-5;

/// norm(activation(dense(x))).
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionLayer {
    /// h → h.
    pub dense: Linear,
    /// Applied to its output.
    pub activation: Activation,
    /// Normalizes the result.
    pub norm: Norm,
}

/// The layer's keys in `config.json`. The encoder writes those of the normalization, which are its own too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PredictionConfig {
    #[serde(rename = "classifier_activation")]
    activation: Activation,
    #[serde(rename = "classifier_bias")]
    has_bias: bool,
    #[serde(skip)]
    norm_has_bias: bool,
    #[serde(skip)]
    epsilon: f32,
}

/// The keys as they are read.
#[derive(Deserialize)]
pub(super) struct PredictionKeys {
    classifier_activation: Option<String>,
    classifier_bias: Option<bool>,
    norm_bias: Option<bool>,
    norm_eps: Option<f32>,
}

impl PredictionKeys {
    /// The configuration; `None` without `classifier_activation`, which every model with this layer has.
    pub(super) fn config(&self) -> Result<Option<PredictionConfig>, ConfigError> {
        let Some(name) = &self.classifier_activation else { return Ok(None) };
        let activation = match name.as_str() {
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            "tanh" => Activation::Tanh,
            other => {
                let reason = format!("`classifier_activation` is `{other}`, which is not supported");
                return Err(ConfigError::Value { reason, hint: "gelu (exact), relu and tanh are supported" });
            }
        };
        Ok(Some(PredictionConfig {
            activation,
            has_bias: self.classifier_bias.unwrap_or(false),
            norm_has_bias: self.norm_bias.unwrap_or(false),
            epsilon: self.norm_eps.unwrap_or(EPSILON),
        }))
    }
}

impl PredictionConfig {
    /// The layer on an encoder of width `hidden_size`.
    pub(super) fn layer(self, hidden_size: usize) -> PredictionLayer {
        let part = |name: &str| format!("{}.{name}", names::PREDICTION);
        PredictionLayer {
            dense: Linear { has_bias: self.has_bias, ..Linear::new(part("dense"), hidden_size, hidden_size) },
            activation: self.activation,
            norm: Norm { name: part("norm"), width: hidden_size, epsilon: self.epsilon, has_bias: self.norm_has_bias },
        }
    }
}

impl PredictionLayer {
    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
        self.dense.shapes().chain(self.norm.shapes())
    }
}

//! Checks of keys that several encoders have. In: a key of `config.json` and its value. Out: a [`ConfigError`] that names both and what is
//! supported. It must not know an encoder.

use crate::model::config_error::ConfigError;
use crate::model::encoder::architecture::Activation;
use crate::text::word_shape::WordShape;

/// The maximum number of layers: every layer has a dozen tensors to look for.
const MAX_LAYERS: usize = 1024;

/// An error for a value that is not supported.
pub(super) fn refuse<T>(reason: String, hint: &'static str) -> Result<T, ConfigError> {
    Err(ConfigError::Value { reason, hint })
}

/// The activation of this name.
pub(super) fn activation(key: &str, value: &str) -> Result<Activation, ConfigError> {
    match value {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => refuse(
            format!("`{key}` is `{other}`, which is not supported"),
            "gelu (exact), gelu_new, gelu_fast and gelu_pytorch_tanh (by tanh) and relu are supported",
        ),
    }
}

/// Refuses positions that are not added to tokens.
pub(super) fn check_absolute(position_embedding_type: &str) -> Result<(), ConfigError> {
    if position_embedding_type == "absolute" {
        return Ok(());
    }
    let reason = format!("`position_embedding_type` is `{position_embedding_type}`, not `absolute`");
    refuse(reason, "only absolute positions are supported in this encoder")
}

/// Refuses more layers than any model has.
pub(super) fn check_layers(key: &str, layers: usize) -> Result<(), ConfigError> {
    if layers <= MAX_LAYERS {
        return Ok(());
    }
    refuse(format!("`{key}` is {layers}"), "a model can have at most 1024 layers")
}

/// Refuses a width that cannot be divided into heads.
pub(super) fn check_heads(
    (width_key, width): (&str, usize),
    (heads_key, heads): (&str, usize),
) -> Result<(), ConfigError> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    let reason = format!("`{width_key}` {width} cannot be divided into {heads} attention heads (`{heads_key}`)");
    refuse(reason, "the number of attention heads must divide the width")
}

/// Refuses another number of shapes of words than this version tells apart.
pub(super) fn check_word_shapes(word_shape_size: Option<usize>) -> Result<(), ConfigError> {
    match word_shape_size {
        Some(shapes) if shapes != WordShape::COUNT => {
            refuse(format!("`word_shape_size` is {shapes}"), "this version tells eight shapes of words apart")
        }
        _ => Ok(()),
    }
}

/// Refuses what cannot be added to a variance.
pub(super) fn check_epsilon(key: &str, epsilon: f32) -> Result<(), ConfigError> {
    if epsilon > 0.0 && epsilon < 1.0 {
        return Ok(());
    }
    refuse(format!("`{key}` is {epsilon}"), "it must be between 0 and 1")
}

/// Refuses what is no rate.
pub(super) fn check_dropout(key: &str, rate: Option<f64>) -> Result<(), ConfigError> {
    match rate {
        Some(rate) if !(0.0..1.0).contains(&rate) => {
            refuse(format!("`{key}` is {rate}"), "a dropout rate must be at least 0 and less than 1")
        }
        _ => Ok(()),
    }
}

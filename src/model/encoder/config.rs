//! `config.json` → [`EncoderConfig`]. In: the bytes of the file. Out: the configuration of the encoder that its `model_type` names. It
//! must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::config_error::ConfigError;
use crate::model::encoder::architecture::Architecture;
use crate::model::encoder::bert::BertConfig;
use crate::text::word_shape::WordShape;

/// The hint for a file that is not the configuration of an encoder.
pub(crate) const EXPECTED: &str = "it must be the config.json of a Hugging Face BERT";

/// The encoders that are supported, by `model_type`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "model_type", rename_all = "lowercase")]
pub enum EncoderConfig {
    /// `bert`, also if there is no `model_type`.
    Bert(BertConfig),
}

/// The key that names the encoder.
#[derive(Deserialize)]
struct Tag {
    #[serde(default = "bert")]
    model_type: String,
}

fn bert() -> String {
    "bert".to_owned()
}

impl EncoderConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let Tag { model_type } = serde_json::from_slice(bytes)?;
        match model_type.as_str() {
            "bert" => Ok(Self::Bert(BertConfig::parse(bytes)?)),
            other => Err(ConfigError::Value {
                reason: format!("`model_type` is `{other}`, not `bert`"),
                hint: "only BERT encoders are supported",
            }),
        }
    }

    /// Has the encoder be told the shapes of words. False if it is already.
    pub fn add_word_shapes(&mut self) -> bool {
        let Self::Bert(config) = self;
        let new = config.word_shape_size.is_none();
        config.word_shape_size = Some(WordShape::COUNT);
        new
    }

    /// What the names of its classes in Hugging Face's library begin with.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Bert(_) => "Bert",
        }
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Bert(config) => config.architecture(),
        }
    }
}

//! `config.json` → [`EncoderConfig`]. In: the bytes of the file. Out: the configuration of the encoder that its `model_type` names. It
//! must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::config_error::ConfigError;
use crate::model::encoder::albert::AlbertConfig;
use crate::model::encoder::architecture::Architecture;
use crate::model::encoder::bert::BertConfig;
use crate::model::encoder::deberta_v2::DebertaV2Config;
use crate::model::encoder::distilbert::DistilBertConfig;
use crate::model::encoder::electra::ElectraConfig;
use crate::model::encoder::modernbert::ModernBertConfig;
use crate::model::encoder::roberta::RobertaConfig;
use crate::text::word_shape::WordShape;

/// The hint for a file that is not the configuration of an encoder.
pub(crate) const EXPECTED: &str = "it must be the config.json of a Hugging Face encoder";

/// The hint for an encoder that is not supported: those that are.
const SUPPORTED: &str =
    "supported are bert, roberta, xlm-roberta, camembert, distilbert, albert, electra, deberta-v2 and modernbert";

/// The encoders that are supported, by `model_type`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "model_type", rename_all = "kebab-case")]
pub enum EncoderConfig {
    /// `bert`, also if there is no `model_type`.
    Bert(BertConfig),
    /// `roberta`.
    Roberta(RobertaConfig),
    /// `xlm-roberta`.
    XlmRoberta(RobertaConfig),
    /// `camembert`.
    Camembert(RobertaConfig),
    /// `distilbert`.
    #[serde(rename = "distilbert")]
    DistilBert(DistilBertConfig),
    /// `albert`.
    Albert(AlbertConfig),
    /// `electra`.
    Electra(ElectraConfig),
    /// `deberta-v2`, also of version 3.
    DebertaV2(DebertaV2Config),
    /// `modernbert`.
    #[serde(rename = "modernbert")]
    ModernBert(ModernBertConfig),
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
        Ok(match model_type.as_str() {
            "bert" => Self::Bert(BertConfig::parse(bytes)?),
            "roberta" => Self::Roberta(RobertaConfig::parse(bytes)?),
            "xlm-roberta" => Self::XlmRoberta(RobertaConfig::parse(bytes)?),
            "camembert" => Self::Camembert(RobertaConfig::parse(bytes)?),
            "distilbert" => Self::DistilBert(DistilBertConfig::parse(bytes)?),
            "albert" => Self::Albert(AlbertConfig::parse(bytes)?),
            "electra" => Self::Electra(ElectraConfig::parse(bytes)?),
            "deberta-v2" => Self::DebertaV2(DebertaV2Config::parse(bytes)?),
            "modernbert" => Self::ModernBert(ModernBertConfig::parse(bytes)?),
            other => {
                let reason = format!("`model_type` is `{other}`, which is not supported");
                return Err(ConfigError::Value { reason, hint: SUPPORTED });
            }
        })
    }

    /// Has the encoder be told the shapes of words. False if it is already.
    pub fn add_word_shapes(&mut self) -> bool {
        let size = match self {
            Self::Bert(bert)
            | Self::Roberta(RobertaConfig { bert })
            | Self::XlmRoberta(RobertaConfig { bert })
            | Self::Camembert(RobertaConfig { bert })
            | Self::Electra(ElectraConfig { bert, .. }) => &mut bert.word_shape_size,
            Self::DistilBert(config) => &mut config.word_shape_size,
            Self::Albert(config) => &mut config.word_shape_size,
            Self::DebertaV2(config) => &mut config.word_shape_size,
            Self::ModernBert(config) => &mut config.word_shape_size,
        };
        size.replace(WordShape::COUNT).is_none()
    }

    /// Whether a `vocab.txt` is enough for its tokenizer, because it is BERT's.
    pub const fn has_wordpieces(&self) -> bool {
        matches!(self, Self::Bert(_) | Self::DistilBert(_) | Self::Electra(_))
    }

    /// What the names of its classes in Hugging Face's library begin with.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Bert(_) => "Bert",
            Self::Roberta(_) => "Roberta",
            Self::XlmRoberta(_) => "XLMRoberta",
            Self::Camembert(_) => "Camembert",
            Self::DistilBert(_) => "DistilBert",
            Self::Albert(_) => "Albert",
            Self::Electra(_) => "Electra",
            Self::DebertaV2(_) => "DebertaV2",
            Self::ModernBert(_) => "ModernBert",
        }
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Bert(config) => config.architecture(),
            Self::Roberta(config) | Self::XlmRoberta(config) | Self::Camembert(config) => config.architecture(),
            Self::DistilBert(config) => config.architecture(),
            Self::Albert(config) => config.architecture(),
            Self::Electra(config) => config.architecture(),
            Self::DebertaV2(config) => config.architecture(),
            Self::ModernBert(config) => config.architecture(),
        }
    }
}

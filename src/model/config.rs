//! `config.json` → [`ModelConfig`]. In: the file's path or bytes. Out: the configurations of the encoder and its head, or an error that
//! names the file and the key. It must not read weights.

use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::model::config_error::ConfigError;
use crate::model::encoder::config::{EXPECTED, EncoderConfig};
use crate::model::head::HeadConfig;

/// The content of `config.json`: the keys of the encoder, then those of the head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// The encoder's.
    #[serde(flatten)]
    pub encoder: EncoderConfig,
    /// The head's.
    #[serde(flatten)]
    pub head: HeadConfig,
}

impl ModelConfig {
    /// Reads and validates a `config.json`. Errors name the file and the key.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &bytes(path)?)
    }

    /// Reads a `config.json` of which only the encoder is used; the head's keys are not looked at.
    pub fn read_encoder(path: &Path) -> Result<Self> {
        let encoder = EncoderConfig::parse(&bytes(path)?).map_err(refused(path))?;
        Ok(Self { encoder, head: HeadConfig::default() })
    }

    /// Reads the head's keys of a `config.json`, whatever its encoder is.
    pub fn read_head(path: &Path) -> Result<HeadConfig> {
        HeadConfig::parse(&bytes(path)?).map_err(refused(path))
    }

    /// Parses and validates the bytes of a `config.json`; `path` is only for error messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let config = || Ok(Self { encoder: EncoderConfig::parse(bytes)?, head: HeadConfig::parse(bytes)? });
        config().map_err(refused(path))
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source: source.into() })
}

fn refused(path: &Path) -> impl Fn(ConfigError) -> Error {
    move |error| match error {
        ConfigError::Syntax(source) => {
            Error::Parse { path: path.to_owned(), source: source.into(), hint: EXPECTED.to_owned() }
        }
        ConfigError::Value { reason, hint } => Error::Model { path: path.to_owned(), reason, hint: hint.to_owned() },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::encoder::bert::BertConfig;
    use crate::model::head::Interaction;

    /// The configuration of a tiny model for tests.
    pub(crate) fn tiny() -> ModelConfig {
        let json = br#"{"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
            "vocab_size": 32, "max_position_embeddings": 24, "classifier_intermediate_hidden_size": 12, "extra": [1]}"#;
        ModelConfig::parse(Path::new("config.json"), json).expect("a valid configuration")
    }

    /// [`tiny`] with another encoder.
    pub(crate) fn tiny_but(change: impl FnOnce(&mut BertConfig)) -> ModelConfig {
        let mut config = tiny();
        let EncoderConfig::Bert(bert) = &mut config.encoder else { unreachable!("it is a BERT") };
        change(bert);
        config
    }

    /// [`tiny`] with late interaction.
    pub(crate) fn tiny_late() -> ModelConfig {
        let mut config = tiny();
        config.head.interaction = Interaction::Late;
        config.head.boundary_size = Some(6);
        config
    }

    fn error_of(config: &serde_json::Value) -> String {
        let bytes = serde_json::to_vec(config).expect("it serializes");
        ModelConfig::parse(Path::new("config.json"), &bytes).expect_err("an invalid configuration").to_string()
    }

    fn error_after(change: impl FnOnce(&mut BertConfig)) -> String {
        error_of(&serde_json::to_value(tiny_but(change)).expect("it serializes"))
    }

    #[test]
    fn an_error_names_the_key_and_the_value() {
        assert!(error_after(|config| config.hidden_act = "swish".into()).contains("`hidden_act` is `swish`"));
        assert!(error_after(|config| config.num_attention_heads = 3).contains("3 attention heads"));
        assert!(error_after(|config| config.vocab_size = 0).contains("`vocab_size` is 0"));
        assert!(error_after(|config| config.vocab_size = usize::MAX).contains("`vocab_size`"));
        assert!(error_after(|config| config.num_hidden_layers = 1 << 20).contains("`num_hidden_layers` is 1048576"));
        assert!(error_after(|config| config.type_vocab_size = 0).contains("`type_vocab_size` is 0"));
        assert!(error_after(|config| config.hidden_dropout_prob = Some(1.5)).contains("`hidden_dropout_prob` is 1.5"));
        let mut config = serde_json::to_value(tiny()).expect("it serializes");
        config["classifier_intermediate_hidden_size"] = 0.into();
        assert!(error_of(&config).contains("`classifier_intermediate_hidden_size` is 0"));
    }

    #[test]
    fn an_unknown_encoder_is_named_with_the_supported_ones() {
        let bytes = br#"{"model_type": "longformer", "hidden_size": 768}"#;
        let error = ModelConfig::parse(Path::new("config.json"), bytes).expect_err("an invalid configuration");
        assert!(error.to_string().ends_with("`model_type` is `longformer`, which is not supported"), "{error}");
        let hint = error.hint().expect("a hint");
        for supported in [
            "bert",
            "roberta",
            "xlm-roberta",
            "camembert",
            "distilbert",
            "albert",
            "electra",
            "deberta-v2",
            "modernbert",
        ] {
            assert!(hint.contains(supported), "{hint}");
        }
    }

    #[test]
    fn a_damaged_file_is_a_parse_error() {
        let error = ModelConfig::parse(Path::new("x/config.json"), b"{\"hidden_size\": 3").expect_err("damaged");
        assert_eq!(error.to_string(), "cannot parse `x/config.json`");
    }

    #[test]
    fn a_configuration_is_written_as_it_was_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/config.json");
        let written = serde_json::to_vec_pretty(&ModelConfig::read(&path).expect("a configuration")).expect("json");
        assert_eq!(written, std::fs::read(&path).expect("the same file"));
    }
}

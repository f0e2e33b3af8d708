//! RoBERTa, and XLM-RoBERTa and CamemBERT, which differ from it in their tokenizers. In: its keys in the `config.json` of Hugging Face. Out:
//! a [`RobertaConfig`] with consistent sizes, and its [`Architecture`]: BERT's, with positions that begin after that of padding. It must not
//! know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::config_error::ConfigError;
use crate::model::encoder::architecture::{Architecture, CheckpointNames, Positions};
use crate::model::encoder::bert::BertConfig;
use crate::model::encoder::validation::refuse;

/// How checkpoints name tensors. `lm_head.` is the head of pretraining.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "roberta.",
    bare: &["embeddings.", "encoder."],
    unused: &["pooler."],
    pretraining_heads: &["lm_head."],
    stacked: &[],
};

/// The id of padding where the configuration does not say it.
const PADDING: usize = 1;

/// The configuration of a RoBERTa in `config.json`: the keys of BERT. Of `max_position_embeddings` positions the first `pad_token_id` + 1 are
/// not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RobertaConfig {
    /// The keys, with the meanings that they have in BERT.
    #[serde(flatten)]
    pub bert: BertConfig,
}

impl RobertaConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        config.bert.validate()?;
        if config.offset() >= config.bert.max_position_embeddings {
            let (positions, offset) = (config.bert.max_position_embeddings, config.offset());
            return refuse(
                format!("`max_position_embeddings` is {positions}, and the first {offset} positions are not used"),
                "it must be larger than `pad_token_id` + 1",
            );
        }
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let mut architecture = self.bert.described(NAMES, self.bert.hidden_size);
        let first = self.offset();
        if let Positions::Absolute { offset, .. } = &mut architecture.positions {
            *offset = first;
        }
        architecture.max_tokens = self.bert.max_position_embeddings - first;
        architecture
    }

    /// The position of the first token.
    fn offset(&self) -> usize {
        self.bert.pad_token_id.unwrap_or(PADDING).saturating_add(1)
    }
}

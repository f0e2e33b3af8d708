//! ELECTRA. In: its keys in the `config.json` of Hugging Face. Out: an [`ElectraConfig`] with consistent sizes, and its [`Architecture`]: BERT's,
//! with vectors of tokens that can be narrower than the layers. It must not know the heads' keys.

use serde::{Deserialize, Serialize};

use crate::model::blocks::Linear;
use crate::model::config_error::{ConfigError, check_sizes};
use crate::model::encoder::architecture::{Architecture, CheckpointNames};
use crate::model::encoder::bert::BertConfig;

/// How checkpoints name tensors. The others are the heads of pretraining.
const NAMES: CheckpointNames = CheckpointNames {
    prefix: "electra.",
    bare: &["embeddings.", "embeddings_project.", "encoder."],
    unused: &[],
    pretraining_heads: &["discriminator_predictions.", "generator_predictions.", "generator_lm_head."],
    stacked: &[],
};

/// The configuration of an ELECTRA in `config.json`; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElectraConfig {
    /// The keys that it has in common with BERT.
    #[serde(flatten)]
    pub bert: BertConfig,
    /// Width of the vectors of tokens, positions and types (e).
    #[serde(default = "embedding_size")]
    pub embedding_size: usize,
}

fn embedding_size() -> usize {
    128
}

impl ElectraConfig {
    /// Parses and validates the bytes of a `config.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        config.bert.validate()?;
        check_sizes(&[("embedding_size", config.embedding_size)])?;
        Ok(config)
    }

    /// The description of this encoder.
    pub fn architecture(&self) -> Architecture {
        let (size, hidden) = (self.embedding_size, self.bert.hidden_size);
        let mut architecture = self.bert.described(NAMES, size);
        let projection = || Linear::new(format!("{}embeddings_project", NAMES.prefix), size, hidden);
        architecture.embedding_projection = (size != hidden).then(projection);
        architecture
    }
}

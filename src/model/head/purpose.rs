//! What Hugging Face's library says a head is for. In: its keys in `config.json`. Out: the class of the model, the tags of a token classifier.
//! It must not know layers.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::config_error::ConfigError;
use crate::task::tagger::tag_set;
use crate::task::tagger::tag_set::TagSet;

/// The keys.
#[derive(Deserialize)]
pub(super) struct Purpose {
    #[serde(default)]
    pub(super) architectures: Option<Vec<String>>,
    #[serde(default)]
    id2label: Option<BTreeMap<usize, String>>,
    #[serde(default)]
    num_labels: Option<usize>,
}

impl Purpose {
    /// The tags that `id2label` names.
    pub(super) fn tags(self) -> Result<TagSet, ConfigError> {
        let refuse = |reason: String| Err(ConfigError::Value { reason, hint: tag_set::EXPECTED });
        let Some(names) = self.id2label else {
            return refuse("`id2label` is missing, which names the tags of a token classifier".to_owned());
        };
        if let Some((number, _)) = names.keys().enumerate().find(|(number, key)| number != *key) {
            return refuse(format!("`id2label` has {} tags, but no tag {number}", names.len()));
        }
        if let Some(count) = self.num_labels.filter(|count| *count != names.len()) {
            return refuse(format!("`num_labels` is {count}, but `id2label` has {} tags", names.len()));
        }
        let names: Vec<String> = names.into_values().collect();
        TagSet::parse(&names).or_else(|reason| refuse(format!("`id2label` is no scheme of tags: {reason}")))
    }
}

//! What a folder holds that this program did not write: its weights, what its configuration says, and what is assumed of it. In: a folder with
//! the files of a checkpoint or of a ready graph. Out: their paths, the configuration, and notes and contradictions in words. It must not read
//! weights.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::head::HeadConfig;
use crate::task::kind::{Kind, Own};

/// Stands for the tokenizer in a checkpoint of BERT.
pub(super) const VOCABULARY: &str = "vocab.txt";

/// The weights of a folder, in the order in which they are preferred.
pub(super) fn stored_weights(root: &Path) -> Option<PathBuf> {
    let names =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    names.into_iter().map(|name| root.join(name)).find(|path| path.exists())
}

/// The configuration at `path`, and that of the head. A foreign graph needs none, and its encoder can be any.
pub(super) fn configuration(path: &Path, foreign: bool) -> Result<(Option<ModelConfig>, Option<HeadConfig>)> {
    if foreign && !path.exists() {
        return Ok((None, None));
    }
    match ModelConfig::read(path) {
        Ok(config) => {
            let head = config.head.clone();
            Ok((Some(config), Some(head)))
        }
        Err(error) if foreign => {
            let head = ModelConfig::read_head(path)?;
            if matches!(head.kind(), Kind::Tagger | Kind::Qa) { Ok((None, Some(head))) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

/// Why a model of the kind that `quarry.json` says cannot have the head that `config.json` says, and the way out.
pub(super) fn mismatch(written: Kind, configured: Option<Kind>) -> Option<(String, &'static str)> {
    let own = |kind: Kind| matches!(kind, Kind::Tagger | Kind::Qa);
    let name = |kind: Kind| serde_json::to_string(&kind).unwrap_or_default();
    match configured {
        Some(configured) if configured != written && (own(configured) || own(written)) => Some((
            format!(
                "quarry.json says the kind {}, but config.json has a head of kind {}",
                name(written),
                name(configured)
            ),
            "correct `kind` in quarry.json, or `architectures` in config.json, such as [\"BertForTokenClassification\"]",
        )),
        None if written == Kind::Tagger => Some((
            "quarry.json says the kind \"tagger\", but there is no config.json that names its tags".to_owned(),
            "add a config.json with `architectures`: [\"BertForTokenClassification\"] and `id2label`",
        )),
        _ => None,
    }
}

/// What is assumed of a model in the folder `path` that has no `quarry.json`; `None` if nothing is.
pub fn assumptions(path: &Path, kind: Kind, own: Own<'_>) -> Option<String> {
    let path = path.display();
    match (kind, own) {
        (Kind::Gliner, Own::Gliner(model)) => Some(format!(
            "`{path}` is read as a model of the GLiNER family ({}): it reads {} words at once, and a type is asked for by its question, or else its name",
            model.layout.scores, model.max_words
        )),
        (Kind::Tagger, Own::Tags(tags)) => Some(format!(
            "`{path}` is read as a tagger: its tags are {}, a word is what its tokenizer takes for one and has the tag of its first wordpiece, and the types are {}",
            tags.scheme(),
            tags.types().join(", ")
        )),
        (Kind::Qa, _) => Some(format!(
            "`{path}` is read as a model that answers questions: each type has at most one mention in a document, and none if the best answer is the first token of the input, such as `[CLS]`"
        )),
        _ => None,
    }
}

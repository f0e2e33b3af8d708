//! The manifest `quarry.json`: a model's properties, its origin, and the hashes of its files. In: a folder. Out: its [`Manifest`].
//! It must not read the other files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::task::entity_schema::{EntityType, Nesting};
use crate::task::kind::Kind;
use crate::text::tokens::Words;

/// The file's name.
pub const MANIFEST: &str = "quarry.json";

/// The default maximum input length.
const DEFAULT_LENGTH: usize = 512;

/// The content of `quarry.json`: a model's properties and origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The kind of the model.
    pub kind: Kind,
    /// The pretrained encoder that it was trained from.
    pub encoder: String,
    /// Longest input in tokens, question and special tokens counted.
    pub max_length: usize,
    /// The window size in context wordpieces that it was trained on and performs best with; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_tokens: Option<usize>,
    /// What counted as a word in training; the default for jobs. `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// The entity types that it was trained on, in order; empty if unknown.
    #[serde(default)]
    pub types: Vec<EntityType>,
    /// Which mentions could overlap in training.
    #[serde(default)]
    pub nested: Nesting,
    /// How it was trained; informative only.
    #[serde(default)]
    pub recipe: serde_json::Value,
    /// Its scores; informative only.
    #[serde(default)]
    pub scores: serde_json::Value,
    /// The origin of the weights.
    #[serde(default)]
    pub origin: String,
    /// Licence of the weights.
    #[serde(default)]
    pub licence: String,
    /// SHA-256 (lower-case hexadecimal) of every other file.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            kind: Kind::Mrc,
            encoder: String::new(),
            max_length: DEFAULT_LENGTH,
            window_tokens: None,
            words: None,
            types: Vec::new(),
            nested: Nesting::Flat,
            recipe: serde_json::Value::Null,
            scores: serde_json::Value::Null,
            origin: String::new(),
            licence: String::new(),
            files: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// Reads the `quarry.json` of a folder; `None` if there is no such file. The files that it lists are not verified here.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, [`Error::Parse`] if it is invalid.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|source| Error::Parse {
            path: path.clone(),
            source: source.into(),
            hint: "it is written by `quarry export` and `quarry train`; the kinds are mrc, late, tagger, qa and gliner"
                .to_owned(),
        })?;
        let checked = manifest.types.iter().try_for_each(EntityType::check_scores);
        checked.map_err(|reason| Error::Parse {
            path,
            source: reason.into(),
            hint: "correct or remove it, or write it again with `quarry evaluate --calibrate --write`".to_owned(),
        })?;
        Ok(Some(manifest))
    }
}

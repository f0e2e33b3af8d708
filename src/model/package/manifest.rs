//! `quarry.json`: what a model is, where it comes from, and the hashes of its files. In: a folder. Out: its [`Manifest`]. It may
//! not know what the files hold.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::task::entity_schema::EntityType;
use crate::text::tokens::Words;

/// The file's name.
pub const MANIFEST: &str = "quarry.json";

/// Longest input of a model that does not say its own.
const USUAL_LENGTH: usize = 512;

/// What a model's graph computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Start, end and match logits of one question on one context (Li et al. 2020).
    Mrc,
}

/// `quarry.json`: what a model is and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the graph computes.
    pub kind: Kind,
    /// The pretrained encoder it was made from.
    pub encoder: String,
    /// Longest input in tokens, question and special tokens counted.
    pub max_length: usize,
    /// Context wordpieces in one window that it was trained on, and reads best; none where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_tokens: Option<usize>,
    /// What counted as a word in training, and does where a job does not say; none where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// The types it was trained on, in their order; empty where nobody knows.
    #[serde(default)]
    pub types: Vec<EntityType>,
    /// Whether it was trained on nested mentions.
    #[serde(default)]
    pub nested: bool,
    /// How it was trained, for people to read.
    #[serde(default)]
    pub recipe: serde_json::Value,
    /// Its scores, for people to read.
    #[serde(default)]
    pub scores: serde_json::Value,
    /// Where the weights come from.
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
            max_length: USUAL_LENGTH,
            window_tokens: None,
            words: None,
            types: Vec::new(),
            nested: false,
            recipe: serde_json::Value::Null,
            scores: serde_json::Value::Null,
            origin: String::new(),
            licence: String::new(),
            files: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// What the `quarry.json` of a folder says; none where there is no such file. None of the files it lists are verified.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Parse`] where it cannot be understood.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse {
            path,
            source: source.into(),
            hint: "it is written by `quarry export` and `quarry train`; a kind other than mrc is not supported yet"
                .to_owned(),
        })
    }
}

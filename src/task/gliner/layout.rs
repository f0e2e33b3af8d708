//! How a model of the GLiNER family reads words and answers. In: nothing. Out: values that its configuration has and that its inputs carry. It
//! must not read a configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a model says of itself in `gliner_config.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlinerModel {
    /// How its graph reads words and answers.
    pub layout: Layout,
    /// The most words of a text in one input.
    pub max_words: usize,
    /// The longest input in tokens: prompt, text and special tokens.
    pub max_tokens: usize,
    /// The token before the words of each type, by its name and its id.
    pub entity_token: (String, u32),
    /// The token between prompt and text.
    pub separator: (String, u32),
}

/// How a graph reads words and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// What it scores.
    pub scores: Scores,
    /// The tokens of a word that it reads.
    pub pieces: Pieces,
}

/// What a graph scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Every span of at most so many words (`max_width`), for each type.
    Spans(usize),
    /// Whether a word is the first, the last or any word of a mention, for each type.
    Words,
}

impl fmt::Display for Scores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spans(width) => write!(formatter, "span mode, at most {width} words"),
            Self::Words => formatter.write_str("token mode"),
        }
    }
}

/// The tokens of a word that a graph reads (`subtoken_pooling`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pieces {
    /// The first.
    #[default]
    First,
    /// The last.
    Last,
    /// All: the graph takes their mean or their maximum.
    All,
}

/// What a prompt asks for, beside the tokens that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompt {
    /// How many types, from the question's own on.
    pub types: usize,
    /// How the graph reads words and answers.
    pub layout: Layout,
}

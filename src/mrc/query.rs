//! Window × entity type → [`Encoded`]. In: a window and the question of an entity type. Out: one query, `[CLS] question [SEP]
//! window [SEP]`, joined from ids when a batch is filled. It may not tokenize a window: that was done once for all its types.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::documents::Reject;
use super::span::TokenSpan;
use super::tokens::{SpecialTokens, Tokenizer};
use super::window::Window;

/// A kind of entity and the question that finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityType {
    /// As it stands in the `entity_type` column.
    pub name: String,
    /// Asked of every window.
    pub question: String,
}

/// What a job looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySchema {
    /// Whether mentions may lie inside or across others; if not, the better of two overlapping mentions stays.
    pub nested: bool,
    /// In the order in which they are asked.
    #[serde(rename = "type")]
    pub types: Vec<EntityType>,
}

impl EntitySchema {
    /// Says what is wrong with it: no types, an empty name or question, a name twice.
    pub fn validate(&self) -> Result<(), String> {
        if self.types.is_empty() {
            return Err("it names no entity type; add a [[type]] with name and question".into());
        }
        let mut names = BTreeSet::new();
        for (number, one) in self.types.iter().enumerate() {
            if one.name.trim().is_empty() {
                return Err(format!("type {} has no name", number + 1));
            }
            if one.question.trim().is_empty() {
                return Err(format!("type `{}` has no question", one.name));
            }
            if !names.insert(&one.name) {
                return Err(format!("type `{}` is there twice", one.name));
            }
        }
        Ok(())
    }
}

/// An entity type's question, tokenized once per job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its place in the schema.
    pub entity_type: usize,
    /// Wordpiece ids, without special tokens.
    pub ids: Vec<u32>,
}

/// The questions of a schema, ready to be joined with windows.
#[derive(Debug, Clone)]
pub struct Questions {
    /// In the schema's order.
    pub questions: Vec<Arc<Question>>,
    special: SpecialTokens,
}

impl Questions {
    /// Tokenizes every question of `schema`.
    pub fn new(schema: &EntitySchema, tokenizer: &Tokenizer) -> Result<Self, Reject> {
        let question = |(entity_type, one): (usize, &EntityType)| {
            Ok(Arc::new(Question { entity_type, ids: tokenizer.ids(&one.question)? }))
        };
        let questions = schema.types.iter().enumerate().map(question).collect::<Result<_, _>>()?;
        Ok(Self { questions, special: tokenizer.special() })
    }

    /// The tokens of the longest query whose window has `window_tokens`: question, window and three special tokens.
    pub fn longest_query(&self, window_tokens: usize) -> usize {
        self.questions.iter().map(|question| question.ids.len()).max().unwrap_or(0) + window_tokens + FRAME_TOKENS
    }

    /// One query per entity type for a window of the document numbered `document`.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> impl Iterator<Item = Encoded> + use<'_> {
        let window = Arc::clone(window);
        self.questions.iter().map(move |question| Encoded {
            document,
            window: Arc::clone(&window),
            question: Arc::clone(question),
            special: self.special,
        })
    }
}

/// `[CLS]` and twice `[SEP]`.
pub const FRAME_TOKENS: usize = 3;

/// One query: it knows where it came from and writes itself into a row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The number its asker gave the document.
    pub document: usize,
    /// The context.
    pub window: Arc<Window>,
    /// What is asked.
    pub question: Arc<Question>,
    special: SpecialTokens,
}

/// A row of a batch's inputs, each slice as long as the batch's longest query and zero beyond this query's end.
pub struct EncodedRow<'batch> {
    /// Vocabulary ids.
    pub input_ids: &'batch mut [i64],
    /// 1 on the query's tokens.
    pub attention_mask: &'batch mut [i64],
    /// 0 on the question, 1 on the context and its `[SEP]`.
    pub token_type_ids: &'batch mut [i64],
    /// Context tokens a mention may begin with.
    pub start_mask: &'batch mut [bool],
    /// Context tokens a mention may end with.
    pub end_mask: &'batch mut [bool],
}

impl Encoded {
    /// The query's length in tokens, special ones included.
    pub fn len(&self) -> usize {
        self.question.ids.len() + self.window.tokens.len() + FRAME_TOKENS
    }

    /// Never: a query has at least its special tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of the window's first token in the query.
    pub fn context_start(&self) -> usize {
        self.question.ids.len() + 2
    }

    /// The document's tokens that positions `start..=end` of the query stand for; none outside the context.
    pub fn place(&self, start: usize, end: usize) -> Option<TokenSpan> {
        let context = self.context_start();
        let inside = start >= context && start <= end && end < context + self.window.tokens.len();
        let base = self.window.span.start;
        inside.then(|| TokenSpan::new(base + start - context, base + end + 1 - context))
    }

    /// Writes `[CLS] question [SEP] window [SEP]` into `row`, whose slices are zero and at least as long as the query.
    pub fn write(&self, row: &mut EncodedRow<'_>) {
        let context = self.context_start();
        let length = self.len();
        row.input_ids[0] = self.special.classify.into();
        for (slot, &id) in row.input_ids[1..].iter_mut().zip(&self.question.ids) {
            *slot = id.into();
        }
        row.input_ids[context - 1] = self.special.separate.into();
        for (position, token) in self.window.tokens.iter().enumerate() {
            row.input_ids[context + position] = token.id.into();
            row.start_mask[context + position] = token.starts_word;
            row.end_mask[context + position] = token.ends_word;
        }
        row.input_ids[length - 1] = self.special.separate.into();
        row.attention_mask[..length].fill(1);
        row.token_type_ids[context..length].fill(1);
        row.input_ids[length..].fill(self.special.pad.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: &[&str]) -> EntitySchema {
        let one = |name: &&str| EntityType { name: (*name).into(), question: "new york".into() };
        EntitySchema { nested: false, types: names.iter().map(one).collect() }
    }

    #[test]
    fn a_schema_says_what_is_wrong_with_it() {
        assert_eq!(schema(&["PER", "ORG"]).validate(), Ok(()));
        assert_eq!(schema(&["PER", "PER"]).validate(), Err("type `PER` is there twice".into()));
        assert_eq!(schema(&[" "]).validate(), Err("type 1 has no name".into()));
        assert_eq!(
            schema(&[]).validate(),
            Err("it names no entity type; add a [[type]] with name and question".into())
        );
        let mut mute = schema(&["PER", "ORG"]);
        mute.types[1].question = " ".into();
        assert_eq!(mute.validate(), Err("type `ORG` has no question".into()));
    }
}

//! Entity types → prompts. In: a schema, and how many tokens a prompt can have. Out: prompts of the form `<<ENT>> person <<ENT>> place <<SEP>>`,
//! which together ask for every type once. It must not change the order of the types.

use std::sync::Arc;

use crate::task::entity_schema::EntitySchema;
use crate::task::gliner::layout::{GlinerModel, Layout, Prompt};
use crate::task::input::Question;
use crate::text::document::{Reject, RejectReason};
use crate::text::tokens::Tokenizer;

/// The types of a schema as parts of a prompt.
#[derive(Debug, Clone)]
pub struct Prompts {
    /// Of each type the token of types and the tokens of its words, in the schema's order.
    parts: Vec<Vec<u32>>,
    separator: u32,
    layout: Layout,
    /// The prompt that asks for all types.
    whole: Arc<Question>,
}

impl Prompts {
    /// Tokenizes the words of every type of `schema`.
    ///
    /// # Errors
    /// A [`Reject`] if the tokenizer fails on the words of a type, or leaves nothing of them.
    pub fn new(schema: &EntitySchema, tokenizer: &Tokenizer, model: &GlinerModel) -> Result<Self, Reject> {
        let mut parts = Vec::with_capacity(schema.types.len());
        for one in &schema.types {
            let words = tokenizer.ids(one.words())?;
            if words.is_empty() {
                let reason = format!("it leaves no token of the words of the type `{}`", one.name);
                return Err(Reject::new(RejectReason::Tokenizer, reason));
            }
            parts.push([vec![model.entity_token.1], words].concat());
        }
        let (separator, layout) = (model.separator.1, model.layout);
        let whole = question(&parts, 0, separator, layout);
        Ok(Self { parts, separator, layout, whole })
    }

    /// The length in tokens of the prompt that asks for all types.
    pub fn whole_tokens(&self) -> usize {
        self.whole.ids.len()
    }

    /// The length in tokens of the longest prompt that asks for one type.
    pub fn longest_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.len() + 1).max().unwrap_or(1)
    }

    /// The index of the type with the most tokens.
    pub fn longest(&self) -> Option<usize> {
        (0..self.parts.len()).max_by_key(|&index| self.parts[index].len())
    }

    /// Prompts of at most `tokens` tokens, as few as can be: one if all types fit. A type that does not fit alone has a prompt of its own.
    pub fn within(&self, tokens: usize) -> Vec<Arc<Question>> {
        if self.whole.ids.len() <= tokens {
            return vec![Arc::clone(&self.whole)];
        }
        let mut prompts = Vec::new();
        let (mut first, mut length) = (0, 1);
        for (index, part) in self.parts.iter().enumerate() {
            if index > first && length + part.len() > tokens {
                prompts.push(question(&self.parts[first..index], first, self.separator, self.layout));
                (first, length) = (index, 1);
            }
            length += part.len();
        }
        prompts.push(question(&self.parts[first..], first, self.separator, self.layout));
        prompts
    }
}

/// The prompt that asks for these types, the first of which has the index `first` in the schema.
fn question(parts: &[Vec<u32>], first: usize, separator: u32, layout: Layout) -> Arc<Question> {
    let ids = parts.iter().flatten().copied().chain([separator]).collect();
    Arc::new(Question { entity_type: first, ids, prompt: Some(Prompt { types: parts.len(), layout }) })
}

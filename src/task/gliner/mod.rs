//! Models of the GLiNER family (Zaratiana et al., NAACL 2024, arXiv 2311.08526), as the package `gliner` exports them: types are named in plain
//! words, and the model reads them with the text. In: windows, and the outputs of a graph. Out: inputs with a prompt of all types and a window,
//! and the spans that each type has. It must not run a graph.
//!
//! The contract of its graph, for texts of at most W words, K = `max_width`, and T types:
//!
//! | | name | type | shape | |
//! |---|---|---|---|---|
//! | in | `input_ids`, `attention_mask` | int64 | `[batch, tokens]` | `[CLS] <<ENT>> person <<ENT>> place <<SEP>> text [SEP]` |
//! | in | `words_mask` | int64 | `[batch, tokens]` | the number of the word, from 1, at the tokens of the text that it is read from; else 0 |
//! | in | `text_lengths` | int64 | `[batch, 1]` | words of the text |
//! | in | `span_idx` | int64 | `[batch, W·K, 2]` | first and last word of every span; only of a graph that scores spans |
//! | in | `span_mask` | bool | `[batch, W·K]` | whether the span is in the text; only of a graph that scores spans |
//! | out | `logits` | float32 | `[batch, W, K, T]` | of the span of a first word and a length; of a graph that scores spans |
//! | | | | `[batch, W, T, 3]` | whether a word is the first, the last, or any word of a mention; of a graph that scores words |
//!
//! The score of a span is σ(logit); of a graph that scores words it is the least of its first word's, its last word's and all its words' scores.
//! What the model answers for a type depends on the types beside it in the prompt.
//!
//! | file | what |
//! |---|---|
//! | [`layout`] | what a model says of itself |
//! | [`prompts`] | entity types → prompts |
//! | [`words`] | a batch → the graph's tensors |
//! | [`contract`] | checks of inputs and outputs |
//! | [`mod@decode`] | logits → spans |
//! | [`overlap`] | spans → those that are allowed beside each other |

pub mod contract;
pub mod decode;
pub mod layout;
pub mod overlap;
pub mod prompts;
pub mod words;

use std::sync::Arc;

use crate::task::answer::{Acceptance, Answer};
use crate::task::batch::Batch;
use crate::task::entity_schema::EntitySchema;
use crate::task::gliner::decode::{DecodeRule, decode};
use crate::task::gliner::layout::GlinerModel;
use crate::task::gliner::prompts::Prompts;
use crate::task::input::ModelInput;
use crate::task::tensor::Tensors;
use crate::text::document::Reject;
use crate::text::frame::Frame;
use crate::text::tokens::Tokenizer;
use crate::text::window::Window;

/// The kind for the types of a schema.
#[derive(Debug, Clone)]
pub struct Gliner {
    /// The types as parts of a prompt.
    pub prompts: Prompts,
    /// Which spans are allowed beside each other.
    pub rule: DecodeRule,
    /// Which spans are answers.
    pub acceptance: Acceptance,
    /// The longest input in tokens.
    max_tokens: usize,
    frame: Arc<Frame>,
}

impl Gliner {
    /// The kind for the types of `schema`.
    ///
    /// # Errors
    /// As for [`Prompts::new`].
    pub fn new(
        schema: &EntitySchema,
        tokenizer: &Tokenizer,
        model: &GlinerModel,
        (rule, acceptance): (DecodeRule, Acceptance),
    ) -> Result<Self, Reject> {
        let prompts = Prompts::new(schema, tokenizer, model)?;
        let frame = Arc::new(tokenizer.frame().joined());
        Ok(Self { prompts, rule, acceptance, max_tokens: model.max_tokens, frame })
    }

    /// The inputs for a window of document number `document`: one, or several if the prompt of all types would push the text out.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> Vec<ModelInput> {
        let taken = window.tokens.len() + self.frame.alone_tokens();
        let prompts = self.prompts.within(self.max_tokens.saturating_sub(taken));
        prompts.into_iter().map(|prompt| ModelInput::asking(document, window, prompt, &self.frame)).collect()
    }

    /// The number of special tokens around prompt and text.
    pub fn special_tokens(&self) -> usize {
        self.frame.alone_tokens()
    }

    /// The length in tokens of the longest input with a window of `window_tokens`.
    pub fn longest_input(&self, window_tokens: usize) -> usize {
        let needed = |prompt: usize| window_tokens + prompt + self.frame.alone_tokens();
        needed(self.prompts.whole_tokens()).min(self.max_tokens).max(needed(self.prompts.longest_tokens()))
    }

    /// One [`Answer`] per input of `batch`, in its order.
    ///
    /// # Errors
    /// Outputs that [`contract::accept`] has not returned.
    pub fn read(&self, batch: &Batch, outputs: Tensors) -> Result<Vec<Answer>, String> {
        decode(batch, outputs, &self.rule, &self.acceptance)
    }
}

//! Window → [`ModelInput`]s. In: a window and, for kinds that ask one, the question of an entity type. Out: question and window, or the
//! window alone, in the tokenizer's [`Frame`] (of BERT: `[CLS] question [SEP] window [SEP]` or `[CLS] window [SEP]`), written from token ids into
//! a batch. It must not tokenize a window: that happens once for all its types.

use std::sync::Arc;

use crate::task::entity_schema::{EntitySchema, EntityType};
use crate::task::gliner::layout::Prompt;
use crate::text::document::Reject;
use crate::text::frame::{Frame, Framed, Part};
use crate::text::span::TokenSpan;
use crate::text::tokens::Tokenizer;
use crate::text::window::Window;

/// An entity type's question, tokenized once per job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The index of its type in the schema.
    pub entity_type: usize,
    /// Wordpiece ids, without special tokens.
    pub ids: Vec<u32>,
    /// What a prompt asks for, which names several types: from `entity_type` on.
    pub prompt: Option<Prompt>,
}

/// The tokenized questions of a schema.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The questions in the schema's order.
    pub questions: Vec<Arc<Question>>,
    frame: Arc<Frame>,
}

impl Questions {
    /// Tokenizes every question of `schema`.
    pub fn new(schema: &EntitySchema, tokenizer: &Tokenizer) -> Result<Self, Reject> {
        let question = |(entity_type, one): (usize, &EntityType)| {
            Ok(Arc::new(Question { entity_type, ids: tokenizer.ids(&one.question)?, prompt: None }))
        };
        let questions = schema.types.iter().enumerate().map(question).collect::<Result<_, _>>()?;
        Ok(Self { questions, frame: Arc::clone(tokenizer.frame()) })
    }

    /// The special tokens around questions and windows.
    pub const fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// The length in tokens of the longest input with a window of `window_tokens`: question, window and special tokens.
    pub fn longest_query(&self, window_tokens: usize) -> usize {
        self.longest_question() + window_tokens + self.frame.pair_tokens()
    }

    /// The length in tokens of the longest question as an input of its own, special tokens included.
    pub fn longest_alone(&self) -> usize {
        self.longest_question() + self.frame.alone_tokens()
    }

    fn longest_question(&self) -> usize {
        self.questions.iter().map(|question| question.ids.len()).max().unwrap_or(0)
    }

    /// The index of the entity type whose question is the longest.
    pub fn longest(&self) -> Option<usize> {
        self.questions.iter().max_by_key(|question| question.ids.len()).map(|question| question.entity_type)
    }

    /// One input per entity type for a window of document number `document`.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> impl Iterator<Item = ModelInput> + use<'_> {
        let window = Arc::clone(window);
        (0..self.questions.len()).map(move |entity_type| self.one(entity_type, document, &window))
    }

    /// The input that asks for one entity type, by its index, in a window of document number `document`.
    pub fn one(&self, entity_type: usize, document: usize, window: &Arc<Window>) -> ModelInput {
        ModelInput::asking(document, window, Arc::clone(&self.questions[entity_type]), &self.frame)
    }
}

/// One row of a batch: a window after the question of one entity type, or, for a kind that answers all types in one pass, the window
/// alone. It knows its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInput {
    /// The caller's number for the document.
    pub document: usize,
    /// The context.
    pub window: Arc<Window>,
    /// The question, if there is one.
    pub question: Option<Arc<Question>>,
    frame: Arc<Frame>,
}

/// A row of a batch. Each slice is as long as the batch's longest input and zero after this input's end.
pub struct InputRow<'batch> {
    /// Vocabulary ids.
    pub input_ids: &'batch mut [i64],
    /// 1 on the input's tokens.
    pub attention_mask: &'batch mut [i64],
    /// Of question, window and special tokens, as the tokenizer's post-processor sets them: of BERT's 0 on a question, 1 on the window
    /// after it and its `[SEP]`, and 0 everywhere without a question.
    pub token_type_ids: &'batch mut [i64],
    /// The [`WordShape`](crate::text::word_shape::WordShape) of context tokens.
    pub shape_ids: &'batch mut [i64],
    /// Context tokens that can start a mention.
    pub start_mask: &'batch mut [bool],
    /// Context tokens that can end a mention.
    pub end_mask: &'batch mut [bool],
}

impl ModelInput {
    /// The input that is a window of document number `document` alone.
    pub fn alone(document: usize, window: &Arc<Window>, frame: &Arc<Frame>) -> Self {
        Self { document, window: Arc::clone(window), question: None, frame: Arc::clone(frame) }
    }

    /// The input that asks `question` of a window of document number `document`.
    pub fn asking(document: usize, window: &Arc<Window>, question: Arc<Question>, frame: &Arc<Frame>) -> Self {
        Self { document, window: Arc::clone(window), question: Some(question), frame: Arc::clone(frame) }
    }

    /// The index of the entity type that is asked for, of a prompt its first one; `None` if all types of the model are.
    pub fn entity_type(&self) -> Option<usize> {
        self.question.as_ref().map(|question| question.entity_type)
    }

    /// The length in tokens, special tokens included.
    pub fn len(&self) -> usize {
        self.context_start() + self.window.tokens.len() + self.framed().after.ids.len()
    }

    /// Always false: an input has at least its special tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of the window's first token.
    pub fn context_start(&self) -> usize {
        let Framed { before, between, .. } = self.framed();
        let question = self.question.as_ref().map_or(0, |question| question.ids.len());
        before.ids.len() + question + between.map_or(0, |between| between.ids.len())
    }

    fn framed(&self) -> Framed<'_> {
        self.frame.framed(self.question.is_some())
    }

    /// The document's tokens at positions `start..=end` of the input; `None` outside the window.
    pub fn place(&self, start: usize, end: usize) -> Option<TokenSpan> {
        let context = self.context_start();
        let inside = start >= context && start <= end && end < context + self.window.tokens.len();
        let base = self.window.span.start;
        inside.then(|| TokenSpan::new(base + start - context, base + end + 1 - context))
    }

    /// Writes itself into `row`, whose slices are zero and at least as long.
    pub fn write(&self, row: &mut InputRow<'_>) {
        let (context, length, framed) = (self.context_start(), self.len(), self.framed());
        let mut special = |part: &Part, at: usize| {
            for (place, (&id, &kind)) in (at..).zip(part.ids.iter().zip(&part.types)) {
                (row.input_ids[place], row.token_type_ids[place]) = (id.into(), kind.into());
            }
        };
        special(framed.before, 0);
        special(framed.after, length - framed.after.ids.len());
        if let (Some(question), Some(between)) = (&self.question, framed.between) {
            special(between, context - between.ids.len());
            let first = framed.before.ids.len();
            for (place, &id) in (first..).zip(&question.ids) {
                (row.input_ids[place], row.token_type_ids[place]) = (id.into(), framed.question_type.into());
            }
        }
        for (place, token) in (context..).zip(&self.window.tokens) {
            row.input_ids[place] = token.id.into();
            row.token_type_ids[place] = framed.text_type.into();
            row.shape_ids[place] = token.shape.id().into();
            row.start_mask[place] = token.starts_word;
            row.end_mask[place] = token.ends_word;
        }
        row.attention_mask[..length].fill(1);
        row.input_ids[length..].fill(self.frame.pad.into());
    }
}

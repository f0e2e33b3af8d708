//! A kind for tests that answers all types of a window in one pass, as a tagger does. In: windows, and the outputs of its graph, one
//! score per token and type. Out: a span for each token whose score passes. Only tests must use it: they show that a new kind changes
//! nothing before the inputs and after the spans. Its model has two graphs: `wanted` is the output of the graph that runs once a job.

use std::sync::Arc;

use crate::task::answer::{Acceptance, Answer, Span};
use crate::task::batch::Batch;
use crate::task::entity_schema::EntitySchema;
use crate::task::input::ModelInput;
use crate::task::tensor::{Tensors, Values};
use crate::text::frame::Frame;
use crate::text::span::TokenSpan;
use crate::text::tokens::Tokenizer;
use crate::text::window::Window;

pub(crate) const OUTPUTS: [&str; 2] = ["scores", "wanted"];

/// The kind for some types.
#[derive(Debug, Clone)]
pub struct OnePass {
    types: usize,
    pub(crate) frame: Arc<Frame>,
    acceptance: Acceptance,
}

impl OnePass {
    pub(crate) fn new(schema: &EntitySchema, tokenizer: &Tokenizer, acceptance: Acceptance) -> Self {
        Self { types: schema.types.len(), frame: Arc::clone(tokenizer.frame()), acceptance }
    }

    pub(crate) fn ask(&self, document: usize, window: &Arc<Window>) -> ModelInput {
        ModelInput::alone(document, window, &self.frame)
    }

    /// `scores` is `[rows, tokens, types]`.
    pub(crate) fn read(&self, batch: &Batch, mut outputs: Tensors) -> Result<Vec<Answer>, String> {
        let Some(Values::F32(scores)) = outputs.take("scores").map(|scores| scores.values) else {
            return Err("there are no scores".to_owned());
        };
        let width = batch.tokens();
        let rows = batch.inputs.iter().enumerate().map(|(row, input)| {
            let mut answer = Answer::default();
            for position in 0..width {
                let Some(tokens) = input.place(position, position) else { continue };
                for entity_type in 0..self.types {
                    let logit = scores[(row * width + position) * self.types + entity_type];
                    if let Some(logit) = self.acceptance.judge(entity_type, logit) {
                        answer.spans.push(Span {
                            entity_type,
                            tokens: TokenSpan::new(tokens.start, tokens.end),
                            logit,
                        });
                    }
                }
            }
            answer
        });
        Ok(rows.collect())
    }
}

pub(crate) fn tensors(batch: &Batch) -> Tensors {
    let made = batch.tensors();
    Tensors::default().with("input_ids", &[made.rows, made.tokens], Values::I64(made.input_ids))
}

//! Kinds of models. In: a schema, windows, and the outputs of a graph. Out: the inputs of the model and the spans that it finds. What
//! comes before (tokens, windows) and after (mentions, tables) does not know the kind. It must not run a graph.
//!
//! A kind owns three things: how a window becomes inputs, the contract of its graph, and how outputs become spans.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::task::answer::{Acceptance, Answer, logit};
use crate::task::batch::Batch;
use crate::task::entity_schema::{EntitySchema, Nesting};
use crate::task::gliner;
use crate::task::gliner::Gliner;
use crate::task::gliner::layout::GlinerModel;
use crate::task::input::ModelInput;
use crate::task::late;
use crate::task::late::Late;
use crate::task::mrc;
use crate::task::mrc::Mrc;
use crate::task::mrc::decode::{DecodeRule, Logits};
#[cfg(test)]
use crate::task::one_pass;
use crate::task::qa;
use crate::task::qa::{AnswerRule, Qa};
use crate::task::tagger;
use crate::task::tagger::tag_set::TagSet;
use crate::task::tagger::{TagReader, Tagger};
use crate::task::tensor::{GraphSignature, Misfit, Tensor, Tensors};
use crate::text::document::{Reject, RejectReason};
use crate::text::tokens::Tokenizer;
use crate::text::window::Window;

/// The kind of a model: what its graph computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Start, end and match logits of one question on one window (Li et al. 2020).
    #[default]
    Mrc,
    /// Start, end and match logits of all questions on one window, with late interaction.
    Late,
    /// One tag per word, all types of a window in one pass.
    Tagger,
    /// One best span per question and document, or none.
    Qa,
    /// Types in plain words, all types of a window in one pass; a ready graph of the GLiNER family.
    Gliner,
    /// The first graph of [`Kind::Late`]: what the second is given of a question. No model is of this kind.
    #[serde(skip)]
    Questions,
    /// All types of a window in one pass; only for tests.
    #[cfg(test)]
    OnePass,
}

impl Kind {
    /// Checks a graph's inputs and outputs against the contract.
    ///
    /// # Errors
    /// A [`Misfit`] that names the input or output.
    pub fn check(self, graph: &GraphSignature) -> Result<(), Misfit> {
        match self {
            Self::Mrc => mrc::check(graph),
            Self::Late => late::check(graph),
            Self::Tagger => tagger::check(graph),
            Self::Qa => qa::check(graph),
            Self::Gliner => gliner::contract::check(graph),
            Self::Questions => late::check_questions(graph),
            #[cfg(test)]
            Self::OnePass => Ok(()),
        }
    }

    /// The graph's tensors for a batch.
    pub fn tensors(self, batch: &Batch) -> Tensors {
        match self {
            Self::Mrc | Self::Late | Self::Tagger | Self::Qa | Self::Questions => mrc::tensors(batch),
            Self::Gliner => gliner::words::tensors(batch),
            #[cfg(test)]
            Self::OnePass => one_pass::tensors(batch),
        }
    }

    /// Checks the outputs of a graph, which was given the tensors that `given` finds by name, and returns what is read of them: of a graph
    /// that scores more than candidates, only these.
    ///
    /// # Errors
    /// What violates the contract.
    pub fn accept<'a>(self, given: &dyn Fn(&str) -> Option<&'a Tensor>, outputs: Tensors) -> Result<Tensors, String> {
        match self {
            Self::Mrc => mrc::accept(given, outputs),
            Self::Late => late::accept(given, outputs),
            Self::Tagger => tagger::accept(given, outputs),
            Self::Qa => qa::accept(given, outputs),
            Self::Gliner => gliner::contract::accept(given, outputs),
            Self::Questions => Ok(outputs),
            #[cfg(test)]
            Self::OnePass => Ok(outputs),
        }
    }

    /// The rows of accepted outputs that answer nothing, because they are not finite. The other rows do not depend on them.
    pub fn unanswered(self, outputs: &Tensors) -> Vec<usize> {
        match self {
            Self::Mrc | Self::Late | Self::Qa => mrc::unanswered(outputs),
            Self::Tagger | Self::Gliner => tagger::unanswered(outputs),
            Self::Questions => Vec::new(),
            #[cfg(test)]
            Self::OnePass => Vec::new(),
        }
    }

    /// The names of the outputs that are read.
    pub const fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Mrc | Self::Late => &mrc::OUTPUTS,
            Self::Tagger => &tagger::OUTPUTS,
            Self::Qa => &qa::OUTPUTS,
            Self::Gliner => &gliner::contract::OUTPUTS,
            Self::Questions => &late::QUESTION_OUTPUTS,
            #[cfg(test)]
            Self::OnePass => &one_pass::OUTPUTS,
        }
    }
}

/// The settings that a kind has of its own. They change the rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskSettings {
    /// Of [`Kind::Mrc`].
    Mrc {
        /// σ(start logit) and σ(end logit) must be above this.
        boundary_threshold: f32,
        /// The most candidates per question and window; the best by start + end logit are kept.
        max_candidates: usize,
    },
    /// Of [`Kind::Late`].
    Late {
        /// As of [`TaskSettings::Mrc`].
        boundary_threshold: f32,
        /// As of [`TaskSettings::Mrc`].
        max_candidates: usize,
    },
    /// Of [`Kind::Tagger`].
    Tagger,
    /// Of [`Kind::Qa`].
    Qa {
        /// By how much a span's logit must exceed that of the null answer.
        null_threshold: f32,
    },
    /// Of [`Kind::Gliner`].
    Gliner {
        /// The most spans of one input among which the best of overlapping ones are searched for.
        max_candidates: usize,
        /// Whether spans that exclude each other are wanted, all of them.
        all: bool,
    },
    /// Of [`Kind::OnePass`].
    #[cfg(test)]
    OnePass,
}

impl TaskSettings {
    /// The kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Mrc { .. } => Kind::Mrc,
            Self::Late { .. } => Kind::Late,
            Self::Tagger => Kind::Tagger,
            Self::Qa { .. } => Kind::Qa,
            Self::Gliner { .. } => Kind::Gliner,
            #[cfg(test)]
            Self::OnePass => Kind::OnePass,
        }
    }

    /// The settings with their names, for messages.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Mrc { boundary_threshold, max_candidates } | Self::Late { boundary_threshold, max_candidates } => {
                vec![
                    ("boundary_threshold", boundary_threshold.to_string()),
                    ("max_candidates", max_candidates.to_string()),
                ]
            }
            Self::Tagger => Vec::new(),
            Self::Qa { null_threshold } => vec![("null_threshold", null_threshold.to_string())],
            Self::Gliner { max_candidates, .. } => vec![("max_candidates", max_candidates.to_string())],
            #[cfg(test)]
            Self::OnePass => Vec::new(),
        }
    }
}

/// What only the model of a kind knows.
#[derive(Debug, Clone, Copy)]
pub enum Own<'model> {
    /// Of a kind that needs nothing.
    Nothing,
    /// The tags of a tagger.
    Tags(&'model TagSet),
    /// How a model of the GLiNER family reads words.
    Gliner(&'model GlinerModel),
}

/// A kind with the entity types to extract.
#[derive(Debug, Clone)]
pub enum Task {
    /// [`Kind::Mrc`].
    Mrc(Mrc),
    /// [`Kind::Late`].
    Late(Late),
    /// [`Kind::Tagger`].
    Tagger(Box<Tagger>),
    /// [`Kind::Qa`].
    Qa(Qa),
    /// [`Kind::Gliner`].
    Gliner(Box<Gliner>),
    /// [`Kind::OnePass`].
    #[cfg(test)]
    OnePass(one_pass::OnePass),
}

impl Task {
    /// The kind for the types of `schema`, which decide on spans by their thresholds and temperatures. Decisions on logits within `tolerance`
    /// of a threshold are counted as undecided. `own` is what only the model knows.
    ///
    /// # Errors
    /// A [`Reject`] if the tokenizer fails on a question, or if a model does not know what its kind needs.
    pub fn new(
        settings: &TaskSettings,
        schema: &EntitySchema,
        tokenizer: &Tokenizer,
        own: Own<'_>,
        tolerance: f32,
    ) -> Result<Self, Reject> {
        let acceptance = Acceptance::new(schema, tolerance);
        let rule = |boundary_threshold, max_candidates| DecodeRule {
            boundary: logit(boundary_threshold),
            nested: schema.nested == Nesting::Nested,
            max_candidates,
            tolerance,
        };
        let missing = |what: &str| Reject::new(RejectReason::Tokenizer, format!("the model {what}"));
        match *settings {
            TaskSettings::Mrc { boundary_threshold, max_candidates } => {
                Mrc::new(schema, tokenizer, (rule(boundary_threshold, max_candidates), acceptance)).map(Self::Mrc)
            }
            TaskSettings::Late { boundary_threshold, max_candidates } => {
                Late::new(schema, tokenizer, (rule(boundary_threshold, max_candidates), acceptance)).map(Self::Late)
            }
            TaskSettings::Tagger => {
                let Own::Tags(tags) = own else { return Err(missing("names no tags")) };
                let reader = TagReader::new(tags.clone(), schema, acceptance);
                Ok(Self::Tagger(Box::new(Tagger::new(reader, Arc::clone(tokenizer.frame())))))
            }
            TaskSettings::Qa { null_threshold } => {
                Qa::new(schema, tokenizer, (AnswerRule { null_threshold, tolerance }, acceptance)).map(Self::Qa)
            }
            TaskSettings::Gliner { max_candidates, all } => {
                let Own::Gliner(model) = own else { return Err(missing("has no gliner_config.json")) };
                let rule = gliner::decode::DecodeRule { nesting: (!all).then_some(schema.nested), max_candidates };
                let gliner = Gliner::new(schema, tokenizer, model, (rule, acceptance))?;
                Ok(Self::Gliner(Box::new(gliner)))
            }
            #[cfg(test)]
            TaskSettings::OnePass => Ok(Self::OnePass(one_pass::OnePass::new(schema, tokenizer, acceptance))),
        }
    }

    /// The kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Mrc(_) => Kind::Mrc,
            Self::Late(_) => Kind::Late,
            Self::Tagger(_) => Kind::Tagger,
            Self::Qa(_) => Kind::Qa,
            Self::Gliner(_) => Kind::Gliner,
            #[cfg(test)]
            Self::OnePass(_) => Kind::OnePass,
        }
    }

    /// The inputs for a window of document number `document`.
    pub fn ask(&self, document: usize, window: &Arc<Window>) -> Vec<ModelInput> {
        match self {
            Self::Mrc(mrc) => mrc.ask(document, window).collect(),
            Self::Late(late) => vec![late.ask(document, window)],
            Self::Tagger(tagger) => vec![tagger.ask(document, window)],
            Self::Qa(qa) => qa.questions.ask(document, window).collect(),
            Self::Gliner(gliner) => gliner.ask(document, window),
            #[cfg(test)]
            Self::OnePass(one_pass) => vec![one_pass.ask(document, window)],
        }
    }

    /// Whether these inputs for one window ask in several prompts what one would ask if it left room for the text.
    pub fn splits_prompt(&self, inputs: &[ModelInput]) -> bool {
        matches!(self, Self::Gliner(_)) && inputs.len() > 1
    }

    /// The length in tokens of the longest input with a window of `window_tokens`.
    pub fn longest_input(&self, window_tokens: usize) -> usize {
        match self {
            Self::Mrc(mrc) => mrc.questions.longest_query(window_tokens),
            Self::Qa(qa) => qa.questions.longest_query(window_tokens),
            Self::Late(late) => window_tokens + late.questions.frame().alone_tokens(),
            Self::Tagger(tagger) => window_tokens + tagger.frame().alone_tokens(),
            Self::Gliner(gliner) => gliner.longest_input(window_tokens),
            #[cfg(test)]
            Self::OnePass(one_pass) => window_tokens + one_pass.frame.alone_tokens(),
        }
    }

    /// The length in tokens of the longest input of the graph that runs once a job; 0 for a kind of one graph.
    pub fn longest_asked(&self) -> usize {
        match self {
            Self::Late(late) => late.questions.longest_alone(),
            Self::Mrc(_) | Self::Tagger(_) | Self::Qa(_) | Self::Gliner(_) => 0,
            #[cfg(test)]
            Self::OnePass(_) => 0,
        }
    }

    /// The index of the entity type whose question is the longest; `None` for a kind without questions.
    pub fn longest_question(&self) -> Option<usize> {
        match self {
            Self::Mrc(Mrc { questions, .. }) | Self::Late(Late { questions, .. }) | Self::Qa(Qa { questions, .. }) => {
                questions.longest()
            }
            Self::Gliner(gliner) => gliner.prompts.longest(),
            Self::Tagger(_) => None,
            #[cfg(test)]
            Self::OnePass(_) => None,
        }
    }

    /// The inputs of the graph that runs once a job, one run each; none for a kind of one graph.
    pub fn asked(&self) -> Vec<Tensors> {
        match self {
            Self::Late(late) => late.asked().collect(),
            Self::Mrc(_) | Self::Tagger(_) | Self::Qa(_) | Self::Gliner(_) => Vec::new(),
            #[cfg(test)]
            Self::OnePass(_) => Vec::new(),
        }
    }

    /// The tensors that the graph takes with every batch; `given` are the outputs of the graph that runs once a job, for [`Task::asked`].
    ///
    /// # Errors
    /// What violates the contract of that graph.
    pub fn fixed(&self, given: Vec<Tensors>) -> Result<Tensors, String> {
        match self {
            Self::Mrc(mrc) => Ok(mrc::fixed(mrc.rule.boundary)),
            Self::Late(late) => late.fixed(given),
            Self::Tagger(_) | Self::Qa(_) | Self::Gliner(_) => Ok(Tensors::default()),
            #[cfg(test)]
            Self::OnePass(_) => Ok(Tensors::default()),
        }
    }

    /// As [`Task::fixed`], from the vectors of the questions that it returned another time.
    ///
    /// # Errors
    /// Vectors of other questions.
    pub fn with_vectors(&self, vectors: Tensors) -> Result<Tensors, String> {
        match self {
            Self::Late(late) => late.with_vectors(vectors),
            Self::Mrc(mrc) => Ok(mrc::fixed(mrc.rule.boundary)),
            Self::Tagger(_) | Self::Qa(_) | Self::Gliner(_) => Ok(Tensors::default()),
            #[cfg(test)]
            Self::OnePass(_) => Ok(Tensors::default()),
        }
    }

    /// The logits of accepted outputs, apart for each type that a row answers; only of kinds whose graphs select candidates.
    ///
    /// # Errors
    /// What violates the contract of the graph.
    pub fn apart(&self, outputs: Tensors) -> Result<Vec<Logits>, String> {
        match self {
            Self::Mrc(_) => Ok(vec![mrc::logits(outputs)?]),
            Self::Late(_) => late::apart(outputs),
            Self::Tagger(_) | Self::Qa(_) | Self::Gliner(_) => Err("its graph selects no candidates".to_owned()),
            #[cfg(test)]
            Self::OnePass(_) => Err("a kind for tests".to_owned()),
        }
    }

    /// One [`Answer`] per input of `batch`, in its order, from outputs that [`Kind::accept`] has returned.
    ///
    /// # Errors
    /// What violates the contract of the graph.
    pub fn read(&self, batch: &Batch, outputs: Tensors) -> Result<Vec<Answer>, String> {
        match self {
            Self::Mrc(mrc) => mrc.read(batch, outputs),
            Self::Late(late) => late.read(batch, outputs),
            Self::Tagger(tagger) => tagger.reader.read(batch, outputs),
            Self::Qa(qa) => qa::read(batch, (&qa.rule, &qa.acceptance), outputs),
            Self::Gliner(gliner) => gliner.read(batch, outputs),
            #[cfg(test)]
            Self::OnePass(one_pass) => one_pass.read(batch, outputs),
        }
    }
}

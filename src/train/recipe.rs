//! How a model is trained, in the words of the BERT-MRC reference. In: the section `[recipe]` of a training job. Out: its settings, with
//! the reference's defaults but for a few. It may not check them: `file` does that for the whole job.
#![allow(clippy::doc_markdown, reason = "doc comments of the sections are texts of the JSON Schema")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::encoder::config::Activation;
use crate::text::tokens::Words;

/// What to do about something that is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// Leave it out, count it, go on.
    #[default]
    Skip,
    /// End with an error that names it.
    Stop,
}

/// How the model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecipeSection {
    /// The longest query in tokens: question, context and three special tokens.
    pub max_length: usize,
    /// About how many context wordpieces of a long document the next window sees again: at most half of the window, an eighth when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_tokens: Option<usize>,
    /// What counts as a word.
    pub words: Words,
    /// Queries in a batch.
    pub batch_size: usize,
    /// Padded tokens in a batch, instead of a number of queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients are averaged for one step.
    pub accumulate_grad_batches: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// adamw (betas 0.9 and 0.98), torch.adam (AdamW with betas 0.9 and 0.999), sgd (momentum 0.9). Under onecycle the first beta, or the momentum, goes from 0.95 to 0.85 and back.
    pub optimizer: OptimizerName,
    /// Weight decay, decoupled but for sgd; none on biases and layer normalizations.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
    /// onecycle (linear), linear, polydecay.
    pub lr_scheduler: SchedulerName,
    /// Steps in which the learning rate rises; no more than there are.
    pub warmup_steps: usize,
    /// onecycle ends at the first learning rate (lr / 25) divided by this.
    pub final_div_factor: f64,
    /// Where polydecay ends; lr / 5 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_mini: Option<f64>,
    /// Dropout in the encoder.
    pub bert_dropout: f64,
    /// Dropout in the match head.
    pub mrc_dropout: f64,
    /// The match head's activation; one that is kept (encoder.heads) has its own.
    pub classifier_act_func: Activation,
    /// The match head's width; one that is kept has its own.
    pub classifier_intermediate_hidden_size: usize,
    /// The start loss's weight.
    pub weight_start: f64,
    /// The end loss's weight.
    pub weight_end: f64,
    /// The match loss's weight.
    pub weight_span: f64,
    /// The pairs of start and end that the match loss looks at.
    pub span_loss_candidates: Candidates,
    /// The largest norm of a step's gradient; 0 is no limit.
    pub gradient_clip_val: f64,
    /// fp32, or bf16 over fp32 master weights.
    pub precision: Precision,
    /// How often the training documents are gone through.
    pub max_epochs: usize,
    /// How often dev is scored: a share of an epoch (0.25) or, above 1, a number of steps.
    pub val_check_interval: f64,
    /// Scorings without a better F1 after which training ends; never when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Where all random numbers begin.
    pub seed: u64,
    /// auto, cpu, cuda, cuda:1, or several cards (cuda:0,cuda:1), each once, which share each step's batches. cpu,cpu shares them between
    /// two copies on the CPU: it is no faster, but tries out what cards would do.
    pub device: String,
    /// Threads on the CPU; all cores when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// A loss that is not a number: `stop` ends the training and keeps the state that was saved last, `skip` leaves the step out, and ends
    /// the training after 100 of them in a row.
    pub not_a_number: OnProblem,
}

/// Optimizers, under the reference's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OptimizerName {
    /// AdamW with the betas of RoBERTa, 0.9 and 0.98.
    #[serde(rename = "adamw")]
    AdamW,
    /// AdamW with PyTorch's betas, 0.9 and 0.999.
    #[serde(rename = "torch.adam")]
    TorchAdam,
    /// Stochastic gradient descent, momentum 0.9.
    #[serde(rename = "sgd")]
    Sgd,
}

/// Courses of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerName {
    /// Up from lr / 25, down to lr / 25 / final_div_factor, both linear; the momentum goes the other way.
    OneCycle,
    /// Up from 0, down to 0.
    Linear,
    /// Up from 0, down to lr_mini, linear.
    PolyDecay,
}

/// Which pairs of start and end the match loss looks at; all of them start ≤ end, on words' first and last wordpieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Candidates {
    /// Every pair.
    All,
    /// Gold starts with gold ends.
    Gold,
    /// These, and predicted starts with predicted ends.
    PredAndGold,
    /// These, and every other pair with probability one half.
    PredGoldRandom,
}

/// Number formats of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    Fp32,
    /// bfloat16 products over 32-bit weights, sums and normalizations, as PyTorch's autocast has them.
    Bf16,
}

impl Default for RecipeSection {
    fn default() -> Self {
        Self {
            max_length: 128,
            overlap_tokens: None,
            words: Words::Tokenizer,
            batch_size: 32,
            batch_tokens: None,
            accumulate_grad_batches: 1,
            lr: 2e-5,
            optimizer: OptimizerName::AdamW,
            weight_decay: 0.01,
            adam_epsilon: 1e-8,
            lr_scheduler: SchedulerName::OneCycle,
            warmup_steps: 0,
            final_div_factor: 1e4,
            lr_mini: None,
            bert_dropout: 0.1,
            mrc_dropout: 0.1,
            classifier_act_func: Activation::Gelu,
            classifier_intermediate_hidden_size: 1024,
            weight_start: 1.0,
            weight_end: 1.0,
            weight_span: 1.0,
            span_loss_candidates: Candidates::PredAndGold,
            gradient_clip_val: 0.0,
            precision: Precision::Fp32,
            max_epochs: 20,
            val_check_interval: 1.0,
            patience: None,
            seed: 0,
            device: "auto".into(),
            threads: None,
            not_a_number: OnProblem::Stop,
        }
    }
}

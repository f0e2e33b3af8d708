//! The hyperparameters of a training, with the names of the BERT-MRC reference implementation. In: the section `[recipe]` of a training
//! job. Out: its settings, most defaults being those of the reference. It must not validate them: `file` does that for the whole job.
#![allow(clippy::doc_markdown, reason = "doc comments of the sections are texts of the JSON Schema")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::head::{Activation, Interaction};
use crate::task::kind::Kind;
use crate::task::tagger::scheme::Scheme;
use crate::text::tokens::Words;

/// How to handle a problem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// Skip it, count it and continue.
    #[default]
    Skip,
    /// End with an error that names it.
    Stop,
}

/// What is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Machine reading comprehension: one question per type, and all its mentions (the paper).
    #[default]
    Mrc,
    /// One tag per word, all types in one pass. Of overlapping gold mentions only the longest is learned.
    Tagger,
    /// One best span per question, or none. Of the gold mentions of a type in a window only the first is learned.
    Qa,
}

/// The layers of a tagger's head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaggerHead {
    /// One layer, as in Hugging Face's library, which then reads the model too.
    #[default]
    Linear,
    /// The two layers of the reference implementation, with classifier_act_func and classifier_intermediate_hidden_size.
    TwoLayers,
}

/// The hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecipeSection {
    /// The maximum length of a query in tokens: question, context and three special tokens.
    pub max_length: usize,
    /// The approximate overlap of consecutive windows of a long document, in context wordpieces: at most half of the window, an eighth if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_tokens: Option<usize>,
    /// How words are found.
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
    /// The highest learning rate of what no pretraining has seen, the heads and the vectors of word shapes; `lr` if omitted. It has the schedule of `lr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_lr: Option<f64>,
    /// adamw (betas 0.9 and 0.98), torch.adam (AdamW with betas 0.9 and 0.999), sgd (momentum 0.9). Under onecycle the first beta, or the momentum, moves from 0.95 to 0.85 and back.
    pub optimizer: OptimizerName,
    /// Weight decay, decoupled except for sgd; biases and layer normalizations do not decay.
    pub weight_decay: f64,
    /// Added to the square root of the second moment.
    pub adam_epsilon: f64,
    /// onecycle (linear), linear, polydecay.
    pub lr_scheduler: SchedulerName,
    /// Warm-up steps, in which the learning rate rises; at most the total number of steps.
    pub warmup_steps: usize,
    /// onecycle ends at the first learning rate (lr / 25) divided by this.
    pub final_div_factor: f64,
    /// The final learning rate of polydecay; lr / 5 if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_mini: Option<f64>,
    /// The kind of the model; a kept head (encoder.heads) must be of this kind.
    pub kind: ModelKind,
    /// How the tags of a tagger mark mentions; a kept head has its own.
    pub scheme: Scheme,
    /// The layers of a tagger's head; a kept head has its own.
    pub tagger_head: TaggerHead,
    /// Only of kind mrc. early: the encoder reads a window once per question (the paper). late: it reads each question once and each window once for all types,
    /// and the heads compare their vectors.
    pub interaction: Interaction,
    /// Width of the vectors whose product is a start or end logit, with late interaction.
    pub boundary_size: usize,
    /// Whether the vectors of words stay those of the encoder. Words that the training data lacks then stay comparable with those it has, and a
    /// step is faster.
    pub freeze_words: bool,
    /// Dropout in the encoder, of attention weights, embeddings and block outputs; by default the rates of its config.json: 0.1 in BERT, 0 in
    /// the second version of ALBERT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bert_dropout: Option<f64>,
    /// Dropout in the match head; of a tagger before its only layer, or between its two.
    pub mrc_dropout: f64,
    /// The share of the words of windows that training hides behind `[MASK]`.
    pub word_dropout: f64,
    /// The match head's activation, or that of a tagger's two layers; a kept head (encoder.heads) has its own.
    pub classifier_act_func: Activation,
    /// The match head's width, or that between a tagger's two layers; a kept head has its own.
    pub classifier_intermediate_hidden_size: usize,
    /// The weight of the start loss.
    pub weight_start: f64,
    /// The weight of the end loss.
    pub weight_end: f64,
    /// The weight of the match loss.
    pub weight_span: f64,
    /// The pairs of start and end that enter the match loss.
    pub span_loss_candidates: Candidates,
    /// The maximum norm of a step's gradient; 0 disables clipping.
    pub gradient_clip_val: f64,
    /// The decay of an exponential moving average of the weights, for example 0.999: dev is scored with the average, and the average is kept.
    /// None if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// fp32, or bf16 over fp32 master weights.
    pub precision: Precision,
    /// The maximum number of epochs.
    pub max_epochs: usize,
    /// How often dev is scored: a fraction of an epoch (0.25) or, above 1, a number of steps.
    pub val_check_interval: f64,
    /// The number of scorings without a better F1 after which training ends early; never if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// auto, cpu, cuda, cuda:1, or several GPUs (cuda:0,cuda:1), each once, which share each step's batches. cpu,cpu shares them between
    /// two replicas on the CPU: it is not faster, but tests what several GPUs would compute.
    pub device: String,
    /// Threads on the CPU; all cores if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// A loss that is not a number: `stop` ends the training and keeps the last checkpoint, `skip` skips the step, and ends the training
    /// after 100 skipped steps in a row.
    pub not_a_number: OnProblem,
}

/// Optimizers, with the names of the reference implementation.
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

/// Learning rate schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerName {
    /// Up from lr / 25, down to lr / 25 / final_div_factor, both linear; the momentum moves the opposite way.
    OneCycle,
    /// Up from 0, down to 0.
    Linear,
    /// Up from 0, down to lr_mini, linear.
    PolyDecay,
}

/// The pairs of start and end that enter the match loss; always start ≤ end, on words' first and last wordpieces.
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

/// Floating-point precision of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    Fp32,
    /// bfloat16 products over 32-bit weights, sums and normalizations, like PyTorch's autocast.
    Bf16,
}

impl RecipeSection {
    /// The kind of the model that is trained.
    pub const fn model_kind(&self) -> Kind {
        match (self.kind, self.interaction) {
            (ModelKind::Tagger, _) => Kind::Tagger,
            (ModelKind::Qa, _) => Kind::Qa,
            (ModelKind::Mrc, Interaction::Early) => Kind::Mrc,
            (ModelKind::Mrc, Interaction::Late) => Kind::Late,
        }
    }
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
            head_lr: None,
            optimizer: OptimizerName::AdamW,
            weight_decay: 0.01,
            adam_epsilon: 1e-8,
            lr_scheduler: SchedulerName::OneCycle,
            warmup_steps: 0,
            final_div_factor: 1e4,
            lr_mini: None,
            kind: ModelKind::Mrc,
            scheme: Scheme::Bio,
            tagger_head: TaggerHead::Linear,
            interaction: Interaction::Early,
            boundary_size: 256,
            freeze_words: false,
            bert_dropout: None,
            mrc_dropout: 0.1,
            word_dropout: 0.0,
            classifier_act_func: Activation::Gelu,
            classifier_intermediate_hidden_size: 1024,
            weight_start: 1.0,
            weight_end: 1.0,
            weight_span: 1.0,
            span_loss_candidates: Candidates::PredAndGold,
            gradient_clip_val: 0.0,
            ema_decay: None,
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

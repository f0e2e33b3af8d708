//! The network: an encoder with heads. In: weights, a batch, the questions of the job. Out: token vectors, logits, and gradients in the
//! leaves. It must not read files or know gold mentions.
//!
//! The heads compute the same function as those of the ONNX graph (`src/graph/heads.rs`), plus dropout. T = the types that a row answers: one
//! with early interaction, whose rows have a question; all of the job with late interaction.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::blocks::{FeedForward, Linear};
use crate::model::encoder::architecture::{Architecture, DropoutRates};
use crate::model::head::{
    Activation, Classifier, Head, LateHead, MatchHead, MrcHead, PredictionLayer, QaHead, TaggerHead, TwoLayers,
};
use crate::model::weights::tensors;
use crate::model::weights::tensors::{Misfit, Weights};
use crate::task::batch::BatchTensors;
use crate::task::kind;
use crate::task::tagger::tag_set::TagSet;
use crate::train::network::dropout::Masks;
use crate::train::network::encoder::{Inputs, Leaves};
use crate::train::network::failure::torch;

/// Dropout rates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropout {
    /// Of the encoder.
    pub encoder: DropoutRates,
    /// Of the activations inside the heads.
    pub head: f64,
}

/// A model on a device.
#[derive(Debug)]
pub struct Network {
    /// Its weights.
    pub leaves: Leaves,
    architecture: Architecture,
    heads: Heads,
}

/// The heads, and what they are asked.
#[derive(Debug)]
enum Heads {
    Early {
        head: MrcHead,
        /// The match head of `head`.
        matching: Box<TwoLayers>,
    },
    Late {
        head: Box<LateHead>,
        /// The questions of the job, a row each.
        questions: Inputs,
    },
    Tagger(Box<TaggerHead>),
    Qa(Box<QaHead>),
}

/// What late interaction compares with the tokens of a window; T = number of questions.
#[derive(Debug)]
pub struct Asked {
    /// In the precision of products: `[T, d]` for starts and for ends, divided by √d.
    boundaries: [Tensor; 2],
    /// float32 `[T, m]`.
    matching: Tensor,
}

impl Network {
    /// Copies weights to a device. `kind` is the precision of products: `Float` or `BFloat16`. `questions` are those of the job, a row each;
    /// only late interaction reads them.
    ///
    /// # Errors
    /// [`Error::Engine`] if the match head is a single layer.
    pub fn new(weights: &Weights, kind: Kind, device: Device, questions: &BatchTensors) -> Result<Self> {
        let heads = match weights.head.description.clone() {
            Head::Early(head) => {
                let MatchHead::TwoLayers(matching) = head.matching.clone() else {
                    let source = "its match head is one linear layer".into();
                    return Err(Error::Engine { doing: "train".into(), source });
                };
                Heads::Early { head, matching: Box::new(matching) }
            }
            Head::Late(head) => Heads::Late { head, questions: Inputs::new(questions, device) },
            Head::Tagger(head) => Heads::Tagger(head),
            Head::Qa(head) => Heads::Qa(head),
        };
        let architecture = weights.encoder.architecture.clone();
        Ok(Self { leaves: Leaves::new(weights, kind, device), architecture, heads })
    }

    /// From here on the vectors of words do not change.
    pub fn freeze_words(&mut self) {
        if let Some(leaf) = self.leaves.tensors.get_mut(&self.architecture.words.name) {
            *leaf = leaf.detach();
        }
    }

    /// Whether no pretrained encoder has this tensor: those of the heads, and the vectors of word shapes.
    pub fn is_new(&self, name: &str) -> bool {
        self.head().shapes().contains_key(name)
            || self.architecture.word_shapes.as_ref().is_some_and(|table| table.name == name)
    }

    /// The rates of dropout that the encoder was configured with.
    pub const fn dropout(&self) -> DropoutRates {
        self.architecture.dropout
    }

    /// The device.
    pub const fn device(&self) -> Device {
        self.leaves.device
    }

    /// A copy of the current weights on the CPU.
    pub fn weights(&self) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for (name, leaf) in &self.leaves.tensors {
            let shape = leaf.size().into_iter().map(|size| size as usize).collect();
            let flat = leaf.detach().to_device(Device::Cpu).flatten(0, -1);
            let values = Vec::<f32>::try_from(&flat).map_err(torch("copy weights"))?;
            tensors.insert(name.clone(), tensors::Tensor { shape, values });
        }
        self.check(tensors)
            .map_err(|misfit| Error::Engine { doing: "keep the weights".into(), source: misfit.reason.into() })
    }

    /// Weights of this network with other values.
    pub fn check(&self, tensors: BTreeMap<String, tensors::Tensor>) -> Result<Weights, Misfit> {
        Weights::new(self.architecture.clone(), self.head(), tensors)
    }

    fn head(&self) -> Head {
        match &self.heads {
            Heads::Early { head, .. } => Head::Early(head.clone()),
            Heads::Late { head, .. } => Head::Late(head.clone()),
            Heads::Tagger(head) => Head::Tagger(head.clone()),
            Heads::Qa(head) => Head::Qa(head.clone()),
        }
    }

    /// The kind of the model.
    pub const fn model_kind(&self) -> kind::Kind {
        match &self.heads {
            Heads::Early { .. } => kind::Kind::Mrc,
            Heads::Late { .. } => kind::Kind::Late,
            Heads::Tagger(_) => kind::Kind::Tagger,
            Heads::Qa(_) => kind::Kind::Qa,
        }
    }

    /// The tags of a tagger.
    pub fn tags(&self) -> Option<&TagSet> {
        match &self.heads {
            Heads::Tagger(head) => Some(&head.tags),
            _ => None,
        }
    }

    /// The name of the first tensor with a value that is not finite, if any.
    pub fn overflowed(&self) -> Result<Option<&str>> {
        for (name, leaf) in &self.leaves.tensors {
            if !bool::try_from(leaf.isfinite().all()).map_err(torch("check the weights"))? {
                return Ok(Some(name.as_str()));
            }
        }
        Ok(None)
    }

    /// Token vectors, float32 `[rows, tokens, hidden]`.
    pub fn encode(&self, inputs: &Inputs, dropout: DropoutRates) -> Tensor {
        self.leaves.encode(&self.architecture, inputs, dropout)
    }

    /// What the questions of the job are compared by; `None` with early interaction.
    pub fn asked(&self, dropout: Dropout) -> Option<Asked> {
        let Heads::Late { head, questions } = &self.heads else { return None };
        let vectors = self.encode(questions, dropout.encoder).select(1, 0);
        let scale = (head.boundary_size() as f64).sqrt();
        let boundaries =
            [&head.start, &head.end].map(|side| self.feed_forward(&vectors, &side.question, dropout.head) / scale);
        let size = vectors.size()[1];
        let hidden = &head.matching.hidden;
        let weight = self.leaves.cast(&hidden.weight()).narrow(1, 2 * size, size);
        let bias = self.leaves.cast(&hidden.bias());
        let matching = vectors.to_kind(self.leaves.kind).linear(&weight, Some(&bias)).to_kind(Kind::Float);
        Some(Asked { boundaries, matching })
    }

    /// Start and end logits, float32 `[rows, T, tokens]` each; a tagger has none.
    pub fn boundaries(&self, hidden: &Tensor, asked: Option<&Asked>, dropout: f64) -> [Tensor; 2] {
        match (&self.heads, asked) {
            (Heads::Late { head, .. }, Some(asked)) => {
                let biases = self.leaves.leaf(head.boundary_bias());
                let sides = [(&head.start, 0), (&head.end, 1)];
                sides.map(|(side, number)| {
                    let tokens = self.feed_forward(hidden, &side.token, dropout);
                    let products = asked.boundaries[number as usize].matmul(&tokens.transpose(1, 2));
                    products.to_kind(Kind::Float) + biases.select(0, number)
                })
            }
            (Heads::Early { head, .. }, _) => [&head.start, &head.end].map(|layer: &Linear| {
                self.leaves.linear(hidden, layer).squeeze_dim(-1).unsqueeze(1).to_kind(Kind::Float)
            }),
            (Heads::Qa(head), _) => {
                let hidden = self.predicted(head.prediction.as_ref(), hidden);
                let logits = self.leaves.linear(&hidden, &head.outputs).to_kind(Kind::Float);
                [0, 1].map(|side| logits.select(-1, side).unsqueeze(1))
            }
            (Heads::Late { .. }, None) => unreachable!("late interaction is asked with its questions"),
            (Heads::Tagger(_), _) => unreachable!("a tagger has no boundaries"),
        }
    }

    /// The logits of a tagger, float32 `[rows, tokens, tags]`.
    pub fn tag_logits(&self, hidden: &Tensor, dropout: f64) -> Tensor {
        let Heads::Tagger(head) = &self.heads else { unreachable!("only a tagger has tags") };
        let hidden = self.predicted(head.prediction.as_ref(), hidden);
        let logits = match &head.classifier {
            Classifier::Linear(layer) => self.leaves.linear(&self.leaves.masks.apply(&hidden, dropout), layer),
            Classifier::TwoLayers(layers) => {
                let active = activated(layers.activation, &self.leaves.linear(&hidden, &layers.hidden));
                self.leaves.linear(&self.leaves.masks.apply(&active, dropout), &layers.logit)
            }
        };
        logits.to_kind(Kind::Float)
    }

    /// What a classifier reads: token vectors, behind the layer before it if there is one.
    fn predicted(&self, layer: Option<&PredictionLayer>, hidden: &Tensor) -> Tensor {
        match layer {
            None => hidden.shallow_clone(),
            Some(PredictionLayer { dense, activation, norm }) => {
                self.leaves.norm(&activated(*activation, &self.leaves.linear(hidden, dense)), norm)
            }
        }
    }

    /// outer(gelu(inner(x))), in the precision of products.
    fn feed_forward(&self, input: &Tensor, layers: &FeedForward, dropout: f64) -> Tensor {
        let inner = self.leaves.linear(input, &layers.inner).gelu("none");
        self.leaves.linear(&self.leaves.masks.apply(&inner, dropout), &layers.outer)
    }

    /// Prepares the match head for its candidates, int64 `[k, 4]` (row, type, start, end): tokens that are the start (or end) of a candidate are
    /// projected by their part of the first layer (`W[hᵢ;hⱼ]` = W₁hᵢ + W₂hⱼ), so that no matrix of tokens × tokens × width is allocated.
    pub fn match_candidates(&self, hidden: &Tensor, asked: Option<&Asked>, candidates: &Tensor) -> MatchCandidates<'_> {
        let leaves = &self.leaves;
        let layers = match &self.heads {
            Heads::Early { matching, .. } => matching,
            Heads::Late { head, .. } => &head.matching,
            Heads::Tagger(_) | Heads::Qa(_) => unreachable!("only MRC matches starts and ends"),
        };
        let size = hidden.size();
        let flat = hidden.to_kind(leaves.kind).reshape([-1, size[2]]);
        let weight = leaves.cast(&layers.hidden.weight());
        let part = |number: i64, bias: Option<&Tensor>| {
            let positions = candidates.select(1, 0) * size[1] + candidates.select(1, number + 2);
            let chosen = Tensor::zeros([size[0] * size[1]], (Kind::Bool, self.device())).index_fill(0, &positions, 1);
            let ranks = chosen.to_kind(Kind::Int64).cumsum(0, Kind::Int64) - 1;
            let vectors = flat.index_select(0, &chosen.nonzero().squeeze_dim(1));
            let projection = vectors.linear(&weight.narrow(1, number * size[2], size[2]), bias).to_kind(Kind::Float);
            (projection, ranks.index_select(0, &positions))
        };
        // A question's part has the bias.
        let bias = leaves.cast(&layers.hidden.bias());
        let (mut parts, mut rows): (Vec<Tensor>, Vec<Tensor>) =
            [part(0, Some(&bias).filter(|_| asked.is_none())), part(1, None)].into_iter().unzip();
        if let Some(asked) = asked {
            parts.push(asked.matching.shallow_clone());
            rows.push(candidates.select(1, 1));
        }
        parts.extend([layers.logit.weight(), layers.logit.bias()].map(|name| leaves.leaf(&name).shallow_clone()));
        MatchCandidates { parts, rows, activation: layers.activation, masks: &leaves.masks }
    }
}

/// The inputs of the match logits of some candidates.
#[derive(Debug)]
pub struct MatchCandidates<'n> {
    /// Projections `[.., width]` of the starts, the ends and, with late interaction, the questions, then the last layer's weight `[1, width]`
    /// and bias `[1]`, float32.
    pub parts: Vec<Tensor>,
    /// The row of each candidate in each projection, int64 `[k]`.
    rows: Vec<Tensor>,
    activation: Activation,
    masks: &'n Masks,
}

impl MatchCandidates<'_> {
    /// Match logits, float32 `[count]`, of the candidates `from .. from + count`, computed from `parts`.
    pub fn logits(&self, parts: &[Tensor], from: i64, count: i64, dropout: f64) -> Tensor {
        let (projections, layer) = parts.split_at(self.rows.len());
        let picked =
            projections.iter().zip(&self.rows).map(|(part, rows)| part.index_select(0, &rows.narrow(0, from, count)));
        let sum = picked.reduce(|sum, more| sum + more).unwrap_or_default();
        let active = activated(self.activation, &sum);
        self.masks.apply(&active, dropout).linear(&layer[0], Some(&layer[1])).squeeze_dim(-1)
    }
}

/// An activation of a head.
fn activated(activation: Activation, values: &Tensor) -> Tensor {
    match activation {
        Activation::Gelu => values.gelu("none"),
        Activation::Relu => values.relu(),
        Activation::Tanh => values.tanh(),
    }
}

//! Logits and targets → the loss of a batch. In: the network's logits, gold, the recipe. Out: the weighted loss, its three parts and
//! the number of candidates. It must not change a weight.
//!
//! Of MRC: (wₛ·BCE(start) + wₑ·BCE(end) + wₘ·BCE(match)) / (wₛ + wₑ + wₘ), each the mean over its mask: section 3.4 of the BERT-MRC paper, with
//! the masks and candidates of the reference implementation.

use tch::{Kind, Reduction, Tensor, no_grad};

use crate::task::kind;
use crate::train::data::targets::Targets;
use crate::train::network::encoder::Inputs;
use crate::train::network::heads::{Dropout, MatchCandidates, Network};
use crate::train::network::token_loss;
use crate::train::recipe::{Candidates, RecipeSection};

/// Candidates whose hidden layer is in memory at once; the gradients of more candidates are accumulated chunk by chunk.
pub(crate) const CHUNK: i64 = 16_384;

/// The loss of a batch.
#[derive(Debug)]
pub struct Loss {
    /// The weighted sum, with its autograd graph.
    pub total: Tensor,
    /// Start, end and match loss, detached; 0 where the kind has none.
    pub parts: [Tensor; 3],
    /// Pairs in the match loss; of a tagger the words.
    pub candidates: i64,
}

/// The weights and candidates of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossRule {
    /// Weights of start, end and match loss; they sum to 1.
    pub weights: [f64; 3],
    /// The pairs in the match loss.
    pub candidates: Candidates,
}

impl LossRule {
    /// The rule of a recipe.
    pub fn new(recipe: &RecipeSection) -> Self {
        let weights = [recipe.weight_start, recipe.weight_end, recipe.weight_span];
        let sum: f64 = weights.iter().sum();
        Self { weights: weights.map(|weight| weight / sum), candidates: recipe.span_loss_candidates }
    }

    /// The loss of a batch.
    pub fn loss(&self, network: &Network, inputs: &Inputs, targets: &Targets, dropout: Dropout) -> Loss {
        let device = network.device();
        match network.model_kind() {
            kind::Kind::Tagger => {
                let (total, words) = token_loss::tags(network, inputs, targets, dropout);
                let none = || Tensor::zeros([], (Kind::Float, device));
                return Loss { total, parts: [none(), none(), none()], candidates: words };
            }
            kind::Kind::Qa => {
                let [start, end] = token_loss::answers(network, inputs, targets, dropout);
                let [of_start, of_end, _] = self.weights;
                let total = (&start * of_start + &end * of_end) / (of_start + of_end);
                let parts = [start.detach(), end.detach(), Tensor::zeros([], (Kind::Float, device))];
                return Loss { total, parts, candidates: 0 };
            }
            _ => {}
        }
        let size = inputs.start_mask.size();
        let shape = [size[0], targets.types as i64, size[1]];
        let gold = |values: &[f32]| Tensor::from_slice(values).view(shape.as_slice()).to_device(device);
        let golds = [gold(&targets.starts), gold(&targets.ends)];
        let labelled = Tensor::from_slice(&targets.labelled).view([shape[0], shape[1], 1]).to_device(device);
        let masks = [&inputs.start_mask, &inputs.end_mask].map(|mask| mask.unsqueeze(1).logical_and(&labelled));
        let hidden = network.encode(inputs, dropout.encoder);
        let asked = network.asked(dropout);
        let logits = network.boundaries(&hidden, asked.as_ref(), dropout.head);
        let [start_loss, end_loss] = [0, 1].map(|side| masked_mean(&logits[side], &golds[side], &masks[side]));
        let (index, labels) = no_grad(|| {
            let index = self.index(&logits, &golds, &masks);
            let labels = labels(&targets.spans, &index, shape);
            (index, labels)
        });
        let count = index.size()[0];
        let match_loss = if count == 0 {
            Tensor::zeros([], (Kind::Float, device))
        } else {
            match_loss(&network.match_candidates(&hidden, asked.as_ref(), &index), &labels, dropout.head)
        };
        let [start, end, span] = self.weights;
        let total = &start_loss * start + &end_loss * end + &match_loss * span;
        Loss { total, parts: [start_loss.detach(), end_loss.detach(), match_loss.detach()], candidates: count }
    }

    /// Row, type, start and end of every candidate, int64 `[k, 4]`, from logits, gold and masks of starts and ends, `[rows, T, tokens]` each.
    fn index(&self, logits: &[Tensor; 2], golds: &[Tensor; 2], masks: &[Tensor; 2]) -> Tensor {
        let pairs = |[from, to]: [&Tensor; 2]| from.unsqueeze(3).logical_and(&to.unsqueeze(2));
        let above = |[from, to]: &[Tensor; 2]| pairs([&from.gt(0.0), &to.gt(0.0)]);
        let allowed = pairs(masks.each_ref()).triu(0);
        let (gold, predicted) = (|| above(golds), || above(logits));
        let chosen = match self.candidates {
            Candidates::All => allowed,
            Candidates::Gold => allowed.logical_and(&gold()),
            Candidates::PredAndGold => allowed.logical_and(&predicted().logical_or(&gold())),
            Candidates::PredGoldRandom => {
                let random = Tensor::rand(allowed.size(), (Kind::Float, allowed.device())).lt(0.5);
                allowed.logical_and(&predicted().logical_or(&gold()).logical_or(&random))
            }
        };
        chosen.nonzero()
    }
}

/// The mean binary cross entropy over the mask; 0 if the mask is empty.
fn masked_mean(logits: &Tensor, gold: &Tensor, mask: &Tensor) -> Tensor {
    let each = logits.binary_cross_entropy_with_logits::<Tensor>(gold, None, None, Reduction::None);
    let mask = mask.to_kind(Kind::Float);
    (each * &mask).sum(Kind::Float) / mask.sum(Kind::Float).clamp_min(1.0)
}

/// 1 for every candidate that is an answer, else 0.
fn labels(answers: &[[i64; 4]], index: &Tensor, [rows, types, width]: [i64; 3]) -> Tensor {
    let device = index.device();
    let [row, entity_type, start, end] = [0, 1, 2, 3].map(|column| index.select(1, column));
    let keys = ((row * types + entity_type) * width + start) * width + end;
    let key = |[row, entity_type, start, end]: &[i64; 4]| ((row * types + entity_type) * width + start) * width + end;
    let flat: Vec<i64> = answers.iter().map(key).collect();
    let gold = Tensor::zeros([rows * types * width * width], (Kind::Bool, device));
    let gold = gold.index_fill(0, &Tensor::from_slice(&flat).to_device(device), 1);
    gold.index_select(0, &keys).to_kind(Kind::Float)
}

/// The mean binary cross entropy over the candidates.
fn match_loss(head: &MatchCandidates<'_>, labels: &Tensor, dropout: f64) -> Tensor {
    let count = labels.size()[0];
    let sum = |parts: &[Tensor], from: i64, size: i64| {
        let logits = head.logits(parts, from, size, dropout);
        let gold = labels.narrow(0, from, size);
        logits.binary_cross_entropy_with_logits::<Tensor>(&gold, None, None, Reduction::Sum) / count as f64
    };
    if count <= CHUNK || !head.parts[0].requires_grad() {
        let chunks = (0..count).step_by(CHUNK as usize).map(|from| sum(&head.parts, from, CHUNK.min(count - from)));
        return chunks.sum();
    }
    // The gradient of each chunk with respect to the head's parts is computed immediately, so that only one chunk's hidden layer is in
    // memory. The returned tensor has the sum as its value and these gradients as its gradient.
    let parts: Vec<Tensor> = head.parts.iter().map(|part| part.detach().set_requires_grad(true)).collect();
    let mut value = Tensor::zeros([], (Kind::Float, labels.device()));
    let mut gradients: Vec<Tensor> = parts.iter().map(Tensor::zeros_like).collect();
    for from in (0..count).step_by(CHUNK as usize) {
        let loss = sum(&parts, from, CHUNK.min(count - from));
        let chunk = Tensor::run_backward(&[&loss], &parts.iter().collect::<Vec<_>>(), false, false);
        value += loss.detach();
        no_grad(|| {
            for (gradient, more) in gradients.iter_mut().zip(chunk) {
                *gradient += more;
            }
        });
    }
    for (part, gradient) in head.parts.iter().zip(gradients) {
        let product = (part * gradient).sum(Kind::Float);
        value = value + &product - product.detach();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::encoder::architecture::DropoutRates;
    use crate::model::weights::tensors::Weights;
    use crate::model::weights::tensors::tests::made_up;
    use crate::task::batch::BatchTensors;
    use std::sync::{Mutex, PoisonError};
    use tch::Device;

    /// Two queries of ten and seven tokens, generated by a fixed rule.
    fn inputs() -> BatchTensors {
        let (rows, tokens) = (2, 10);
        let mut inputs = BatchTensors::zeros(rows, tokens);
        for (row, length) in [(0, 10), (1, 7)] {
            for token in 0..length {
                let place = row * tokens + token;
                inputs.input_ids[place] = ((row * 7 + token * 3) % 32) as i64;
                inputs.attention_mask[place] = 1;
                inputs.token_type_ids[place] = i64::from(token >= 4);
                inputs.shape_ids[place] = (token % 8) as i64;
                let context = (4..length - 1).contains(&token);
                inputs.start_mask[place] = context && token % 3 != 2;
                inputs.end_mask[place] = context && token % 3 != 1;
            }
        }
        inputs
    }

    fn targets() -> Targets {
        let spans = vec![[0, 0, 4, 5], [0, 0, 6, 8], [0, 0, 4, 8], [1, 0, 4, 5]];
        let labelled = vec![true; 2];
        let mut targets =
            Targets { types: 1, labelled, starts: vec![0.0; 20], ends: vec![0.0; 20], spans, tags: Vec::new() };
        for &[row, _, start, end] in &targets.spans {
            targets.starts[(row * 10 + start) as usize] = 1.0;
            targets.ends[(row * 10 + end) as usize] = 1.0;
        }
        targets
    }

    fn network() -> Network {
        let mut config = tiny();
        let mut tensors = made_up(&config, false);
        // So that some positions are predicted and some are not.
        for (name, shift) in [("start_outputs.bias", 0.3), ("end_outputs.bias", 0.25)] {
            tensors.get_mut(name).unwrap().values[0] -= shift;
        }
        let weights = Weights::check(tensors, &mut config).unwrap();
        Network::new(&weights, Kind::Float, Device::Cpu, &inputs()).unwrap()
    }

    /// The kind of candidates, their number, start, end and match loss, the weighted loss.
    const EXPECTED: [(Candidates, i64, [f64; 3], f64); 4] = [
        (Candidates::All, 7, [0.649_899, 0.801_489, 0.686_036], 0.723_805),
        (Candidates::Gold, 4, [0.649_899, 0.801_489, 0.666_582], 0.722_879),
        (Candidates::PredAndGold, 5, [0.649_899, 0.801_489, 0.679_686], 0.723_503),
        (Candidates::PredGoldRandom, 6, [0.649_899, 0.801_489, 0.684_273], 0.723_721),
    ];

    fn rule(candidates: Candidates) -> LossRule {
        LossRule::new(&RecipeSection { weight_span: 0.1, span_loss_candidates: candidates, ..RecipeSection::default() })
    }

    /// LibTorch has one generator for all threads: who seeds it and draws holds this, or a test beside it draws from the middle of its numbers.
    static GENERATOR: Mutex<()> = Mutex::new(());

    fn loss(network: &Network, rule: LossRule) -> Loss {
        let _held = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(7);
        rule.loss(network, &Inputs::new(&inputs(), Device::Cpu), &targets(), Dropout::default())
    }

    // PyTorch 2.11 computed the figures from a dense matrix of pairs, on the same weights and batch; tests/train/reference.py prints them.
    #[test]
    fn the_loss_equals_pytorch_s_for_every_kind_of_candidates() {
        let network = network();
        for (candidates, count, parts, total) in EXPECTED {
            let found = loss(&network, rule(candidates));
            assert_eq!(found.candidates, count, "{candidates:?}");
            for (found, expected) in found.parts.iter().zip(parts) {
                assert!((found.double_value(&[]) - expected).abs() < 1e-4, "{candidates:?}: {found:?} {expected}");
            }
            assert!((found.total.double_value(&[]) - total).abs() < 1e-4, "{candidates:?}");
        }
    }

    /// A window inside one very long word: no answer can begin or end there.
    #[test]
    fn a_batch_without_positions_for_answers_has_no_loss() {
        let nowhere = BatchTensors { start_mask: vec![false; 20], end_mask: vec![false; 20], ..inputs() };
        let nothing = Targets { starts: vec![0.0; 20], ends: vec![0.0; 20], spans: Vec::new(), ..targets() };
        let inputs = Inputs::new(&nowhere, Device::Cpu);
        let loss = rule(Candidates::PredAndGold).loss(&network(), &inputs, &nothing, Dropout::default());
        assert!(loss.total.double_value(&[]).abs() < 1e-12, "{loss:?}");
    }

    /// For each part alone: along a random direction, the loss changes as its gradient predicts.
    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        for weights in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] {
            let rule = LossRule { weights, candidates: Candidates::All };
            let mut network = network();
            loss(&network, rule).total.backward();
            let names: Vec<String> = network.leaves.tensors.keys().cloned().collect();
            let mut tried = 0;
            for (number, name) in names.iter().enumerate() {
                let gradient = network.leaves.tensors[name].grad();
                if !gradient.defined() {
                    continue;
                }
                let direction = {
                    let _held = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
                    tch::manual_seed(number as i64);
                    Tensor::randn_like(&gradient)
                };
                let slope = (&gradient * &direction).sum(Kind::Double).double_value(&[]);
                let original = network.leaves.tensors[name].detach().copy();
                let mut at = |step: f64| {
                    let leaf = network.leaves.tensors.get_mut(name).unwrap();
                    no_grad(|| leaf.copy_(&(&original + &direction * step)));
                    loss(&network, rule).total.double_value(&[])
                };
                let (step, difference) = (5e-3, at(5e-3) - at(-5e-3));
                at(0.0);
                let measured = difference / (2.0 * step);
                assert!((measured - slope).abs() < 2e-4 + 0.03 * slope.abs(), "{name}: {measured} against {slope}");
                tried += 1;
            }
            assert!(tried > 30, "{tried} tensors");
        }
    }

    /// Value and gradient of many candidates in chunks equal those of one pass.
    #[test]
    fn chunks_give_the_same_value_and_gradient() {
        let mut config = tiny();
        let weights = Weights::check(made_up(&config, false), &mut config).unwrap();
        let gradients = |together: bool| {
            let network = Network::new(&weights, Kind::Float, Device::Cpu, &inputs()).unwrap();
            let hidden = network.encode(&Inputs::new(&inputs(), Device::Cpu), DropoutRates::default());
            // More than three chunks of candidates, which repeat the positions.
            let count = 3 * CHUNK + 17;
            let index = Tensor::stack(
                &[(0_i64, 2), (0, 1), (1, 10), (2, 10)].map(|(column, size)| {
                    (Tensor::arange(count, (Kind::Int64, Device::Cpu)) * (column + 3)).remainder(size)
                }),
                1,
            );
            let labels = index.select(1, 2).remainder(2).to_kind(Kind::Float);
            let head = network.match_candidates(&hidden, None, &index);
            let value = if together {
                let logits = head.logits(&head.parts, 0, count, 0.0);
                logits.binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::Mean)
            } else {
                match_loss(&head, &labels, 0.0)
            };
            value.backward();
            let gradient =
                |name: &str| Vec::<f32>::try_from(network.leaves.tensors[name].grad().flatten(0, -1)).unwrap();
            let names = [
                "span_embedding.classifier1.weight",
                "span_embedding.classifier2.bias",
                "bert.embeddings.word_embeddings.weight",
            ];
            (value.double_value(&[]), names.map(gradient).concat())
        };
        let (once, chunked) = (gradients(true), gradients(false));
        assert!((once.0 - chunked.0).abs() < 1e-5, "{} {}", once.0, chunked.0);
        let largest = once.1.iter().zip(&chunked.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "{largest}");
        let steepest = once.1.iter().map(|value| value.abs()).fold(0.0, f32::max);
        assert!(steepest > 1e-2, "{steepest} is too small to distinguish gradients");
    }
}

//! The losses of taggers and of question answering. In: the network's logits, targets. Out: the mean loss of a batch, with its autograd graph. It
//! must not change a weight.
//!
//! A tagger: the mean over the words of −ln Σ p(tag) over the tags that the word may have, which is the cross entropy where it may have one.
//! Question answering: the cross entropy of the start and of the end over the positions that an answer can have, `[CLS]` and the words of the
//! window, each the mean over the inputs. The answer is the first mention of the type in the window, or `[CLS]` if there is none.

use tch::{Kind, Tensor};

use crate::train::data::targets::Targets;
use crate::train::network::encoder::Inputs;
use crate::train::network::heads::{Dropout, Network};

/// The loss of a tagger, and the number of its words.
pub(crate) fn tags(network: &Network, inputs: &Inputs, targets: &Targets, dropout: Dropout) -> (Tensor, i64) {
    let hidden = network.encode(inputs, dropout.encoder);
    let logits = network.tag_logits(&hidden, dropout.head);
    let size = logits.size();
    let allowed = Tensor::from_slice(&targets.tags).view([-1, size[2]]).to_device(network.device());
    let words = allowed.any_dim(1, false).nonzero().squeeze_dim(1);
    let count = words.size()[0];
    let logits = logits.view([-1, size[2]]);
    if count == 0 {
        return ((logits * 0.0).sum(Kind::Float), 0);
    }
    let (logits, allowed) = (logits.index_select(0, &words), allowed.index_select(0, &words));
    let possible = logits.masked_fill(&allowed.logical_not(), f64::NEG_INFINITY).logsumexp([1_i64].as_slice(), false);
    let all = logits.logsumexp([1_i64].as_slice(), false);
    ((all - possible).mean(Kind::Float), count)
}

/// The losses of start and end of question answering.
pub(crate) fn answers(network: &Network, inputs: &Inputs, targets: &Targets, dropout: Dropout) -> [Tensor; 2] {
    let hidden = network.encode(inputs, dropout.encoder);
    let logits = network.boundaries(&hidden, None, dropout.head);
    let rows = logits[0].size()[0];
    // Answers come row by row, in the order of the text.
    let mut places = vec![[0_i64; 2]; rows as usize];
    for &[row, _, start, end] in targets.spans.iter().rev() {
        places[row as usize] = [start, end];
    }
    let masks = [&inputs.start_mask, &inputs.end_mask];
    [0, 1].map(|side| {
        let gold: Vec<i64> = places.iter().map(|place| place[side]).collect();
        let gold = Tensor::from_slice(&gold).to_device(network.device());
        // `[CLS]` is the first token.
        let mask = masks[side].index_fill(1, &Tensor::zeros_like(&gold.narrow(0, 0, 1)), 1);
        let logits = logits[side].squeeze_dim(1).masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
        -logits.log_softmax(-1, Kind::Float).gather(1, &gold.unsqueeze(1), false).mean(Kind::Float)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use tch::Device;

    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::head::{Activation, HeadConfig};
    use crate::model::weights::tensors::Weights;
    use crate::model::weights::tensors::tests::made_up;
    use crate::task::batch::BatchTensors;
    use crate::task::tagger::scheme::Scheme;
    use crate::task::tagger::tag_set::TagSet;
    use crate::train::network::loss::LossRule;
    use crate::train::recipe::RecipeSection;

    /// What PyTorch computes: the loss, and of each gradient its norm and its product with a made-up tensor.
    #[derive(Deserialize)]
    struct Expected {
        loss: f64,
        gradients: BTreeMap<String, [f64; 2]>,
    }

    /// Two inputs of ten and seven tokens, by the rule of `tests/fixtures/kinds.py`.
    fn inputs() -> BatchTensors {
        let zeros = vec![0_i64; 20];
        let none = vec![false; 20];
        let mut inputs = BatchTensors {
            rows: 2,
            tokens: 10,
            input_ids: zeros.clone(),
            attention_mask: zeros.clone(),
            token_type_ids: zeros.clone(),
            shape_ids: zeros,
            start_mask: none.clone(),
            end_mask: none,
        };
        for (row, length) in [(0, 10), (1, 7)] {
            for token in 0..length {
                let place = row * 10 + token;
                inputs.input_ids[place] = ((row * 7 + token * 3) % 32) as i64;
                inputs.attention_mask[place] = 1;
                inputs.token_type_ids[place] = i64::from(token >= 4);
                let context = (4..length - 1).contains(&token);
                inputs.start_mask[place] = context && token % 3 != 2;
                inputs.end_mask[place] = context && token % 3 != 1;
            }
        }
        inputs
    }

    fn targets() -> Targets {
        let words: [(usize, &[usize]); 5] = [(1, &[1]), (2, &[2]), (4, &[0]), (6, &[0, 3, 4]), (13, &[3])];
        let mut tags = vec![false; 20 * 5];
        for (token, own) in words {
            for tag in own {
                tags[token * 5 + tag] = true;
            }
        }
        // The second answer of a window is not learned.
        let spans = vec![[0, 0, 4, 5], [0, 0, 6, 8]];
        Targets { types: 1, labelled: vec![true; 2], starts: vec![0.0; 20], ends: vec![0.0; 20], spans, tags }
    }

    /// The figures are those of `tests/fixtures/kind-losses.json`, which `tests/fixtures/kinds.py` wrote with PyTorch.
    #[test]
    fn losses_and_gradients_equal_pytorch_s() {
        let all: BTreeMap<String, Expected> =
            serde_json::from_str(include_str!("../../../tests/fixtures/kind-losses.json")).unwrap();
        assert_eq!(all.len(), 3);
        let tags = || TagSet::new(Scheme::Bio, &["A", "B"]);
        for (name, expected) in all {
            let mut config = tiny();
            config.head = match name.as_str() {
                "linear" => HeadConfig::tagger("Bert", tags(), None, Activation::Gelu),
                "two_layers" => HeadConfig::tagger("Bert", tags(), Some(12), Activation::Gelu),
                _ => HeadConfig::qa("Bert"),
            };
            let weights = Weights::check(made_up(&config, false), &mut config).unwrap();
            let network = Network::new(&weights, Kind::Float, Device::Cpu, &inputs()).unwrap();
            let rule = LossRule::new(&RecipeSection::default());
            let loss = rule.loss(&network, &Inputs::new(&inputs(), Device::Cpu), &targets(), Dropout::default());
            let value = loss.total.double_value(&[]);
            assert!((value - expected.loss).abs() < 1e-4, "{name}: {value} {}", expected.loss);
            loss.total.backward();
            let tensors = &network.leaves.tensors;
            assert!(tensors.keys().eq(expected.gradients.keys()), "{name}: other tensors");
            let mut state = 1_u64;
            let mut steepest = 0.0_f64;
            for (tensor, [norm, product]) in &expected.gradients {
                let gradient = tensors[tensor].grad();
                let shift = if tensor.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
                let direction: Vec<f32> = (0..gradient.numel())
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (((state >> 40) as f64 / f64::from(1_u32 << 24) - 0.5) * 2.0 + shift) as f32
                    })
                    .collect();
                let found =
                    (&gradient.flatten(0, -1) * Tensor::from_slice(&direction)).sum(Kind::Double).double_value(&[]);
                let length = gradient.norm().double_value(&[]);
                steepest = steepest.max(length);
                assert!(
                    (length - norm).abs() < 1e-4 && (found - product).abs() < 1e-4,
                    "{name}: {tensor}: {length} {norm}, {found} {product}"
                );
            }
            assert!(steepest > 0.1, "{name}: {steepest} is too small to distinguish gradients");
        }
    }

    #[test]
    fn a_batch_without_words_has_no_loss() {
        let mut config = tiny();
        config.head = HeadConfig::tagger("Bert", TagSet::new(Scheme::Bio, &["A", "B"]), None, Activation::Gelu);
        let weights = Weights::check(made_up(&config, false), &mut config).unwrap();
        let network = Network::new(&weights, Kind::Float, Device::Cpu, &inputs()).unwrap();
        let nothing = Targets { tags: vec![false; 20 * 5], ..targets() };
        let (loss, words) = tags(&network, &Inputs::new(&inputs(), Device::Cpu), &nothing, Dropout::default());
        loss.backward();
        assert!(loss.double_value(&[]).abs() < 1e-12 && words == 0);
    }
}

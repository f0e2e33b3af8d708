//! The losses of taggers and of question answering. In: the network's logits, targets. Out: the mean loss of a batch, with its autograd graph. It
//! must not change a weight.
//!
//! A tagger: the mean over the words of −ln Σ p(tag) over the tags that the word may have, which is the cross entropy where it may have one.
//! Question answering: the cross entropy of the start and of the end over the positions that an answer can have, `[CLS]` and the words of the
//! window, each the mean over the inputs. The answer is the first mention of the type in the window, or `[CLS]` if there is none.

use tch::{Kind, Tensor};

use crate::train::data::examples::Targets;
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

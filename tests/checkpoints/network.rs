//! The network of training gives the same logits as `transformers` for checkpoints whose heads it keeps.

use quarry::model::weights::checkpoint::Checkpoint;
use quarry::task::batch::BatchTensors;
use quarry::train::network::encoder::Inputs;
use quarry::train::network::heads::{Dropout, Network};

use super::{cases, largest};
use crate::support::Dir;

fn values(tensor: &tch::Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.detach().contiguous().flatten(0, -1)).unwrap()
}

#[test]
fn kept_heads_give_the_logits_of_transformers() {
    for case in cases() {
        let dir = Dir::new();
        case.checkpoint(&dir, "checkpoint");
        let weights = Checkpoint::open(&dir.path("checkpoint"), None).unwrap().weights;
        for (row, [input_ids, token_type_ids]) in case.figures.rows.iter().zip(case.encoded()) {
            let tokens = input_ids.len();
            let batch = BatchTensors {
                rows: 1,
                tokens,
                input_ids,
                attention_mask: vec![1; tokens],
                token_type_ids,
                shape_ids: vec![0; tokens],
                start_mask: vec![true; tokens],
                end_mask: vec![true; tokens],
            };
            let network = Network::new(&weights, tch::Kind::Float, tch::Device::Cpu, &batch).unwrap();
            let hidden = network.encode(&Inputs::new(&batch, tch::Device::Cpu), Dropout::default().encoder);
            let logits = if case.is_tagger() {
                network.tag_logits(&hidden, 0.0)
            } else {
                tch::Tensor::stack(&network.boundaries(&hidden, None, 0.0), -1)
            };
            let difference = largest(&values(&logits), &row.logits);
            eprintln!("{}: largest difference of a logit {difference:.7}", case.name);
            assert!(difference < 1e-4, "{}: {difference}", case.name);
        }
    }
}

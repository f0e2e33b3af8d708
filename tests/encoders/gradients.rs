//! One step of training for every encoder: the gradients are those of PyTorch.

use std::collections::BTreeMap;

use quarry::train::data::targets::Targets;
use quarry::train::network::encoder::Inputs;
use quarry::train::network::heads::{Dropout, Network};
use quarry::train::network::loss::LossRule;
use quarry::train::optimization::optimizer::Optimizer;
use quarry::train::recipe::{Candidates, OptimizerName, RecipeSection};

use super::{Figures, LENGTHS, batch, figures, sequence};

/// Row, start and end of each answer.
const GOLD: [[i64; 3]; 4] = [[0, 6, 7], [0, 10, 13], [0, 6, 13], [1, 7, 8]];

fn targets() -> Targets {
    let (rows, tokens) = (LENGTHS.len(), LENGTHS[0]);
    let zeros = || vec![0.0; rows * tokens];
    let spans = GOLD.map(|[row, start, end]| [row, 0, start, end]).to_vec();
    let mut targets =
        Targets { types: 1, labelled: vec![true; rows], starts: zeros(), ends: zeros(), spans, tags: Vec::new() };
    for [row, start, end] in GOLD {
        targets.starts[row as usize * tokens + start as usize] = 1.0;
        targets.ends[row as usize * tokens + end as usize] = 1.0;
    }
    targets
}

fn values(tensor: &tch::Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.detach().to_kind(tch::Kind::Double).flatten(0, -1)).unwrap()
}

/// The gradient of each tensor, under the names of `transformers`: the change of the weights in a step of plain gradient descent.
fn gradients(figures: &Figures) -> BTreeMap<String, Vec<f64>> {
    let weights = figures.weights();
    let names = weights.encoder.architecture.checkpoint;
    let mut network = Network::new(&weights, tch::Kind::Float, tch::Device::Cpu, &batch()).unwrap();
    let recipe = RecipeSection {
        optimizer: OptimizerName::Sgd,
        weight_decay: 0.0,
        gradient_clip_val: 0.0,
        weight_span: 0.1,
        span_loss_candidates: Candidates::All,
        ..RecipeSection::default()
    };
    let before: BTreeMap<String, Vec<f64>> =
        network.leaves.tensors.iter().map(|(name, leaf)| (name.clone(), values(leaf))).collect();
    let inputs = Inputs::new(&batch(), tch::Device::Cpu);
    let loss = LossRule::new(&recipe).loss(&network, &inputs, &targets(), Dropout::default());
    loss.total.backward();
    let mut optimizer = Optimizer::new(&recipe, &network.leaves.tensors, |_| false);
    optimizer.step(&mut network.leaves.tensors, 1.0, Some(0.0));
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let part = |name: &str| -> (String, usize) {
        let base = name.strip_prefix(names.prefix).unwrap_or(name);
        for (module, layers) in names.stacked {
            if let Some(number) = layers.iter().position(|layer| base.contains(&format!(".{layer}."))) {
                return (base.replace(layers[number], module), number);
            }
        }
        (base.to_owned(), 0)
    };
    let mut parts: Vec<(String, usize, Vec<f64>)> = Vec::new();
    for (name, leaf) in &network.leaves.tensors {
        let change = values(leaf).into_iter().zip(&before[name]).map(|(after, before)| before - after).collect();
        let (name, number) = part(name);
        parts.push((name, number, change));
    }
    parts.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    for (name, _, change) in parts {
        found.entry(name).or_default().extend(change);
    }
    found
}

#[test]
fn a_training_step_has_the_gradients_of_pytorch() {
    for (name, figures) in figures() {
        let found = gradients(&figures);
        let mut most: f64 = 0.0;
        for (tensor, expected) in &figures.gradients {
            let gradient = &found[tensor];
            let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
            let sum = |part: usize| -> f64 {
                let signs = sequence(&format!("{tensor} {part}"), gradient.len());
                gradient
                    .iter()
                    .zip(signs)
                    .map(|(value, sign)| if sign == 0.0 { 0.0 } else { value * sign.signum() })
                    .sum()
            };
            for (found, expected) in [norm, sum(1), sum(2)].into_iter().zip(expected) {
                most = most.max((found - expected).abs());
                assert!((found - expected).abs() < 1e-4, "{name}, {tensor}: {found}, expected {expected}");
            }
        }
        // What has no gradient there has none here: rows and tensors that no input reaches.
        let without = found.iter().filter(|(tensor, _)| !figures.gradients.contains_key(*tensor));
        for (tensor, gradient) in without {
            assert!(gradient.iter().all(|&value| value == 0.0), "{name}: {tensor}");
        }
        eprintln!("{name}: {} tensors, largest difference {most:.7}", figures.gradients.len());
    }
}

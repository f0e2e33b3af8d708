//! Number formats: the scored weights are the written ones, and training in bfloat16 converges.

use safetensors::{Dtype, SafeTensors};

use super::{job, losses, manifest, replace, run, task, train};

#[test]
fn weights_are_scored_as_they_are_written() {
    let dir = task();
    // Stopped early, so that rounding makes a difference.
    let path = job(&dir, "model", "max_epochs = 3");
    replace(&dir, &path, "[output]", "[output]\nweights = 'int8'");
    replace(&dir, &path, "test = 'test'", "test = 'dev'");
    train(&dir, &path).ended(0);
    let bytes = std::fs::read(dir.path("model/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("bert.embeddings.word_embeddings.weight").unwrap().dtype(), Dtype::I8);
    let scored = manifest(&dir, "model")["scores"]["test"]["f1"].as_f64().unwrap();
    let served = run(&dir, "dev");
    assert!(scored > 0.0 && (scored - served).abs() < 1e-4, "{scored} {served}");
}

#[test]
fn bfloat16_learns() {
    let dir = task();
    train(&dir, &job(&dir, "model", "max_epochs = 2\nprecision = 'bf16'")).ended(0);
    let losses = losses(&dir, "model");
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let [first, last] = [&losses[..20], &losses[losses.len() - 20..]].map(mean);
    assert!(last < first * 0.7, "{first} {last}");
}

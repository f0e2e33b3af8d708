//! Tokens per second of six MiniLM layers (hidden 384, 12 heads of 32, feed-forward 1536) with random weights: the best of many short
//! repeats, because other programs share the machine. Arguments: names of paths, seconds per figure, `alone` for one thread
//! only, batches such as `16x64`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use quarry_kernels::{Alone, Encoder, LayerWeights, Linear, Norm, Path, Pool, Scratch, Shape, Workers};

const SHAPE: Shape = Shape { hidden: 384, heads: 12, feed_forward: 1536 };

fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
}

struct Matrix {
    weights: Vec<i8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

impl Matrix {
    fn new(outputs: usize, inputs: usize, seed: &mut u64) -> Self {
        Self {
            // At most 64, so that pairs fit on AVX2 as those of a real model do.
            weights: (0..outputs * inputs).map(|_| (random(seed) * 64.0) as i8).collect(),
            scales: vec![0.05 / 64.0; outputs],
            biases: (0..outputs).map(|_| random(seed) * 0.1).collect(),
        }
    }

    fn linear(&self) -> Linear<'_> {
        Linear { weights: &self.weights, scales: &self.scales, biases: &self.biases }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1.0);
    let named = |path: &Path| arguments.iter().any(|argument| argument == path.name());
    let alone = arguments.iter().any(|argument| argument == "alone");
    let batch = |argument: &String| {
        let (batch, length) = argument.split_once('x')?;
        Some((batch.parse().ok()?, length.parse().ok()?))
    };
    let mut batches: Vec<(usize, usize)> = arguments.iter().filter_map(batch).collect();
    if batches.is_empty() {
        batches = vec![(16, 64), (8, 128), (8, 256)];
    }
    let any_named = Path::ALL.iter().any(named);
    let mut seed = 1;
    let Shape { hidden, feed_forward, .. } = SHAPE;
    let layers: Vec<[Matrix; 6]> = (0..6)
        .map(|_| {
            let mut matrix = |outputs, inputs| Matrix::new(outputs, inputs, &mut seed);
            [
                matrix(hidden, hidden),
                matrix(hidden, hidden),
                matrix(hidden, hidden),
                matrix(hidden, hidden),
                matrix(feed_forward, hidden),
                matrix(hidden, feed_forward),
            ]
        })
        .collect();
    let (ones, zeros) = (vec![1.0; hidden], vec![0.0; hidden]);
    let norm = Norm { scales: &ones, shifts: &zeros, epsilon: 1e-12 };
    let weights: Vec<LayerWeights<'_>> = layers
        .iter()
        .map(|[query, key, value, output, inner, outer]| LayerWeights {
            query: query.linear(),
            key: key.linear(),
            value: value.linear(),
            output: output.linear(),
            attention_norm: norm,
            inner: inner.linear(),
            outer: outer.linear(),
            feed_forward_norm: norm,
        })
        .collect();
    let workers: [Box<dyn Workers>; 2] = [Box::new(Alone), Box::new(Pool::new(2).expect("two threads start"))];
    for path in Path::ALL {
        if !path.is_available() || if any_named { !named(&path) } else { path == Path::Plain } {
            continue;
        }
        let encoder = Encoder::with_path(&weights, SHAPE, path).expect("the shapes match");
        for workers in workers.iter().filter(|workers| !alone || workers.count() == 1) {
            for (batch, length) in &batches {
                let (batch, length) = (*batch, *length);
                let lengths = vec![length; batch];
                let states: Vec<f32> = (0..batch * length * hidden).map(|_| random(&mut seed)).collect();
                let mut scratch = Scratch::new();
                let mut best = Duration::MAX;
                let start = Instant::now();
                while start.elapsed().as_secs_f64() < seconds {
                    let mut states = states.clone();
                    let start = Instant::now();
                    encoder.forward(&mut states, &lengths, &mut scratch, workers.as_ref()).expect("the batch fits");
                    best = best.min(start.elapsed());
                }
                let rate = (batch * length) as f64 / best.as_secs_f64();
                println!("{:12} {} threads {batch:3} x {length:3}: {rate:8.0} tokens/s", path.name(), workers.count());
            }
        }
    }
}

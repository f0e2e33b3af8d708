//! Whole encoders: against a computation in 64-bit floats, and path against path.

#![allow(clippy::print_stdout, reason = "tests say what they skip")]
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod exact;

use proptest::prelude::*;
use quarry_kernels::{Alone, Encoder, Error, LayerWeights, Linear, Norm, Path, Pool, Scratch, Shape, Workers};

/// Weights of a layer.
#[derive(Clone)]
struct Layer {
    matrices: [Matrix; 6],
    norms: [[Vec<f32>; 2]; 2],
}

#[derive(Clone)]
struct Matrix {
    weights: Vec<i8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

impl Matrix {
    fn linear(&self) -> Linear<'_> {
        Linear { weights: &self.weights, scales: &self.scales, biases: &self.biases }
    }
}

impl Layer {
    fn weights(&self) -> LayerWeights<'_> {
        let [query, key, value, output, inner, outer] = &self.matrices;
        let norm = |index: usize| Norm { scales: &self.norms[index][0], shifts: &self.norms[index][1], epsilon: 1e-12 };
        LayerWeights {
            query: query.linear(),
            key: key.linear(),
            value: value.linear(),
            output: output.linear(),
            attention_norm: norm(0),
            inner: inner.linear(),
            outer: outer.linear(),
            feed_forward_norm: norm(1),
        }
    }
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize, factor: f32) -> Vec<f32> {
        (0..count).map(|_| self.float() * factor).collect()
    }

    /// Weights up to `largest`, of which a product of random inputs is about as large as one of them.
    fn matrix(&mut self, outputs: usize, inputs: usize, largest: f32) -> Matrix {
        let weights = (0..outputs * inputs).map(|_| (self.float() * largest) as i8).collect();
        let scale = 2.0 / largest / (inputs as f32).sqrt();
        Matrix { weights, scales: vec![scale; outputs], biases: self.floats(outputs, 0.2) }
    }

    fn layer(&mut self, Shape { hidden, feed_forward, .. }: Shape, largest: f32) -> Layer {
        let sizes = [(hidden, hidden); 4].into_iter().chain([(feed_forward, hidden), (hidden, feed_forward)]);
        let matrices: Vec<Matrix> = sizes.map(|(outputs, inputs)| self.matrix(outputs, inputs, largest)).collect();
        let norms = [(); 2].map(|()| {
            [self.floats(hidden, 0.3).into_iter().map(|value| 1.0 + value).collect(), self.floats(hidden, 0.2)]
        });
        let Ok(matrices) = <[Matrix; 6]>::try_from(matrices) else { unreachable!("there are six sizes") };
        Layer { matrices, norms }
    }
}

fn paths() -> Vec<Path> {
    for path in Path::ALL.into_iter().filter(|path| !path.is_available()) {
        println!("skipped: the path {}, which this processor does not have", path.name());
    }
    Path::ALL.into_iter().filter(|path| path.is_available()).collect()
}

fn run(
    layers: &[Layer],
    shape: Shape,
    path: Path,
    states: &[f32],
    lengths: &[usize],
    workers: &dyn Workers,
) -> Vec<f32> {
    let weights: Vec<LayerWeights<'_>> = layers.iter().map(Layer::weights).collect();
    let encoder = Encoder::with_path(&weights, shape, path).unwrap();
    let mut states = states.to_vec();
    encoder.forward(&mut states, lengths, &mut Scratch::new(), workers).unwrap();
    states
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_layer_equals_its_formula_in_64_bits() {
    let mut numbers = Numbers(7);
    let small = [(6, 2, 5, vec![2, 0, 3])];
    let large = [
        (384, 12, 1536, vec![64, 3, 130]),
        (48, 3, 100, vec![5, 1, 0, 97, 40]),
        (30, 2, 7, vec![33]),
        (128, 2, 64, vec![200]),
        (1, 1, 1, vec![2]),
    ];
    for (hidden, heads, feed_forward, lengths) in if cfg!(miri) { small.to_vec() } else { large.to_vec() } {
        let shape = Shape { hidden, heads, feed_forward };
        let layer = numbers.layer(shape, 64.0);
        let states = numbers.floats(lengths.iter().sum::<usize>() * hidden, 2.0);
        let expected = exact::layer(&layer.weights(), shape, &states, &lengths);
        for path in paths() {
            let found = run(std::slice::from_ref(&layer), shape, path, &states, &lengths, &Alone);
            let differences = found.iter().zip(&expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
            let (mean, largest) = differences.fold((0.0, 0.0_f64), |(sum, most), next| (sum + next, most.max(next)));
            let mean = mean / found.len() as f64;
            // The formula quantizes too, so a value on the border of two integers can become the other one: rarely, and by one step.
            assert!(mean < 2e-4 && largest < 0.05, "{} {shape:?}: mean {mean}, largest {largest}", path.name());
        }
    }
}

#[test]
fn paths_threads_and_batches_give_the_same_bits() {
    let mut numbers = Numbers(11);
    let (hidden, heads, feed_forward) = if cfg!(miri) { (6, 2, 10) } else { (96, 3, 200) };
    let shape = Shape { hidden, heads, feed_forward };
    let layers = [numbers.layer(shape, 64.0), numbers.layer(shape, 64.0), numbers.layer(shape, 127.0)];
    let layers = if cfg!(miri) { &layers[..2] } else { &layers };
    // 300 tokens, or 50 in Miri, are more than a block of a small batch.
    let long = if cfg!(miri) { 50 } else { 300 };
    let short = (0..if cfg!(miri) { 0 } else { 15 }).map(|_| (numbers.next() % 60) as usize);
    let lengths: Vec<usize> = short.chain([long, 1, 0, 12]).collect();
    let states = numbers.floats(lengths.iter().sum::<usize>() * shape.hidden, 3.0);
    let expected = run(layers, shape, Path::Plain, &states, &lengths, &Alone);
    for path in paths() {
        for threads in if cfg!(miri) { vec![2] } else { vec![1, 2, 3, 7] } {
            let found = run(layers, shape, path, &states, &lengths, &Pool::new(threads).unwrap());
            assert!(bits(&found) == bits(&expected), "{} with {threads} threads", path.name());
        }
        let mut rest = (&states[..], &expected[..]);
        for length in &lengths {
            let values = length * shape.hidden;
            let (alone, following) = rest.0.split_at(values);
            let (expected, next) = rest.1.split_at(values);
            let found = run(layers, shape, path, alone, &[*length], &Alone);
            assert!(bits(&found) == bits(expected), "{}: a sequence of {length} alone", path.name());
            rest = (following, next);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes there")]
fn one_scratch_serves_batches_and_encoders_of_all_sizes() {
    let mut numbers = Numbers(13);
    let mut scratch = Scratch::new();
    let pool = Pool::new(2).unwrap();
    for (hidden, heads, lengths) in
        [(64, 2, vec![50, 20]), (32, 4, vec![7]), (160, 5, vec![90, 1, 130]), (64, 2, vec![3])]
    {
        let shape = Shape { hidden, heads, feed_forward: 2 * hidden };
        let layers = [numbers.layer(shape, 64.0)];
        let states = numbers.floats(lengths.iter().sum::<usize>() * hidden, 1.0);
        let encoder = Encoder::new(&[layers[0].weights()], shape).unwrap();
        let mut found = states.clone();
        encoder.forward(&mut found, &lengths, &mut scratch, &pool).unwrap();
        assert_eq!(bits(&found), bits(&run(&layers, shape, Path::Plain, &states, &lengths, &Alone)), "{shape:?}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes there")]
fn what_is_no_number_stays_in_its_sequence() {
    let shape = Shape { hidden: 48, heads: 2, feed_forward: 96 };
    let mut numbers = Numbers(17);
    let layers = [numbers.layer(shape, 64.0), numbers.layer(shape, 64.0)];
    let lengths = [20, 30, 10];
    let good = numbers.floats(60 * shape.hidden, 1.0);
    let mut bad = good.clone();
    bad[25 * shape.hidden..26 * shape.hidden].fill(f32::NAN);
    for path in paths() {
        let expected = run(&layers, shape, path, &good, &lengths, &Alone);
        let found = run(&layers, shape, path, &bad, &lengths, &Alone);
        let (start, end) = (20 * shape.hidden, 50 * shape.hidden);
        assert!(found[start..end].iter().all(|value| value.is_nan()), "{}", path.name());
        assert_eq!(bits(&found[..start]), bits(&expected[..start]), "{}", path.name());
        assert_eq!(bits(&found[end..]), bits(&expected[end..]), "{}", path.name());
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let shape = Shape { hidden: 32, heads: 2, feed_forward: 64 };
    let layer = Numbers(19).layer(shape, 64.0);
    let error = |shape| Encoder::new(&[layer.weights()], shape).err().unwrap().to_string();
    assert_eq!(error(Shape { heads: 3, ..shape }), "3 heads do not divide the hidden size 32");
    assert_eq!(error(Shape { heads: 0, ..shape }), "the number of heads is 0, allowed are 1 to 65536");
    assert_eq!(
        error(Shape { feed_forward: 70_000, ..shape }),
        "the feed-forward size is 70000, allowed are 1 to 65536"
    );
    assert_eq!(error(Shape { hidden: 34, ..shape }), "the query layer has 1024 values, expected 1156");
    let encoder = Encoder::new(&[layer.weights()], shape).unwrap();
    let mut states = vec![0.0; 5 * 32];
    let mut forward = |lengths: &[usize]| encoder.forward(&mut states, lengths, &mut Scratch::new(), &Alone);
    assert_eq!(forward(&[2, 4]), Err(Error::Length { what: "the states", found: 160, expected: 192 }));
    assert!(matches!(forward(&[usize::MAX, 2]), Err(Error::Length { .. })));
    assert_eq!(forward(&[0, 5, 0]), Ok(()));
    assert_eq!(encoder.forward(&mut [], &[], &mut Scratch::new(), &Alone), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    #[cfg_attr(miri, ignore = "takes minutes there")]
    fn every_shape_gives_the_same_bits_on_every_path(
        heads in 1_usize..5,
        head in 1_usize..70,
        feed_forward in 1_usize..130,
        lengths in proptest::collection::vec(0_usize..40, 0..5),
        largest in prop_oneof![Just(64.0_f32), Just(128.0)],
        threads in 1_usize..4,
        seed in 1_u64..,
    ) {
        let shape = Shape { hidden: heads * head, heads, feed_forward };
        let mut numbers = Numbers(seed);
        let layers = [numbers.layer(shape, largest), numbers.layer(shape, largest)];
        let states = numbers.floats(lengths.iter().sum::<usize>() * shape.hidden, 2.0);
        let expected = run(&layers, shape, Path::Plain, &states, &lengths, &Alone);
        prop_assert!(expected.iter().all(|value| value.is_finite()));
        for path in paths() {
            let found = run(&layers, shape, path, &states, &lengths, &Pool::new(threads).unwrap());
            prop_assert_eq!(bits(&found), bits(&expected), "{}", path.name());
        }
    }
}

//! The operator in a session of ONNX Runtime, on a padded batch, against the encoder on the same sequences.

#![cfg(feature = "operator")]
#![allow(clippy::print_stdout, reason = "tests say what they skip")]
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::path::PathBuf;

use ort::session::Session;
use ort::value::Tensor;
use quarry_kernels::{Alone, Encoder, LayerWeights, Linear, Norm, Scratch, Shape, operator};

/// A field of a message of protocol buffers: bytes,
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(content.len() as u64), content.to_vec()].concat()
}

/// an integer,
fn integer(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

/// or a float.
fn float(field: u8, value: f32) -> Vec<u8> {
    [vec![field << 3 | 5], value.to_le_bytes().to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = vec![];
    while value >= 128 {
        encoded.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

/// Types of elements of ONNX.
const FLOAT: u64 = 1;
const INT8: u64 = 3;
const INT64: u64 = 7;

/// `ValueInfoProto`.
fn value_info(name: &str, element: u64, dimensions: &[&str]) -> Vec<u8> {
    let dimensions: Vec<u8> = dimensions.iter().flat_map(|name| bytes(1, &bytes(2, name.as_bytes()))).collect();
    let tensor = [integer(1, element), bytes(2, &dimensions)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// `TensorProto`.
fn constant(name: &str, element: u64, shape: &[usize], raw: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|size| integer(1, *size as u64)).collect();
    [shape, integer(2, element), bytes(8, name.as_bytes()), bytes(9, raw)].concat()
}

/// Weights of six products and two normalizations.
struct Weights {
    products: Vec<(Vec<i8>, Vec<f32>, Vec<f32>)>,
    norms: [Vec<f32>; 4],
}

impl Weights {
    fn new(Shape { hidden, feed_forward, .. }: Shape) -> Self {
        let sizes = [(hidden, hidden); 4].into_iter().chain([(feed_forward, hidden), (hidden, feed_forward)]);
        let products = sizes.enumerate().map(|(seed, (outputs, inputs))| {
            let weights = (0..outputs * inputs).map(|index| ((index * 37 + seed * 11) % 101) as i8 - 50).collect();
            let biases = (0..outputs).map(|index| (index % 7) as f32 * 0.02 - 0.05).collect();
            (weights, vec![0.004; outputs], biases)
        });
        let norm = |start: f32| (0..hidden).map(|index| start + (index % 5) as f32 * 0.1).collect();
        Self { products: products.collect(), norms: [norm(0.8), norm(-0.2), norm(0.9), norm(-0.1)] }
    }

    fn layer(&self) -> LayerWeights<'_> {
        let linear = |index: usize| {
            let (weights, scales, biases) = &self.products[index];
            Linear { weights, scales, biases }
        };
        let norm = |index: usize| Norm { scales: &self.norms[index], shifts: &self.norms[index + 1], epsilon: 1e-12 };
        LayerWeights {
            query: linear(0),
            key: linear(1),
            value: linear(2),
            output: linear(3),
            attention_norm: norm(0),
            inner: linear(4),
            outer: linear(5),
            feed_forward_norm: norm(2),
        }
    }
}

/// A model whose graph is the operator alone.
fn model(layers: &[Weights], heads: usize) -> Vec<u8> {
    let raw = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let mut names = vec!["states".to_owned(), "mask".to_owned()];
    let mut constants = vec![];
    let mut add = |element: u64, shape: &[usize], content: &[u8]| {
        let name = format!("constant {}", names.len());
        constants.extend(bytes(5, &constant(&name, element, shape, content)));
        names.push(name);
    };
    for layer in layers {
        for (weights, scales, biases) in &layer.products {
            let integers: Vec<u8> = weights.iter().map(|weight| weight.cast_unsigned()).collect();
            add(INT8, &[scales.len(), weights.len() / scales.len()], &integers);
            add(FLOAT, &[scales.len()], &raw(scales));
            add(FLOAT, &[biases.len()], &raw(biases));
        }
        for norm in &layer.norms {
            add(FLOAT, &[norm.len()], &raw(norm));
        }
    }
    let inputs: Vec<u8> = names.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    let heads = [bytes(1, b"heads"), integer(3, heads as u64)].concat();
    let epsilon = [bytes(1, b"epsilon"), float(2, 1e-12)].concat();
    // The field `type` has the number 20, so its key takes two bytes.
    let attribute = |content: Vec<u8>, kind: u8| bytes(5, &[content, vec![0xa0, 0x01, kind]].concat());
    let node = [
        inputs,
        bytes(2, b"output"),
        bytes(4, b"Int8Encoder"),
        attribute(heads, 2),
        attribute(epsilon, 1),
        bytes(7, operator::DOMAIN.as_bytes()),
    ];
    let graph = [
        bytes(1, &node.concat()),
        bytes(2, b"graph"),
        constants,
        bytes(11, &value_info("states", FLOAT, &["batch", "tokens", "hidden"])),
        bytes(11, &value_info("mask", INT64, &["batch", "tokens"])),
        bytes(12, &value_info("output", FLOAT, &["batch", "tokens", "hidden"])),
    ];
    let own = bytes(8, &[bytes(1, operator::DOMAIN.as_bytes()), integer(2, 1)].concat());
    let standard = bytes(8, &integer(2, 17));
    [integer(1, 8), standard, own, bytes(7, &graph.concat())].concat()
}

/// ONNX Runtime's library, where `quarry` looks for it.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("QUARRY_ONNXRUNTIME") {
        return Some(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let folders = std::fs::read_dir(cache.join("quarry")).ok()?.flatten().map(|entry| entry.path());
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    files
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so")))
}

#[test]
fn a_session_computes_what_the_encoder_computes() {
    let Some(library) = library() else {
        println!("skipped: the operator, as there is no library of ONNX Runtime: name one in QUARRY_ONNXRUNTIME");
        return;
    };
    let shape = Shape { hidden: 48, heads: 3, feed_forward: 80 };
    let layers = [Weights::new(shape), Weights::new(shape)];
    let (lengths, tokens) = ([5, 9, 0, 7], 9);
    let states: Vec<f32> =
        (0..lengths.len() * tokens * 48).map(|index| (index * 29 % 97) as f32 / 50.0 - 1.0).collect();
    let mask: Vec<i64> =
        lengths.iter().flat_map(|length| (0..tokens).map(move |token| i64::from(token < *length))).collect();

    let environment = ort::init_from(library).unwrap().with_telemetry(false).build().unwrap();
    for threads in [1, 3] {
        let builder = Session::builder(&environment).unwrap().with_intra_threads(threads).unwrap();
        let mut builder = builder.with_operators(operator::domain(threads).unwrap()).unwrap();
        let mut session = builder.commit_from_memory(&model(&layers, 3)).unwrap();
        let states_tensor = Tensor::from_array(([lengths.len(), tokens, 48], states.clone())).unwrap();
        let mask_tensor = Tensor::from_array(([lengths.len(), tokens], mask.clone())).unwrap();
        let outputs = session.run(ort::inputs!["states" => states_tensor, "mask" => mask_tensor]).unwrap();
        let (_, found) = outputs["output"].try_extract_tensor::<f32>().unwrap();

        let encoder = Encoder::new(&[layers[0].layer(), layers[1].layer()], shape).unwrap();
        let rows = states.chunks(tokens * 48).zip(&lengths);
        let mut expected: Vec<f32> = rows.flat_map(|(row, length)| row[..length * 48].to_vec()).collect();
        encoder.forward(&mut expected, &lengths, &mut Scratch::new(), &Alone).unwrap();
        let mut rest = &expected[..];
        for (row, length) in found.chunks(tokens * 48).zip(&lengths) {
            let (sequence, following) = rest.split_at(length * 48);
            assert!(row[..sequence.len()].iter().zip(sequence).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert!(row[sequence.len()..].iter().all(|value| value.to_bits() == 0));
            rest = following;
        }
    }
}

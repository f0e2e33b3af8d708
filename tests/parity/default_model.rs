//! The default model, whose interaction is late.

use quarry::graph::cache;
use quarry::model::package::directory::ModelDirectory;
use quarry::model::precision::{GraphPart, GraphVariant, Precision};
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::runtime::session::Session;
use quarry::task::answer::Acceptance;
use quarry::task::batch::Batch;
use quarry::task::input::ModelInput;
use quarry::task::kind::Kind;
use quarry::task::late::{Late, apart};
use quarry::task::mrc::decode::{DecodeRule, Logits};
use quarry::task::mrc::tensors;
use quarry::task::tensor::Tensors;
use quarry::text::document::Document;
use quarry::text::window::{WindowRule, Windows};
use serde::Deserialize;

use super::{OPTIONS, difference, row};
use crate::support::project;

/// A window, and what an independent implementation computes for it: logits of every type and token, then the type, start and end of
/// each candidate, and its match logit.
#[derive(Deserialize)]
struct Expected {
    text: String,
    input_ids: Vec<i64>,
    shape_ids: Vec<i64>,
    start_mask: Vec<u8>,
    end_mask: Vec<u8>,
    boundary_logit: f32,
    start_logits: Vec<Vec<f32>>,
    end_logits: Vec<Vec<f32>>,
    span_index: Vec<[usize; 3]>,
    span_logits: Vec<f32>,
}

impl Expected {
    /// Checks the input that the program makes of this window.
    fn check(&self, input: &ModelInput) {
        let made = Batch { inputs: vec![input.clone()] }.tensors();
        let mask = |mask: &[bool]| mask.iter().map(|&bit| u8::from(bit)).collect::<Vec<_>>();
        assert_eq!((made.input_ids, made.shape_ids), (self.input_ids.clone(), self.shape_ids.clone()), "{}", self.text);
        assert_eq!((mask(&made.start_mask), mask(&made.end_mask)), (self.start_mask.clone(), self.end_mask.clone()));
    }

    /// The largest difference from the logits of row `number` of a batch, type by type. The candidates must be the same.
    fn difference(&self, found: &[Logits], batch: &Batch, number: usize) -> f32 {
        let mut largest: f32 = 0.0;
        let (mut index, mut spans) = (Vec::new(), Vec::new());
        for (entity_type, logits) in found.iter().enumerate() {
            let [start, end] = row(logits, batch, number);
            largest = largest.max(difference(start, &self.start_logits[entity_type]));
            largest = largest.max(difference(end, &self.end_logits[entity_type]));
            for (&[_, start, end], span) in logits.span_index.iter().zip(&logits.span).filter(|(at, _)| at[0] == number)
            {
                index.push([entity_type, start, end]);
                spans.push(*span);
            }
        }
        assert_eq!(index, self.span_index, "{}", self.text);
        largest.max(difference(&spans, &self.span_logits))
    }
}

#[test]
fn the_default_model_gives_the_logits_an_independent_implementation_computes() {
    let file = project().join("tests/fixtures/default-model-logits.json");
    let expected: Vec<Expected> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(expected.iter().map(|one| one.span_index.len()).sum::<usize>() > 40);
    let directory = ModelDirectory::open(&project().join("models/default")).unwrap();
    let tokenizer = directory.tokenizer(None).unwrap();
    let schema = quarry::job::read_schema(&project().join("schemas/default.toml")).unwrap();
    let boundary = expected[0].boundary_logit;
    let rule = DecodeRule { boundary, nested: false, max_candidates: 100, tolerance: 0.0 };
    let late = Late::new(&schema, &tokenizer, (rule, Acceptance::new(&schema, 0.0))).unwrap();
    let input = |one: &Expected| {
        let document = Document { text: &one.text };
        let windows: Vec<_> =
            Windows::new(&tokenizer, WindowRule { tokens: 400, overlap: 0, words: None }, document).collect();
        let [Ok(window)] = windows.as_slice() else { panic!("{} is one window", one.text) };
        let input = late.ask(0, window);
        one.check(&input);
        input
    };
    let together = Batch { inputs: expected.iter().map(input).collect() };
    let library = Library::load(None, Distribution::Cpu).unwrap();
    for form in GraphVariant::ALL {
        let open = |part, kind| {
            Session::open(&library, &cache::derive_part(&directory, part, form).unwrap(), kind, OPTIONS).unwrap()
        };
        let mut questions = open(GraphPart::Questions, Kind::Questions);
        let given: Vec<Tensors> = late.asked().map(|asked| questions.run(&[&asked]).unwrap()).collect();
        let fixed = late.fixed(given).unwrap();
        let mut windows = open(GraphPart::Windows(Precision::Fp32), Kind::Late);
        let mut logits = |batch: &Batch| apart(windows.run(&[&tensors(batch), &fixed]).unwrap()).unwrap();
        let all = logits(&together);
        for (number, one) in expected.iter().enumerate() {
            assert_eq!(one.boundary_logit.to_bits(), boundary.to_bits(), "one batch has one boundary");
            let alone = Batch { inputs: vec![together.inputs[number].clone()] };
            let largest = one.difference(&logits(&alone), &alone, 0).max(one.difference(&all, &together, number));
            assert!(largest < 1e-3, "{form}, {}: {largest}", one.text);
        }
    }
}

//! Logits against those of an independent implementation, and against themselves: alone and in a batch, portable and fused.

use std::path::{Path, PathBuf};

use prost::Message;
use quarry::graph::cache;
use quarry::graph::onnx::{
    AttributeProto, Dimension, DimensionProto, ElementType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use quarry::model::device::Device;
use quarry::model::directory::ModelDirectory;
use quarry::model::distribution::Distribution;
use quarry::model::flavour::{Flavour, Form};
use quarry::model::library::Library;
use quarry::model::session::{Session, SessionOptions};
use quarry::mrc::batch::QueryBatch;
use quarry::mrc::decode::Logits;
use quarry::mrc::documents::Document;
use quarry::mrc::query::{Encoded, Questions};
use quarry::mrc::tokens::Tokenizer;
use quarry::mrc::window::{WindowRule, Windows};
use serde_json::Value;

use crate::support::{Dir, project, shared};

const BOUNDARY: f32 = -4.0;

/// A model with the questions of CoNLL-2003.
pub(crate) struct Model {
    pub(crate) directory: ModelDirectory,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) questions: Questions,
}

impl Model {
    pub(crate) fn open(path: &Path) -> Self {
        let directory = ModelDirectory::open(path).unwrap();
        let tokenizer = directory.tokenizer(None).unwrap();
        let schema = quarry::job::read_schema(&project().join("schemas/conll03.toml")).unwrap();
        let questions = Questions::new(&schema, &tokenizer).unwrap();
        Self { directory, tokenizer, questions }
    }

    pub(crate) fn session(&self, form: Form, flavour: Flavour) -> Session {
        let library = Library::load(None, Distribution::Cpu, &|_| ()).unwrap();
        let graph = cache::derive(&self.directory, form, flavour).unwrap();
        Session::open(
            &library,
            &graph,
            SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 2 },
        )
        .unwrap()
    }

    /// The queries of a text that fits one window, in the schema's order.
    pub(crate) fn queries(&self, text: &str) -> Vec<Encoded> {
        let rule = WindowRule { tokens: 400, overlap: 0 };
        let windows: Vec<_> = Windows::new(&self.tokenizer, rule, Document { text }).map(Result::unwrap).collect();
        windows.iter().flat_map(|window| self.questions.ask(0, window).collect::<Vec<_>>()).collect()
    }
}

fn texts() -> Vec<String> {
    let dir = Dir::new();
    let source = project().join("jobs/demo/documents.parquet");
    let sql = "SELECT substr(body, 1, 40 + 60 * (length(doc_id) % 9)) FROM source WHERE lang = 'en' AND length(body) > 400 ORDER BY doc_id LIMIT 12";
    dir.sql(None, &[("source", &source)], sql)
}

fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

/// The start and end logits of one row of a batch, without padding.
fn row<'logits>(logits: &'logits Logits, batch: &QueryBatch, row: usize) -> [&'logits [f32]; 2] {
    let (width, length) = (batch.tokens(), batch.queries[row].len());
    [&logits.start[row * width..row * width + length], &logits.end[row * width..row * width + length]]
}

fn batches(model: &Model) -> Vec<QueryBatch> {
    texts().iter().map(|text| QueryBatch { queries: model.queries(text) }).collect()
}

/// The reference checkpoint as a model directory of ours.
pub(crate) fn exported(dir: &Dir) -> Option<PathBuf> {
    let checkpoint = shared("checkpoints/conll03-minilm")?;
    let out = dir.path("conll03-minilm");
    dir.quarry(&["export", &checkpoint.display().to_string(), &out.display().to_string(), "--no-parity"]).ended(0);
    Some(out)
}

#[test]
fn the_reference_checkpoint_gives_the_logits_an_independent_implementation_computes() {
    let dir = Dir::new();
    let Some(path) = exported(&dir) else { return };
    let Some(expected) = shared("checkpoints/conll03-minilm/expected.json") else { return };
    let expected: Vec<Value> = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    let model = Model::open(&path);
    assert_eq!(expected.len(), 6);
    for form in Form::ALL {
        let mut session = model.session(form, Flavour::Fp32);
        for one in &expected {
            let number = ["ORG", "PER", "LOC", "MISC"].iter().position(|name| one["type"] == *name).unwrap();
            let batch = QueryBatch { queries: vec![model.queries(one["context"].as_str().unwrap())[number].clone()] };
            let inputs = batch.inputs();
            let integers = |name: &str| -> Vec<i64> {
                one[name].as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
            };
            assert_eq!(inputs.input_ids, integers("input_ids"));
            assert_eq!(inputs.token_type_ids, integers("token_type_ids"));
            let mask = |mask: &[bool]| mask.iter().map(|&bit| i64::from(bit)).collect::<Vec<_>>();
            assert_eq!(mask(&inputs.start_mask), integers("start_mask"));
            assert_eq!(mask(&inputs.end_mask), integers("end_mask"));
            let logits = session.answer(&batch, BOUNDARY).unwrap();
            let floats = |name: &str| -> Vec<f32> {
                one[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
            };
            assert!(difference(&logits.start, &floats("start_logits")) < 1e-3, "{form}");
            assert!(difference(&logits.end, &floats("end_logits")) < 1e-3, "{form}");
            let spans: Vec<Vec<usize>> = serde_json::from_value(one["span_index"].clone()).unwrap();
            assert_eq!(logits.span_index.iter().map(|span| span.to_vec()).collect::<Vec<_>>(), spans, "{form}");
            assert!(difference(&logits.span, &floats("span_logits")) < 1e-3, "{form}");
        }
    }
}

#[test]
fn fused_is_portable_within_a_thousandth() {
    let model = Model::open(&project().join("models/default"));
    let (mut portable, mut fused) =
        (model.session(Form::Portable, Flavour::Fp32), model.session(Form::Fused, Flavour::Fp32));
    for batch in batches(&model) {
        let (left, right) = (portable.answer(&batch, BOUNDARY).unwrap(), fused.answer(&batch, BOUNDARY).unwrap());
        for number in 0..batch.queries.len() {
            for (left, right) in row(&left, &batch, number).iter().zip(row(&right, &batch, number)) {
                assert!(difference(left, right) < 1e-3);
            }
        }
        assert_eq!(left.span_index, right.span_index);
        assert!(difference(&left.span, &right.span) < 1e-3);
    }
}

#[test]
fn a_query_answers_alone_as_in_any_batch() {
    let model = Model::open(&project().join("models/default"));
    let queries: Vec<Encoded> = texts().iter().flat_map(|text| model.queries(text)).collect();
    let together = QueryBatch { queries };
    assert!(together.queries.iter().any(|query| query.len() * 2 < together.tokens()), "one batch mixes short and long");
    for (flavour, tolerance) in [(Flavour::Fp32, 1e-3), (Flavour::Int8, 0.1)] {
        let mut session = model.session(Form::Fused, flavour);
        let all = session.answer(&together, BOUNDARY).unwrap();
        let mut largest: f32 = 0.0;
        for (number, query) in together.queries.iter().enumerate().step_by(5) {
            let alone = QueryBatch { queries: vec![query.clone()] };
            let logits = session.answer(&alone, BOUNDARY).unwrap();
            for (left, right) in row(&logits, &alone, 0).iter().zip(row(&all, &together, number)) {
                largest = largest.max(difference(left, right));
            }
        }
        assert!(largest < tolerance, "{flavour}: {largest}");
    }
}

#[test]
fn every_candidate_is_one_of_the_contract() {
    let model = Model::open(&project().join("models/default"));
    let mut session = model.session(Form::Fused, Flavour::Fp32);
    let batch = QueryBatch { queries: model.queries("Paul Kagame met Angela Merkel of Germany in Kigali .") };
    let (inputs, width) = (batch.inputs(), batch.tokens());
    let logits = session.answer(&batch, BOUNDARY).unwrap();
    let mut expected = Vec::new();
    for number in 0..inputs.rows {
        let at = |position: usize| number * width + position;
        for start in (0..width).filter(|&start| inputs.start_mask[at(start)] && logits.start[at(start)] > BOUNDARY) {
            for end in (start..width).filter(|&end| inputs.end_mask[at(end)] && logits.end[at(end)] > BOUNDARY) {
                expected.push([number, start, end]);
            }
        }
    }
    let mut found = logits.span_index.clone();
    found.sort_unstable();
    assert!(expected.len() >= 4, "{expected:?}");
    assert_eq!(found, expected);
}

#[test]
fn a_graph_with_a_missing_output_is_refused() {
    let library = Library::load(None, Distribution::Cpu, &|_| ()).unwrap();
    let dir = Dir::new();
    let path = dir.write("broken.onnx", "not a graph");
    let error = Session::open(
        &library,
        &path,
        SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 },
    )
    .unwrap_err();
    assert!(error.to_string().contains("load the graph"), "{error}");
}

/// A graph with the contract's outputs and no weights: one candidate, always the same, its place of this type.
fn weightless(element: ElementType) -> Vec<u8> {
    let value = |name: &str, element: ElementType, shape: &[&str]| {
        let size = |size: &&str| DimensionProto {
            value: Some(size.parse().map_or_else(|_| Dimension::Named((*size).to_owned()), Dimension::Fixed)),
        };
        let shape = TensorShapeProto { dim: shape.iter().map(size).collect() };
        let tensor_type = TensorTypeProto { elem_type: Some(element.number()), shape: Some(shape) };
        ValueInfoProto { name: name.to_owned(), value_type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
    };
    let node = |operator: &str, input: &str, output: &str, attribute: Vec<AttributeProto>| NodeProto {
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        op_type: operator.to_owned(),
        attribute,
        ..NodeProto::default()
    };
    let constant = |name: &str, element: ElementType, dims: &[i64], bytes: usize| TensorProto {
        dims: dims.to_vec(),
        data_type: Some(element.number()),
        name: name.to_owned(),
        raw_data: Some(vec![0; bytes]),
    };
    let float = || vec![AttributeProto::integer("to", ElementType::Float32.number().into())];
    let width = if element == ElementType::Int64 { 8 } else { 4 };
    let graph = GraphProto {
        name: "weightless".to_owned(),
        node: vec![
            node("Cast", "input_ids", "start_logits", float()),
            node("Cast", "input_ids", "end_logits", float()),
            node("Identity", "index", "span_index", vec![]),
            node("Identity", "logit", "span_logits", vec![]),
        ],
        initializer: vec![
            constant("index", element, &[1, 3], 3 * width),
            constant("logit", ElementType::Float32, &[1], 4),
        ],
        input: vec![value("input_ids", ElementType::Int64, &["batch", "tokens"])],
        output: vec![
            value("start_logits", ElementType::Float32, &["batch", "tokens"]),
            value("end_logits", ElementType::Float32, &["batch", "tokens"]),
            value("span_index", element, &["1", "3"]),
            value("span_logits", ElementType::Float32, &["1"]),
        ],
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

#[test]
fn a_graph_that_says_places_in_fractions_is_refused() {
    let library = Library::load(None, Distribution::Cpu, &|_| ()).unwrap();
    let dir = Dir::new();
    let path = dir.path("model.onnx");
    let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };
    std::fs::write(&path, weightless(ElementType::Int64)).unwrap();
    Session::open(&library, &path, options).unwrap();
    std::fs::write(&path, weightless(ElementType::Float32)).unwrap();
    let error = Session::open(&library, &path, options).unwrap_err();
    assert!(error.to_string().contains("span_index is ") && error.to_string().contains("expected int64"), "{error}");
}

#[test]
fn a_profile_without_weights_tells_nothing() {
    let model = Model::open(&project().join("models/default"));
    let library = Library::load(None, Distribution::Cpu, &|_| ()).unwrap();
    let dir = Dir::new();
    let path = dir.path("model.onnx");
    std::fs::write(&path, weightless(ElementType::Int64)).unwrap();
    let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };
    let batch = QueryBatch { queries: model.queries("Paul Kagame met Angela Merkel .") };
    let error = Session::open_on_its_device(&library, &path, options, &batch).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("no operator with weights"), "{error}: {cause}");
}

#[test]
fn the_profiler_says_where_operators_are_computed() {
    let model = Model::open(&project().join("models/default"));
    let library = Library::load(None, Distribution::Cpu, &|_| ()).unwrap();
    let graph = cache::derive(&model.directory, Form::Fused, Flavour::Fp32).unwrap();
    let options = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };
    let batch = QueryBatch { queries: model.queries("Paul Kagame met Angela Merkel .") };
    let placed = Session::placement(&library, &graph, options, &batch).unwrap();
    let weighty: Vec<_> = placed.iter().filter(|one| one.has_weights()).collect();
    // Six layers of at least four products each, and the heads.
    assert!(weighty.len() > 24, "{placed:?}");
    assert!(weighty.iter().all(|one| one.provider == "CPUExecutionProvider"), "{weighty:?}");
    // What was profiled goes on as if it had not been.
    let mut tried = Session::open_on_its_device(&library, &graph, options, &batch).unwrap();
    let mut plain = Session::open(&library, &graph, options).unwrap();
    for _ in 0..2 {
        assert_eq!(tried.answer(&batch, BOUNDARY).unwrap(), plain.answer(&batch, BOUNDARY).unwrap());
    }
}

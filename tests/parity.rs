//! Compares logits with those of an independent implementation, and with each other: alone and in a batch, portable and fused.

mod default_model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;
use quarry::graph::cache;
use quarry::graph::onnx::{
    AttributeProto, Dimension, DimensionProto, ElementType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use quarry::model::package::directory::ModelDirectory;
use quarry::model::precision::{GraphVariant, Precision};
use quarry::model::runtime::device::Device;
use quarry::model::runtime::distribution::Distribution;
use quarry::model::runtime::library::Library;
use quarry::model::runtime::scorer::{Answered, OpenExact, Scorer};
use quarry::model::runtime::session::{Session, SessionOptions};
use quarry::task::batch::Batch;
use quarry::task::input::{ModelInput, Questions};
use quarry::task::kind::Kind;
use quarry::task::mrc::decode::Logits;
use quarry::task::mrc::fixed;
use quarry::text::document::Document;
use quarry::text::tokens::Tokenizer;
use quarry::text::window::{WindowRule, Windows};
use serde::Deserialize;

use crate::support::{Dir, project, shared};

const BOUNDARY: f32 = -4.0;
const OPTIONS: SessionOptions = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };

/// A model with the questions of a schema, by default of CoNLL-2003.
pub(crate) struct Model {
    pub(crate) directory: ModelDirectory,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) questions: Questions,
    types: Vec<String>,
}

impl Model {
    pub(crate) fn open(path: &Path) -> Self {
        Self::asking(path, &project().join("schemas/conll03.toml"))
    }

    /// A model with the questions of a schema file.
    fn asking(path: &Path, schema: &Path) -> Self {
        let directory = ModelDirectory::open(path).unwrap();
        let tokenizer = directory.tokenizer(None).unwrap();
        let schema = quarry::job::read_schema(schema).unwrap();
        let questions = Questions::new(&schema, &tokenizer).unwrap();
        let types = schema.types.into_iter().map(|one| one.name).collect();
        Self { directory, tokenizer, questions, types }
    }

    pub(crate) fn session(&self, form: GraphVariant, precision: Precision) -> Session {
        let library = Library::load(None, Distribution::Cpu).unwrap();
        let graph = cache::derive(&self.directory, form, precision).unwrap();
        Session::open(
            &library,
            &graph,
            Kind::Mrc,
            SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 2 },
        )
        .unwrap()
    }

    /// The queries of a text that fits one window, in the schema's order.
    pub(crate) fn queries(&self, text: &str) -> Vec<ModelInput> {
        let rule = WindowRule { tokens: 400, overlap: 0, words: None };
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
fn row<'logits>(logits: &'logits Logits, batch: &Batch, row: usize) -> [&'logits [f32]; 2] {
    let (width, length) = (batch.tokens(), batch.inputs[row].len());
    [&logits.start[row * width..row * width + length], &logits.end[row * width..row * width + length]]
}

fn batches(model: &Model) -> Vec<Batch> {
    texts().iter().map(|text| Batch { inputs: model.queries(text) }).collect()
}

/// A query, and the logits that an independent implementation computes for it.
#[derive(Deserialize)]
struct Expected {
    r#type: String,
    context: String,
    input_ids: Vec<i64>,
    token_type_ids: Vec<i64>,
    start_mask: Vec<u8>,
    end_mask: Vec<u8>,
    boundary_logit: f32,
    start_logits: Vec<f32>,
    end_logits: Vec<f32>,
    span_index: Vec<[usize; 3]>,
    span_logits: Vec<f32>,
}

impl Expected {
    fn read(path: &Path) -> Vec<Self> {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The query as this program makes it; it must equal the one that the independent implementation answered.
    fn query(&self, model: &Model) -> ModelInput {
        let number = model.types.iter().position(|name| *name == self.r#type).unwrap();
        let query = model.queries(&self.context)[number].clone();
        let inputs = Batch { inputs: vec![query.clone()] }.tensors();
        let mask = |mask: &[bool]| mask.iter().map(|&bit| u8::from(bit)).collect::<Vec<_>>();
        assert_eq!(inputs.input_ids, self.input_ids);
        assert_eq!(inputs.token_type_ids, self.token_type_ids);
        assert_eq!(mask(&inputs.start_mask), self.start_mask);
        assert_eq!(mask(&inputs.end_mask), self.end_mask);
        query
    }

    /// The largest difference between these logits and those of a row of a batch. Only a candidate whose start or end is within
    /// `tolerance` of the boundary is in one of the two alone.
    fn difference(&self, logits: &Logits, batch: &Batch, number: usize, tolerance: f32) -> f32 {
        let [start, end] = row(logits, batch, number);
        let candidates = |index: &[[usize; 3]], span: &[f32], row: usize| -> BTreeMap<[usize; 2], f32> {
            let all = index.iter().zip(span).filter(|(index, _)| index[0] == row);
            all.map(|(&[_, start, end], &logit)| ([start, end], logit)).collect()
        };
        let found = candidates(&logits.span_index, &logits.span, number);
        let expected = candidates(&self.span_index, &self.span_logits, 0);
        for place @ &[start, end] in found.keys().chain(expected.keys()) {
            let near = |logit: f32| (logit - self.boundary_logit).abs() < tolerance;
            let undecided = near(self.start_logits[start]) || near(self.end_logits[end]);
            assert!(undecided || found.contains_key(place) == expected.contains_key(place), "{place:?}");
        }
        let spans = found.iter().filter_map(|(place, logit)| Some((logit - expected.get(place)?).abs()));
        let boundaries = difference(start, &self.start_logits).max(difference(end, &self.end_logits));
        spans.fold(boundaries, f32::max)
    }
}

/// Answers the queries with a graph, each alone and all in one batch; the largest difference from what is expected.
fn largest_difference(
    model: &Model,
    expected: &[Expected],
    form: GraphVariant,
    precision: Precision,
    tolerance: f32,
) -> f32 {
    let mut session = model.session(form, precision);
    let boundary = expected[0].boundary_logit;
    let together = Batch { inputs: expected.iter().map(|one| one.query(model)).collect() };
    let all = session.logits(&together, boundary).unwrap();
    let mut largest: f32 = 0.0;
    for (number, one) in expected.iter().enumerate() {
        assert_eq!(one.boundary_logit.to_bits(), boundary.to_bits(), "one batch has one boundary");
        let alone = Batch { inputs: vec![together.inputs[number].clone()] };
        let logits = session.logits(&alone, boundary).unwrap();
        largest = largest.max(one.difference(&logits, &alone, 0, tolerance));
        largest = largest.max(one.difference(&all, &together, number, tolerance));
        if precision == Precision::Fp32 {
            assert_eq!(logits.span_index, one.span_index, "{form}");
        }
    }
    largest
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
    let (model, expected) = (Model::open(&path), Expected::read(&expected));
    assert_eq!(expected.len(), 6);
    for form in GraphVariant::ALL {
        let largest = largest_difference(&model, &expected, form, Precision::Fp32, 1e-3);
        assert!(largest < 1e-3, "{form}: {largest}");
    }
}

/// The tiny checkpoint needs nothing beside the project.
#[test]
fn every_graph_of_the_tiny_checkpoint_gives_the_logits_an_independent_implementation_computes() {
    let folder = project().join("tests/fixtures/tiny-checkpoint");
    let (schema, expected) = (folder.join("schema.toml"), Expected::read(&folder.join("expected.json")));
    assert_eq!(expected.len(), 12);
    assert!(expected.iter().map(|one| one.span_index.len()).sum::<usize>() > 500);
    let dir = Dir::new();
    for file in ["model.safetensors", "lightning.ckpt"] {
        let (checkpoint, out) = (folder.join(file), dir.path(file));
        let [checkpoint, model] = [&checkpoint, &out].map(|path| path.display().to_string());
        dir.quarry(&["export", &checkpoint, &model, "--schema", schema.to_str().unwrap(), "--no-parity"]).ended(0);
        let model = Model::asking(&out, &schema);
        for (form, precision, tolerance) in [
            (GraphVariant::Portable, Precision::Fp32, 1e-4),
            (GraphVariant::Fused, Precision::Fp32, 1e-4),
            (GraphVariant::Portable, Precision::Fp16, 0.1),
            (GraphVariant::Portable, Precision::Int8, 0.1),
            (GraphVariant::Fused, Precision::Int8, 0.1),
            (GraphVariant::Kernels, Precision::Int8, 0.1),
        ] {
            let largest = largest_difference(&model, &expected, form, precision, tolerance);
            eprintln!("{file} {form} {precision}: {largest}");
            assert!(largest < tolerance, "{file}, {form}-{precision}: {largest}");
        }
    }
}

#[test]
fn fused_is_portable_within_a_thousandth() {
    let dir = Dir::new();
    let model = Model::open(&dir.early_model());
    let (mut portable, mut fused) =
        (model.session(GraphVariant::Portable, Precision::Fp32), model.session(GraphVariant::Fused, Precision::Fp32));
    for batch in batches(&model) {
        let (left, right) = (portable.logits(&batch, BOUNDARY).unwrap(), fused.logits(&batch, BOUNDARY).unwrap());
        for number in 0..batch.inputs.len() {
            for (left, right) in row(&left, &batch, number).iter().zip(row(&right, &batch, number)) {
                assert!(difference(left, right) < 1e-3);
            }
        }
        assert_eq!(left.span_index, right.span_index);
        assert!(difference(&left.span, &right.span) < 1e-3);
    }
}

#[test]
fn a_query_has_the_same_answer_alone_and_in_any_batch() {
    let dir = Dir::new();
    let model = Model::open(&dir.early_model());
    let inputs: Vec<ModelInput> = texts().iter().flat_map(|text| model.queries(text)).collect();
    let together = Batch { inputs };
    assert!(together.inputs.iter().any(|query| query.len() * 2 < together.tokens()), "one batch mixes short and long");
    for (precision, tolerance) in [(Precision::Fp32, 1e-3), (Precision::Int8, 0.1)] {
        let mut session = model.session(GraphVariant::Fused, precision);
        let all = session.logits(&together, BOUNDARY).unwrap();
        let mut largest: f32 = 0.0;
        for (number, query) in together.inputs.iter().enumerate().step_by(5) {
            let alone = Batch { inputs: vec![query.clone()] };
            let logits = session.logits(&alone, BOUNDARY).unwrap();
            for (left, right) in row(&logits, &alone, 0).iter().zip(row(&all, &together, number)) {
                largest = largest.max(difference(left, right));
            }
        }
        assert!(largest < tolerance, "{precision}: {largest}");
    }
}

#[test]
fn a_query_that_overflows_in_fp16_has_the_answer_of_fp32() {
    let dir = Dir::new();
    let model = Model::open(&dir.model_beyond_fp16());
    let half = cache::derive(&model.directory, GraphVariant::Portable, Precision::Fp16).unwrap();
    let single = cache::derive(&model.directory, GraphVariant::Portable, Precision::Fp32).unwrap();
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let batch = Batch {
        inputs: ["He left for Rome .", "He left for Paris ."].iter().flat_map(|text| model.queries(text)).collect(),
    };
    let answers = |exact: Option<&OpenExact>| {
        let fixed = fixed(BOUNDARY);
        let scorer = Scorer::open(&library, &half, Kind::Mrc, &[OPTIONS], &fixed, None, exact).unwrap();
        let (reply, answers) = crossbeam_channel::unbounded();
        scorer.ask(batch.clone(), &reply).unwrap();
        drop((reply, scorer));
        answers.iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let refused = |answers: &[Answered]| -> usize {
        answers.iter().filter(|one| one.outputs.is_none()).map(|one| one.batch.inputs.len()).sum()
    };
    assert_eq!(refused(&answers(None)), batch.inputs.len() / 2);
    let open: OpenExact = {
        let (library, single) = (library.clone(), single.clone());
        std::sync::Arc::new(move || Session::open(&library, &single, Kind::Mrc, OPTIONS))
    };
    let answered = answers(Some(&open));
    assert_eq!(refused(&answered), 0);
    let mut session = Session::open(&library, &single, Kind::Mrc, OPTIONS).unwrap();
    for Answered { batch, outputs } in answered.into_iter().filter(|one| one.batch.inputs.len() == 1) {
        let logits = quarry::task::mrc::logits(outputs.unwrap()).unwrap();
        assert_eq!(logits, session.logits(&batch, BOUNDARY).unwrap());
    }
}

#[test]
fn every_candidate_satisfies_the_contract() {
    let dir = Dir::new();
    let model = Model::open(&dir.early_model());
    let mut session = model.session(GraphVariant::Fused, Precision::Fp32);
    let batch = Batch { inputs: model.queries("Paul Kagame met Angela Merkel of Germany in Kigali .") };
    let (inputs, width) = (batch.tensors(), batch.tokens());
    // At least a third of the starts and of the ends are above.
    let logits = session.logits(&batch, f32::MAX).unwrap();
    let thirds = [(&logits.start, &inputs.start_mask), (&logits.end, &inputs.end_mask)].map(|(logits, mask)| {
        let mut allowed: Vec<f32> =
            logits.iter().zip(mask).filter(|(_, mask)| **mask).map(|(logit, _)| *logit).collect();
        allowed.sort_by(f32::total_cmp);
        allowed[allowed.len() * 2 / 3]
    });
    let boundary = thirds[0].min(thirds[1]);
    let logits = session.logits(&batch, boundary).unwrap();
    let mut expected = Vec::new();
    for number in 0..inputs.rows {
        let at = |position: usize| number * width + position;
        for start in (0..width).filter(|&start| inputs.start_mask[at(start)] && logits.start[at(start)] > boundary) {
            for end in (start..width).filter(|&end| inputs.end_mask[at(end)] && logits.end[at(end)] > boundary) {
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
fn a_file_that_is_no_graph_is_refused() {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let dir = Dir::new();
    let path = dir.write("broken.onnx", "not a graph");
    let error = Session::open(&library, &path, Kind::Mrc, OPTIONS).unwrap_err();
    assert_eq!(error.to_string(), format!("ONNX Runtime failed to load the graph `{}`", path.display()));
    assert_eq!(error.exit_code(), 1, "a retry does not repair a graph");
}

/// A graph with the contract's outputs and no weights: always the same candidate, with span indices of this type.
fn weightless(element: ElementType) -> GraphProto {
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
    GraphProto {
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
    }
}

/// Writes a graph of standard operators.
fn write_graph(path: &Path, graph: GraphProto) {
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

#[test]
fn a_graph_with_a_missing_output_is_refused() {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let dir = Dir::new();
    let path = dir.path("model.onnx");
    let refused = |name: &str| {
        let mut graph = weightless(ElementType::Int64);
        graph.output.retain(|output| output.name != name);
        assert_eq!(graph.output.len(), 3, "there is an output {name}");
        write_graph(&path, graph);
        Session::open(&library, &path, Kind::Mrc, OPTIONS).unwrap_err().to_string()
    };
    let begins = format!("cannot load model `{}`", path.display());
    for (name, others) in [
        ("start_logits", "end_logits, span_index, span_logits"),
        ("end_logits", "start_logits, span_index, span_logits"),
        ("span_logits", "start_logits, end_logits, span_index"),
    ] {
        assert_eq!(refused(name), format!("{begins}: the graph has no output `{name}`, only {others}"));
    }
    // Without span indices the logits must be those of all pairs.
    let expected = format!("{begins}: span_logits has 1 dimensions, expected [batch, tokens, tokens]");
    assert_eq!(refused("span_index"), expected);
}

#[test]
fn a_graph_with_an_unknown_input_is_refused() {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let dir = Dir::new();
    let path = dir.path("model.onnx");
    let mut graph = weightless(ElementType::Int64);
    let input = ValueInfoProto { name: "position_ids".to_owned(), ..graph.input[0].clone() };
    graph.input.push(input);
    write_graph(&path, graph);
    let error = Session::open(&library, &path, Kind::Mrc, OPTIONS).unwrap_err().to_string();
    assert_eq!(error, format!("cannot load model `{}`: the graph has an unknown input `position_ids`", path.display()));
}

#[test]
fn a_graph_with_fractional_span_indices_is_refused() {
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let dir = Dir::new();
    let path = dir.path("model.onnx");
    write_graph(&path, weightless(ElementType::Int64));
    Session::open(&library, &path, Kind::Mrc, OPTIONS).unwrap();
    write_graph(&path, weightless(ElementType::Float32));
    let error = Session::open(&library, &path, Kind::Mrc, OPTIONS).unwrap_err();
    assert!(error.to_string().contains("span_index is ") && error.to_string().contains("expected int64"), "{error}");
}

#[test]
fn a_profile_without_weights_is_an_error() {
    let dir = Dir::new();
    let model = Model::open(&dir.early_model());
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let path = dir.path("model.onnx");
    write_graph(&path, weightless(ElementType::Int64));
    let batch = Batch { inputs: model.queries("Paul Kagame met Angela Merkel .") };
    let error =
        Session::open_on_its_device(&library, &path, Kind::Mrc, OPTIONS, (&batch, &fixed(BOUNDARY))).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("no operator with weights"), "{error}: {cause}");
}

#[test]
fn the_profiler_reports_the_provider_of_every_operator() {
    let dir = Dir::new();
    let model = Model::open(&dir.early_model());
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let graph = cache::derive(&model.directory, GraphVariant::Fused, Precision::Fp32).unwrap();
    let batch = Batch { inputs: model.queries("Paul Kagame met Angela Merkel .") };
    let placed = Session::placement(&library, &graph, Kind::Mrc, OPTIONS, (&batch, &fixed(BOUNDARY))).unwrap();
    let weighty: Vec<_> = placed.iter().filter(|one| one.has_weights()).collect();
    // Six layers of at least four products each, and the heads.
    assert!(weighty.len() > 24, "{placed:?}");
    assert!(weighty.iter().all(|one| one.provider == "CPUExecutionProvider"), "{weighty:?}");
    // A profiled session still answers.
    let mut tried =
        Session::open_on_its_device(&library, &graph, Kind::Mrc, OPTIONS, (&batch, &fixed(BOUNDARY))).unwrap();
    let mut plain = Session::open(&library, &graph, Kind::Mrc, OPTIONS).unwrap();
    for _ in 0..2 {
        assert_eq!(tried.logits(&batch, BOUNDARY).unwrap(), plain.logits(&batch, BOUNDARY).unwrap());
    }
}

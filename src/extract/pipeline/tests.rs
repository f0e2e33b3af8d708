//! Another kind moves in: a model of two graphs that answers all types in one pass, run by ONNX Runtime.
#![allow(clippy::print_stderr, reason = "a measurement prints its figures")]

use std::path::{Path, PathBuf};

use prost::Message;
use rayon::prelude::*;

use super::*;
use crate::extract::pipeline::slice::OneText;
use crate::graph::builder::Builder;
use crate::graph::onnx::{ElementType, ModelProto, OperatorSetIdProto};
use crate::model::runtime::device::Device;
use crate::model::runtime::distribution::Distribution;
use crate::model::runtime::library::Library;
use crate::model::runtime::session::{Session, SessionOptions};
use crate::task::batch::Batch;
use crate::task::entity_schema::{EntitySchema, EntityType};
use crate::task::kind::{Kind, TaskSettings};
use crate::task::merge::Mentions;
use crate::task::tensor::{Tensors, Values};
use crate::text::tokens::Words;
use crate::text::tokens::tests::tiny;

const OPTIONS: SessionOptions = SessionOptions { device: Device::Cpu, distribution: Distribution::Cpu, threads: 1 };

fn write(folder: &Path, name: &str, graph: Builder) -> PathBuf {
    let model = ModelProto {
        ir_version: Some(8),
        producer_name: "quarry".to_owned(),
        producer_version: "1".to_owned(),
        graph: Some(graph.finish()),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(17) }],
    };
    let path = folder.join(name);
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

/// The graph that runs once: the id of the word that each type wants.
fn first(folder: &Path) -> PathBuf {
    let mut graph = Builder::new("first", ElementType::Float32);
    graph.input("names", ElementType::Int64, &["types"]);
    let wanted = graph.cast("names", ElementType::Float32);
    graph.output(&wanted, "wanted", ElementType::Float32, &["types"]);
    write(folder, "first.onnx", graph)
}

/// The graph that runs on windows: the score 0.5 - (id - wanted)² of each token and type.
fn second(folder: &Path) -> PathBuf {
    let mut graph = Builder::new("second", ElementType::Float32);
    graph.input("input_ids", ElementType::Int64, &["batch", "tokens"]);
    graph.input("wanted", ElementType::Float32, &["types"]);
    let (ids, last) = (graph.cast("input_ids", ElementType::Float32), graph.integers(&[2]));
    let ids = graph.op("Unsqueeze", &[&ids, &last]);
    let difference = graph.op("Sub", &[&ids, "wanted"]);
    let (square, half) = (graph.op("Mul", &[&difference, &difference]), graph.number(0.5));
    let scores = graph.op("Sub", &[&half, &square]);
    graph.output(&scores, "scores", ElementType::Float32, &["batch", "tokens", "types"]);
    write(folder, "second.onnx", graph)
}

#[test]
fn a_kind_of_one_pass_and_two_graphs_runs_in_the_same_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::load(None, Distribution::Cpu).unwrap();
    let tokenizer = tiny(Words::Tokenizer);
    let words = ["york", "bank"];
    let types = words.map(|word| EntityType { name: word.into(), question: "unused".into() });
    let schema = EntitySchema { nested: true, types: types.into() };
    let names: Vec<i64> = words.map(|word| i64::from(tokenizer.ids(word).unwrap()[0])).into();
    let names = Tensors::default().with("names", &[2], Values::I64(names));
    let mut session = Session::open(&library, &first(folder.path()), Kind::OnePass, OPTIONS).unwrap();
    let wanted = session.run(&[&names]).unwrap();
    let scorer = Scorer::open(&library, &second(folder.path()), Kind::OnePass, OPTIONS, 1, &wanted, None).unwrap();
    let pipeline = Pipeline {
        task: Task::new(&TaskSettings::OnePass, &schema, &tokenizer, 0.5, 0.0).unwrap(),
        tokenizer,
        windows: WindowRule { tokens: 8, overlap: 2 },
        nested: true,
        batch_tokens: 32,
        scorer,
        workers: 2,
    };
    let texts = ["new york bank , york", "a bank", "who"];
    let (monitor, mut found) = (Monitor::default(), Vec::new());
    let slices = texts.map(|text| Ok(OneText(text.to_owned())));
    let emit = |result: SliceResult<OneText>| {
        let text = result.rows.row(0).text.unwrap_or_default().to_owned();
        let mentions = result.documents[0].outcome.clone().unwrap();
        let shown =
            |mention: &crate::text::mention::Mention| (words[mention.entity_type], mention.bytes.of(&text).to_owned());
        found.push(mentions.iter().map(shown).collect::<Vec<_>>());
        true
    };
    pipeline.run(&monitor, slices.into_iter(), emit).unwrap();
    let word = |word: &'static str| (word, word.to_owned());
    assert_eq!(found, [vec![word("york"), word("bank"), word("york")], vec![word("bank")], vec![]]);
    // One input a window, whatever the number of types.
    assert_eq!((Monitor::get(&monitor.asked), Monitor::get(&monitor.mentions)), (3, 4));
}

/// The model's tokenizer with the questions of CoNLL-2003 and a scorer that answers at once that there is nothing.
fn idle_pipeline(workers: usize) -> Pipeline {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/tokenizer.json");
    let tokenizer = Tokenizer::from_bytes(&std::fs::read(&path).unwrap(), &path, Words::Tokenizer).unwrap();
    let types = ["people", "organizations", "places", "other names"];
    let types = types.map(|name| EntityType { name: name.into(), question: format!("Which {name} are named?") });
    let schema = EntitySchema { nested: false, types: types.into() };
    let settings = TaskSettings::Mrc { boundary_threshold: 0.5, max_candidates: 4096 };
    let nothing = |batch: &Batch| {
        let (shape, low) = ([batch.inputs.len(), batch.tokens()], vec![-9.0; batch.padded_tokens()]);
        Tensors::default()
            .with("start_logits", &shape, Values::F32(low.clone()))
            .with("end_logits", &shape, Values::F32(low))
            .with("span_index", &[0, 3], Values::I64(Vec::new()))
            .with("span_logits", &[0], Values::F32(Vec::new()))
    };
    Pipeline {
        task: Task::new(&settings, &schema, &tokenizer, 0.5, 0.1).unwrap(),
        tokenizer,
        windows: WindowRule { tokens: 128, overlap: 16 },
        nested: false,
        batch_tokens: 4096,
        scorer: Scorer::answering(Kind::Mrc, nothing),
        workers,
    }
}

/// Some texts as a slice.
struct Texts(Vec<String>);

impl SliceRows for Texts {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn row(&self, row: usize) -> Row<'_> {
        Row { has_id: true, text: Some(&self.0[row]), refused: None }
    }
}

/// The same work, slice by slice on rayon's pool: texts are tokenized in parallel, and so are batches decoded.
fn with_rayon(pipeline: &Pipeline, slices: &[Texts]) -> usize {
    let mut answered = 0;
    for slice in slices {
        let ask = |(number, text): (usize, &String)| {
            let document = Document::admit(true, Some(text)).unwrap();
            let windows = Windows::new(&pipeline.tokenizer, pipeline.windows, document);
            windows.flatten().flat_map(|window| pipeline.task.ask(number, &window)).collect::<Vec<_>>()
        };
        let inputs: Vec<ModelInput> = slice.0.par_iter().enumerate().flat_map_iter(ask).collect();
        let (reply, answers) = unbounded();
        for batch in batches(inputs, pipeline.batch_tokens) {
            pipeline.scorer.ask(batch, &reply).unwrap();
        }
        drop(reply);
        let answers: Vec<Answered> = answers.into_iter().map(Result::unwrap).collect();
        let read = |Answered { batch, outputs }: Answered| (pipeline.task.read(&batch, outputs).unwrap(), batch);
        let mut mentions: Vec<Mentions> = slice.0.iter().map(|_| Mentions::default()).collect();
        for (answers, batch) in answers.into_par_iter().map(read).collect::<Vec<_>>() {
            for (input, answer) in batch.inputs.iter().zip(&answers) {
                mentions[input.document].add(input, answer);
                answered += 1;
            }
        }
        let finished = mentions.into_par_iter().zip(&slice.0).map(|(mentions, text)| mentions.finish(text, false));
        assert!(finished.collect::<Vec<_>>().iter().all(Vec::is_empty));
    }
    answered
}

#[test]
#[ignore = "a measurement: the pipeline's own threads and rayon's pool, without inference"]
fn own_threads_and_rayon() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let sentence = "Ada Lovelace met Charles Babbage in London on the fifth of June , 1833 . ";
    let slices = || -> Vec<Texts> {
        (0..16).map(|slice| Texts((0..256).map(|row| sentence.repeat(1 + (slice + row) % 16)).collect())).collect()
    };
    for round in 0..3 {
        let pipeline = idle_pipeline(cores);
        let given: Vec<Result<Texts>> = slices().into_iter().map(Ok).collect();
        let (monitor, started) = (Monitor::default(), std::time::Instant::now());
        pipeline.run(&monitor, given.into_iter(), |_| true).unwrap();
        let own = started.elapsed().as_secs_f64();
        let (slices, started) = (slices(), std::time::Instant::now());
        let answered = with_rayon(&pipeline, &slices);
        let rayon = started.elapsed().as_secs_f64();
        assert_eq!(answered as u64, Monitor::get(&monitor.answered));
        eprintln!("round {round}, {cores} threads: own {own:.3} s, rayon {rayon:.3} s, ratio {:.3}", own / rayon);
    }
}

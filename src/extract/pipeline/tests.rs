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
use crate::task::entity_schema::{EntitySchema, EntityType, Nesting};
use crate::task::kind::{Kind, Own, TaskSettings};
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
    let types = words.map(|word| EntityType::new(word, "unused"));
    let schema = EntitySchema { nested: Nesting::Nested, types: types.into() };
    let names: Vec<i64> = words.map(|word| i64::from(tokenizer.ids(word).unwrap()[0])).into();
    let names = Tensors::default().with("names", &[2], Values::I64(names));
    let mut session = Session::open(&library, &first(folder.path()), Kind::OnePass, OPTIONS).unwrap();
    let wanted = session.run(&[&names]).unwrap();
    let scorer =
        Scorer::open(&library, &second(folder.path()), Kind::OnePass, &[OPTIONS], &wanted, None, None).unwrap();
    let pipeline = Pipeline {
        task: Task::new(&TaskSettings::OnePass, &schema, &tokenizer, Own::Nothing, 0.0).unwrap(),
        tokenizer,
        windows: WindowRule { tokens: 8, overlap: 2, words: None },
        nesting: Nesting::Nested,
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
    let types = types.map(|name| EntityType::new(name, format!("Which {name} are named?")));
    let schema = EntitySchema { nested: Nesting::Flat, types: types.into() };
    let settings = TaskSettings::Mrc { boundary_threshold: 0.5, max_candidates: 4096 };
    Pipeline {
        task: Task::new(&settings, &schema, &tokenizer, Own::Nothing, 0.1).unwrap(),
        tokenizer,
        windows: WindowRule { tokens: 128, overlap: 16, words: None },
        nesting: Nesting::Flat,
        batch_tokens: 4096,
        scorer: Scorer::answering(Kind::Mrc, nothing),
        workers,
    }
}

/// A pipeline over the words of [`tiny`] whose scorer answers with `answer`.
fn tiny_pipeline(answer: impl Fn(&Batch) -> Tensors + Send + 'static) -> Pipeline {
    let tokenizer = tiny(Words::Tokenizer);
    let types = ["york", "bank"].map(|word| EntityType::new(word, word));
    let schema = EntitySchema { nested: Nesting::Flat, types: types.into() };
    let settings = TaskSettings::Mrc { boundary_threshold: 0.5, max_candidates: 4096 };
    Pipeline {
        task: Task::new(&settings, &schema, &tokenizer, Own::Nothing, 0.0).unwrap(),
        tokenizer,
        windows: WindowRule { tokens: 8, overlap: 2, words: None },
        nesting: Nesting::Flat,
        batch_tokens: 32,
        scorer: Scorer::answering(Kind::Mrc, answer),
        workers: 1,
    }
}

/// The outputs of a graph that finds nothing.
fn nothing(batch: &Batch) -> Tensors {
    let (shape, low) = ([batch.inputs.len(), batch.tokens()], vec![-9.0; batch.padded_tokens()]);
    Tensors::default()
        .with("start_logits", &shape, Values::F32(low.clone()))
        .with("end_logits", &shape, Values::F32(low))
        .with("span_index", &[0, 3], Values::I64(Vec::new()))
        .with("span_logits", &[0], Values::F32(Vec::new()))
}

#[test]
fn a_slice_before_a_long_text_is_emitted_while_that_is_read_and_a_stop_abandons_it() {
    let monitor = Arc::new(Monitor::default());
    let (emitted, seen) = bounded::<()>(1);
    let stopping = Arc::clone(&monitor);
    let pipeline = tiny_pipeline(move |batch| {
        // Document 2 is the long text; its first batch is answered once the slice before it is emitted.
        if batch.inputs.iter().any(|input| input.document == 2) && !stopping.is_stopped() {
            let waited = seen.recv_timeout(std::time::Duration::from_secs(30));
            assert!(waited.is_ok(), "the slice before the long text is not emitted");
            stopping.stop();
        }
        nothing(batch)
    });
    // Two hundred thousand windows.
    let long = "a bank , new york . ".repeat(200_000);
    let slices = [Texts(vec!["new york".into(), "a bank".into()]), Texts(vec![long]), Texts(vec!["york".into()])];
    let mut counts = Vec::new();
    let emit = |result: SliceResult<Texts>| {
        counts.push(result.documents.len());
        emitted.send(()).unwrap();
        true
    };
    pipeline.run(&monitor, slices.map(Ok).into_iter(), emit).unwrap();
    assert_eq!(counts, [2]);
    // It was not even tokenized to its end.
    let asked = Monitor::get(&monitor.asked);
    assert!(asked < 200_000, "{asked} inputs of the long text");
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

/// Texts, one of which cannot be read.
struct Torn(Texts);

impl SliceRows for Torn {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn row(&self, row: usize) -> Row<'_> {
        assert_ne!(row, 7, "row 7 is torn");
        self.0.row(row)
    }

    fn bytes(&self) -> usize {
        1
    }
}

#[test]
fn a_panic_in_the_pool_is_an_error_and_not_a_hang() {
    let slices = (0..9).map(|_| Ok(Torn(Texts(vec!["new york".into(); 40]))));
    let error = tiny_pipeline(nothing).run(&Monitor::default(), slices, |_| true).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(matches!(error, Error::Engine { .. }) && cause.contains("row 7 is torn"), "{error}: {cause}");
}

#[test]
fn the_documents_of_a_slice_are_those_of_each_text_alone() {
    let texts: Vec<String> = (0..60).map(|row| "a bank , new york . ".repeat(row % 9)).collect();
    let run = |slices: Vec<Texts>| {
        let mut found = Vec::new();
        let emit = |result: SliceResult<Texts>| {
            found.extend(result.documents);
            true
        };
        tiny_pipeline(nothing).run(&Monitor::default(), slices.into_iter().map(Ok), emit).unwrap();
        found
    };
    let together = run(texts.chunks(20).map(|texts| Texts(texts.to_vec())).collect());
    assert_eq!(together.iter().filter(|document| document.outcome.is_err()).count(), 7, "empty texts");
    assert_eq!(together, run(texts.into_iter().map(|text| Texts(vec![text])).collect()));
}

/// How the slices of [`timed`] are tokenized.
#[derive(Debug, Clone, Copy)]
enum Tokenizing {
    /// Each thread takes a slice after the other.
    Threads,
    /// The same, and the pool divides a slice: as the pipeline does it.
    ThreadsAndPool,
    /// The pool divides a slice, and the next one begins when it is answered.
    Pool,
}

/// Seconds and inputs of the work of a pipeline without its bookkeeping.
fn timed(pipeline: &Pipeline, slices: &[Texts], how: Tokenizing) -> (f64, usize) {
    let inputs = |slice: &Texts| -> Vec<ModelInput> {
        let ask = |(number, text): (usize, &String)| {
            let document = Document::admit(true, Some(text)).unwrap();
            let windows = Windows::new(&pipeline.tokenizer, pipeline.windows, document);
            windows.flatten().flat_map(|window| pipeline.task.ask(number, &window)).collect::<Vec<_>>()
        };
        match how {
            Tokenizing::Threads => slice.0.iter().enumerate().flat_map(ask).collect(),
            _ => slice.0.par_iter().enumerate().flat_map_iter(ask).collect(),
        }
    };
    let started = std::time::Instant::now();
    let (reply, answers) = bounded(4);
    let threads = if matches!(how, Tokenizing::Pool) { 1 } else { pipeline.workers };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let answered = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (reply, inputs, next) = (reply.clone(), &inputs, &next);
            scope.spawn(move || {
                while let Some(slice) = slices.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for batch in batches(inputs(slice), pipeline.batch_tokens) {
                        pipeline.scorer.ask(batch, &reply).unwrap();
                    }
                }
            });
        }
        drop(reply);
        let read = |answer: Result<Answered>| {
            let Answered { batch, outputs } = answer.unwrap();
            pipeline.task.read(&batch, outputs.unwrap()).unwrap().len()
        };
        answers.into_iter().map(read).sum()
    });
    (started.elapsed().as_secs_f64(), answered)
}

#[test]
#[ignore = "a measurement: slices tokenized by threads, by threads and rayon's pool, and by the pool alone, without inference"]
fn threads_and_the_pool() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let sentence = "Ada Lovelace met Charles Babbage in London on the fifth of June , 1833 . ";
    // Texts of 8 sentences in the mean, in slices of the CPU and of a GPU with four questions; few long texts.
    for (name, slices, texts, sentences) in [
        ("CPU", 160, 26, 16),
        ("GPU", 6, 1690, 16),
        ("long texts on a GPU", 8, 4, 7000),
        ("one long text each", 8, 1, 15_000),
    ] {
        let text = |number: usize| sentence.repeat(1 + number % sentences);
        let slices: Vec<Texts> = (0..slices)
            .map(|slice| {
                Texts((0..texts).map(|row| text(if texts < 5 { sentences - 1 } else { slice + row })).collect())
            })
            .collect();
        let pipeline = idle_pipeline(cores);
        let mut seconds: Vec<[f64; 3]> = Vec::new();
        for _ in 0..5 {
            let all = [Tokenizing::Threads, Tokenizing::ThreadsAndPool, Tokenizing::Pool];
            let found = all.map(|how| timed(&pipeline, &slices, how));
            assert!(found.iter().all(|(_, answered)| *answered == found[0].1));
            seconds.push(found.map(|(seconds, _)| seconds));
        }
        let median = |how: usize| {
            let mut one: Vec<f64> = seconds.iter().map(|of| of[how]).collect();
            one.sort_unstable_by(f64::total_cmp);
            one[2]
        };
        let [threads, both, pool] = [0, 1, 2].map(median);
        eprintln!(
            "{name}, {cores} threads: threads {threads:.3} s, with the pool {both:.3} s, the pool alone {pool:.3} s"
        );
    }
}

//! The stages of a run, each alone, and a whole job: `cargo bench`, or `cargo bench -- decode` for one of them.
//!
//! Documents are random sentences of the demonstration's documents, with the lengths of newswire: the logarithm of the number of words has
//! the mean 4.34 and the standard deviation 0.98, as in the articles of Reuters-21578.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Float32Array, Int64Array, RecordBatch, StringArray};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use quarry::extract::extractor::Extractor;
use quarry::extract::settings::{ExtractionSettings, RuntimeSettings};
use quarry::job::read_schema;
use quarry::model::runtime::device::{Device, DeviceChoice};
use quarry::random::Random;
use quarry::source::location::StoreLocation;
use quarry::store::table_files::TableFiles;
use quarry::tables::Table;
use quarry::task::answer::Acceptance;
use quarry::task::batch::{Batch, batches};
use quarry::task::entity_schema::{EntitySchema, Nesting};
use quarry::task::input::{ModelInput, Questions};
use quarry::task::merge::Mentions;
use quarry::task::mrc::decode::{DecodeRule, Logits, decode};
use quarry::text::document::Document;
use quarry::text::tokens::{Tokenizer, Words, segments};
use quarry::text::window::{Window, WindowRule, Windows};

const DOCUMENTS: usize = 1000;
const JOB_DOCUMENTS: usize = 200;
const BATCH_TOKENS: usize = 8192;
const RULE: WindowRule = WindowRule { tokens: 256, overlap: 64, words: None };

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| texts(DOCUMENTS));
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let path = project("models/default/tokenizer.json");
    Tokenizer::from_bytes(&std::fs::read(&path).expect("tokenizer.json"), &path, Words::Tokenizer).expect("a tokenizer")
});
static SCHEMA: LazyLock<EntitySchema> =
    LazyLock::new(|| read_schema(&project("schemas/conll03.toml")).expect("a schema"));

fn main() {
    divan::main();
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Documents of many lengths, the same every time.
fn texts(count: usize) -> Vec<String> {
    let file = std::fs::File::open(project("jobs/demo/documents.parquet")).expect("the demonstration's documents");
    let rows = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .expect("Parquet");
    let bodies: Vec<String> = rows
        .flat_map(|batch| {
            let body = arrow::compute::cast(&batch.expect("rows")["body"], &arrow::datatypes::DataType::Utf8);
            let body = body.expect("texts");
            body.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let sentences: Vec<&str> = bodies.iter().flat_map(|body| body.split_inclusive(". ")).collect();
    let mut random = Random::new(7, 0);
    (0..count)
        .map(|_| {
            let words = (4.34 + 0.98 * random.normal()).exp().clamp(3.0, 5000.0) as usize;
            let (mut text, mut length) = (String::new(), 0);
            while length < words {
                let sentence = sentences[random.below(sentences.len())];
                length += sentence.split_whitespace().count();
                text.push_str(sentence);
            }
            text
        })
        .collect()
}

fn bytes() -> BytesCount {
    BytesCount::new(TEXTS.iter().map(String::len).sum::<usize>())
}

/// Windows, each with the number of its document.
fn windows() -> Vec<(usize, Arc<Window>)> {
    let cut = |(number, text): (usize, &'static String)| {
        let document = Document::admit(true, Some(text)).expect("a document");
        Windows::new(&TOKENIZER, RULE, document).map(move |window| (number, window.expect("a window")))
    };
    TEXTS.iter().enumerate().flat_map(cut).collect()
}

fn queries() -> Vec<ModelInput> {
    let questions = Questions::new(&SCHEMA, &TOKENIZER).expect("questions");
    windows().iter().flat_map(|(number, window)| questions.ask(*number, window).collect::<Vec<_>>()).collect()
}

/// A batch, and logits with a candidate at every eighth token.
fn answered() -> (Batch, Logits) {
    let batch = batches(queries(), BATCH_TOKENS).swap_remove(20);
    let (rows, width) = (batch.inputs.len(), batch.tokens());
    let size = rows * width;
    let mut random = Random::new(11, 0);
    let mut values = |count: usize| (0..count).map(|_| random.normal() as f32 * 4.0).collect::<Vec<_>>();
    let (start, end) = (values(size), values(size));
    let places = batch.inputs.iter().enumerate().flat_map(|(row, query)| {
        (query.context_start()..query.len() - 1).step_by(8).map(move |place| [row, place, place])
    });
    let span_index: Vec<[usize; 3]> = places.collect();
    let span = values(span_index.len());
    (batch, Logits { start, end, span_index, span })
}

#[divan::bench]
fn tokenize(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| {
        TEXTS
            .iter()
            .flat_map(|text| {
                segments(text).map(|segment| TOKENIZER.tokenize(text, segment).expect("tokens").tokens.len())
            })
            .sum::<usize>()
    });
}

#[divan::bench]
fn tokenize_and_cut_windows(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(windows);
}

#[divan::bench]
fn ask_questions(bencher: Bencher<'_, '_>) {
    let (windows, questions) = (windows(), Questions::new(&SCHEMA, &TOKENIZER).expect("questions"));
    bencher.counter(ItemsCount::new(windows.len())).bench(|| {
        windows
            .iter()
            .flat_map(|(number, window)| questions.ask(*number, window))
            .map(|query| query.len())
            .sum::<usize>()
    });
}

#[divan::bench]
fn sort_into_batches(bencher: Bencher<'_, '_>) {
    let queries = queries();
    bencher
        .counter(ItemsCount::new(queries.len()))
        .with_inputs(|| queries.clone())
        .bench_values(|queries| batches(queries, BATCH_TOKENS));
}

#[divan::bench]
fn make_tensors(bencher: Bencher<'_, '_>) {
    let batches = batches(queries(), BATCH_TOKENS);
    let tokens: usize = batches.iter().map(Batch::padded_tokens).sum();
    bencher
        .counter(ItemsCount::new(tokens))
        .bench(|| batches.iter().map(|batch| batch.tensors().input_ids.len()).sum::<usize>());
}

#[divan::bench]
fn decode_and_merge(bencher: Bencher<'_, '_>) {
    let (batch, logits) = answered();
    let rule = DecodeRule { boundary: 0.0, nested: true, max_candidates: 4096, tolerance: 1e-3 };
    let acceptance = Acceptance::new(&SCHEMA, rule.tolerance);
    bencher.counter(ItemsCount::new(batch.inputs.len())).bench(|| {
        let mut found = 0;
        for (query, answer) in batch.inputs.iter().zip(decode(&batch, &logits, &rule, &acceptance)) {
            let mut mentions = Mentions::default();
            mentions.add(query, &answer);
            found += mentions.finish(&TEXTS[query.document], Nesting::Nested).len();
        }
        found
    });
}

#[divan::bench]
fn write_entities(bencher: Bencher<'_, '_>) {
    const ROWS: usize = 10_000;
    let strings = |value: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..ROWS).map(|row| Some(value(row))).collect::<StringArray>())
    };
    let integers = |value: &dyn Fn(usize) -> usize| -> ArrayRef {
        Arc::new((0..ROWS).map(|row| value(row) as i64).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        strings(&|row| format!("document-{}", row / 7)),
        strings(&|row| ["ORG", "PER", "LOC", "MISC"][row % 4].to_owned()),
        integers(&|row| row % 900),
        integers(&|row| row % 900 + 12),
        strings(&|row| TEXTS[row % DOCUMENTS].chars().take(12).collect()),
        Arc::new((0..ROWS).map(|row| Some(row as f32 / ROWS as f32)).collect::<Float32Array>()),
        integers(&|_| 0),
        strings(&|_| "run".to_owned()),
        integers(&|_| 1),
    ];
    let schema = Table::Entities.file_schema(&arrow::datatypes::DataType::Utf8);
    let rows = RecordBatch::try_new(schema, columns).expect("rows of the table");
    let folder = tempfile::tempdir().expect("a folder");
    let location = StoreLocation::parse(folder.path().to_str().expect("a path")).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        runtime.block_on(async {
            let mut files = TableFiles::new(Table::Entities, &location, "spec");
            files.write(&rows).await.expect("written");
            files.finish().await.expect("a file").map(|file| file.bytes)
        })
    });
}

/// The default model on the CPU, as in [`whole_job`].
fn extractor() -> Extractor {
    let (spec, model) =
        ExtractionSettings::new(project("models/default"), SCHEMA.clone()).resolve().expect("a specification");
    let device = DeviceChoice::Named(Device::Cpu.into());
    Extractor::with_model(&spec, &model, &RuntimeSettings { device, ..RuntimeSettings::default() }).expect("it loads")
}

/// The batches of [`whole_job`], and their number of tokens without padding.
fn job_batches(extractor: &Extractor) -> (Vec<Batch>, usize) {
    let cut = |(number, text): (usize, &'static String)| {
        let document = Document::admit(true, Some(text)).expect("a document");
        let windows = extractor.windows(document).map(|window| window.expect("a window"));
        windows.flat_map(|window| extractor.task().ask(number, &window)).collect::<Vec<_>>()
    };
    let inputs = TEXTS.iter().take(JOB_DOCUMENTS).enumerate().flat_map(cut).collect();
    let found = batches(inputs, extractor.batch_tokens());
    let tokens = found.iter().map(Batch::real_tokens).sum();
    (found, tokens)
}

/// The session alone on the batches of [`whole_job`], which are made beforehand: the upper limit for a whole job.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn session_alone(bencher: Bencher<'_, '_>) {
    let extractor = extractor();
    let (batches, tokens) = job_batches(&extractor);
    bencher.counter(ItemsCount::new(tokens)).with_inputs(|| batches.clone()).bench_local_values(|batches| {
        for batch in batches {
            extractor.scorer().answer(batch).expect("an answer");
        }
    });
}

/// The program on 200 documents with the default model on the CPU: Parquet in, tables out, including its start.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn whole_job(bencher: Bencher<'_, '_>) {
    let (_, tokens) = job_batches(&extractor());
    let folder = tempfile::tempdir().expect("a folder");
    let ids: ArrayRef = Arc::new((0..JOB_DOCUMENTS).map(|number| Some(number.to_string())).collect::<StringArray>());
    let texts: ArrayRef = Arc::new(TEXTS.iter().take(JOB_DOCUMENTS).map(Some).collect::<StringArray>());
    let rows = RecordBatch::try_from_iter([("id", ids), ("body", texts)]).expect("rows");
    let file = std::fs::File::create(folder.path().join("documents.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("Parquet");
    writer.write(&rows).expect("written");
    writer.close().expect("closed");
    let job = "[input]\ndocuments = 'documents.parquet'\nid = 'id'\ntext = 'body'\n[entities]\nschema = 'schemas/conll03.toml'\n\
               [model]\npath = 'models/default'\ndevice = 'cpu'\n[store]\npath = '${store}'\n";
    std::fs::write(folder.path().join("job.toml"), job).expect("a job");
    let mut number = 0;
    bencher.counter(ItemsCount::new(tokens)).bench_local(|| {
        number += 1;
        let mut run = Command::new(env!("CARGO_BIN_EXE_quarry"));
        run.args(["run", "job.toml", "--set", &format!("store=store-{number}")]).current_dir(folder.path());
        assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("the program").success());
    });
}

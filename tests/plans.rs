//! Plans that travel: the plan of an extraction is encoded, decoded elsewhere and run, with the same rows. And plans that DataFusion
//! optimizes: what the operators declare keeps their rows in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use quarry::extract::extract_exec::Extract;
use quarry::extract::known_documents::{InForce, KnownDocuments, digest};
use quarry::extract::settings::{ExtractionSettings, RuntimeSettings};
use quarry::job::plan::{decode, encode, reading_plan, writing_plan};
use quarry::job::read_schema;
use quarry::model::precision::Precision;
use quarry::query::session::{SessionSettings, session};
use quarry::source::chunk::{Chunk, RowRange};
use quarry::source::input::{Documents, InputSpec};
use quarry::source::listing::Listing;
use quarry::source::location::StoreLocation;
use quarry::store::write::commit_batch::{CommitBatch, commit_batch};
use quarry::store::write::write_exec::WriteSpec;
use quarry::tables::Stamp;

use crate::support::{Dir, project};

/// Names the file of the plan that the second process runs; it writes what it got beside it.
const PLAN: &str = "QUARRY_TEST_PLAN";

const TEXTS: [&str; 8] = [
    "Ada Lovelace was born in London.",
    "Charles Babbage taught at Cambridge.",
    "  ",
    "The University of Turin invited Mr Babbage.",
    "Lovelace wrote to Augustus De Morgan.",
    "Nobody is named here.",
    "Luigi Menabrea wrote about it in Geneva.",
    "Paris and Berlin are cities.",
];

/// What the plan wrote: the mentions and documents, without the time, and the commit batch without its files.
#[derive(Debug, PartialEq)]
struct Written {
    tables: BTreeMap<&'static str, Vec<String>>,
    batch: String,
}

fn extract() -> Extract {
    let schema = read_schema(&project().join("schemas/conll03.toml")).unwrap();
    let settings = ExtractionSettings {
        precision: Some(Precision::Fp32),
        ..ExtractionSettings::new(project().join("models/default"), schema)
    };
    let runtime = RuntimeSettings { device: "cpu".parse().unwrap(), library: None, batch_tokens: Some(512) };
    Extract { spec: settings.resolve().unwrap().0, runtime }
}

/// The plan over some of the rows of the input, of which the store knows two: one is done, the text of the other has changed.
async fn plan(input: &Path, filter: Option<&str>, store: &Path) -> Arc<dyn ExecutionPlan> {
    let context = session(&SessionSettings::default()).unwrap();
    let spec = InputSpec {
        documents: input.display().to_string(),
        id: "id".into(),
        text: "body".into(),
        filter: filter.map(str::to_owned),
    };
    let listing = Listing::find(&context, &spec.documents).await.unwrap();
    let documents = Documents::inspect(&context, spec, listing, 0).await.unwrap();
    let chunk = Chunk { ranges: vec![RowRange { file: 0, rows: 1..8 }] };
    let entry = |id: &str, text: &str| (digest(id), InForce { text: digest(text), commit: 1, source: 0, later: false });
    let known = [entry("1", TEXTS[1]), entry("3", "another text")].into();
    let known = KnownDocuments { known, sources: vec![documents.files[0].path.clone()] };
    let stamp = Stamp { run_id: "run".into(), commit: 1, spec_id: "spec".into(), finished_at: chrono::Utc::now() };
    let location = StoreLocation::parse(store.to_str().unwrap()).unwrap();
    let plan = reading_plan(&documents, &chunk, known, extract()).unwrap();
    writing_plan(plan, WriteSpec::new(&location, stamp)).unwrap()
}

/// Runs a plan in a session of its own and returns the commit batch without its files, as text.
async fn run(context: &SessionContext, plan: Arc<dyn ExecutionPlan>) -> String {
    let batches = collect(plan, context.task_ctx()).await.unwrap();
    let batches: Vec<CommitBatch> = batches.iter().map(|batch| commit_batch(batch).unwrap()).collect();
    let [batch] = &batches[..] else { panic!("{} commit batches", batches.len()) };
    let rows: Vec<(&str, u64)> = batch.files.iter().map(|file| (file.table.name(), file.rows)).collect();
    format!("{rows:?} {} {} {:?} {:?}", batch.row, batch.last, batch.changed, batch.totals)
}

async fn written(store: &Path, batch: String) -> Written {
    let queries = [
        ("entities", "SELECT * FROM t ORDER BY doc_id, start_char, end_char, entity_type"),
        ("documents", "SELECT doc_id, source, content_hash, n_chars, n_tokens, n_windows, n_entities FROM t"),
        ("rejects", "SELECT * FROM t"),
    ];
    let mut tables = BTreeMap::new();
    for (table, sql) in queries {
        let context = SessionContext::new();
        let folder = store.join(table).display().to_string();
        context.register_parquet("t", folder, ParquetReadOptions::default()).await.unwrap();
        let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        tables.insert(table, text.lines().map(str::to_owned).collect());
    }
    Written { tables, batch }
}

/// A session of eight partitions, and the plan after all of DataFusion's physical optimizer rules.
fn optimized(plan: Arc<dyn ExecutionPlan>) -> (SessionContext, Arc<dyn ExecutionPlan>) {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(8).with_batch_size(2));
    let state = context.state();
    let plan = state
        .physical_optimizers()
        .iter()
        .fold(plan, |plan, rule| rule.optimize(plan, state.config_options()).unwrap());
    (context, plan)
}

async fn same_rows_everywhere(dir: &Dir, input: &Path, filter: Option<&str>) {
    let folder = |name: &str| dir.path(name);
    let here = run(&session(&SessionSettings::default()).unwrap(), plan(input, filter, &folder("here")).await).await;
    let here = written(&folder("here"), here).await;
    assert!(here.batch.contains(r#"["3"]"#), "one document has changed: {}", here.batch);
    assert_eq!(here.tables["rejects"].len(), 6, "a blank text and a duplicate: {:#?}", here.tables["rejects"]);
    assert!(here.tables["entities"].iter().any(|row| row.contains("University of Turin")), "{:#?}", here.tables);

    let decoded = decode(&encode(&plan(input, filter, &folder("decoded")).await).unwrap()).unwrap();
    let decoded = run(&session(&SessionSettings::default()).unwrap(), decoded).await;
    assert_eq!(written(&folder("decoded"), decoded).await, here, "in a fresh session");

    let (context, plan_optimized) = optimized(plan(input, filter, &folder("optimized")).await);
    let batch = run(&context, plan_optimized).await;
    assert_eq!(written(&folder("optimized"), batch).await, here, "after optimization");

    let file = dir.path("plan.json");
    std::fs::write(&file, encode(&plan(input, filter, &folder("there")).await).unwrap()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "plans::another_process", "--ignored", "--nocapture"])
        .env(PLAN, &file)
        .current_dir(dir.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let batch = std::fs::read_to_string(file.with_extension("out")).unwrap();
    assert_eq!(written(&folder("there"), batch).await, here, "in another process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_over_parquet_gives_the_same_rows_wherever_it_runs() {
    let dir = Dir::new();
    let ids = ["0", "1", "2", "3", "4", "5", "6", "6"];
    let rows: Vec<(Option<&str>, Option<&str>)> =
        ids.iter().zip(TEXTS).map(|(id, text)| (Some(*id), Some(text))).collect();
    let input = dir.documents("docs.parquet", &rows);
    same_rows_everywhere(&dir, &input, Some("id <> '5'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_over_json_lines_gives_the_same_rows_wherever_it_runs() {
    let dir = Dir::new();
    let ids = ["0", "1", "2", "3", "4", "5", "6", "6"];
    let line = |(id, text): (&&str, &str)| serde_json::json!({ "id": id, "body": text }).to_string() + "\n";
    let input = dir.write("docs.jsonl", &ids.iter().zip(TEXTS).map(line).collect::<String>());
    same_rows_everywhere(&dir, &input, Some("id <> '5'")).await;
}

/// The process that a plan is sent to.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests start it in a process of its own"]
async fn another_process() {
    let file = std::env::var_os(PLAN).expect("the file of the plan");
    let plan = decode(&std::fs::read(&file).unwrap()).unwrap();
    let batch = run(&session(&SessionSettings::default()).unwrap(), plan).await;
    std::fs::write(Path::new(&file).with_extension("out"), batch).unwrap();
}

#[test]
fn bytes_that_are_no_plan_are_an_error() {
    for (bytes, message) in [
        ("[]", "no operator"),
        ("[{\"Unknown\":{}}]", "Unknown"),
        (
            "[{\"SkipKnown\":{\"known_documents\":{\"known\":\"\",\"sources\":[]},\"killers\":{}}}]",
            "begins with its only scan",
        ),
    ] {
        let error = decode(bytes.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

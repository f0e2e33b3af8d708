//! The counts and estimates of `--explain` with unusual stores, inputs and options.

use quarry::source::location::StoreLocation;
use quarry::store::delta_store::Store;
use quarry::tables::{MetricRow, RunOutcome, RunRow, Table, metric_rows};
use serde_json::Value;

use crate::promises::{corpus, job};
use crate::support::{Dir, Random};

fn explained(dir: &Dir, job: &str, options: &[&str]) -> Value {
    let said = dir.quarry(&[&["run", job, "--explain", "--json"], options].concat()).stdout();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Records a run of twenty minutes that did not take place.
async fn run_before(dir: &Dir, run_id: &str, model_hash: &str) {
    let location = StoreLocation::parse(dir.path("store").to_str().unwrap()).unwrap();
    let mut store = Store::open_existing(location).await.unwrap();
    let text = |text: &str| text.to_owned();
    let row = RunRow {
        run_id: text(run_id),
        spec_id: text("5ec"),
        job: text("{}"),
        model: text("models/default"),
        model_hash: text(model_hash),
        precision: text("fp32"),
        device: text("cpu"),
        versions: text("{}"),
        started_at: chrono::Utc::now(),
        finished_at: Some(chrono::Utc::now()),
        outcome: RunOutcome::Done,
        counts: text("{}"),
    };
    store.end_run(&row).await.unwrap();
    let figure = |name: &str, value: f64| MetricRow {
        run_id: text(run_id),
        scope: text("all"),
        name: text(name),
        value,
        unit: text("tokens/s"),
    };
    let rows = metric_rows(&[figure("tokens_per_second", 7.0), figure("seconds", 1200.0)]).unwrap();
    store.append(Table::Metrics, &rows, run_id).await.unwrap();
}

#[test]
fn the_rate_of_another_model_is_no_forecast() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Ada met Babbage ."))]);
    let model = dir.small_model().display().to_string();
    let job = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &job]).ended(0);
    let own = dir.rows("store", "runs", "model_hash", "").concat();
    dir.documents("docs/b.parquet", &[(Some("b"), Some("London , yesterday ."))]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run_before(&dir, "theirs", "another"));
    assert_eq!(explained(&dir, &job, &[])["rate_from"], "measured on a few batches");
    runtime.block_on(run_before(&dir, "ours", &own));
    let said = explained(&dir, &job, &[]);
    assert_eq!((&said["rate_from"], said["tokens_per_second"].as_f64()), (&"the rate of run ours".into(), Some(7.0)));
}

#[test]
fn repeated_documents_after_the_limit_are_not_counted() {
    let dir = Dir::new();
    // The second `a` replaces the first one, and the second `d` is done with the first one.
    let rows = [("a", "Ada ."), ("a", "Babbage ."), ("b", "x"), ("c", "x"), ("c", "y"), ("d", "x"), ("d", "x")];
    dir.documents("docs/a.parquet", &rows.map(|(id, text)| (Some(id), Some(text))));
    let model = dir.small_model().display().to_string();
    let job = job(&dir, "docs", "store", &model, "");
    for (limit, expected) in [(&["--limit", "4"][..], [4, 3, 1, 1]), (&[][..], [7, 4, 2, 3])] {
        let said = explained(&dir, &job, limit);
        let counted = ["documents", "new", "refused", "duplicates"].map(|key| said[key].as_u64());
        assert_eq!(counted, expected.map(Some), "{limit:?}");
    }
}

#[test]
fn ids_that_the_store_cannot_have_are_not_looked_up() {
    let dir = Dir::new();
    dir.documents("docs/a.parquet", &[(Some("a"), Some("Ada met Babbage ."))]);
    let model = dir.small_model().display().to_string();
    let job = job(&dir, "docs", "store", &model, "");
    dir.quarry(&["run", &job]).ended(0);
    corpus(&dir, "docs/a.parquet", 0, 20, &mut Random(3));
    let said = dir.quarry(&["run", &job, "--explain"]).ended(1);
    let (table, error) = (said.stdout(), said.error());
    assert!(table.contains("│ files to read ") && !table.contains("documents to read"), "{table}");
    assert!(error.contains("has document ids of the type Utf8, and these documents have Int64"), "{error}");
    let said = explained(&dir, &job, &[]);
    assert!(said["documents"].is_null() && said["seconds"].is_null() && said["refused_because"].is_string(), "{said}");
}

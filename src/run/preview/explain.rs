//! `--explain`: what a run would do. In: the preflight of a run. Out: files, documents, windows, queries, the estimated time, the state
//! of the specification, and the plan. It must not extract.

use datafusion::physical_plan::displayable;
use serde_json::json;
use std::time::Duration;

use crate::console;
use crate::console::{duration, thousands};
use crate::error::Result;
use crate::extract::extract_exec::Extract;
use crate::extract::known_documents::KnownDocuments;
use crate::job::plan::{reading_plan, writing_plan};
use crate::query::statement::query_store;
use crate::run::commit::Position;
use crate::run::extract::chunks;
use crate::run::failure::run_error;
use crate::run::known::documents::input;
use crate::run::preflight::{Preflight, Preview};
use crate::run::preview::sample::Sample;
use crate::run::settings::RunSettings;
use crate::source::input::Documents;
use crate::source::operator::scan_exec::ScanExec;
use crate::store::delta_store::Store;
use crate::store::write::write_exec::WriteSpec;
use crate::tables::Stamp;
use crate::tables::result_row::{first_row, scalar};
use crate::task::kind::Kind;

/// Minimum duration of a run whose rate is used: in shorter runs, loading the model distorts it.
const MIN_RUN_SECONDS: f64 = 20.0;

/// Prints what a run would do. If the run would be refused, returns that error after printing.
pub(crate) async fn explain(preflight: Preflight, settings: &RunSettings) -> Result<()> {
    let mut preview = preflight.look_ahead(settings.limit).await?;
    // Ids of another type than the store's are not looked up: the run would be refused.
    let figures = if preview.preflight.other_ids { None } else { Some(figures(&mut preview).await?) };
    let plan = first_plan(&preview, settings).await?;
    if settings.json {
        console::print_json(&format!("{:#}", object(&preview, figures.as_ref(), plan.as_deref())));
    } else {
        let table = console::rows(&rows(&preview, figures.as_ref()));
        console::print(&plan.map_or_else(|| table.clone(), |plan| format!("{table}\n{plan}")));
    }
    preview.preflight.refusal.map_or(Ok(()), Err)
}

/// The counts of a run and its estimated time.
async fn figures(preview: &mut Preview) -> Result<(Counts, Forecast)> {
    // Take the sample first: reading it finds corrupt files.
    let mut sample = Sample::take(preview).await?;
    let counts = Counts::of(preview).await?;
    let rate = rate(&preview.preflight, &mut sample).await?;
    let forecast = Forecast::new(&counts, &sample, rate);
    Ok((counts, forecast))
}

/// Counts that need no text.
struct Counts {
    /// Documents to read.
    documents: u64,
    /// Of these, those whose id the store has.
    known: u64,
    /// Of these, rows whose id an earlier row has.
    duplicates: u64,
}

impl Counts {
    async fn of(preview: &Preview) -> Result<Self> {
        let Preflight { context, documents, location, extractor, store, ledger, .. } = &preview.preflight;
        let all_rows = preview.all_rows();
        if all_rows.ranges.is_empty() {
            return Ok(Self { documents: 0, known: 0, duplicates: 0 });
        }
        input(context, documents, &all_rows).await?;
        let count = |sql: String| async move {
            let batches = query_store(context, location, &sql).await?;
            Ok::<_, crate::error::Error>(scalar::<usize>(&batches)? as u64)
        };
        let total = count("SELECT count(*) FROM input".to_owned()).await?;
        let known = if store.is_some() && ledger.has_documents() {
            let spec_id = extractor.spec_id();
            count(format!(
                "SELECT count(*) FROM input WHERE doc_id IN (SELECT doc_id FROM documents WHERE spec_id = '{spec_id}')"
            ))
            .await?
        } else {
            0
        };
        // An aggregation can spill to disk if there are too many ids for memory.
        let repeated =
            "SELECT count(*) - 1 AS more FROM input WHERE doc_id IS NOT NULL GROUP BY doc_id HAVING count(*) > 1";
        let duplicates = count(format!("SELECT coalesce(sum(more), 0) FROM ({repeated})")).await?;
        Ok(Self { documents: total, known, duplicates })
    }
}

/// Tokens per second, and the source of that figure.
async fn rate(preflight: &Preflight, sample: &mut Sample) -> Result<Option<(f64, String)>> {
    let extractor = &preflight.extractor;
    if preflight.store.is_some() {
        let sql = format!(
            "SELECT r.run_id, rate.value AS rate FROM runs AS r
             JOIN metrics AS rate ON r.run_id = rate.run_id AND rate.scope = 'all' AND rate.name = 'tokens_per_second'
             JOIN metrics AS took ON r.run_id = took.run_id AND took.scope = 'all' AND took.name = 'seconds'
             WHERE r.model_hash = '{}' AND r.device = '{}' AND r.precision = '{}'
                AND took.value >= {MIN_RUN_SECONDS} AND rate.value > 0
             ORDER BY r.started_at DESC LIMIT 1",
            extractor.spec().model.hash,
            extractor.selection().devices,
            extractor.selection().precision
        );
        let batches = query_store(&preflight.context, &preflight.location, &sql).await?;
        if let Some(run) = first_row(&batches) {
            return Ok(Some((run.get("rate")?, format!("the rate of run {}", run.get::<&str>("run_id")?))));
        }
    }
    // Waiting for the session's thread must not block the runtime.
    let measured = tokio::task::block_in_place(|| sample.measure(extractor))?;
    Ok(measured.map(|rate| (rate, "measured on a few batches".to_owned())))
}

/// The sample, extrapolated to all documents.
struct Forecast {
    /// Whether the sample covers all documents.
    exact: bool,
    new: u64,
    changed: u64,
    done: u64,
    refused: u64,
    windows: u64,
    queries: u64,
    split: u64,
    tokens: u64,
    time: Option<Duration>,
    rate: Option<(f64, String)>,
}

impl Forecast {
    fn new(counts: &Counts, sample: &Sample, rate: Option<(f64, String)>) -> Self {
        let factor = if sample.documents == 0 { 0.0 } else { counts.documents as f64 / sample.documents as f64 };
        let scaled = |part: u64| (part as f64 * factor).round() as u64;
        let tokens = scaled(sample.tokens);
        let time = rate.as_ref().map(|(rate, _)| Duration::from_secs_f64((tokens as f64 / rate).min(1e9)));
        let admitted = scaled(sample.admitted).min(counts.documents);
        Self {
            exact: sample.complete,
            new: admitted.saturating_sub(scaled(sample.changed)).saturating_sub(scaled(sample.refused)),
            changed: scaled(sample.changed),
            done: counts.documents - admitted,
            refused: scaled(sample.refused),
            windows: scaled(sample.windows),
            queries: scaled(sample.queries),
            split: scaled(sample.split),
            tokens,
            time,
            rate,
        }
    }
}

fn specification(preflight: &Preflight) -> String {
    let id = preflight.extractor.spec_id();
    match (&preflight.refusal, &preflight.store) {
        (Some(_), _) => format!("{id}: differs from the store's"),
        (None, None) => format!("{id}: new"),
        (None, Some(_)) if preflight.replaces => format!("{id}: replaces the old rows, which are dropped at the end"),
        (None, Some(_)) if preflight.ledger.has_documents() => format!("{id}: same as the store's"),
        (None, Some(_)) => format!("{id}: the store has no documents yet"),
    }
}

fn store(preview: &Preview) -> String {
    let preflight = &preview.preflight;
    let state = match (&preflight.store, preview.incomplete_commit(), &preflight.writer) {
        (None, ..) => "does not exist yet".to_owned(),
        (Some(_), _, Some(writer)) => format!("run {writer} is writing to it: this run would be refused"),
        (Some(_), Some(commit), _) => format!("{commit}; a run removes it first"),
        (Some(store), None, None) => {
            Store::last_commit(store).map_or_else(|| "no commit yet".to_owned(), |number| format!("commit {number}"))
        }
    };
    format!("{}, {state}", preflight.location)
}

fn rows(preview: &Preview, figures: Option<&(Counts, Forecast)>) -> Vec<(String, String)> {
    let preflight = &preview.preflight;
    let Documents { files, unreadable, .. } = &preflight.documents;
    let mut rows = vec![("files to read".to_owned(), thousands(files.len() as u64))];
    let mut add = |name: &str, value: String| rows.push((name.to_owned(), value));
    if preflight.files_done > 0 {
        add("files done", thousands(preflight.files_done as u64));
    }
    if !unreadable.is_empty() {
        add("unreadable files", thousands(unreadable.len() as u64));
    }
    if let Some((counts, forecast)) = figures {
        rows.extend(figure_rows(preview, counts, forecast));
    }
    let selection = preflight.extractor.selection();
    let kind = preflight.extractor.task().kind();
    let mut add = |name: &str, value: String| rows.push((name.to_owned(), value));
    add("device", format!("{}, {}", selection.devices, selection.precision));
    if matches!(kind, Kind::Tagger | Kind::Qa | Kind::Gliner) {
        add("kind", format!("{kind:?}").to_lowercase());
    }
    if let Some(reason) = preflight.extractor.standard_attention() {
        add("graph", format!("attention in standard operators, because no fused one has {reason}"));
    }
    if let Some(path) = preflight.extractor.kernels() {
        add("layers", format!("by Quarry's own kernels, {path}"));
    }
    add("batch", format!("{} tokens", thousands(preflight.extractor.batch_tokens() as u64)));
    add("specification", specification(preflight));
    add("store", store(preview));
    rows
}

fn figure_rows(preview: &Preview, counts: &Counts, forecast: &Forecast) -> Vec<(String, String)> {
    let about = if forecast.exact { "" } else { "about " };
    let count = |number: u64| format!("{about}{}", thousands(number));
    let mut rows = Vec::new();
    let mut add = |name: &str, value: String| rows.push((name.to_owned(), value));
    let limited = if preview.limit.is_some() { " (--limit)" } else { "" };
    add("documents to read", format!("{}{limited}", thousands(counts.documents)));
    add("  new", count(forecast.new));
    if counts.known > 0 {
        add("  changed", count(forecast.changed));
        add("  done", count(forecast.done));
    }
    if forecast.refused > 0 {
        add("  rejected", count(forecast.refused));
    }
    if counts.duplicates > 0 {
        add("  with an id of another", thousands(counts.duplicates));
    }
    add("windows", count(forecast.windows));
    add(
        "queries",
        format!("{} ({} types)", count(forecast.queries), preview.preflight.extractor.spec().schema.types.len()),
    );
    if forecast.split > 0 {
        add("windows with split prompts", count(forecast.split));
    }
    add("tokens", count(forecast.tokens));
    match (&forecast.time, &forecast.rate) {
        (Some(time), Some((rate, origin))) => {
            add("time", format!("about {}", duration(*time)));
            add("  at", format!("{} tokens/s, {origin}", thousands(*rate as u64)));
        }
        _ => add("time", "nothing to extract".to_owned()),
    }
    rows
}

/// The object that `--json` prints. Counts are null if nothing was counted.
fn object(preview: &Preview, figures: Option<&(Counts, Forecast)>, plan: Option<&str>) -> serde_json::Value {
    let preflight = &preview.preflight;
    let counted = |count: fn(&Counts) -> u64| figures.map(|(counts, _)| count(counts));
    let forecast = |count: fn(&Forecast) -> u64| figures.map(|(_, forecast)| count(forecast));
    let rate = figures.and_then(|(_, forecast)| forecast.rate.as_ref());
    json!({
        "files": preflight.documents.files.len(),
        "files_done": preflight.files_done,
        "unreadable_files": preflight.documents.unreadable.len(),
        "documents": counted(|counts| counts.documents),
        "limited": preview.limit.is_some(),
        "known_ids": counted(|counts| counts.known),
        "duplicates": counted(|counts| counts.duplicates),
        "estimated": figures.map(|(_, forecast)| !forecast.exact),
        "new": forecast(|forecast| forecast.new),
        "changed": forecast(|forecast| forecast.changed),
        "done": forecast(|forecast| forecast.done),
        "refused": forecast(|forecast| forecast.refused),
        "windows": forecast(|forecast| forecast.windows),
        "queries": forecast(|forecast| forecast.queries),
        "prompts_split": forecast(|forecast| forecast.split),
        "tokens": forecast(|forecast| forecast.tokens),
        "seconds": figures.and_then(|(_, forecast)| forecast.time).map(|time| time.as_secs_f64()),
        "tokens_per_second": rate.map(|(rate, _)| rate),
        "rate_from": rate.map(|(_, origin)| origin),
        "kind": preflight.extractor.task().kind(),
        "device": preflight.extractor.selection().devices.to_string(),
        "precision": preflight.extractor.selection().precision,
        "standard_attention": preflight.extractor.standard_attention(),
        "batch_tokens": preflight.extractor.batch_tokens(),
        "spec_id": preflight.extractor.spec_id(),
        "refused_because": preflight.refusal.as_ref().map(ToString::to_string),
        "replaces": preflight.replaces,
        "store": preflight.location.to_string(),
        "plan": plan,
    })
}

/// The plan of the first chunk, and below its `ScanExec` the plan that reads the files; none if there is nothing to read.
async fn first_plan(preview: &Preview, settings: &RunSettings) -> Result<Option<String>> {
    let Preflight { context, documents, extractor, location, store, .. } = &preview.preflight;
    let commit = store.as_ref().and_then(Store::last_commit).unwrap_or(0) + 1;
    let spec_id = extractor.spec_id().to_owned();
    let stamp = Stamp { run_id: String::new(), commit, spec_id, finished_at: chrono::Utc::now() };
    let rows = settings.job.file.store.commit_documents;
    let first = chunks(documents, extractor, preview.finished_rows(), rows, preview.limit, Position::default()).next();
    let Some(chunk) = first else { return Ok(None) };
    let extract = Extract { spec: extractor.spec().clone(), runtime: settings.job.runtime.clone() };
    let plan = reading_plan(documents, &chunk, KnownDocuments::default(), extract);
    let plan = plan.and_then(|plan| writing_plan(plan, WriteSpec::new(location, stamp))).map_err(run_error)?;
    let mut text = displayable(plan.as_ref()).indent(false).to_string();
    let scan = documents.plan(&chunk);
    if let Some(scan) = scan.downcast_ref::<ScanExec>() {
        let reading = scan.reading_plan(context).await.map_err(run_error)?;
        // The scan is the deepest operator, so the reading is one level below it.
        let depth = text.lines().count();
        for line in displayable(reading.as_ref()).indent(false).to_string().lines() {
            text.push_str(&"  ".repeat(depth));
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(Some(text))
}

//! `quarry evaluate --compare`: several systems side by side. In: stores, jobs, tables of mentions or models, and gold. Out: one table, on the screen
//! or as JSON. It must not change a mention.

mod measure;
mod screen;
mod speed;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};

use super::inputs::{Documents, Side, is_job, missing};
use super::load::load_sides;
use super::models::{Found, Text, extract, is_model, model_settings, texts};
use super::settings::Settings;
use super::tables::GOLD;
use crate::console;
use crate::error::{Error, Result};
use crate::extract::extractor::Extractor;
use crate::extract::spec::ExtractionSpec;
use crate::job::Job;
use crate::query::scoring::match_up;
use crate::query::session::{SessionSettings, session};
use crate::sanitize::without_secrets;
use crate::score::side_by_side::{SideBySide, Speed, names};

/// A system before its mentions are loaded.
struct Candidate {
    side: Side,
    /// The view of its mentions, and the table of them joined with gold.
    view: String,
    matched: String,
    speed: Option<Speed>,
}

/// Scores the systems that the settings name and prints the table.
pub(super) async fn command(settings: &Settings) -> Result<u8> {
    let context = session(&SessionSettings::default())?;
    let locations: Vec<String> = std::iter::once(&settings.predicted).chain(&settings.others).cloned().collect();
    let jobs = locations.iter().filter(|location| is_job(location));
    let jobs = jobs.map(|job| Job::read(Path::new(job), &settings.set)).collect::<Result<Vec<_>>>()?;
    let of_jobs = || jobs.iter().find_map(|job| job.file.input.gold.clone());
    let gold = settings.gold.clone().or_else(of_jobs);
    let gold = gold.ok_or_else(|| missing("gold", "no gold mentions are named", "add --gold MENTIONS"))?;
    let gold = Side::find(&gold, "gold mentions").await?;
    let documents = Documents::of(settings, jobs.first());
    let (mut scopes, mut known) = (Vec::new(), None);
    if let Some(documents) = documents.filter(|documents| documents.only || locations.iter().any(|one| is_model(one))) {
        documents.register(&context, &mut scopes).await?;
        known = Some(Arc::from(texts(&context).await?));
    }
    let (mut candidates, mut jobs) = (Vec::new(), jobs.iter());
    for (number, location) in locations.iter().enumerate() {
        let (view, matched) = (format!("system_{number}"), format!("matched_{number}"));
        let (side, speed) = if is_job(location) {
            let store = jobs.next().map_or(location, |job| &job.file.store.path);
            (Side::find(store, "system's mentions").await?, None)
        } else if is_model(location) {
            let known = known.as_ref();
            let texts = known.ok_or_else(|| missing("documents", "a model needs texts", "add --documents FILE"))?;
            let (rows, speed) = tokio::task::block_in_place(|| run(location, settings.schema.as_deref(), texts))?;
            (Side { location: location.clone(), what: "model's mentions", store: None, rows: Some(rows) }, speed)
        } else {
            (Side::find(location, "system's mentions").await?, None)
        };
        candidates.push(Candidate { side, view, matched, speed });
    }
    let mut sides = vec![(&gold, GOLD)];
    sides.extend(candidates.iter().map(|one| (&one.side, one.view.as_str())));
    let (loaded, documents) = load_sides(&context, &sides, scopes).await?;
    for one in &mut candidates {
        match_up(&context, &one.matched, &one.view, GOLD).await?;
        if one.side.store.is_some() {
            one.speed = speed::of_store(&context, &one.view).await?;
        }
    }
    for side in &loaded {
        for (rows, reason) in side.tally.left_out() {
            tracing::warn!("`{}`: {} row(s) {reason} are ignored", side.location, console::thousands(rows as u64));
        }
    }
    let mut table = SideBySide {
        gold: without_secrets(&gold.location).into_owned(),
        gold_mentions: loaded[0].tally.mentions,
        documents,
        resampling: settings.resampling,
        systems: Vec::new(),
    };
    for (one, name) in candidates.iter().zip(names(&locations)) {
        let mut system = measure::system(&context, &one.matched, documents, settings.resampling).await?;
        system.name = without_secrets(&name).into_owned();
        system.location = without_secrets(&one.side.location).into_owned();
        system.speed.clone_from(&one.speed);
        table.systems.push(system);
    }
    let matched: Vec<&str> = candidates.iter().map(|one| one.matched.as_str()).collect();
    measure::differences(&context, &matched, &mut table).await?;
    if settings.json {
        let failed = |source: serde_json::Error| Error::Engine { doing: "write JSON".into(), source: source.into() };
        console::print_json(&serde_json::to_string_pretty(&table).map_err(failed)?);
    } else {
        console::print(&screen::text(&table));
    }
    Ok(0)
}

/// The mentions of a model as rows, and its speed.
fn run(location: &str, schema: Option<&Path>, texts: &Arc<[Text]>) -> Result<(RecordBatch, Option<Speed>)> {
    let (extraction, runtime) = model_settings(location, schema)?;
    let (spec, model) = extraction.resolve()?;
    let extractor = Extractor::with_model(&spec, &model, &runtime)?;
    let selection = extractor.selection();
    let device = format!("{}, {}", selection.devices, selection.precision);
    tracing::info!("running `{location}` on {} documents ({device})", console::thousands(texts.len() as u64));
    let found = extract(&extractor, texts)?;
    let characters: usize = texts.iter().map(|text| text.text.chars().count()).sum();
    let speed = Speed::new(
        found.tokens as f64,
        found.time.as_secs_f64(),
        characters as f64,
        spec.schema.types.len(),
        format!("here, {device}"),
    );
    let failed = |source: arrow::error::ArrowError| Error::Engine {
        doing: "collect a model's mentions".into(),
        source: source.into(),
    };
    Ok((rows(&spec, texts, &found).map_err(failed)?, speed))
}

/// Mentions as a table.
fn rows(
    spec: &ExtractionSpec,
    texts: &[Text],
    found: &Found,
) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let all =
        || texts.iter().zip(&found.mentions).flat_map(|(text, mentions)| mentions.iter().map(move |one| (text, one)));
    let strings = |of: &dyn Fn(&Text, usize, std::ops::Range<usize>) -> String| -> ArrayRef {
        let cell = |(text, one): (&Text, &crate::text::mention::Mention)| {
            Some(of(text, one.entity_type, one.bytes.start..one.bytes.end))
        };
        Arc::new(all().map(cell).collect::<StringArray>())
    };
    let numbers = |of: fn(&crate::text::mention::Mention) -> usize| -> ArrayRef {
        Arc::new(all().map(|(_, one)| of(one) as i64).collect::<Int64Array>())
    };
    RecordBatch::try_from_iter_with_nullable([
        ("doc_id", strings(&|text, _, _| text.id.clone()), true),
        ("entity_type", strings(&|_, entity_type, _| spec.schema.types[entity_type].name.clone()), true),
        ("start_char", numbers(|one| one.chars.start), true),
        ("end_char", numbers(|one| one.chars.end), true),
        ("text", strings(&|text, _, bytes| text.text[bytes].to_owned()), true),
        ("score", Arc::new(all().map(|(_, one)| one.score).collect::<Float32Array>()) as ArrayRef, true),
    ])
}

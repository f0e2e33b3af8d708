//! `quarry evaluate --calibrate`: a temperature and a threshold for each type of a model. In: a model or a job, documents with gold. Out: figures
//! before and after, and on request the values in quarry.json. It must not change a weight.

mod screen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::inputs::{Documents, Side, is_job, missing};
use super::load::load_sides;
use super::models::{Text, extract, is_model, model_settings, texts};
use super::settings::{CalibrationSettings, Settings};
use super::tables::GOLD;
use crate::console;
use crate::error::{Error, Result};
use crate::extract::calibration::{Calibration, Labelled, calibrate};
use crate::extract::extractor::Extractor;
use crate::job::Job;
use crate::machine::files::write_whole;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::manifest::MANIFEST;
use crate::model::package::resolve;
use crate::query::session::{SessionSettings, session};
use crate::query::statement::query;
use crate::score::calibration::{FEWEST_SPANS, Goal};
use crate::tables::result_row::result_rows;
use crate::task::entity_schema::EntitySchema;
use crate::text::mention::Mention;
use crate::text::span::CharSpan;

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    model: String,
    gold: &'a str,
    /// What the thresholds were chosen for.
    goal: Goal,
    #[serde(flatten)]
    calibration: &'a Calibration,
    written: bool,
}

/// Calibrates the model that the settings name and prints the result.
pub(super) async fn command(settings: &Settings, wanted: CalibrationSettings) -> Result<u8> {
    let job = if is_job(&settings.predicted) {
        Some(Job::read(Path::new(&settings.predicted), &settings.set)?)
    } else {
        None
    };
    let of_job = || job.as_ref().and_then(|job| job.file.input.gold.clone());
    let gold = settings.gold.clone().or_else(of_job);
    let gold =
        gold.ok_or_else(|| missing("gold", "no gold mentions are named", "name them after the model or the job"))?;
    let documents = Documents::of(settings, job.as_ref());
    let documents = documents.ok_or_else(|| missing("documents", "a model needs texts", "add --documents FILE"))?;
    let (extraction, runtime) = match job {
        Some(job) => (job.extraction, job.runtime),
        None if is_model(&settings.predicted) => model_settings(&settings.predicted, settings.schema.as_deref())?,
        None => {
            let reason = format!("`{}` is neither a model directory nor a job file", settings.predicted);
            let hint = "temperatures are fitted to all candidates of a model, which tables of mentions do not have";
            return Err(missing("calibrate", &reason, hint));
        }
    };
    let folder = resolve::model(&extraction.model)?;
    if wanted.write && folder != extraction.model {
        let reason = format!("`{}` lies in a cache, which must not be changed", extraction.model.display());
        let hint = "copy the model into a folder of your own, or write the values as threshold and temperature into the schema";
        return Err(missing("write", &reason, hint));
    }
    let model = ModelDirectory::open(&folder)?;
    let context = session(&SessionSettings::default())?;
    documents.register(&context, &mut Vec::new()).await?;
    let texts: Arc<[_]> = texts(&context).await?.into();
    let spec = extraction.specify(&model)?;
    let (schema, gold_mentions) = gold_mentions(&context, &gold, &spec.schema).await?;
    let extractor = || Extractor::with_model(&spec.of_candidates(), &model, &runtime);
    let candidates = tokio::task::block_in_place(|| extract(&extractor()?, &texts))?.mentions;
    let places: Vec<_> = spec.schema.types.iter().map(|one| schema.index_of(&one.name)).collect();
    let labelled = labelled(&texts, candidates, &places, gold_mentions);
    let calibration = calibrate(&labelled, (spec.task.kind(), &schema), wanted.goal).ok_or_else(|| Error::Table {
        what: "gold mentions".into(),
        location: gold.clone(),
        reason: format!("there are too few of the model's candidates in {} documents to calibrate it", labelled.len()),
        hint: format!("label more documents: at least {FEWEST_SPANS} candidates are needed, right and wrong ones"),
    })?;
    if wanted.write {
        write(&model, &calibration, wanted.goal)?;
    }
    if settings.json {
        let printed = Printed {
            model: extraction.model.display().to_string(),
            gold: &gold,
            goal: wanted.goal,
            calibration: &calibration,
            written: wanted.write,
        };
        let text = serde_json::to_string_pretty(&printed);
        let failed = |source: serde_json::Error| Error::Engine { doing: "write JSON".into(), source: source.into() };
        console::print_json(&text.map_err(failed)?);
    } else {
        console::print(&screen::text(&calibration, wanted.goal));
    }
    if !wanted.write {
        tracing::info!("nothing was written: --write puts the values into the model's {MANIFEST}");
    }
    Ok(0)
}

/// Gold mentions by document: place in code points, and index of the type.
type GoldMentions = BTreeMap<String, BTreeSet<(CharSpan, usize)>>;

/// Documents with a model's candidates and their gold mentions. `places` has the place of each type among those that gold has.
fn labelled(
    texts: &[Text],
    candidates: Vec<Vec<Mention>>,
    places: &[Option<usize>],
    mut gold: GoldMentions,
) -> Vec<Labelled> {
    let judged = |one: Mention| Some(Mention { entity_type: places[one.entity_type]?, ..one });
    let document = |(text, candidates): (&Text, Vec<Mention>)| Labelled {
        candidates: candidates.into_iter().filter_map(judged).collect(),
        gold: gold.remove(&text.id).unwrap_or_default(),
    };
    let documents = texts.iter().zip(candidates).map(document).collect();
    if !gold.is_empty() {
        tracing::warn!("gold mentions of {} document(s) without a text do not count", gold.len());
    }
    documents
}

/// The schema with only the types that gold has, because nothing says what is right of the others, and their gold mentions.
async fn gold_mentions(
    context: &SessionContext,
    gold: &str,
    schema: &EntitySchema,
) -> Result<(EntitySchema, GoldMentions)> {
    let side = Side::find(gold, "gold mentions").await?;
    load_sides(context, &[(&side, GOLD)], Vec::new()).await?;
    let batches = query(context, &format!("SELECT doc_id, entity_type, start_char, end_char FROM {GOLD}")).await?;
    let mut by_type = BTreeMap::<String, Vec<(String, CharSpan)>>::new();
    for row in result_rows(&batches) {
        let place = CharSpan::new(row.get("start_char")?, row.get("end_char")?);
        by_type.entry(row.get("entity_type")?).or_default().push((row.get("doc_id")?, place));
    }
    let (types, left_out): (Vec<_>, Vec<_>) =
        schema.types.iter().cloned().partition(|one| by_type.contains_key(&one.name));
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(|one| one.name.as_str()).collect();
        tracing::info!("types without a gold mention stay as they are: {}", names.join(", "));
    }
    let schema = EntitySchema { types, ..*schema };
    let (mut found, mut unknown) = (GoldMentions::new(), Vec::new());
    for (name, mentions) in by_type {
        match schema.index_of(&name) {
            Some(index) => {
                for (document, place) in mentions {
                    found.entry(document).or_default().insert((place, index));
                }
            }
            None => unknown.push((name, mentions.len())),
        }
    }
    for (name, mentions) in unknown {
        tracing::warn!("{mentions} gold mention(s) of type `{name}` do not count: the schema does not ask for it");
    }
    if schema.types.is_empty() {
        return Err(Error::Table {
            what: "gold mentions".into(),
            location: gold.into(),
            reason: "none of them has a type of the schema".into(),
            hint: "name the types as gold does, in the schema of the job or of --schema".into(),
        });
    }
    Ok((schema, found))
}

/// Writes temperatures and thresholds into the model's manifest, where jobs find them. Its hash does not change: it is that of the logits.
fn write(model: &ModelDirectory, calibration: &Calibration, goal: Goal) -> Result<()> {
    let path = model.root().join(MANIFEST);
    let mut manifest = model.manifest().clone();
    let mut left_out = Vec::new();
    for one in &calibration.schema.types {
        let mut same = manifest.types.iter_mut().filter(|known| known.words() == one.words()).peekable();
        if same.peek().is_none() {
            left_out.push(one.name.as_str());
        }
        for known in same {
            known.temperature = one.temperature;
            if goal != Goal::Kept {
                known.threshold = one.threshold;
            }
        }
    }
    if !left_out.is_empty() {
        tracing::warn!(
            "{MANIFEST} does not list the questions of {}: write their values into the schema",
            left_out.join(", ")
        );
    }
    let failed = |source: serde_json::Error| Error::Write { path: path.clone(), source: source.into() };
    write_whole(&path, &serde_json::to_vec_pretty(&manifest).map_err(failed)?)?;
    let written = if goal == Goal::Kept { "temperatures" } else { "thresholds and temperatures" };
    tracing::info!("{written} are in `{}`", path.display());
    Ok(())
}

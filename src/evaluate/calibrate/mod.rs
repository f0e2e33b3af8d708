//! `quarry evaluate --calibrate`: a temperature and a threshold for each type of a model. In: a model or a job, documents with gold. Out: figures
//! before and after, and on request the values in quarry.json. It must not change a weight.

mod screen;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::inputs::{Documents, Side, is_job, missing};
use super::load::load_sides;
use super::models::{extract, is_model, model_settings, texts};
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
use crate::text::span::CharSpan;

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    model: String,
    gold: &'a str,
    /// The wanted precision; the goal is the best F1 if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<f64>,
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
    let spec = extraction.specify(&model)?;
    let labelled = labelled(&documents, &gold, &extraction.schema, || {
        Extractor::with_model(&spec.of_candidates(), &model, &runtime)
    });
    let labelled = labelled.await?;
    let goal = wanted.precision.map_or(Goal::F1, Goal::Precision);
    let calibration = calibrate(&labelled, (spec.task.kind(), &spec.schema), goal).ok_or_else(|| Error::Table {
        what: "gold mentions".into(),
        location: gold.clone(),
        reason: format!("there are too few of the model's candidates in {} documents to calibrate it", labelled.len()),
        hint: format!("label more documents: at least {FEWEST_SPANS} candidates are needed, right and wrong ones"),
    })?;
    if wanted.write {
        write(&model, &calibration)?;
    }
    if settings.json {
        let printed = Printed {
            model: extraction.model.display().to_string(),
            gold: &gold,
            precision: wanted.precision,
            calibration: &calibration,
            written: wanted.write,
        };
        let text = serde_json::to_string_pretty(&printed);
        let failed = |source: serde_json::Error| Error::Engine { doing: "write JSON".into(), source: source.into() };
        console::print_json(&text.map_err(failed)?);
    } else {
        console::print(&screen::text(&calibration, goal));
    }
    if !wanted.write {
        tracing::info!("nothing was written: --write puts the values into the model's {MANIFEST}");
    }
    Ok(0)
}

/// The documents with all candidates of a model and the gold mentions of the schema's types. Gold is read before the model is opened.
async fn labelled(
    documents: &Documents,
    gold: &str,
    schema: &EntitySchema,
    open: impl FnOnce() -> Result<Extractor>,
) -> Result<Vec<Labelled>> {
    let context = session(&SessionSettings::default())?;
    documents.register(&context, &mut Vec::new()).await?;
    let texts: Arc<[_]> = texts(&context).await?.into();
    let side = Side::find(gold, "gold mentions").await?;
    load_sides(&context, &[(&side, GOLD)], Vec::new()).await?;
    let mut labelled = gold_of(&context, schema).await?;
    let found = tokio::task::block_in_place(|| extract(&open()?, &texts))?;
    let document = |(text, candidates): (&super::models::Text, _)| Labelled {
        candidates,
        gold: labelled.remove(&text.id).unwrap_or_default().gold,
    };
    let documents = texts.iter().zip(found.mentions).map(document).collect();
    if !labelled.is_empty() {
        tracing::warn!("gold mentions of {} document(s) without a text do not count", labelled.len());
    }
    Ok(documents)
}

/// The gold mentions of the schema's types by document.
async fn gold_of(context: &SessionContext, schema: &EntitySchema) -> Result<BTreeMap<String, Labelled>> {
    let (mut labelled, mut unknown) = (BTreeMap::<String, Labelled>::new(), BTreeMap::<String, usize>::new());
    let batches = query(context, &format!("SELECT doc_id, entity_type, start_char, end_char FROM {GOLD}")).await?;
    for row in result_rows(&batches) {
        let name: &str = row.get("entity_type")?;
        let place = CharSpan::new(row.get("start_char")?, row.get("end_char")?);
        match schema.types.iter().position(|one| one.name == name) {
            Some(index) => {
                labelled.entry(row.get("doc_id")?).or_default().gold.insert((place, index));
            }
            None => *unknown.entry(name.to_owned()).or_default() += 1,
        }
    }
    for (name, mentions) in unknown {
        tracing::warn!("{mentions} gold mention(s) of type `{name}` do not count: the schema does not ask for it");
    }
    Ok(labelled)
}

/// Writes temperatures and thresholds into the model's manifest, where jobs find them. Its hash does not change: it is that of the logits.
fn write(model: &ModelDirectory, calibration: &Calibration) -> Result<()> {
    let path = model.root().join(MANIFEST);
    let mut manifest = model.manifest().clone();
    let mut left_out = Vec::new();
    for one in &calibration.schema.types {
        let mut same = manifest.types.iter_mut().filter(|known| known.words() == one.words()).peekable();
        if same.peek().is_none() {
            left_out.push(one.name.as_str());
        }
        for known in same {
            (known.threshold, known.temperature) = (one.threshold, one.temperature);
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
    tracing::info!("thresholds and temperatures are in `{}`", path.display());
    Ok(())
}

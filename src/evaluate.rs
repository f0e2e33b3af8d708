//! `quarry evaluate`: predicted ⋈ gold → scores. In: tables of mentions, stores, or a job with gold. Out: precision, recall and F1 with
//! breakdowns, error analysis, and a comparison of two systems; on the screen, as JSON, as Parquet and in the store's metrics. It must
//! not change a mention.

mod calibrate;
mod compare;
mod inputs;
mod load;
mod measure;
mod models;
mod outputs;
mod reference;
mod remarks;
mod report;
mod screen;
mod settings;
mod several;
mod tables;

use datafusion::prelude::SessionContext;

use crate::console;
use crate::error::Result;
use crate::query::scoring::match_up;
use crate::query::session::{SessionSettings, session};
use crate::query::statement::count;
use crate::query::statement::keep;
use crate::score::counting::Counting;

use inputs::Inputs;
use load::Loaded;
use tables::{AGAINST, GOLD, MATCHED, MATCHED_AGAINST, PREDICTED, TEXTS};

pub use settings::{CalibrationSettings, DocumentTable, Settings};

/// Scores the tables that the settings name and prints the report, or compares several systems, or calibrates a model.
pub async fn command(settings: &Settings) -> Result<u8> {
    if let Some(wanted) = settings.calibration {
        return calibrate::command(settings, wanted).await;
    }
    if !settings.others.is_empty() {
        return several::command(settings).await;
    }
    let context = session(&SessionSettings::default())?;
    let mut inputs = Inputs::resolve(settings).await?;
    let loaded = inputs.load(&context).await?;
    remarks::print(&context, &inputs, &loaded).await?;
    if let Counting::Reference(tokens) = settings.counting {
        reference::cut_off(&context, &inputs, tokens).await?;
    }
    match_all(&context, &loaded).await?;
    let rule = settings.resampling;
    let mut report = measure::report(&context, &loaded, settings.counting, rule, settings.worst).await?;
    if loaded.against.is_some() {
        report.comparison = Some(compare::compare(&context, &report, rule).await?);
    }
    // Print the scores first, so that a file or store that cannot be written does not lose them.
    if settings.json {
        console::print_json(&report.json()?);
    } else {
        console::print(&screen::text(&report));
    }
    if let Some(folder) = &settings.out {
        outputs::write(&context, folder, &loaded, &report).await?;
    }
    if settings.metrics
        && let Some(store) = inputs.predicted.store_mut()
        && let Err(cause) = outputs::record(store, &report).await
    {
        tracing::warn!(
            "the scores are complete, but could not be added to the store's metrics; --no-metrics skips this step"
        );
        return Err(cause);
    }
    Ok(0)
}

/// Joins predicted with gold mentions, and the other system's with gold if there is one.
async fn match_all(context: &SessionContext, loaded: &Loaded) -> Result<()> {
    match_up(context, MATCHED, PREDICTED, GOLD).await?;
    if loaded.against.is_some() {
        match_up(context, MATCHED_AGAINST, AGAINST, GOLD).await?;
    }
    if loaded.documents {
        fill_texts(context, MATCHED).await?;
        if loaded.against.is_some() {
            fill_texts(context, MATCHED_AGAINST).await?;
        }
    }
    Ok(())
}

/// Fills in the text of mentions from their documents where no table of mentions has it.
async fn fill_texts(context: &SessionContext, matched: &str) -> Result<()> {
    if count(context, &format!("SELECT count(*) FROM {matched} WHERE text IS NULL")).await? == 0 {
        return Ok(());
    }
    let columns = "m.doc_id, m.entity_type, m.start_char, m.end_char, m.nested, m.score, m.predicted, m.gold";
    let sql = format!(
        "SELECT {columns}, coalesce(m.text, substr(d.text, m.start_char + 1, m.end_char - m.start_char)) AS text
         FROM {matched} m LEFT JOIN {TEXTS} d ON m.doc_id = d.doc_id"
    );
    keep(context, matched, &sql).await
}

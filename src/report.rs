//! `quarry report`: a store → one HTML page. In: a store, or a job that names one. Out: a self-contained HTML file with figures, quality if
//! there is gold, and documents with their mentions marked. It must not write to the store.

mod documents;
mod embed;
mod figures;
mod page;
mod quality;
mod sample;
mod scope;
mod settings;
mod summary;
mod tables;
mod texts;

use std::path::Path;

use crate::console::{self, rows, thousands};
use crate::error::{Error, Result};
use crate::query::session::{SessionSettings, free_memory, register_store, session};
use crate::score::side_by_side::SideBySide;
use crate::store::delta_store::Store;

use documents::Documents;
use scope::Scope;

pub use settings::Settings;

/// Writes the page and prints a summary of it.
pub async fn command(settings: &Settings) -> Result<u8> {
    let memory_bytes = free_memory().map(|free| free / 4 * 3);
    let context = session(&SessionSettings { memory_bytes, ..SessionSettings::default() })?;
    let mut scope = Scope::resolve(settings)?;
    let store = Store::open_existing(scope.location.clone()).await?;
    register_store(&context, &store).await?;
    let runs = scope.choose_run(&context, settings).await?;
    scope.make_views(&context).await?;
    let gold = quality::join(&context, &scope).await?;
    scope.choose_documents(&context, gold.matched).await?;
    let mut summary = figures::read(&context, &scope, runs, store.last_commit().unwrap_or(0)).await?;
    quality::read(&context, &gold, &mut summary).await?;
    summary.comparison = settings.comparison.as_deref().map(comparison).transpose()?;
    let documents = Documents::read(&context, &scope, &summary, settings.limit, gold.matched).await?;
    let page = page::render(&summary, &documents)?;
    std::fs::write(&settings.out, &page)
        .map_err(|source| Error::Write { path: settings.out.clone(), source: source.into() })?;
    for remark in &documents.remarks {
        tracing::warn!("{remark}");
    }
    if documents.with_text() < documents.rows.len() && settings.documents.is_none() {
        tracing::info!("if the texts have moved, name their new location with --documents");
    }
    console::print(&rows(&[
        ("documents on the page".into(), thousands(documents.rows.len() as u64)),
        ("  with their text".into(), thousands(documents.with_text() as u64)),
        ("mentions marked".into(), thousands(documents.mentions() as u64)),
        ("size".into(), format!("{:.1} MB", page.len() as f64 / 1e6)),
        ("page".into(), settings.out.display().to_string()),
    ]));
    Ok(0)
}

/// Reads a comparison.
fn comparison(path: &Path) -> Result<SideBySide> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source: source.into() })?;
    serde_json::from_str(&text).map_err(|source| Error::Parse {
        path: path.into(),
        source: source.into(),
        hint: "write it with `quarry evaluate --compare … --json`".into(),
    })
}

//! Models as systems. In: a specification, documents' texts in the session. Out: the mentions of every document, and how long they took. It must
//! not write to a store.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;

use super::inputs::missing;
use super::tables::TEXTS;
use crate::error::Result;
use crate::extract::extractor::Extractor;
use crate::extract::monitor::Monitor;
use crate::extract::pipeline::slice::{Row, SliceRows};
use crate::extract::settings::{ExtractionSettings, RuntimeSettings};
use crate::job::read_schema;
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::query::statement::query;
use crate::tables::result_row::result_rows;
use crate::task::entity_schema::EntitySchema;
use crate::text::mention::Mention;

/// Documents in a slice: enough for batches of inputs of similar length.
const SLICE: usize = 64;

/// A document with its text.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) id: String,
    pub(super) text: String,
}

/// What a model found.
pub(super) struct Found {
    /// One per text, in text order; none of a text that was refused.
    pub(super) mentions: Vec<Vec<Mention>>,
    /// The time from the first text to the last answer, with the model open.
    pub(super) time: Duration,
    /// Tokens computed, without padding.
    pub(super) tokens: u64,
}

/// Whether a location is a model: a folder with one, or on the hub.
pub(super) fn is_model(location: &str) -> bool {
    let files = ["quarry.json", "model.safetensors", "model.onnx", "gliner_config.json"];
    location.starts_with("hf://") || files.iter().any(|file| Path::new(location).join(file).is_file())
}

/// The settings for the model at `location` with the types of a schema file, or its own.
pub(super) fn model_settings(location: &str, schema: Option<&Path>) -> Result<(ExtractionSettings, RuntimeSettings)> {
    let schema = if let Some(path) = schema {
        read_schema(path)?
    } else {
        let model = ModelDirectory::open(&resolve::model(Path::new(location))?)?;
        EntitySchema { nested: model.manifest().nested, types: model.manifest().types.clone() }
    };
    if schema.types.is_empty() {
        return Err(missing("schema", "the model's quarry.json has no types", "add --schema FILE"));
    }
    Ok((ExtractionSettings::new(location, schema), RuntimeSettings::default()))
}

/// The documents of the session, by id; those without a text are left out.
pub(super) async fn texts(context: &SessionContext) -> Result<Vec<Text>> {
    let sql = format!(
        "SELECT doc_id, CAST(text AS varchar) AS text FROM {TEXTS} WHERE doc_id IS NOT NULL AND text IS NOT NULL ORDER BY doc_id"
    );
    let batches = query(context, &sql).await?;
    result_rows(&batches).map(|row| Ok(Text { id: row.get("doc_id")?, text: row.get("text")? })).collect()
}

/// The mentions that an open model finds. It blocks its thread.
pub(super) fn extract(extractor: &Extractor, texts: &Arc<[Text]>) -> Result<Found> {
    let counters = extractor.scorer().counters();
    let (started, tokens) = (Instant::now(), Monitor::get(&counters.real_tokens));
    let slices = (0..texts.len())
        .step_by(SLICE)
        .map(|first| Ok(Slice { texts: Arc::clone(texts), range: first..texts.len().min(first + SLICE) }));
    let (mut mentions, mut refused) = (Vec::with_capacity(texts.len()), 0);
    extractor.run(&Monitor::default(), slices, |result| {
        for document in result.documents {
            refused += usize::from(document.outcome.is_err());
            mentions.push(document.outcome.unwrap_or_default());
        }
        true
    })?;
    if refused > 0 {
        tracing::warn!(
            "{refused} document(s) could not be read by the model: they count as documents without mentions"
        );
    }
    let tokens = Monitor::get(&counters.real_tokens) - tokens;
    Ok(Found { mentions, time: started.elapsed(), tokens })
}

/// Some of the texts.
struct Slice {
    texts: Arc<[Text]>,
    range: Range<usize>,
}

impl SliceRows for Slice {
    fn count(&self) -> usize {
        self.range.len()
    }

    fn row(&self, row: usize) -> Row<'_> {
        Row { has_id: true, text: Some(&self.texts[self.range.start + row].text), refused: None }
    }
}

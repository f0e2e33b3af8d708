//! `quarry try`: extraction from one text. In: a text, entity types, a model. Out: the text with its mentions marked, and a list of them. It
//! must not use a store.

mod schema;
mod screen;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::console;
use crate::error::{Error, Result};
use crate::extract::extractor::Extractor;
use crate::extract::settings::{ExtractionSettings, RuntimeSettings};
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::model::runtime::device::DeviceChoice;
use crate::text::mention::Mention;

use schema::{ORIGIN, choose};

/// Maximum padded tokens per batch. Measuring the fastest number takes longer than one text.
const BATCH_TOKENS: usize = 2048;

/// The settings of `quarry try`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The text, or `@FILE`; by default standard input.
    pub text: Option<String>,
    /// The entity types, as words.
    pub types: Vec<String>,
    /// A schema file.
    pub schema: Option<PathBuf>,
    /// A model directory, or `hf://owner/name`.
    pub model: PathBuf,
    /// The device to run on.
    pub device: DeviceChoice,
    /// Mentions must score above this, whatever the thresholds of schema and model.
    pub threshold: Option<f32>,
    /// Whether the output is one JSON object.
    pub json: bool,
}

/// Extracts mentions from the text and prints them.
pub fn command(settings: &Settings) -> Result<u8> {
    let text = text(settings.text.as_deref())?;
    let path = resolve::model(&settings.model)?;
    let model = ModelDirectory::open(&path)?;
    let mut schema = choose(settings.schema.as_deref(), &settings.types, model.manifest())?;
    if settings.threshold.is_some() {
        schema.take_thresholds();
    }
    let extraction = ExtractionSettings { threshold: settings.threshold, ..ExtractionSettings::new(path, schema) };
    extraction.validate(ORIGIN).map_err(by_option)?;
    let runtime = RuntimeSettings { device: settings.device.clone(), library: None, batch_tokens: Some(BATCH_TOKENS) };
    let extractor = Extractor::with_model(&extraction.specify(&model)?, &model, &runtime)?;
    let selection = extractor.selection();
    tracing::info!("device {} ({}), precision {}", selection.devices, selection.reason, selection.precision);
    let mentions = extractor.extract(&text)?;
    let names: Vec<&str> = extraction.schema.types.iter().map(|one| one.name.as_str()).collect();
    if settings.json {
        console::print_json(&json(&text, &mentions, &extractor)?);
    } else {
        console::print(&screen::text(&text, &mentions, &names, console::colours()));
    }
    Ok(0)
}

/// The argument itself, the content of `@file`, or standard input.
fn text(argument: Option<&str>) -> Result<String> {
    let unreadable = |path: &str| {
        let path = path.into();
        |source: std::io::Error| Error::Read { path, source: source.into() }
    };
    match argument {
        Some(argument) if argument.starts_with('@') => {
            let path = &argument[1..];
            std::fs::read_to_string(Path::new(path)).map_err(unreadable(path))
        }
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            if std::io::stdin().is_terminal() {
                tracing::info!("reading the text from the terminal; end it with Ctrl-D");
            }
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(unreadable("standard input"))?;
            Ok(text)
        }
    }
}

/// Names this command's option instead of the job file's key in an error.
fn by_option(error: Error) -> Error {
    match error {
        Error::Setting { origin, key, reason, hint } if key == "extract.threshold" => {
            Error::Setting { origin, key: "--threshold".into(), reason, hint }
        }
        other => other,
    }
}

fn json(text: &str, mentions: &[Mention], extractor: &Extractor) -> Result<String> {
    let (spec, selection) = (extractor.spec(), extractor.selection());
    let mention = |mention: &Mention| {
        serde_json::json!({
            "entity_type": spec.schema.types[mention.entity_type].name,
            "start_char": mention.chars.start,
            "end_char": mention.chars.end,
            "text": mention.bytes.of(text),
            "score": mention.score,
        })
    };
    let object = serde_json::json!({
        "text": text,
        "mentions": mentions.iter().map(mention).collect::<Vec<_>>(),
        "types": spec.schema.types,
        "model": spec.model.path.display().to_string(),
        "model_hash": spec.model.hash,
        "device": selection.devices.to_string(),
        "precision": selection.precision,
    });
    serde_json::to_string_pretty(&object)
        .map_err(|source| Error::Engine { doing: "write the mentions as JSON".into(), source: source.into() })
}

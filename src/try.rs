//! `quarry try`: extraction from one text. In: a text, entity types, a model. Out: the text with its mentions marked, and a list of them. It
//! must not use a store.

mod schema;
mod screen;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::cli::TryArgs;
use crate::console;
use crate::error::{Error, Result};
use crate::extract::slice::{Row, SliceRows};
use crate::job::file::{ExtractSection, ModelSection};
use crate::job::{Job, Ready};
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::task::entity_schema::EntitySchema;
use crate::text::mention::Mention;

use schema::{ORIGIN, choose};

/// Maximum padded tokens per batch.
const BATCH_TOKENS: usize = 2048;

/// Extracts mentions from the text and prints them.
pub fn command(arguments: &TryArgs) -> Result<u8> {
    let text = text(arguments.text.as_deref())?;
    let model = resolve::model(&arguments.model, &console::note)?;
    let directory = ModelDirectory::open(&model)?;
    let schema = choose(arguments, directory.manifest())?;
    let job = job(arguments, model, schema)?;
    let ready = job.load(&console::note)?;
    console::note(&format!(
        "device {} ({}), precision {}",
        ready.chosen.device, ready.chosen.reason, ready.chosen.precision
    ));
    let (text, mentions) = extract(&ready, text)?;
    let names: Vec<&str> = job.schema.types.iter().map(|one| one.name.as_str()).collect();
    console::print(&if arguments.json {
        json(&text, &mentions, &job.schema, &ready)?
    } else {
        screen::text(&text, &mentions, &names, console::colours())
    });
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
                console::note("reading the text from the terminal; end it with Ctrl-D");
            }
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(unreadable("standard input"))?;
            Ok(text)
        }
    }
}

/// A job over one text.
fn job(arguments: &TryArgs, path: PathBuf, schema: EntitySchema) -> Result<Job> {
    // Skip batch tuning, which takes longer than one text.
    let extract = ExtractSection {
        threshold: arguments.threshold,
        batch_tokens: Some(BATCH_TOKENS),
        ..ExtractSection::default()
    };
    let model = ModelSection { path, ..ModelSection::default() };
    let job = Job::over_text(ORIGIN, model, extract, schema).map_err(by_option)?;
    Ok(Job { device: arguments.device, ..job })
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

/// The text as a slice of one row.
struct OneText(String);

impl SliceRows for OneText {
    fn count(&self) -> usize {
        1
    }

    fn row(&self, _: usize) -> Row<'_> {
        Row { has_id: true, text: Some(&self.0), replaced: false }
    }
}

/// Extracts the text's mentions through the same chain as a run.
fn extract(ready: &Ready, text: String) -> Result<(String, Vec<Mention>)> {
    let mut output = None;
    ready.extractor.run(std::iter::once(Ok(OneText(text))), |result| {
        output = Some(result);
        true
    })?;
    let missing =
        || Error::Engine { doing: "extract the text".into(), source: "the extractor returned no result".into() };
    let mut result = output.ok_or_else(missing)?;
    let document = result.documents.pop().ok_or_else(missing)?;
    let mentions = document.outcome.map_err(|reject| Error::Input {
        location: "the text".into(),
        reason: reject.detail,
        hint: "enter a text with at least one word".into(),
    })?;
    Ok((result.rows.0.clone(), mentions))
}

fn json(text: &str, mentions: &[Mention], schema: &EntitySchema, ready: &Ready) -> Result<String> {
    let mention = |mention: &Mention| {
        serde_json::json!({
            "entity_type": schema.types[mention.entity_type].name,
            "start_char": mention.chars.start,
            "end_char": mention.chars.end,
            "text": mention.bytes.of(text),
            "score": mention.score,
        })
    };
    let object = serde_json::json!({
        "text": text,
        "mentions": mentions.iter().map(mention).collect::<Vec<_>>(),
        "types": schema.types,
        "model": ready.spec.model,
        "model_hash": ready.model_hash,
        "device": ready.chosen.device.to_string(),
        "precision": ready.chosen.precision,
    });
    serde_json::to_string_pretty(&object)
        .map_err(|source| Error::Engine { doing: "write the mentions as JSON".into(), source: source.into() })
}

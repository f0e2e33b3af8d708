//! `quarry train`: an encoder becomes an extractor. In: a training job, prepared documents with gold, a pretrained encoder. Out: a model
//! directory ready for `quarry run`, with its curves and figures. It may not touch a store.
//!
//! | file | what |
//! |---|---|
//! | [`recipe`] | the training job, with the reference's names and defaults |
//! | [`labelled`] | prepared folders → documents with gold |
//! | [`examples`] | documents → queries with the places of their answers |
//! | [`pretrained`] | encoder folder → weights with heads |
//! | [`plan`] | examples → batches, epoch by epoch |
//! | [`schedule`] | the learning rate of every step |
//! | [`network`] | BERT and the MRC heads on LibTorch |
//! | [`loss`] | logits and targets → loss |
//! | [`optimizer`] | gradients → new weights |
//! | [`dev`] | network + documents → scores |
//! | [`trainer`] | the loop |
//! | [`state`] | a training on disk |
//! | [`history`], [`curves`], [`screen`] | what it has been through, drawn and said |
//! | [`device`] | CPU or CUDA cards |

pub mod curves;
mod dashboard;
pub mod dev;
pub mod device;
pub mod examples;
pub mod history;
pub mod labelled;
pub mod loss;
pub mod network;
pub mod optimizer;
pub mod plan;
pub mod pretrained;
pub mod recipe;
pub mod schedule;
pub mod screen;
pub mod state;
pub mod trainer;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::TrainArgs;
use crate::console::{self, Style, duration, rows, thousands};
use crate::engine::session::{SessionSettings, session};
use crate::error::{Error, Result};
use crate::job::read_schema;
use crate::model::directory::{Manifest, ModelDirectory, Parts};
use crate::model::hash::hexadecimal;
use crate::mrc::query::{EntitySchema, Questions};
use crate::mrc::score::Counts;
use crate::mrc::tokens::Tokenizer;
use crate::mrc::window::WindowRule;

use dev::Quality;
use labelled::Split;
use pretrained::Pretrained;
use recipe::{OnProblem, TrainFile};
use screen::Screen;
use state::TrainingFolder;
use trainer::{Data, STOP, Trainer};

/// Misaligned mentions that are named in a warning.
const NAMED: usize = 3;

/// Trains what the job says and prints what came of it.
pub fn command(arguments: &TrainArgs, style: Style) -> Result<u8> {
    let file = TrainFile::read(&arguments.job, &arguments.set)?;
    let devices = device::devices(&file.recipe.device)?;
    if let Some(threads) = file.recipe.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    let failed = |source: std::io::Error| Error::Engine { doing: "start the runtime".into(), source: source.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.spawn(listen());
    let schema = read_schema(&file.entities.schema)?;
    let pretrained = Pretrained::read(&file.encoder, &file.recipe, &console::note)?;
    let tokenizer_path = file.encoder.path.join("tokenizer.json");
    let tokenizer = Tokenizer::from_bytes(&pretrained.tokenizer, &tokenizer_path, file.recipe.words)?;
    let cutter = Cutter::new(&file, &schema, &tokenizer, &tokenizer_path)?;
    let read = |location: &str| -> Result<Data> {
        let split = runtime.block_on(async {
            Split::read(&session(&SessionSettings::default())?, location, &file.data, &schema).await
        })?;
        cutter.cut(location, split)
    };
    let (train, dev) = (read(&file.data.train)?, read(&file.data.dev)?);
    let test = file.data.test.as_deref().map(read).transpose()?;
    let fingerprint = fingerprint(&file, &schema, &train, &dev, &pretrained)?;
    let folder = prepare_folder(&file.output.path, &fingerprint, arguments.restart)?;
    let mut trainer = Trainer::new(
        &file,
        &schema,
        (&train, &dev),
        (&pretrained.weights, &pretrained.config),
        &devices,
        (folder.clone(), fingerprint),
    )?;
    let title = file.output.path.display().to_string();
    say_what_begins(&trainer, &train, &dev);
    let mut screen = Screen::new(style, trainer.total_steps(), &title);
    let outcome = trainer.run(&mut screen);
    drop(screen);
    curves::write(&folder.file("curves.svg"), &trainer.history, trainer.total_steps(), &title)?;
    outcome?;
    let (weights, quality) = trainer.best(test.as_ref(), &pretrained.config)?;
    let manifest = manifest(&file, &schema, &pretrained, &trainer, &train, quality.as_ref());
    let parts = Parts {
        weights: &weights,
        form: file.weight_form(),
        config: &pretrained.config,
        tokenizer: &pretrained.tokenizer,
        manifest: &manifest,
        extra: &[],
    };
    ModelDirectory::write(&file.output.path, &parts)?;
    folder.finish();
    console::print(&summary(&file, &schema, &trainer, quality.as_ref()));
    Ok(0)
}

/// Notes the first signal; a second one ends the program at once.
async fn listen() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        let code = tokio::select! {
            _ = terminate.recv() => 143,
            _ = tokio::signal::ctrl_c() => 130,
        };
        if STOP.swap(code, Ordering::Relaxed) != 0 {
            std::process::exit(i32::from(code));
        }
        console::note("stopping after this step; a second signal ends it at once");
    }
}

/// Cuts splits into examples, the same way for all.
struct Cutter<'a> {
    file: &'a TrainFile,
    tokenizer: &'a Tokenizer,
    tokenizer_path: &'a Path,
    questions: Questions,
    rule: WindowRule,
}

impl<'a> Cutter<'a> {
    fn new(
        file: &'a TrainFile,
        schema: &EntitySchema,
        tokenizer: &'a Tokenizer,
        tokenizer_path: &'a Path,
    ) -> Result<Self> {
        let failed = |detail: String| Error::Tokenizer { path: tokenizer_path.to_owned(), source: detail.into() };
        let questions = Questions::new(schema, tokenizer).map_err(|reject| failed(reject.detail))?;
        let (longest, most) = (questions.longest_query(0), file.recipe.max_length);
        if longest + 8 > most {
            return Err(Error::Setting {
                origin: "the training job".into(),
                key: "recipe.max_length".into(),
                reason: format!("{most} tokens leave no room for a context: the longest question takes {longest}"),
                hint: "say more tokens, or shorten the question".into(),
            });
        }
        let tokens = most - longest;
        let overlap = file.recipe.overlap_tokens.unwrap_or(tokens / 4).min(tokens / 2);
        Ok(Self { file, tokenizer, tokenizer_path, questions, rule: WindowRule { tokens, overlap } })
    }

    fn cut(&self, location: &str, split: Split) -> Result<Data> {
        let failed = |detail: String| Error::Tokenizer { path: self.tokenizer_path.to_owned(), source: detail.into() };
        let examples = examples::examples(&split.documents, self.tokenizer, &self.questions, self.rule)
            .map_err(|reject| failed(reject.detail))?;
        let (misaligned, lost) = (&examples.misaligned, examples.misaligned.len() + examples.split);
        if lost > 0 {
            let some: Vec<String> = misaligned
                .iter()
                .take(NAMED)
                .map(|one| format!("`{}` at {} of `{}`", one.text, one.start, one.id))
                .collect();
            let reason = format!(
                "{} of {} gold mentions begin or end inside a word{}{}, {} are in no single window",
                misaligned.len(),
                split.mentions(),
                if some.is_empty() { "" } else { ": " },
                some.join(", "),
                examples.split
            );
            if self.file.data.misaligned == OnProblem::Stop {
                return Err(Error::Table {
                    what: "gold mentions".into(),
                    location: location.into(),
                    reason,
                    hint: "mend them, or leave them out with data.misaligned = \"skip\"".into(),
                });
            }
            console::warn(&format!("{location}: {reason}; they are left out"));
        }
        Ok(Data { split, examples })
    }
}

/// What a saved state belongs to: settings, questions, data, encoder.
fn fingerprint(
    file: &TrainFile,
    schema: &EntitySchema,
    train: &Data,
    dev: &Data,
    pretrained: &Pretrained,
) -> Result<String> {
    let mut settings = file.clone();
    // Where the model goes and how often it is saved changes no weight.
    settings.output = recipe::OutputSection {
        path: PathBuf::new(),
        weights: String::new(),
        origin: String::new(),
        licence: String::new(),
        save_minutes: 0.0,
    };
    let failed = |source: serde_json::Error| Error::Engine { doing: "read the settings".into(), source: source.into() };
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&(settings, schema)).map_err(failed)?);
    hasher.update(train.split.hash());
    hasher.update(dev.split.hash());
    for (name, tensor) in pretrained.weights.iter() {
        hasher.update(name);
        for value in &tensor.values {
            hasher.update(value.to_le_bytes());
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// The training's folder, free of another training's state.
fn prepare_folder(model: &Path, fingerprint: &str, restart: bool) -> Result<TrainingFolder> {
    let folder = TrainingFolder::new(model)?;
    let refuse = |reason: &str| Error::Setting {
        origin: model.display().to_string(),
        key: "output.path".into(),
        reason: reason.into(),
        hint: "name another folder, or begin anew with --restart".into(),
    };
    if restart {
        folder.finish();
        let _ = std::fs::remove_file(folder.file("metrics.jsonl"));
        return Ok(folder);
    }
    match folder.position()? {
        Some(position) if position.fingerprint != fingerprint => {
            Err(refuse("it holds an unfinished training with other settings, data or encoder"))
        }
        None if model.join("quarry.json").exists() => Err(refuse("it holds a finished model")),
        Some(position) => {
            console::note(&format!("going on after step {}", position.step));
            Ok(folder)
        }
        None => Ok(folder),
    }
}

fn say_what_begins(trainer: &Trainer<'_>, train: &Data, dev: &Data) {
    let said = |data: &Data| {
        format!(
            "{} documents, {} queries, {} mentions",
            thousands(data.split.documents.len() as u64),
            thousands(data.examples.examples.len() as u64),
            thousands(data.split.mentions() as u64)
        )
    };
    console::note(&format!(
        "train: {}; dev: {}; {} steps",
        said(train),
        said(dev),
        thousands(trainer.total_steps() as u64)
    ));
}

/// Counts as quarry.json and the summary say them.
fn figures(counts: &Counts) -> serde_json::Value {
    let round = |value: f64| (value * 1e4).round() / 1e4;
    json!({"precision": round(counts.precision()), "recall": round(counts.recall()), "f1": round(counts.f1())})
}

fn manifest(
    file: &TrainFile,
    schema: &EntitySchema,
    pretrained: &Pretrained,
    trainer: &Trainer<'_>,
    train: &Data,
    quality: Option<&Quality>,
) -> Manifest {
    let best = trainer.position.best.unwrap_or_default();
    let mut scores = json!({"dev": {"f1": (best.0 * 1e4).round() / 1e4, "step": best.1}});
    if let Some(quality) = quality {
        scores["test"] = figures(&quality.all);
        for (entity_type, counts) in schema.types.iter().zip(&quality.types) {
            scores["test"]["types"][&entity_type.name] = figures(counts);
        }
    }
    let recipe = json!({
        "settings": file.recipe,
        "train": {
            "documents": train.split.documents.len(),
            "queries": train.examples.examples.len(),
            "mentions": train.split.mentions(),
            "sha256": train.split.hash(),
        },
        "steps": trainer.position.step,
        "seconds": trainer.position.seconds.round(),
        "tokens": trainer.position.tokens,
    });
    Manifest {
        encoder: pretrained.name.clone(),
        max_length: pretrained.config.max_position_embeddings,
        types: schema.types.clone(),
        nested: schema.nested,
        recipe,
        scores,
        origin: file.output.origin.clone(),
        licence: file.output.licence.clone(),
        ..Manifest::default()
    }
}

fn summary(file: &TrainFile, schema: &EntitySchema, trainer: &Trainer<'_>, quality: Option<&Quality>) -> String {
    let position = &trainer.position;
    let mut table: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| table.push((name.to_owned(), value));
    add("model", file.output.path.display().to_string());
    add("steps", thousands(position.step as u64));
    add("time", duration(std::time::Duration::from_secs_f64(position.seconds)));
    add("rate", format!("{} tokens/s", thousands((position.tokens as f64 / position.seconds.max(1e-9)) as u64)));
    if let Some((f1, step)) = position.best {
        add("best F1 on dev", format!("{f1:.4} at step {}", thousands(step as u64)));
    }
    if position.not_a_number > 0 {
        add("steps left out", position.not_a_number.to_string());
    }
    if let Some(quality) = quality {
        let said = |counts: &Counts| format!("{:.4} ({:.4} / {:.4})", counts.f1(), counts.precision(), counts.recall());
        add("F1 on test (precision / recall)", said(&quality.all));
        for (entity_type, counts) in schema.types.iter().zip(&quality.types) {
            add(&format!("  {}", entity_type.name), said(counts));
        }
    }
    rows(&table)
}

//! `quarry train`: fine-tunes an encoder to an extraction model. In: a training job, prepared documents with gold, a pretrained encoder.
//! Out: a model directory ready for `quarry run`, with its curves and scores. It must not touch a store.
//!
//! | module | content |
//! |---|---|
//! | [`mod@file`] | the training job |
//! | [`recipe`] | its recipe, with the names and defaults of the reference implementation |
//! | [`data`] | prepared folders → batches of examples with targets |
//! | [`optimization`] | gradients → new weights, their average, the rates of every step |
//! | [`network`] | the encoder and its heads on LibTorch: loss, gradients, devices |
//! | [`training_loop`] | the loop, its checkpoints, scoring of dev |
//! | [`display`] | metrics, dashboard, log lines, curves |

pub mod data;
pub mod display;
pub mod file;
pub mod network;
pub mod optimization;
pub mod recipe;
pub mod state;
pub mod training_loop;

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::console;
use crate::console::{Style, duration, rows, thousands};
use crate::error::{Error, Result};
use crate::extract::calibration::{Calibration, Reliability};
use crate::job::schema_of;
use crate::model::head::HeadConfig;
use crate::model::package::directory::{ModelDirectory, Parts};
use crate::model::package::manifest::Manifest;
use crate::query::session::{SessionSettings, session};
use crate::score::counts::Counts;
use crate::task::entity_schema::{EntitySchema, Nesting};
use crate::task::kind::Kind;
use crate::text::tokens::Tokenizer;

use crate::train::data::dataset::Split;
use crate::train::data::featurize::{Data, Featurizer};
use crate::train::display::screen::Screen;
use crate::train::file::TrainFile;
use crate::train::network::pretrained::Pretrained;
use crate::train::recipe::RecipeSection;
use crate::train::state::fingerprint::Fingerprint;
use crate::train::training_loop::dev::Quality;
use crate::train::training_loop::trainer::Trainer;

/// What to train, and whether to start again.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The training job (TOML).
    pub job: PathBuf,
    /// The values of `${KEY}` in the training job.
    pub set: Vec<(String, String)>,
    /// Whether to start again from the first step if the output folder holds an unfinished or finished training.
    pub restart: bool,
}

/// Runs the training job and prints a summary.
pub fn command(settings: &Settings, style: Style, runtime: &Runtime) -> Result<u8> {
    let file = TrainFile::read(&settings.job, &settings.set)?;
    state::output::refuse_foreign(&file)?;
    let devices = network::device::devices(&file.recipe.device)?;
    if let Some(threads) = file.recipe.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    runtime.spawn(state::signals::listen(style));
    if !settings.restart {
        state::output::refuse_finished(&file.output.path)?;
    }
    let schema = schema_of(&file.entities, &settings.job)?;
    if let Some(name) = schema.without_question() {
        return Err(Error::Setting {
            origin: settings.job.display().to_string(),
            key: "type.question".into(),
            reason: format!("the type `{name}` has none, and a model is trained on questions"),
            hint: "add one, such as question = \"Which people are named?\"".into(),
        });
    }
    let pretrained = Pretrained::read(&file.encoder, &file.recipe, &schema)?;
    let tokenizer_path = file.encoder.path.join("tokenizer.json");
    let tokenizer = Tokenizer::from_bytes(&pretrained.tokenizer, &tokenizer_path, file.recipe.words)?;
    let featurizer = Featurizer::new(&file, &schema, &tokenizer, &tokenizer_path)?;
    let context = || session(&SessionSettings::default());
    let read = |location: &str| -> Result<Split> {
        runtime.block_on(async { Split::read(&context()?, location, &file.data, &schema).await })
    };
    let mut train = shared(&file, &file.data.train, read(&file.data.train)?)?;
    for extra in &file.data.extra {
        let more = runtime.block_on(async { Split::read_extra(&context()?, extra, &file.data, &schema).await })?;
        train.extend(shared(&file, &extra.path, more)?);
    }
    let train = featurizer.featurize(&file.data.train, train)?;
    let read = |location: &str| {
        state::signals::check()?;
        featurizer.featurize(location, read(location)?)
    };
    let dev = read(&file.data.dev)?;
    let test = file.data.test.as_deref().map(read).transpose()?;
    state::signals::check()?;
    let fingerprint = Fingerprint::new(&file, &schema, (&train, &dev), &pretrained, &devices)?;
    let Pretrained { weights, config, tokenizer: tokenizer_file, name, before } = pretrained;
    let folder = state::output::prepare(&file.output.path, &fingerprint, settings.restart)?;
    let mut trainer = network::failure::guarded(|| {
        Trainer::new(
            &file,
            &schema,
            (&train, &dev),
            (&weights, featurizer.asked(), featurizer.word_dropout()?),
            &devices,
            (folder.clone(), fingerprint),
        )
    })?;
    drop(weights);
    let title = file.output.path.display().to_string();
    note_sizes(&trainer, &train, &dev);
    let mut screen = Screen::new(style, trainer.total_steps(), &title);
    let outcome = trainer.run(&mut screen);
    drop(screen);
    let drawn = display::curves::write(&folder.file("curves.svg"), &trainer.history, trainer.total_steps(), &title);
    outcome?;
    if let Err(error) = drawn {
        tracing::warn!("{}", error.report());
    }
    let (weights, calibration, quality) = trainer.best(test.as_ref())?;
    let manifest = Manifest {
        kind: config.head.kind(),
        // A word has one tag.
        nested: if config.head.kind() == Kind::Tagger { Nesting::Flat } else { schema.nested },
        encoder: name,
        max_length: weights.encoder.architecture.max_tokens,
        recipe: recipe(&file, &config.head, before, &trainer, &train),
        ..manifest(&file, &schema, &trainer, &train, (calibration.as_ref(), quality.as_ref()))
    };
    let parts = Parts {
        weights: &weights,
        form: file.weight_form(),
        config: &config,
        tokenizer: &tokenizer_file,
        manifest: &manifest,
        extra: &[],
    };
    ModelDirectory::write(&file.output.path, &parts)?;
    folder.finish();
    console::print(&summary(&file, &schema, &trainer, (calibration.as_ref(), quality.as_ref())));
    Ok(0)
}

/// The share of a training corpus, read from `location`, that the job trains on.
fn shared(file: &TrainFile, location: &str, mut split: Split) -> Result<Split> {
    let Some(share) = file.data.share else { return Ok(split) };
    let all = split.documents.len();
    split.keep_share(share, file.recipe.seed);
    let (kept, mentions) = (split.documents.len(), split.mentions());
    if mentions == 0 {
        return Err(Error::Setting {
            origin: location.into(),
            key: "data.share".into(),
            reason: format!("the {kept} documents of the share {share} have no mention"),
            hint: "use a larger share, or another recipe.seed".into(),
        });
    }
    let [kept, all, mentions] = [kept, all, mentions].map(|count| thousands(count as u64));
    tracing::info!("{location}: {kept} of {all} documents with {mentions} mentions, a share of {share}");
    Ok(split)
}

/// Notes the sizes of the data and the number of steps.
fn note_sizes(trainer: &Trainer<'_>, train: &Data, dev: &Data) {
    let sizes = |data: &Data| {
        format!(
            "{} documents, {} queries, {} mentions",
            thousands(data.split.documents.len() as u64),
            thousands(data.examples.examples.len() as u64),
            thousands(data.split.mentions() as u64)
        )
    };
    tracing::info!("train: {}; dev: {}; {} steps", sizes(train), sizes(dev), thousands(trainer.total_steps() as u64));
}

/// Scores as written to quarry.json.
fn figures(counts: &Counts) -> serde_json::Value {
    json!({"precision": rounded(counts.precision()), "recall": rounded(counts.recall()), "f1": rounded(counts.f1())})
}

fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}

fn manifest(
    file: &TrainFile,
    schema: &EntitySchema,
    trainer: &Trainer<'_>,
    train: &Data,
    (calibration, quality): (Option<&Calibration>, Option<&Quality>),
) -> Manifest {
    let (f1, step) = trainer.position.best.unwrap_or_default();
    let mut scores = json!({"dev": {"f1": rounded(f1), "step": step}});
    if let Some(quality) = quality {
        scores["test"] = figures(&quality.all);
        for (&entity_type, counts) in &quality.types {
            scores["test"]["types"][&schema.types[entity_type].name] = figures(counts);
        }
    }
    if let Some(Calibration { before, after, held_out, .. }) = calibration {
        let error = |of: &Reliability| rounded(of.calibration_error);
        scores["dev"]["calibration_error"] = json!({
            "before": error(before),
            "after": error(after),
            "held_out": held_out.as_ref().map(error),
        });
        scores["dev"]["f1_calibrated"] = json!(rounded(after.f1));
    }
    Manifest {
        window_tokens: file.output.window_tokens.or_else(|| train.examples.usual_window()),
        words: Some(file.recipe.words),
        types: calibration.map_or(schema, |calibration| &calibration.schema).types.clone(),
        nested: schema.nested,
        scores,
        origin: file.output.origin.clone(),
        licence: file.output.licence.clone(),
        ..Manifest::default()
    }
}

/// How the model was trained, and under `before` how the model it started from was trained.
fn recipe(file: &TrainFile, head: &HeadConfig, before: Option<Value>, trainer: &Trainer<'_>, train: &Data) -> Value {
    let job = &file.recipe;
    // Kept heads have their own activation and width; the job's values apply only to new heads.
    let settings = RecipeSection {
        classifier_act_func: head.classifier_act_func,
        classifier_intermediate_hidden_size: head
            .classifier_intermediate_hidden_size
            .unwrap_or(job.classifier_intermediate_hidden_size),
        ..job.clone()
    };
    let mut recipe = json!({
        "heads": file.encoder.heads,
        "settings": settings,
        "train": {
            "share": file.data.share,
            "documents": train.split.documents.len(),
            "queries": train.examples.examples.len(),
            "mentions": train.split.mentions(),
            "sha256": train.split.hash(),
        },
        "steps": trainer.position.step,
        "seconds": trainer.position.seconds.round(),
        "tokens": trainer.position.tokens,
    });
    if let Some(before) = before {
        recipe["before"] = before;
    }
    recipe
}

fn summary(
    file: &TrainFile,
    schema: &EntitySchema,
    trainer: &Trainer<'_>,
    (calibration, quality): (Option<&Calibration>, Option<&Quality>),
) -> String {
    let position = &trainer.position;
    let mut table: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| table.push((name.to_owned(), value));
    add("model", file.output.path.display().to_string());
    add("steps", thousands(position.step as u64));
    add("time", duration(std::time::Duration::from_secs_f64(position.seconds)));
    add("throughput", format!("{} tokens/s", thousands((position.tokens as f64 / position.seconds.max(1e-9)) as u64)));
    if let Some((f1, step)) = position.best {
        add("best F1 on dev", format!("{f1:.4} at step {}", thousands(step as u64)));
    }
    if let Some(Calibration { before, after, schema, .. }) = calibration {
        let errors = [before, after].map(|of| format!("{:.4}", of.calibration_error));
        add("calibration error on dev", errors.join(" → "));
        for one in &schema.types {
            let (threshold, temperature) = (one.threshold(), one.temperature());
            add(&format!("  {}", one.name), format!("threshold {threshold}, temperature {temperature}"));
        }
    }
    if position.not_a_number > 0 {
        add("skipped steps", position.not_a_number.to_string());
    }
    if let Some(quality) = quality {
        let scores =
            |counts: &Counts| format!("{:.4} ({:.4} / {:.4})", counts.f1(), counts.precision(), counts.recall());
        add("F1 on test (precision / recall)", scores(&quality.all));
        for (&entity_type, counts) in &quality.types {
            add(&format!("  {}", schema.types[entity_type].name), scores(counts));
        }
    }
    rows(&table)
}

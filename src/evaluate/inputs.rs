//! The inputs of an evaluation. In: the settings: tables, stores, a job. Out: the locations of predicted and gold mentions, the documents
//! to score, and the model that one counting method needs. It must not read a mention.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use futures::StreamExt;
use object_store::path::Path as ObjectPath;

use super::settings::{DocumentTable, Settings};
use crate::error::{Error, Result};
use crate::job::{Job, read_schema};
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::score::counting::Counting;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::task::entity_schema::EntityType;

/// A table of mentions.
pub(super) struct Side {
    /// The location as the user named it.
    pub(super) location: String,
    /// The name of the table in errors.
    pub(super) what: &'static str,
    pub(super) store: Option<Box<Store>>,
    /// The mentions, if a model has just found them.
    pub(super) rows: Option<RecordBatch>,
}

/// Documents with their texts.
pub(super) struct Documents {
    pub(super) location: String,
    pub(super) id: String,
    pub(super) text: String,
    /// Whether only these documents are scored.
    pub(super) only: bool,
}

/// All inputs.
pub(super) struct Inputs {
    pub(super) predicted: Side,
    pub(super) gold: Side,
    pub(super) against: Option<Side>,
    pub(super) documents: Option<Documents>,
    /// For the reference implementation's counting method: the model's resolved folder and the questions.
    pub(super) reference_model: Option<(PathBuf, Vec<EntityType>)>,
}

impl Side {
    /// Files or a store.
    pub(super) async fn find(location: &str, what: &'static str) -> Result<Self> {
        let store = match StoreLocation::parse(location) {
            Ok(parsed) if is_store(&parsed).await => Some(Box::new(Store::open_existing(parsed).await?)),
            _ => None,
        };
        Ok(Self { location: location.to_owned(), what, store, rows: None })
    }

    /// The store, if this is one.
    pub(super) fn store_mut(&mut self) -> Option<&mut Store> {
        self.store.as_deref_mut()
    }
}

impl Documents {
    /// The documents that the user named, or those of the job.
    pub(super) fn of(settings: &Settings, job: Option<&Job>) -> Option<Self> {
        let named = settings.documents.clone().map(|DocumentTable { location, id, text }| Self {
            location,
            id,
            text,
            only: true,
        });
        named.or_else(|| {
            job.map(|job| Self {
                location: job.input.documents.clone(),
                id: job.input.id.clone(),
                text: job.input.text.clone(),
                only: false,
            })
        })
    }
}

/// The error for an input that nobody named.
pub(super) fn missing(key: &str, reason: &str, hint: &str) -> Error {
    Error::Setting { origin: "evaluate".into(), key: key.into(), reason: reason.into(), hint: hint.into() }
}

impl Inputs {
    /// Resolves the settings. A job stands for its store, its gold and its documents; a second job for its store.
    pub(super) async fn resolve(settings: &Settings) -> Result<Self> {
        // Each of two jobs takes the `--set` values it has placeholders for. The first refuses a value that neither has.
        let other = settings.against.as_deref().filter(|other| is_job(other));
        let in_other = |key: &str| other.is_some_and(|other| has_placeholder(other, key));
        let set = |wanted: &dyn Fn(&str) -> bool| -> Vec<(String, String)> {
            settings.set.iter().filter(|(key, _)| wanted(key)).cloned().collect()
        };
        let job = if is_job(&settings.predicted) {
            let ours = set(&|key| !in_other(key) || has_placeholder(&settings.predicted, key));
            Some(Job::read(Path::new(&settings.predicted), &ours)?)
        } else {
            None
        };
        let against = match other {
            Some(other) => Some(Job::read(Path::new(other), &set(&in_other))?.file.store.path),
            None => settings.against.clone(),
        };
        let predicted = job.as_ref().map_or(&settings.predicted, |job| &job.file.store.path);
        let gold = settings.gold.as_ref().or_else(|| job.as_ref().and_then(|job| job.file.input.gold.as_ref()));
        let gold = gold.ok_or_else(|| match &job {
            Some(_) => missing(
                "gold",
                "neither the job nor the command line names gold mentions",
                "add gold = \"…\" to [input], or name them after the job",
            ),
            None => missing("gold", "no gold mentions are named", "run quarry evaluate PREDICTED GOLD"),
        })?;
        let documents = Documents::of(settings, job.as_ref());
        let reference_model = match settings.counting {
            Counting::All => None,
            Counting::Reference(_) => {
                let model = settings.model.clone().or_else(|| job.as_ref().map(|job| job.file.model.path.clone()));
                let model = model.ok_or_else(|| {
                    missing("model", "this counting method needs the model's tokenizer", "add --model FOLDER")
                })?;
                if documents.is_none() {
                    let reason = "this counting method needs the documents' texts";
                    return Err(missing("documents", reason, "add --documents FILE"));
                }
                let model = resolve::model(&model)?;
                let types = match (&settings.schema, &job) {
                    (Some(schema), _) => read_schema(schema)?.types,
                    (None, Some(job)) => job.extraction.schema.types.clone(),
                    (None, None) => ModelDirectory::open(&model)?.manifest().types.clone(),
                };
                if types.is_empty() {
                    let reason = "the model's quarry.json has no questions";
                    return Err(missing("schema", reason, "add --schema FILE"));
                }
                Some((model, types))
            }
        };
        Ok(Self {
            predicted: Side::find(predicted, "predicted mentions").await?,
            gold: Side::find(gold, "gold mentions").await?,
            against: match &against {
                Some(other) => Some(Side::find(other, "other system's mentions").await?),
                None => None,
            },
            documents,
            reference_model,
        })
    }

    /// Whether the user named the documents to score.
    pub(super) fn names_documents(&self) -> bool {
        self.documents.as_ref().is_some_and(|documents| documents.only)
    }
}

/// Whether a location is a job file.
pub(super) fn is_job(location: &str) -> bool {
    Path::new(location).extension().is_some_and(|end| end == "toml")
}

/// Whether a job file has a placeholder for the `--set` key `key`.
fn has_placeholder(job: &str, key: &str) -> bool {
    std::fs::read_to_string(job).is_ok_and(|text| text.contains(&format!("${{{key}}}")))
}

/// Whether the location has a Delta table of entities.
async fn is_store(location: &StoreLocation) -> bool {
    if location.folder().is_some_and(|folder| !folder.is_dir()) {
        return false;
    }
    let log = location.path(&ObjectPath::from("entities/_delta_log"));
    let mut listed = location.objects().list(Some(&log));
    matches!(listed.next().await, Some(Ok(_)))
}

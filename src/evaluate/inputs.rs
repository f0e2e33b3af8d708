//! What is compared. In: the arguments: tables, stores, a job. Out: where predicted and gold mentions are, the documents they are scored
//! on, and what one way of counting needs besides. It may not read a mention.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use object_store::path::Path as ObjectPath;

use crate::cli::EvaluateArgs;
use crate::console;
use crate::error::{Error, Result};
use crate::job::{Job, read_schema};
use crate::model::package::directory::ModelDirectory;
use crate::model::package::resolve;
use crate::score::counting::Counting;
use crate::source::location::StoreLocation;
use crate::store::delta_store::Store;
use crate::task::entity_schema::EntityType;

/// Mentions somewhere.
pub(super) struct Side {
    /// As the user named it.
    pub(super) location: String,
    /// What it is to the reader of an error.
    pub(super) what: &'static str,
    pub(super) store: Option<Box<Store>>,
}

/// Documents with their texts.
pub(super) struct Documents {
    pub(super) location: String,
    pub(super) id: String,
    pub(super) text: String,
    /// Whether only these documents are scored.
    pub(super) only: bool,
}

/// Where everything comes from.
pub(super) struct Inputs {
    pub(super) predicted: Side,
    pub(super) gold: Side,
    pub(super) against: Option<Side>,
    pub(super) documents: Option<Documents>,
    /// What the reference's way of counting needs: the model's folder, wherever it was found, and the questions.
    pub(super) asked: Option<(PathBuf, Vec<EntityType>)>,
}

impl Side {
    async fn find(location: &str, what: &'static str) -> Result<Self> {
        let store = match StoreLocation::parse(location) {
            Ok(place) if holds_a_store(&place).await => Some(Box::new(Store::open_existing(place).await?)),
            _ => None,
        };
        Ok(Self { location: location.to_owned(), what, store })
    }

    /// The store, where this is one.
    pub(super) fn store_mut(&mut self) -> Option<&mut Store> {
        self.store.as_deref_mut()
    }
}

impl Inputs {
    /// Understands the arguments; a job stands for its store, its gold and its documents, another's for its store.
    pub(super) async fn resolve(arguments: &EvaluateArgs) -> Result<Self> {
        // Of two jobs each takes what it has a place for. What none has a place for the first refuses.
        let other = arguments.against.as_deref().filter(|other| is_job(other));
        let in_other = |key: &str| other.is_some_and(|other| has_place(other, key));
        let set = |wanted: &dyn Fn(&str) -> bool| -> Vec<(String, String)> {
            arguments.set.iter().filter(|(key, _)| wanted(key)).cloned().collect()
        };
        let job = if is_job(&arguments.predicted) {
            let ours = set(&|key| !in_other(key) || has_place(&arguments.predicted, key));
            Some(Job::read(Path::new(&arguments.predicted), &ours)?)
        } else {
            None
        };
        let against = match other {
            Some(other) => Some(Job::read(Path::new(other), &set(&in_other))?.file.store.path),
            None => arguments.against.clone(),
        };
        let missing = |key: &str, reason: &str, hint: &str| Error::Setting {
            origin: "evaluate".into(),
            key: key.into(),
            reason: reason.into(),
            hint: hint.into(),
        };
        let predicted = job.as_ref().map_or(&arguments.predicted, |job| &job.file.store.path);
        let gold = arguments.gold.as_ref().or_else(|| job.as_ref().and_then(|job| job.file.input.gold.as_ref()));
        let gold = gold.ok_or_else(|| match &job {
            Some(_) => missing(
                "gold",
                "neither the job nor the command names gold mentions",
                "add gold = \"…\" to [input], or name them after the job",
            ),
            None => missing("gold", "no gold mentions are named", "say quarry evaluate PREDICTED GOLD"),
        })?;
        let named = arguments.documents.as_ref().map(|location| Documents {
            location: location.clone(),
            id: arguments.id.clone(),
            text: arguments.text.clone(),
            only: true,
        });
        let documents = named.or_else(|| {
            job.as_ref().map(|job| Documents {
                location: job.input.documents.clone(),
                id: job.input.id.clone(),
                text: job.input.text.clone(),
                only: false,
            })
        });
        let asked = match arguments.counting {
            Counting::All => None,
            Counting::Reference(_) => {
                let model = arguments.model.clone().or_else(|| job.as_ref().map(|job| job.file.model.path.clone()));
                let model = model.ok_or_else(|| {
                    missing("model", "this way of counting needs the model's tokenizer", "add --model FOLDER")
                })?;
                if documents.is_none() {
                    let reason = "this way of counting needs the documents' texts";
                    return Err(missing("documents", reason, "add --documents FILE"));
                }
                let model = resolve::model(&model, &console::note)?;
                let types = match (&arguments.schema, &job) {
                    (Some(schema), _) => read_schema(schema)?.types,
                    (None, Some(job)) => job.schema.types.clone(),
                    (None, None) => ModelDirectory::open(&model)?.manifest().types.clone(),
                };
                if types.is_empty() {
                    let reason = "the model does not say which questions it was asked";
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
            asked,
        })
    }

    /// Whether the user named the documents that are scored.
    pub(super) fn names_documents(&self) -> bool {
        self.documents.as_ref().is_some_and(|documents| documents.only)
    }
}

/// Whether a location is that of a job file.
fn is_job(location: &str) -> bool {
    Path::new(location).extension().is_some_and(|end| end == "toml")
}

/// Whether a job file has a place for what `--set` has for `key`.
fn has_place(job: &str, key: &str) -> bool {
    std::fs::read_to_string(job).is_ok_and(|text| text.contains(&format!("${{{key}}}")))
}

/// Whether there is a table of entities with a transaction log.
async fn holds_a_store(place: &StoreLocation) -> bool {
    if place.folder().is_some_and(|folder| !folder.is_dir()) {
        return false;
    }
    let log = place.path(&ObjectPath::from("entities/_delta_log"));
    let mut listed = place.objects().list(Some(&log));
    matches!(listed.next().await, Some(Ok(_)))
}

//! What is compared. In: the arguments: tables, stores, a job. Out: views of predicted and gold mentions in one session, the
//! documents they are scored on, and remarks on what was left out. It may not score.

use std::path::{Path, PathBuf};

use datafusion::prelude::SessionContext;
use futures::StreamExt;
use object_store::path::Path as ObjectPath;

use super::{AGAINST, GOLD, PREDICTED};
use crate::cli::EvaluateArgs;
use crate::console;
use crate::engine::attach::{Attachment, Kind};
use crate::engine::location::StoreLocation;
use crate::engine::mentions::{Columns, SCOPE, Tally, check, normalize, tally};
use crate::engine::query::{keep, register};
use crate::engine::scores::count;
use crate::engine::session::register_store_as;
use crate::engine::store::Store;
use crate::error::{Error, Result};
use crate::job::{Job, read_schema};
use crate::model::directory::ModelDirectory;
use crate::model::find;
use crate::mrc::query::EntityType;
use crate::mrc::score::counting::Counting;

/// The view of the documents' texts: `doc_id` and text, one row each.
pub(super) const TEXTS: &str = "document_texts";

/// Mentions somewhere.
pub(super) struct Side {
    /// As the user named it.
    pub(super) location: String,
    what: &'static str,
    store: Option<Box<Store>>,
}

/// Documents with their texts.
struct Documents {
    location: String,
    id: String,
    text: String,
    /// Whether only these documents are scored.
    only: bool,
}

/// Where everything comes from.
pub(super) struct Inputs {
    pub(super) predicted: Side,
    gold: Side,
    against: Option<Side>,
    documents: Option<Documents>,
    /// What the reference's way of counting needs: the model's folder, wherever it was found, and the questions.
    pub(super) asked: Option<(PathBuf, Vec<EntityType>)>,
}

/// A side as it is in the session.
#[derive(Debug, Clone)]
pub(super) struct LoadedSide {
    pub(super) location: String,
    pub(super) tally: Tally,
    pub(super) columns: Columns,
}

/// Everything as it is in the session.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) predicted: LoadedSide,
    pub(super) gold: LoadedSide,
    pub(super) against: Option<LoadedSide>,
    /// Whether there are texts.
    pub(super) documents: bool,
    /// How many documents are scored.
    pub(super) scored: usize,
}

impl Inputs {
    /// Whether the user named the documents that are scored.
    pub(super) fn names_documents(&self) -> bool {
        self.documents.as_ref().is_some_and(|documents| documents.only)
    }
}

impl Loaded {
    /// The tables of mentions: predicted, gold, and perhaps the other system's.
    pub(super) fn sides(&self) -> impl Iterator<Item = &LoadedSide> {
        [Some(&self.predicted), Some(&self.gold), self.against.as_ref()].into_iter().flatten()
    }

    /// Whether every table's ids are integers.
    pub(super) fn integer_ids(&self) -> bool {
        self.sides().all(|side| side.columns.integer_ids)
    }
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

    /// Registers the mentions as they are, and a store's documents as a part of the scope.
    async fn attach(&self, context: &SessionContext, view: &str, lists: &mut Vec<String>) -> Result<Columns> {
        let raw = raw(view);
        let files = Attachment { table: &raw, what: self.what, location: &self.location };
        let Some(store) = &self.store else {
            let schema = files.register(context).await?;
            return check(&files, &schema);
        };
        let prefix = format!("{view}_");
        register_store_as(context, store, &prefix).await?;
        register(context, &raw, &format!("SELECT * FROM {prefix}current_entities")).await?;
        let scope = format!("documents_of_{view}");
        let ids = format!("SELECT CAST(doc_id AS varchar) AS doc_id FROM {prefix}current_documents");
        register(context, &scope, &ids).await?;
        lists.push(scope);
        check(&files, &store.schema(crate::tables::Table::Entities))
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
                let model = find::model(&model, &console::note)?;
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

    /// Makes the views of mentions that count.
    pub(super) async fn load(&self, context: &SessionContext) -> Result<Loaded> {
        let mut lists = Vec::new();
        let mut sides = Vec::new();
        let all = [(Some(&self.predicted), PREDICTED), (Some(&self.gold), GOLD), (self.against.as_ref(), AGAINST)];
        for (side, view) in all {
            if let Some(side) = side {
                sides.push((side, view, side.attach(context, view, &mut lists).await?));
            }
        }
        let mut documents = false;
        if let Some(named) = &self.documents {
            match named.attach(context, &mut lists).await {
                Ok(()) => documents = true,
                // A job's documents only give context; they may be gone.
                Err(cause) if !named.only && self.asked.is_none() => {
                    console::note(&format!("errors are shown without their context: {cause}"));
                }
                Err(cause) => return Err(cause),
            }
        }
        if !lists.is_empty() {
            let each: Vec<String> = lists.iter().map(|scope| format!("SELECT doc_id FROM {scope}")).collect();
            keep(context, SCOPE, &format!("SELECT DISTINCT doc_id AS scored_id FROM ({})", each.join(" INTERSECT ")))
                .await?;
        }
        let limited = !lists.is_empty();
        let mut loaded = Vec::new();
        for (side, view, columns) in sides {
            normalize(context, &raw(view), view, columns, limited).await?;
            let tally = tally(context, &raw(view), limited).await?;
            loaded.push(LoadedSide { location: side.location.clone(), tally, columns });
        }
        let scored = if limited {
            count(context, &format!("SELECT count(*) FROM {SCOPE}")).await?
        } else {
            let views = [PREDICTED, GOLD, AGAINST].into_iter().take(loaded.len());
            let each: Vec<String> = views.map(|view| format!("SELECT doc_id FROM {view}")).collect();
            count(context, &format!("SELECT count(DISTINCT doc_id) FROM ({})", each.join(" UNION ALL "))).await?
        };
        let mut loaded = loaded.into_iter();
        let (Some(predicted), Some(gold)) = (loaded.next(), loaded.next()) else {
            return Err(Error::Engine { doing: "load the mentions".into(), source: "a table is missing".into() });
        };
        Ok(Loaded { predicted, gold, against: loaded.next(), documents, scored })
    }
}

impl Documents {
    /// Makes the view of texts, and of the documents as a part of the scope where only they are scored.
    async fn attach(&self, context: &SessionContext, lists: &mut Vec<String>) -> Result<()> {
        let files = Attachment { table: "raw_documents", what: "documents", location: &self.location };
        let schema = files.register(context).await?;
        let hint = "name the columns with --id and --text";
        files.expect(&schema, &self.id, Kind::Id, hint)?;
        files.expect(&schema, &self.text, Kind::Text, hint)?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let rows = format!(
            "SELECT CAST({} AS varchar) AS doc_id, {} AS text FROM raw_documents WHERE {} IS NOT NULL",
            quoted(&self.id),
            quoted(&self.text),
            quoted(&self.id)
        );
        let repeated = count(context, &format!("SELECT count(*) - count(DISTINCT doc_id) FROM ({rows})")).await?;
        if repeated > 0 {
            console::warn(&format!(
                "`{}`: {repeated} row(s) repeat the id of another; the first text by its letters is shown",
                self.location
            ));
            register(context, TEXTS, &format!("SELECT doc_id, min(text) AS text FROM ({rows}) GROUP BY doc_id"))
                .await?;
        } else {
            register(context, TEXTS, &rows).await?;
        }
        if self.only {
            register(context, "documents_named", &format!("SELECT doc_id FROM ({rows})")).await?;
            lists.push("documents_named".to_owned());
        }
        Ok(())
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

fn raw(view: &str) -> String {
    format!("raw_{view}")
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

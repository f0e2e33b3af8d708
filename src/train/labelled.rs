//! Prepared folders → [`Labelled`] documents. In: `documents.parquet` and `gold.parquet`, as `quarry prepare` writes them, or the same
//! as JSON Lines or CSV, anywhere. Out: documents with their gold mentions, in the order of their ids. It may not tokenize.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};

use super::file::{DataSection, ExtraSection};
use super::recipe::OnProblem;
use crate::console;
use crate::engine::attach::{Attachment, Kind};
use crate::engine::mentions;
use crate::engine::query::{query, words};
use crate::error::{Error, Result};
use crate::model::hash::hexadecimal;
use crate::mrc::query::EntitySchema;
use crate::mrc::span::CharSpan;

/// A document and what is to be found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Its id, as text.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its gold mentions, by place and type.
    pub mentions: Vec<Gold>,
    /// The types that are labelled in it, as places in the schema, ascending: what may be asked of it.
    pub asked: Arc<[usize]>,
}

/// A gold mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gold {
    /// Code points of the document's text.
    pub chars: CharSpan,
    /// Its type's place in the schema.
    pub entity_type: usize,
}

/// Labelled documents of one split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// In the order of their ids, source by source.
    pub documents: Vec<Labelled>,
    /// Gold mentions of types that are not asked for, left out.
    pub unknown_types: usize,
}

impl Split {
    /// How many gold mentions there are.
    pub fn mentions(&self) -> usize {
        self.documents.iter().map(|document| document.mentions.len()).sum()
    }

    /// SHA-256 over ids, texts, mentions and, where they differ, the types asked for, in hexadecimal: what was learned from.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for document in &self.documents {
            hasher.update(format!("{}\0{}\0", document.id, document.text));
            for Gold { chars, entity_type } in &document.mentions {
                hasher.update(format!("{} {} {entity_type}\0", chars.start, chars.end));
            }
            if document.asked != self.documents[0].asked {
                hasher.update(format!("{:?}\0", document.asked));
            }
        }
        hexadecimal(&hasher.finalize())
    }

    /// Adds the documents of another source.
    pub fn extend(&mut self, other: Self) {
        self.documents.extend(other.documents);
        self.unknown_types += other.unknown_types;
    }

    /// Reads the split in `location`: a folder with `documents` and `gold` tables.
    pub async fn read(
        context: &SessionContext,
        location: &str,
        data: &DataSection,
        schema: &EntitySchema,
    ) -> Result<Self> {
        let labels = Labels::new(schema, data.unknown_types, None)?;
        Self::read_source(context, location, data, &labels).await
    }

    /// Reads one of the sources beside the training split.
    pub async fn read_extra(
        context: &SessionContext,
        extra: &ExtraSection,
        data: &DataSection,
        schema: &EntitySchema,
    ) -> Result<Self> {
        let labels = Labels::new(schema, data.unknown_types, Some(extra))?;
        Self::read_source(context, &extra.path, data, &labels).await
    }

    async fn read_source(
        context: &SessionContext,
        location: &str,
        data: &DataSection,
        labels: &Labels,
    ) -> Result<Self> {
        let documents =
            Attachment { table: "train_documents", what: "documents", location: &table(location, "documents") };
        let found = documents.register(context).await?;
        let hint = "`quarry prepare` writes doc_id and text; name others as data.id and data.text";
        documents.expect(&found, &data.id, Kind::Id, hint)?;
        documents.expect(&found, &data.text, Kind::Text, hint)?;
        let gold = Attachment { table: "train_gold_rows", what: "gold mentions", location: &table(location, "gold") };
        let columns = mentions::check(&gold, &gold.register(context).await?)?;
        mentions::normalize(context, gold.table, "train_gold", columns, false).await?;
        let (mut golds, unknown) = gold_by_document(context, labels).await?;
        if labels.unknown == OnProblem::Stop && !unknown.is_empty() {
            let mut names: Vec<&str> = unknown.keys().map(String::as_str).collect();
            names.sort_unstable();
            return Err(gold.refuse(
                format!("the schema has no question for {}", names.join(", ")),
                "add a [[type]] for each to the schema, or say data.unknown_types = \"skip\"; of [[data.extra]] also types or rename",
            ));
        }
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let sql = format!(
            "SELECT CAST({id} AS varchar) AS doc_id, CAST({text} AS varchar) AS text FROM train_documents
             WHERE {id} IS NOT NULL AND {text} IS NOT NULL ORDER BY doc_id",
            id = quoted(&data.id),
            text = quoted(&data.text)
        );
        let mut split = Self { unknown_types: unknown.values().sum(), ..Self::default() };
        for batch in query(context, &sql).await? {
            for (id, text) in words(&batch, 0)?.into_iter().zip(words(&batch, 1)?) {
                if split.documents.last().is_some_and(|last| last.id == id) {
                    return Err(documents.refuse(format!("the id `{id}` is there twice"), "ids must be unique"));
                }
                let mut mentions = golds.remove(&id).unwrap_or_default();
                let length = text.chars().count();
                if let Some(beyond) = mentions.iter().find(|mention| mention.chars.end > length) {
                    return Err(gold.refuse(
                        format!(
                            "a mention of `{id}` ends at {}, but its text has {length} characters",
                            beyond.chars.end
                        ),
                        "positions count code points from 0, not bytes or UTF-16 units; the end is behind the last one",
                    ));
                }
                mentions.sort_unstable();
                mentions.dedup();
                split.documents.push(Labelled { id, text, mentions, asked: labels.asked.clone() });
            }
        }
        if split.documents.is_empty() {
            return Err(documents.refuse("there is no document with a text", "name a split that has some"));
        }
        if !golds.is_empty() {
            let mut ids: Vec<&str> = golds.keys().map(String::as_str).collect();
            ids.sort_unstable();
            return Err(gold.refuse(
                format!("{} of its doc_ids are no documents with a text, such as `{}`", ids.len(), ids[0]),
                "documents and gold must be of the same split",
            ));
        }
        if split.mentions() == 0 {
            return Err(gold.refuse("there is no mention of any type asked for", "name the right split and schema"));
        }
        if split.unknown_types > 0 {
            console::warn(&format!(
                "{location}: {} gold mentions of types that are not asked for are left out",
                split.unknown_types
            ));
        }
        Ok(split)
    }
}

/// What the labels of a source mean.
struct Labels {
    /// Label → place in the schema.
    places: HashMap<String, usize>,
    /// The types that are labelled there, ascending.
    asked: Arc<[usize]>,
    /// What to do about other labels.
    unknown: OnProblem,
}

impl Labels {
    fn new(schema: &EntitySchema, unknown: OnProblem, extra: Option<&ExtraSection>) -> Result<Self> {
        let place = |key: &str, name: &str| {
            let found = schema.types.iter().position(|one| one.name == name);
            found.ok_or_else(|| Error::Setting {
                origin: "the training job".into(),
                key: format!("data.extra.{key}"),
                reason: format!("the schema has no type `{name}`"),
                hint: "its types are those of the schema's [[type]] tables; rename = { theirs = \"ours\" }".into(),
            })
        };
        let renamed = extra.map_or_else(BTreeMap::new, |extra| extra.rename.clone());
        let mut asked: Vec<usize> = match extra.and_then(|extra| extra.types.as_ref()) {
            Some(types) => types.iter().map(|name| place("types", name)).collect::<Result<_>>()?,
            None => (0..schema.types.len()).collect(),
        };
        asked.sort_unstable();
        asked.dedup();
        let own = schema.types.iter().enumerate().map(|(place, one)| (one.name.clone(), place));
        let mut places: HashMap<String, usize> = own.filter(|(name, _)| !renamed.contains_key(name)).collect();
        for (theirs, ours) in &renamed {
            places.insert(theirs.clone(), place("rename", ours)?);
        }
        places.retain(|_, place| asked.binary_search(place).is_ok());
        let chosen = extra.is_some_and(|extra| extra.types.is_some());
        Ok(Self { places, asked: asked.into(), unknown: if chosen { OnProblem::Skip } else { unknown } })
    }
}

/// The documents or gold table in a folder or under a URL: the Parquet file, or another of that name.
fn table(location: &str, name: &str) -> String {
    let base = location.trim_end_matches('/');
    let endings = ["parquet", "jsonl", "csv"];
    let local = endings.iter().map(|ending| format!("{base}/{name}.{ending}")).find(|path| Path::new(path).exists());
    local.unwrap_or_else(|| format!("{base}/{name}.parquet"))
}

type ByDocument = HashMap<String, Vec<Gold>>;

/// Gold mentions by document, and how many there are of each type that is not asked for.
async fn gold_by_document(context: &SessionContext, labels: &Labels) -> Result<(ByDocument, HashMap<String, usize>)> {
    let (mut golds, mut unknown) = (ByDocument::new(), HashMap::new());
    let sql = "SELECT doc_id, entity_type, CAST(start_char AS bigint), CAST(end_char AS bigint) FROM train_gold";
    for batch in query(context, sql).await? {
        let (ids, types) = (words(&batch, 0)?, words(&batch, 1)?);
        let (starts, ends) = (positions(&batch, 2)?, positions(&batch, 3)?);
        for (((id, name), start), end) in ids.into_iter().zip(types).zip(starts).zip(ends) {
            match labels.places.get(name.as_str()) {
                Some(&entity_type) => {
                    golds.entry(id).or_default().push(Gold { chars: CharSpan::new(start, end), entity_type });
                }
                None => *unknown.entry(name).or_default() += 1,
            }
        }
    }
    Ok((golds, unknown))
}

fn positions(batch: &RecordBatch, column: usize) -> Result<Vec<usize>> {
    let values = batch.column(column).as_primitive_opt::<Int64Type>().ok_or_else(|| Error::Engine {
        doing: "read gold mentions".into(),
        source: "a position is no integer".into(),
    })?;
    Ok(values.values().iter().map(|&value| usize::try_from(value).unwrap_or(0)).collect())
}

//! Prepared folders → [`LabelledDocument`] documents. In: `documents.parquet` and `gold.parquet`, as `quarry prepare` writes them, or the same
//! as JSON Lines or CSV, anywhere. Out: documents with their gold mentions, in the order of their ids, each mention held against what gold
//! says that it covers. It may not tokenize.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::machine::hash::hexadecimal;
use crate::query::external_table::{ExternalTable, Kind};
use crate::query::mention_table;
use crate::query::statement::{query, string_column};
use crate::task::entity_schema::EntitySchema;
use crate::text::span::{ByteSpan, CharSpan, same_words};
use crate::train::data::labels::{Found, Labels};
use crate::train::data::remarks;
use crate::train::file::{DataSection, ExtraSection};

/// What to do about offsets that do not fit.
const OFFSETS: &str =
    "offsets count Unicode characters (code points) from 0, not bytes or UTF-16 units; the end is behind the last one";

/// A document and what is to be found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledDocument {
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

/// LabelledDocument documents of one split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// In the order of their ids, source by source.
    pub documents: Vec<LabelledDocument>,
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
        labels: &Labels<'_>,
    ) -> Result<Self> {
        let documents =
            ExternalTable { table: "train_documents", what: "documents", location: &table(location, "documents") };
        let found = documents.register(context).await?;
        let hint = "`quarry prepare` writes doc_id and text; name others as data.id and data.text";
        documents.expect(&found, &data.id, Kind::Id, hint)?;
        documents.expect(&found, &data.text, Kind::Text, hint)?;
        let gold =
            ExternalTable { table: "train_gold_rows", what: "gold mentions", location: &table(location, "gold") };
        let columns = mention_table::check(&gold, &gold.register(context).await?)?;
        mention_table::normalize(context, gold.table, "train_gold", columns, false).await?;
        remarks::gold(context, &gold).await?;
        let (mut golds, found) = gold_by_document(context, labels).await?;
        labels.check(&found, &gold)?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let (id, text) = (quoted(&data.id), quoted(&data.text));
        remarks::documents(context, &documents, &id, &text).await?;
        let sql = format!(
            "SELECT CAST({id} AS varchar) AS doc_id, CAST({text} AS varchar) AS text FROM train_documents
             WHERE {id} IS NOT NULL AND {text} IS NOT NULL ORDER BY doc_id"
        );
        let mut split = Self::default();
        for batch in query(context, &sql).await? {
            for (id, text) in string_column(&batch, 0)?.into_iter().zip(string_column(&batch, 1)?) {
                if split.documents.last().is_some_and(|last| last.id == id) {
                    return Err(documents.refuse(format!("the id `{id}` is there twice"), "ids must be unique"));
                }
                let mentions = placed(&id, &text, golds.remove(&id).unwrap_or_default(), &gold)?;
                split.documents.push(LabelledDocument { id, text, mentions, asked: labels.asked.clone() });
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
        Ok(split)
    }
}

/// The documents or gold table in a folder or under a URL: the Parquet file, or another of that name.
fn table(location: &str, name: &str) -> String {
    let base = location.trim_end_matches('/');
    let endings = ["parquet", "jsonl", "csv"];
    let local = endings.iter().map(|ending| format!("{base}/{name}.{ending}")).find(|path| Path::new(path).exists());
    local.unwrap_or_else(|| format!("{base}/{name}.parquet"))
}

/// A gold mention, and what gold says that it covers; empty where gold does not say.
type Said = (Gold, String);

/// Gold mentions by document, and how many there are of each label.
async fn gold_by_document(
    context: &SessionContext,
    labels: &Labels<'_>,
) -> Result<(HashMap<String, Vec<Said>>, Found)> {
    let (mut golds, mut found) = (HashMap::<String, Vec<Said>>::new(), Found::new());
    let sql = "SELECT doc_id, entity_type, CAST(start_char AS bigint), CAST(end_char AS bigint), text FROM train_gold";
    for batch in query(context, sql).await? {
        let (ids, types, texts) = (string_column(&batch, 0)?, string_column(&batch, 1)?, string_column(&batch, 4)?);
        let (starts, ends) = (positions(&batch, 2)?, positions(&batch, 3)?);
        for ((((id, label), start), end), text) in ids.into_iter().zip(types).zip(starts).zip(ends).zip(texts) {
            if let Some(entity_type) = labels.place(&label) {
                golds.entry(id).or_default().push((Gold { chars: CharSpan::new(start, end), entity_type }, text));
            }
            *found.entry(label).or_default() += 1;
        }
    }
    Ok((golds, found))
}

fn positions(batch: &RecordBatch, column: usize) -> Result<Vec<usize>> {
    let values = batch.column(column).as_primitive_opt::<Int64Type>().ok_or_else(|| Error::Engine {
        doing: "read gold mentions".into(),
        source: "a position is no integer".into(),
    })?;
    Ok(values.values().iter().map(|&value| usize::try_from(value).unwrap_or(0)).collect())
}

/// The gold mentions of the document `id`, in the order of their places, each once.
///
/// # Errors
/// [`Error::Table`] where one lies outside `text`, or covers something else than gold says.
fn placed(id: &str, text: &str, mut said: Vec<Said>, gold: &ExternalTable<'_>) -> Result<Vec<Gold>> {
    let length = text.chars().count();
    if let Some((beyond, _)) = said.iter().find(|(mention, _)| mention.chars.end > length) {
        let end = beyond.chars.end;
        return Err(
            gold.refuse(format!("a mention of `{id}` ends at {end}, but its text has {length} characters"), OFFSETS)
        );
    }
    said.sort_unstable();
    let (mut mentions, surfaces): (Vec<Gold>, Vec<String>) = said.into_iter().unzip();
    for ((mention, surface), bytes) in mentions.iter().zip(&surfaces).zip(byte_spans(text, &mentions)) {
        let covered = bytes.of(text);
        if !surface.is_empty() && !same_words(covered, surface) {
            let CharSpan { start, end, .. } = mention.chars;
            return Err(gold.refuse(
                format!(
                    "a mention of `{id}` is `{surface}`, but characters {start} to {end} of its text are `{covered}`"
                ),
                OFFSETS,
            ));
        }
    }
    mentions.dedup();
    Ok(mentions)
}

/// The bytes of mentions inside `text`, which are in the order of their starts.
pub(crate) fn byte_spans(text: &str, mentions: &[Gold]) -> Vec<ByteSpan> {
    let (mut chars, mut byte) = (0, 0);
    let after =
        |byte: usize, count: usize| text[byte..].char_indices().nth(count).map_or(text.len(), |(at, _)| byte + at);
    let mut spans = Vec::with_capacity(mentions.len());
    for Gold { chars: span, .. } in mentions {
        byte = after(byte, span.start - chars);
        chars = span.start;
        spans.push(ByteSpan::new(byte, after(byte, span.len())));
    }
    spans
}

//! Prepared folders → [`LabelledDocument`]s. In: `documents.parquet` and `gold.parquet` as `quarry prepare` writes them, or the same
//! tables as JSON Lines or CSV, local or remote. Out: documents with their gold mentions, sorted by id, each mention checked against the
//! text that gold gives for it. It must not tokenize.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::machine::hash::hexadecimal;
use crate::query::external_table::{ExternalTable, Kind};
use crate::query::mention_table;
use crate::query::statement::query;
use crate::tables::result_row::result_rows;
use crate::task::entity_schema::EntitySchema;
use crate::text::span::{ByteSpan, CharSpan, same_words};
use crate::train::data::labels::{LabelCounts, Labels};
use crate::train::data::remarks;
use crate::train::file::{DataSection, ExtraSection};

/// The hint about offsets that do not match the text.
const OFFSETS: &str =
    "offsets count Unicode characters (code points) from 0, not bytes or UTF-16 units; the end is exclusive";

/// A document with its gold mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledDocument {
    /// Its id, as text.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its gold mentions, by position and type.
    pub mentions: Vec<Gold>,
    /// The types that are labelled in it, as ascending indices into the schema. Only these are asked for.
    pub labelled_types: Arc<[usize]>,
}

/// A gold mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gold {
    /// Its span in code points of the document's text.
    pub chars: CharSpan,
    /// The index of its type in the schema.
    pub entity_type: usize,
}

/// The labelled documents of one split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Sorted by id within each source.
    pub documents: Vec<LabelledDocument>,
}

impl Split {
    /// The number of gold mentions.
    pub fn mentions(&self) -> usize {
        self.documents.iter().map(|document| document.mentions.len()).sum()
    }

    /// SHA-256 over ids, texts, mentions and labelled types, in hexadecimal: identifies the training data.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for document in &self.documents {
            hasher.update(format!("{}\0{}\0", document.id, document.text));
            for Gold { chars, entity_type } in &document.mentions {
                hasher.update(format!("{} {} {entity_type}\0", chars.start, chars.end));
            }
            hasher.update(format!("{:?}\0", document.labelled_types));
        }
        hexadecimal(&hasher.finalize())
    }

    /// Keeps a share of the documents, rounded up, in their order. Which ones depends on `seed` and their ids alone, so a smaller share is a
    /// part of a larger one.
    pub fn keep_share(&mut self, share: f64, seed: u64) {
        let digest = |document: &LabelledDocument| Sha256::digest(format!("{seed}\0{}", document.id));
        let mut drawn: Vec<_> =
            self.documents.iter().map(digest).enumerate().map(|(index, drawn)| (drawn, index)).collect();
        drawn.sort_unstable();
        // A product such as 0.07 · 100 is a little more than 7.
        let kept = (share * drawn.len() as f64 - 1e-9).ceil().max(1.0) as usize;
        let kept: HashSet<usize> = drawn.into_iter().take(kept).map(|(_, index)| index).collect();
        let mut index = 0..;
        self.documents.retain(|_| index.next().is_some_and(|index| kept.contains(&index)));
    }

    /// Adds the documents of another source.
    pub fn extend(&mut self, other: Self) {
        self.documents.extend(other.documents);
    }

    /// Reads the split at `location`: a folder with `documents` and `gold` tables.
    pub async fn read(
        context: &SessionContext,
        location: &str,
        data: &DataSection,
        schema: &EntitySchema,
    ) -> Result<Self> {
        let labels = Labels::new(schema, data, None)?;
        Self::read_source(context, location, data, &labels).await
    }

    /// Reads an additional training corpus.
    pub async fn read_extra(
        context: &SessionContext,
        extra: &ExtraSection,
        data: &DataSection,
        schema: &EntitySchema,
    ) -> Result<Self> {
        let labels = Labels::new(schema, data, Some(extra))?;
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
        for row in result_rows(&query(context, &sql).await?) {
            let (id, text): (String, String) = (row.get("doc_id")?, row.get("text")?);
            if split.documents.last().is_some_and(|last| last.id == id) {
                return Err(documents.refuse(format!("the id `{id}` occurs twice"), "ids must be unique"));
            }
            let mentions = checked_mentions(&id, &text, golds.remove(&id).unwrap_or_default(), &gold)?;
            let labelled_types = labels.labelled_types.clone();
            split.documents.push(LabelledDocument { id, text, mentions, labelled_types });
        }
        if split.documents.is_empty() {
            return Err(documents.refuse("it contains no document with a text", "name a split with documents"));
        }
        if !golds.is_empty() {
            let mut ids: Vec<&str> = golds.keys().map(String::as_str).collect();
            ids.sort_unstable();
            return Err(gold.refuse(
                format!("{} of its doc_ids have no document with a text, such as `{}`", ids.len(), ids[0]),
                "documents and gold must belong to the same split",
            ));
        }
        if split.mentions() == 0 {
            return Err(gold.refuse("it contains no mention of the schema's types", "check the split and the schema"));
        }
        Ok(split)
    }
}

/// The documents or gold table in a folder or under a URL: the Parquet file, or in a folder the same table in another format.
fn table(location: &str, name: &str) -> String {
    let base = location.trim_end_matches('/');
    let endings = ["parquet", "jsonl", "csv"];
    let local = endings.iter().map(|ending| format!("{base}/{name}.{ending}")).find(|path| Path::new(path).exists());
    local.unwrap_or_else(|| format!("{base}/{name}.parquet"))
}

/// A gold mention and the text that the gold table gives for it; empty if it gives none.
type GoldRow = (Gold, String);

/// Gold mentions by document, and the number of mentions of each label.
async fn gold_by_document(
    context: &SessionContext,
    labels: &Labels<'_>,
) -> Result<(HashMap<String, Vec<GoldRow>>, LabelCounts)> {
    let (mut golds, mut found) = (HashMap::<String, Vec<GoldRow>>::new(), LabelCounts::new());
    let sql = "SELECT doc_id, entity_type, start_char, end_char, text FROM train_gold";
    for row in result_rows(&query(context, sql).await?) {
        let label: String = row.get("entity_type")?;
        if let Some(entity_type) = labels.type_index(&label) {
            let chars = CharSpan::new(row.get("start_char")?, row.get("end_char")?);
            let text = row.get::<Option<String>>("text")?.unwrap_or_default();
            golds.entry(row.get("doc_id")?).or_default().push((Gold { chars, entity_type }, text));
        }
        *found.entry(label).or_default() += 1;
    }
    Ok((golds, found))
}

/// The gold mentions of the document `id`, sorted by position, without duplicates.
///
/// # Errors
/// [`crate::error::Error::Table`] if one lies outside `text`, or covers another text than gold gives.
fn checked_mentions(id: &str, text: &str, mut rows: Vec<GoldRow>, gold: &ExternalTable<'_>) -> Result<Vec<Gold>> {
    let length = text.chars().count();
    if let Some((beyond, _)) = rows.iter().find(|(mention, _)| mention.chars.end > length) {
        let end = beyond.chars.end;
        return Err(
            gold.refuse(format!("a mention of `{id}` ends at {end}, but its text has {length} characters"), OFFSETS)
        );
    }
    rows.sort_unstable();
    let (mut mentions, surfaces): (Vec<Gold>, Vec<String>) = rows.into_iter().unzip();
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

/// The byte spans of mentions of `text`, which must be sorted by start.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn split(documents: usize) -> Split {
        let document = |number: usize| LabelledDocument {
            id: format!("{number:03}"),
            text: String::new(),
            mentions: Vec::new(),
            labelled_types: Arc::new([]),
        };
        Split { documents: (0..documents).map(document).collect() }
    }

    #[test]
    fn a_smaller_share_is_a_part_of_a_larger_one() {
        let kept = |share: f64, seed: u64| -> Vec<String> {
            let mut split = split(100);
            split.keep_share(share, seed);
            split.documents.into_iter().map(|document| document.id).collect()
        };
        let shares = [0.001, 0.01, 0.07, 0.5, 1.0].map(|share| kept(share, 7));
        assert_eq!(shares.each_ref().map(Vec::len), [1, 1, 7, 50, 100]);
        for pair in shares.windows(2) {
            assert!(pair[0].iter().all(|id| pair[1].contains(id)), "{pair:?}");
            assert!(pair[0].is_sorted(), "{pair:?}");
        }
        assert_eq!(kept(0.5, 7), shares[3]);
        assert_ne!(kept(0.5, 8), shares[3]);
    }
}

//! The documents of the page. In: the sampled documents, their mentions, their texts. Out: rows for the page's script, with offsets in
//! UTF-16 units as JavaScript counts. It must not exceed a size that a browser opens without delay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::embed::embed;
use super::sample::{Chosen, Rule, choose};
use super::scope::Scope;
use super::summary::Summary;
use super::tables::{MATCHED, MENTIONS};
use super::texts;
use crate::console::thousands;
use crate::error::{Error, Result};
use crate::query::statement::query;
use crate::tables::result_row::result_rows;

/// The maximum bytes of documents on a page; a browser opens a page of this size without delay.
const PAGE_BYTES: usize = 16 << 20;
/// The maximum code points of one document on a page.
const MAX_CHARACTERS: usize = 50_000;
/// The table with the ids of the sampled documents.
const CHOSEN: &str = "report_chosen";

/// The documents of the page, and remarks about them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Documents {
    pub(super) rule: Rule,
    pub(super) rows: Vec<Row>,
    /// Notes about texts and documents that are not shown.
    pub(super) remarks: Vec<String>,
}

/// A document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    /// The name of its file.
    pub(super) source: String,
    pub(super) characters: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// Why the text is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<String>,
    /// Code points of the text that are not shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) cut: usize,
    /// Type, start, end, score, state; start and end in UTF-16 units of the text, in code points where there is none.
    pub(super) mentions: Vec<(usize, usize, usize, Score, u8)>,
    /// The mentions' texts, if the document has no text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) names: Vec<String>,
}

/// A score in thousandths; -1 for a missed mention, which has no score.
type Score = i32;

/// A mention as in the tables.
#[derive(Debug, Clone, PartialEq)]
struct Mention {
    entity_type: usize,
    start: usize,
    end: usize,
    score: Score,
    /// 0 without gold, 1 right, 2 wrong, 3 missed.
    state: u8,
    text: String,
}

impl Documents {
    /// Samples at most `limit` documents and reads their texts and mentions.
    pub(super) async fn read(
        context: &SessionContext,
        scope: &Scope,
        summary: &Summary,
        limit: usize,
        matched: bool,
    ) -> Result<Self> {
        let (rule, chosen) = choose(context, summary.totals.documents, limit, matched).await?;
        let mut mentions = mentions(context, summary, &chosen, matched).await?;
        let mut texts = texts::read(context, scope, &chosen).await?;
        let mut made = Vec::new();
        let mut sizes = Vec::new();
        for document in &chosen {
            let own = mentions.remove(&document.id).unwrap_or_default();
            let mut outside = 0;
            let row = match texts.take(document) {
                Ok(text) => Row::with_text(document, &text, &own, &mut outside),
                Err(reason) => Row::without_text(document, own, reason),
            };
            sizes.push(embed(&row)?.len() + 1);
            made.push((row, outside));
        }
        // Documents with errors keep their order, so they are not thinned out evenly.
        let small = sizes.iter().filter(|size| **size <= PAGE_BYTES);
        let even = !matched && small.sum::<usize>() > PAGE_BYTES;
        let shown = fitting(&sizes, PAGE_BYTES, even);
        let rule = if even { Rule::Even } else { rule };
        let mut found = Self { rule, rows: Vec::new(), remarks: Vec::new() };
        let (mut without, mut outside) = (BTreeMap::<String, usize>::new(), 0);
        for ((row, own), _) in made.into_iter().zip(shown).filter(|(_, shown)| *shown) {
            if let Some(reason) = &row.missing {
                *without.entry(reason.clone()).or_default() += 1;
            }
            outside += own;
            found.rows.push(row);
        }
        for (reason, documents) in without {
            found.remarks.push(format!("{} without text: {reason}", counted(documents, "document")));
        }
        if outside > 0 {
            found.remarks.push(format!("{} outside the text of the document", counted(outside, "gold mention")));
        }
        let left = chosen.len() - found.rows.len();
        if left > 0 {
            let reason = "the page would be too large for a browser";
            found.remarks.push(format!("{} omitted: {reason}", counted(left, "document")));
        }
        Ok(found)
    }

    /// The number of documents with text.
    pub(super) fn with_text(&self) -> usize {
        self.rows.iter().filter(|row| row.text.is_some()).count()
    }

    /// The number of mentions on the page.
    pub(super) fn mentions(&self) -> usize {
        self.rows.iter().map(|row| row.mentions.len()).sum()
    }
}

impl Row {
    fn new(document: &Chosen) -> Self {
        let source = document.source.rsplit('/').next().unwrap_or_default().to_owned();
        Self { id: document.id.clone(), source, characters: document.characters, ..Self::default() }
    }

    /// A row without text; the page shows its mentions as a table.
    fn without_text(document: &Chosen, mentions: Vec<Mention>, reason: String) -> Self {
        let placed = mentions.iter().map(|one| (one.entity_type, one.start, one.end, one.score, one.state)).collect();
        let names = mentions.into_iter().map(|one| one.text).collect();
        Self { mentions: placed, names, missing: Some(reason), ..Self::new(document) }
    }

    /// A row with text; `outside` counts mentions past the end of the text.
    fn with_text(document: &Chosen, text: &str, mentions: &[Mention], outside: &mut usize) -> Self {
        // UTF-16 units before each code point, and before the end.
        let mut units = vec![0];
        units.extend(text.chars().scan(0, |at, letter| {
            *at += letter.len_utf16();
            Some(*at)
        }));
        let characters = units.len() - 1;
        let shown = characters.min(MAX_CHARACTERS);
        let end = text.char_indices().nth(shown).map_or(text.len(), |(at, _)| at);
        *outside += mentions.iter().filter(|one| one.end > characters).count();
        let placed = mentions.iter().filter(|one| one.end <= shown);
        let placed =
            placed.map(|one| (one.entity_type, units[one.start], units[one.end], one.score, one.state)).collect();
        let text = Some(text[..end].to_owned());
        Self { text, cut: characters - shown, mentions: placed, ..Self::new(document) }
    }
}

/// Selects rows of the given sizes for a page of `limit` bytes: as many as fit, in order or, with `even`, at equal distances. A row larger
/// than the page is never selected.
fn fitting(sizes: &[usize], limit: usize, even: bool) -> Vec<bool> {
    let small: Vec<usize> = (0..sizes.len()).filter(|index| sizes[*index] <= limit).collect();
    let mut kept = small.clone();
    let total = |indices: &[usize]| indices.iter().map(|index| sizes[*index]).sum::<usize>();
    while even && total(&kept) > limit {
        let count = (kept.len() * limit / total(&kept)).min(kept.len() - 1);
        kept = small
            .iter()
            .enumerate()
            .filter(|(at, _)| at * count % small.len() < count)
            .map(|(_, index)| *index)
            .collect();
    }
    let mut shown = vec![false; sizes.len()];
    let mut bytes = 0;
    for index in kept {
        if bytes + sizes[index] <= limit {
            bytes += sizes[index];
            shown[index] = true;
        }
    }
    shown
}

/// The mentions of the sampled documents by document id, in text order.
async fn mentions(
    context: &SessionContext,
    summary: &Summary,
    chosen: &[Chosen],
    matched: bool,
) -> Result<HashMap<String, Vec<Mention>>> {
    let failed = |source: crate::error::Cause| Error::Engine { doing: "read the documents' mentions".into(), source };
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(chosen.iter().map(|one| &one.id)));
    let ids = RecordBatch::try_from_iter([("chosen_id", ids)]).map_err(|source| failed(source.into()))?;
    context.register_batch(CHOSEN, ids).map_err(|source| failed(source.into()))?;
    let (table, state) = if matched {
        (MATCHED, "CASE WHEN predicted AND gold THEN 1 WHEN predicted THEN 2 ELSE 3 END")
    } else {
        (MENTIONS, "0")
    };
    let sql = format!(
        "SELECT doc_id, entity_type, start_char, end_char, score, CAST({state} AS bigint) AS state, text
         FROM {table} JOIN {CHOSEN} ON doc_id = chosen_id ORDER BY doc_id, start_char, end_char DESC, entity_type"
    );
    let types: HashMap<&str, usize> =
        summary.types.iter().enumerate().map(|(index, one)| (one.name.as_str(), index)).collect();
    let mut found: HashMap<String, Vec<Mention>> = HashMap::new();
    for row in result_rows(&query(context, &sql).await?) {
        let Some(&entity_type) = types.get(row.get::<&str>("entity_type")?) else { continue };
        let score: Option<f64> = row.get("score")?;
        found.entry(row.get("doc_id")?).or_default().push(Mention {
            entity_type,
            start: row.get("start_char")?,
            end: row.get("end_char")?,
            score: score.map_or(-1, |score| (score.clamp(0.0, 1.0) * 1000.0).round() as Score),
            state: row.get::<usize>("state")? as u8,
            // Gold need not have a text.
            text: row.get::<Option<String>>("text")?.unwrap_or_default(),
        });
    }
    Ok(found)
}

/// `1 document`, `2 documents`.
fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number as u64), if number == 1 { "" } else { "s" })
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document() -> Chosen {
        Chosen { id: "1".into(), source: "/a/b.parquet".into(), content_hash: String::new(), characters: 0 }
    }

    fn at(start: usize, end: usize) -> Mention {
        Mention { entity_type: 0, start, end, score: 900, state: 0, text: String::new() }
    }

    proptest! {
        #[test]
        fn offsets_are_converted_to_utf16(text in "\\PC{0,60}", start in 0_usize..70, length in 1_usize..9) {
            let mut outside = 0;
            let row = Row::with_text(&document(), &text, &[at(start, start + length)], &mut outside);
            let expected: Vec<u16> = text.chars().skip(start).take(length).collect::<String>().encode_utf16().collect();
            let units: Vec<u16> = text.encode_utf16().collect();
            match row.mentions.first() {
                Some(&(_, from, to, ..)) => prop_assert_eq!(&units[from..to], &expected[..]),
                None => prop_assert!(start + length > text.chars().count() && outside == 1),
            }
        }
    }

    #[test]
    fn a_full_page_samples_documents_evenly() {
        let selected = |sizes: &[usize], even| -> Vec<usize> {
            let shown = fitting(sizes, 100, even);
            (0..sizes.len()).filter(|index| shown[*index]).collect()
        };
        assert_eq!(selected(&[25; 8], true), [0, 2, 4, 6]);
        assert_eq!(selected(&[25; 8], false), [0, 1, 2, 3]);
        // Rows that are too large are skipped for later ones.
        assert_eq!(selected(&[40, 101, 70, 60], false), [0, 3]);
        assert_eq!(selected(&[101, 50, 50, 2000], true), [1, 2]);
        assert_eq!(selected(&[101, 99], true), [1]);
        assert!(selected(&[], true).is_empty());
    }

    proptest! {
        #[test]
        fn no_page_exceeds_the_limit(sizes in prop::collection::vec(0_usize..150, 0..40), even in any::<bool>()) {
            let shown = fitting(&sizes, 100, even);
            let bytes: usize = sizes.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(size, _)| size).sum();
            prop_assert!(bytes <= 100);
            prop_assert!(shown.contains(&true) || sizes.iter().all(|size| *size > 100));
        }
    }

    #[test]
    fn a_long_document_is_truncated() {
        let text = "é".repeat(MAX_CHARACTERS + 7);
        let mut outside = 0;
        let row = Row::with_text(&document(), &text, &[at(0, 1), at(MAX_CHARACTERS, MAX_CHARACTERS + 2)], &mut outside);
        assert_eq!((row.cut, row.mentions.len(), outside), (7, 1, 0));
        assert_eq!(row.text.unwrap().chars().count(), MAX_CHARACTERS);
        assert_eq!(row.source, "b.parquet");
    }
}

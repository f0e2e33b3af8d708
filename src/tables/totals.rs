//! Totals over extracted documents. In: batches of [`extracted_schema`](crate::tables::extracted_schema), or totals of other batches.
//! Out: their sums, as a value; totals read from an Arrow column. It must not count a document twice.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::sum;
use arrow::datatypes::{Float32Type, Int64Type};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use crate::tables::result_row::{FromColumn, Unfit};
use crate::text::document::RejectReason;

/// Sums over documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Documents extracted.
    pub documents: u64,
    /// Documents refused, by the code of the reason.
    pub rejects: BTreeMap<String, u64>,
    /// Windows of the extracted documents.
    pub windows: u64,
    /// Inputs of the model made from these windows.
    pub queries: u64,
    /// Wordpieces of the extracted documents.
    pub tokens: u64,
    /// Unknown wordpieces among them.
    pub unknown: u64,
    /// Words longer than the tokenizer's limit.
    pub words_cut: u64,
    /// Windows that were asked in several prompts, because one would have pushed their text out.
    pub split: u64,
    /// Candidates dropped because an input had more than the maximum.
    pub capped: u64,
    /// Decisions within the precision's tolerance of a threshold.
    pub undecided: u64,
    /// Mentions by entity type; a type without mentions is absent.
    pub by_type: BTreeMap<String, TypeTotals>,
}

/// Sums over the mentions of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TypeTotals {
    /// Mentions.
    pub mentions: u64,
    /// The sum of their scores.
    pub score: f64,
}

impl Totals {
    /// All documents refused.
    pub fn rejected(&self) -> u64 {
        self.rejects.values().sum()
    }

    /// All mentions.
    pub fn mentions(&self) -> u64 {
        self.by_type.values().map(|of| of.mentions).sum()
    }

    /// Adds the documents of a batch.
    ///
    /// # Errors
    /// An [`ArrowError`] if a column is missing or of another type.
    pub fn add_documents(&mut self, extracted: &RecordBatch) -> Result<(), ArrowError> {
        let integers = |name: &str| -> Result<u64, ArrowError> {
            let column = extracted.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            Ok(sum(column.ok_or_else(|| missing(name))?).unwrap_or(0).unsigned_abs())
        };
        let reasons = extracted.column_by_name("reason").and_then(|column| column.as_string_opt::<i32>());
        let reasons = reasons.ok_or_else(|| missing("reason"))?;
        for reason in reasons.iter().flatten() {
            *self.rejects.entry(reason.to_owned()).or_default() += 1;
        }
        self.documents += reasons.null_count() as u64;
        // Every count of a refused document except the last two is 0.
        self.windows += integers("n_windows")?;
        self.queries += integers("n_queries")?;
        self.tokens += integers("n_tokens")?;
        self.unknown += integers("n_unknown")?;
        self.words_cut += integers("n_words_cut")?;
        self.split += integers("n_split")?;
        self.capped += integers("n_capped")?;
        self.undecided += integers("n_undecided")?;
        let lists = extracted.column_by_name("entities").and_then(|column| column.as_list_opt::<i32>());
        let lists = lists.ok_or_else(|| missing("entities"))?;
        let (first, last) = (lists.value_offsets()[0], lists.value_offsets()[lists.len()]);
        let mentions = lists.values().slice(first as usize, (last - first) as usize);
        let mentions = mentions.as_struct_opt().ok_or_else(|| missing("entities"))?;
        let types = mentions.column_by_name("entity_type").and_then(|column| column.as_string_opt::<i32>());
        let scores = mentions.column_by_name("score").and_then(|column| column.as_primitive_opt::<Float32Type>());
        let types = types.ok_or_else(|| missing("entity_type"))?;
        let scores = scores.ok_or_else(|| missing("score"))?;
        for (name, score) in types.iter().flatten().zip(scores.values()) {
            // Types are few and repeat: look up before a name is copied.
            if !self.by_type.contains_key(name) {
                self.by_type.insert(name.to_owned(), TypeTotals::default());
            }
            if let Some(of) = self.by_type.get_mut(name) {
                of.mentions += 1;
                of.score += f64::from(*score);
            }
        }
        Ok(())
    }

    /// Adds rejects.
    pub fn reject(&mut self, reason: RejectReason, documents: u64) {
        if documents > 0 {
            *self.rejects.entry(reason.as_str().to_owned()).or_default() += documents;
        }
    }

    /// Subtracts rows of [`Table::Documents`](crate::tables::Table::Documents) that were counted before. What was asked for them stays
    /// counted.
    ///
    /// # Errors
    /// An [`ArrowError`] if a column is missing or of another type.
    pub fn take_documents(&mut self, documents: &RecordBatch) -> Result<(), ArrowError> {
        let total = |name: &str| -> Result<u64, ArrowError> {
            let column = documents.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            Ok(sum(column.ok_or_else(|| missing(name))?).unwrap_or(0).unsigned_abs())
        };
        self.documents = self.documents.saturating_sub(documents.num_rows() as u64);
        self.tokens = self.tokens.saturating_sub(total("n_tokens")?);
        self.windows = self.windows.saturating_sub(total("n_windows")?);
        Ok(())
    }

    /// Subtracts mentions (with `entity_type` and `score`) that were counted before.
    ///
    /// # Errors
    /// An [`ArrowError`] if a column is missing or of another type.
    pub fn take_mentions(&mut self, mentions: &RecordBatch) -> Result<(), ArrowError> {
        let types = mentions.column_by_name("entity_type").and_then(|column| column.as_string_opt::<i32>());
        let scores = mentions.column_by_name("score").and_then(|column| column.as_primitive_opt::<Float32Type>());
        let types = types.ok_or_else(|| missing("entity_type"))?;
        for (name, score) in types.iter().flatten().zip(scores.ok_or_else(|| missing("score"))?.values()) {
            if let Some(of) = self.by_type.get_mut(name) {
                of.mentions = of.mentions.saturating_sub(1);
                of.score -= f64::from(*score);
            }
        }
        Ok(())
    }

    /// Subtracts the documents, windows, tokens and mentions of totals that were added before.
    pub fn take(&mut self, other: &Self) {
        self.documents = self.documents.saturating_sub(other.documents);
        self.windows = self.windows.saturating_sub(other.windows);
        self.tokens = self.tokens.saturating_sub(other.tokens);
        for (name, of) in &other.by_type {
            let own = self.by_type.entry(name.clone()).or_default();
            own.mentions = own.mentions.saturating_sub(of.mentions);
            own.score -= of.score;
        }
    }

    /// Adds other totals.
    pub fn add(&mut self, other: &Self) {
        let Self {
            documents,
            rejects,
            windows,
            queries,
            tokens,
            unknown,
            words_cut,
            split,
            capped,
            undecided,
            by_type,
        } = other;
        self.documents += documents;
        self.windows += windows;
        self.queries += queries;
        self.tokens += tokens;
        self.unknown += unknown;
        self.words_cut += words_cut;
        self.split += split;
        self.capped += capped;
        self.undecided += undecided;
        for (reason, count) in rejects {
            *self.rejects.entry(reason.clone()).or_default() += count;
        }
        for (name, of) in by_type {
            let own = self.by_type.entry(name.clone()).or_default();
            own.mentions += of.mentions;
            own.score += of.score;
        }
    }
}

fn missing(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("there is no column `{name}` of the type expected"))
}

/// Totals as JSON.
impl<'batch> FromColumn<'batch> for Totals {
    const EXPECTED: &'static str = "totals as JSON";

    fn from_column(array: &'batch ArrayRef, row: usize) -> Result<Self, Unfit> {
        let text = <&str>::from_column(array, row)?;
        serde_json::from_str(text).map_err(|_| Unfit::Value(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::tables::sample;

    #[test]
    fn totals_of_parts_are_the_totals_of_the_whole() {
        let batch = sample::three(&DataType::Utf8, "a", 1);
        let mut whole = Totals::default();
        whole.add_documents(&batch).unwrap();
        assert_eq!((whole.documents, whole.rejected(), whole.mentions(), whole.tokens), (2, 1, 3, 27));
        assert_eq!(whole.rejects, BTreeMap::from([("null_id".to_owned(), 1)]));
        let per = TypeTotals { mentions: 1, score: 0.75 };
        let names = ["LOC", "ORG", "PER"].map(|name| (name.to_owned(), per));
        assert_eq!(whole.by_type, BTreeMap::from(names));
        let mut sum = Totals::default();
        for row in 0..batch.num_rows() {
            let mut part = Totals::default();
            part.add_documents(&batch.slice(row, 1)).unwrap();
            sum.add(&part);
        }
        assert_eq!(sum, whole);
    }
}

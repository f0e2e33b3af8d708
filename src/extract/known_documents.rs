//! The store's documents, as hashes. In: ids and content hashes from the ledger, and rows that later rows replace. Out: whether a document
//! is new, done or a duplicate. It must not read a table.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::machine::hash::short_hash;

/// The content hashes of the store's documents, by id. Both are [`digest`]s, so an entry has 32 bytes however long the id is.
/// With the hash table's free slots, a document takes 38 to 75 bytes.
pub type LedgerHashes = HashMap<u128, u128>;

/// The first 128 bits of a text's SHA-256, in hexadecimal: the `content_hash` column.
pub fn content_hash(text: &str) -> String {
    short_hash(text.as_bytes(), 16)
}

/// The first 128 bits of the SHA-256 of an id or a text, as a number.
pub fn digest(text: &str) -> u128 {
    Sha256::digest(text.as_bytes()).iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte))
}

/// The number for a [`content_hash`]. Returns 0 for an invalid hash.
pub fn digest_of(content_hash: &str) -> u128 {
    u128::from_str_radix(content_hash, 16).unwrap_or_default()
}

/// Rows, by source, whose document id occurs again in a later row. A row takes eight bytes.
#[derive(Debug, Default)]
pub struct Replaced(pub(crate) BTreeMap<String, Vec<i64>>);

impl Replaced {
    /// Adds a row. Call [`Replaced::sort`] before the first lookup.
    pub fn add(&mut self, source: &str, row: i64) {
        match self.0.get_mut(source) {
            Some(rows) => rows.push(row),
            None => drop(self.0.insert(source.to_owned(), vec![row])),
        }
    }

    /// Sorts the rows for lookups.
    pub fn sort(&mut self) {
        self.0.values_mut().for_each(|rows| rows.sort_unstable());
    }

    /// How many rows are replaced.
    pub fn rows(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(crate) fn contains(&self, source: &str, row: i64) -> bool {
        self.0.get(source).is_some_and(|rows| rows.binary_search(&row).is_ok())
    }
}

/// The ledger's entries for a chunk's documents. Ids are text.
#[derive(Debug, Default)]
pub struct KnownDocuments {
    pub(crate) known: LedgerHashes,
    /// Rows that a later row of this run replaces.
    pub(crate) replaced: Arc<Replaced>,
    /// Ids of changed documents, by source and row.
    changed: Mutex<BTreeMap<(String, i64), String>>,
}

/// A document that the store has with another text. The commit that adds its new rows must remove the old ones. If the new text is
/// refused, there are no new rows and the old ones stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The source of the new text.
    pub source: String,
    /// Its row in the source.
    pub row: i64,
    /// The document's id, as text.
    pub id: String,
}

pub(crate) enum Verdict {
    New,
    Done,
    Duplicate,
}

impl KnownDocuments {
    /// From the ledger's hashes and the rows that later rows replace.
    pub fn new(known: LedgerHashes, replaced: Arc<Replaced>) -> Self {
        Self { known, replaced, changed: Mutex::default() }
    }

    /// Removes and returns the changed documents for which `committed` holds. `SpareExec` has already removed the refused ones.
    pub fn take_changed(&self, committed: impl Fn(&Changed) -> bool) -> Vec<Changed> {
        let mut changed = self.changed();
        let all = std::mem::take(&mut *changed).into_iter().map(|((source, row), id)| Changed { source, row, id });
        let (taken, remaining): (Vec<Changed>, Vec<Changed>) = all.partition(committed);
        changed.extend(remaining.into_iter().map(|Changed { source, row, id }| ((source, row), id)));
        taken
    }

    pub(crate) fn changed(&self) -> MutexGuard<'_, BTreeMap<(String, i64), String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn judge(&self, source: &str, row: i64, id: &str, text: Option<&str>) -> Verdict {
        let known = if self.known.is_empty() { None } else { self.known.get(&digest(id)).copied() };
        if known.is_some() && known == text.map(digest) {
            return Verdict::Done;
        }
        if self.replaced.contains(source, row) {
            return Verdict::Duplicate;
        }
        if known.is_some() && text.is_some_and(|text| !text.trim().is_empty()) {
            self.changed().insert((source.to_owned(), row), id.to_owned());
        }
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_column_and_the_digest_are_the_same_bits() {
        // FIPS 180-4's one-block example.
        assert_eq!(digest("abc"), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        for text in ["abc", "", "Zürich , yesterday ."] {
            assert_eq!(digest_of(&content_hash(text)), digest(text));
        }
        assert_eq!((digest_of("of another program"), digest_of("0000000a")), (0, 10));
    }
}

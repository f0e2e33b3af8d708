//! The store's documents, as hashes. In: ids and content hashes from the ledger, and rows that later rows replace. Out: whether a
//! document is new, changed, done or a duplicate. It must not read a table.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Only the rows within ranges of sources.
    #[must_use]
    pub fn within<'a>(&self, ranges: impl Iterator<Item = (&'a str, Range<i64>)>) -> Self {
        let mut within = Self::default();
        for (source, range) in ranges {
            let Some(rows) = self.0.get(source) else { continue };
            let place = |row: i64| rows.partition_point(|other| *other < row);
            let rows = &rows[place(range.start)..place(range.end)];
            if !rows.is_empty() {
                within.0.entry(source.to_owned()).or_default().extend(rows);
            }
        }
        within
    }

    /// How many rows are replaced.
    pub fn rows(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(crate) fn contains(&self, source: &str, row: i64) -> bool {
        self.0.get(source).is_some_and(|rows| rows.binary_search(&row).is_ok())
    }
}

/// The store's documents, by which a plan decides which rows are new: data that can be sent to another machine. Ids are text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDocuments {
    /// Content hashes, by id, of documents that the store has.
    #[serde(with = "hashes")]
    known: LedgerHashes,
    /// Rows of this run that later rows replace.
    replaced: Arc<Replaced>,
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The store does not have the document.
    New,
    /// The store has it with another text. The commit that adds its new rows must remove the old ones.
    Changed,
    /// The store has it with this text.
    Done,
    /// A later row has the same id.
    Duplicate,
}

impl KnownDocuments {
    /// From the ledger's hashes and the rows that later rows replace.
    pub fn new(known: LedgerHashes, replaced: Arc<Replaced>) -> Self {
        Self { known, replaced }
    }

    /// How many documents of the store are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether every row is new.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.replaced.0.is_empty()
    }

    pub(crate) fn judge(&self, source: &str, row: i64, id: &str, text: Option<&str>) -> Verdict {
        let known = if self.known.is_empty() { None } else { self.known.get(&digest(id)).copied() };
        if known.is_some() && known == text.map(digest) {
            return Verdict::Done;
        }
        if self.replaced.contains(source, row) {
            return Verdict::Duplicate;
        }
        match known {
            Some(_) => Verdict::Changed,
            None => Verdict::New,
        }
    }
}

/// Hashes as base64 of 32 bytes an entry, sorted by id.
mod hashes {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::LedgerHashes;

    pub(super) fn serialize<S: Serializer>(hashes: &LedgerHashes, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<(&u128, &u128)> = hashes.iter().collect();
        entries.sort_unstable();
        let bytes: Vec<u8> =
            entries.iter().flat_map(|(id, text)| [id.to_le_bytes(), text.to_le_bytes()]).flatten().collect();
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LedgerHashes, D::Error> {
        let bytes = BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let (numbers, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() || numbers.len() % 2 != 0 {
            return Err(D::Error::custom("hashes are pairs of 16 bytes"));
        }
        let number = |bytes: [u8; 16]| u128::from_le_bytes(bytes);
        Ok(numbers.chunks_exact(2).map(|pair| (number(pair[0]), number(pair[1]))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_documents_survive_json() {
        let known = LedgerHashes::from([(digest("a"), digest("one")), (digest("b"), digest("two"))]);
        let mut replaced = Replaced::default();
        replaced.add("file", 7);
        let documents = KnownDocuments::new(known, Arc::new(replaced));
        let text = serde_json::to_string(&documents).unwrap();
        assert_eq!(serde_json::from_str::<KnownDocuments>(&text).unwrap(), documents);
        for damaged in ["AAAA", "?"] {
            let text = format!(r#"{{"known":"{damaged}","replaced":{{}}}}"#);
            assert!(serde_json::from_str::<KnownDocuments>(&text).is_err(), "{damaged}");
        }
    }

    #[test]
    fn only_the_replaced_rows_of_a_chunk_are_in_its_plan() {
        let mut replaced = Replaced::default();
        for (source, row) in [("a", 9), ("a", 3), ("a", 4), ("b", 1)] {
            replaced.add(source, row);
        }
        replaced.sort();
        let within = |ranges: &[(&'static str, Range<i64>)]| replaced.within(ranges.iter().cloned());
        let chunk = within(&[("a", 4..9), ("c", 0..9)]);
        assert!(chunk.contains("a", 4) && !chunk.contains("a", 3) && !chunk.contains("a", 9) && chunk.rows() == 1);
        assert_eq!(within(&[("a", 0..i64::MAX), ("b", 0..i64::MAX)]), replaced);
    }

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

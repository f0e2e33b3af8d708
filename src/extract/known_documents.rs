//! The store's documents, as hashes. In: ids, content hashes and places of the documents in force. Out: whether a row is new, changed,
//! done or a duplicate. It must not read a table.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::machine::hash::short_hash;

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

/// The document that the store has for an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// The [`digest`] of its text.
    pub text: u128,
    /// The commit that added it.
    pub commit: i64,
    /// The file of its row: an index into [`KnownDocuments::sources`].
    pub source: u32,
    /// Whether that file still has this row, so that rows of earlier files do not replace it.
    pub later: bool,
}

/// The store's documents, by which a plan decides which rows are new: data that can be sent to another machine. Ids are text. An entry
/// has 48 bytes however long the id is; with the hash table's free slots, 56 to 112.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct KnownDocuments {
    /// By the [`digest`] of their ids.
    #[serde(with = "entries")]
    pub known: HashMap<u128, InForce>,
    /// The files of their rows.
    pub sources: Vec<String>,
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The store does not have the document.
    New,
    /// The store has it, with a text of this digest. The row replaces it if its own text is accepted and another one.
    Known(u128),
    /// The store has it with this text. If its row is in another file, `elsewhere` is true.
    Done { elsewhere: bool },
    /// The store has it with another text from a later file, which still has it.
    Duplicate,
}

impl PartialEq for KnownDocuments {
    /// Whether they know the same, in whatever order their files are.
    fn eq(&self, other: &Self) -> bool {
        let same = |(id, known): (&u128, &InForce)| {
            let Some(there) = other.known.get(id) else { return false };
            self.source(*known) == other.source(*there) && InForce { source: known.source, ..*there } == *known
        };
        self.known.len() == other.known.len() && self.known.iter().all(same)
    }
}

impl Eq for KnownDocuments {}

impl KnownDocuments {
    /// How many documents of the store are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether every row is new.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The file of a document's row.
    pub fn source(&self, document: InForce) -> &str {
        self.sources.get(document.source as usize).map_or("", String::as_str)
    }

    pub(crate) fn judge(&self, source: &str, id: u128, text: Option<u128>) -> Verdict {
        let Some(known) = self.known.get(&id).copied() else { return Verdict::New };
        if text == Some(known.text) {
            return Verdict::Done { elsewhere: self.source(known) != source };
        }
        if known.later && source < self.source(known) { Verdict::Duplicate } else { Verdict::Known(known.text) }
    }
}

/// Entries as base64 of 45 bytes each, sorted by id.
mod entries {
    use std::collections::HashMap;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::InForce;

    const BYTES: usize = 45;

    pub(super) fn serialize<S: Serializer>(entries: &HashMap<u128, InForce>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<(&u128, &InForce)> = entries.iter().collect();
        sorted.sort_unstable_by_key(|(id, _)| **id);
        let mut bytes = Vec::with_capacity(sorted.len() * BYTES);
        for (id, InForce { text, commit, source, later }) in sorted {
            bytes.extend(id.to_le_bytes());
            bytes.extend(text.to_le_bytes());
            bytes.extend(commit.to_le_bytes());
            bytes.extend(source.to_le_bytes());
            bytes.push(u8::from(*later));
        }
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<u128, InForce>, D::Error> {
        let bytes = BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let (entries, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() {
            return Err(D::Error::custom(format!("an entry has {BYTES} bytes")));
        }
        Ok(entries.iter().map(entry).collect())
    }

    fn entry(bytes: &[u8; BYTES]) -> (u128, InForce) {
        let number = |from: usize, count: usize| {
            bytes[from..from + count].iter().rev().fold(0_u128, |number, byte| (number << 8) | u128::from(*byte))
        };
        let commit = number(32, 8) as u64 as i64;
        (number(0, 16), InForce { text: number(16, 16), commit, source: number(40, 4) as u32, later: bytes[44] != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(entries: &[(&str, &str, u32, bool)], sources: &[&str]) -> KnownDocuments {
        let entry = |(id, text, source, later): &(&str, &str, u32, bool)| {
            (digest(id), InForce { text: digest(text), commit: -7, source: *source, later: *later })
        };
        let sources = sources.iter().map(|source| (*source).to_owned()).collect();
        KnownDocuments { known: entries.iter().map(entry).collect(), sources }
    }

    #[test]
    fn known_documents_survive_json() {
        let documents = known(&[("a", "one", 0, false), ("b", "two", 70_000, true)], &["file", "other"]);
        let text = serde_json::to_string(&documents).unwrap();
        assert_eq!(serde_json::from_str::<KnownDocuments>(&text).unwrap(), documents);
        for damaged in ["AAAA", "?"] {
            let text = format!(r#"{{"known":"{damaged}","sources":[]}}"#);
            assert!(serde_json::from_str::<KnownDocuments>(&text).is_err(), "{damaged}");
        }
    }

    #[test]
    fn the_order_of_files_does_not_matter() {
        let one = known(&[("a", "one", 0, false), ("b", "two", 1, true)], &["file", "other"]);
        assert_eq!(one, known(&[("a", "one", 1, false), ("b", "two", 0, true)], &["other", "file", "third"]));
        for (entries, files) in [
            ([("a", "one", 1, false), ("b", "two", 1, true)], ["file", "other"]),
            ([("a", "two", 0, false), ("b", "two", 1, true)], ["file", "other"]),
            ([("a", "one", 0, true), ("b", "two", 1, true)], ["file", "other"]),
            ([("c", "one", 0, false), ("b", "two", 1, true)], ["file", "other"]),
        ] {
            assert_ne!(one, known(&entries, &files));
        }
        assert_ne!(one, KnownDocuments::default());
    }

    #[test]
    fn a_row_loses_only_to_another_text_in_a_later_file() {
        let documents = known(&[("a", "one", 0, true), ("b", "one", 0, false)], &["f2"]);
        let judge = |source: &str, id: &str, text: &str| documents.judge(source, digest(id), Some(digest(text)));
        assert_eq!(judge("f1", "a", "two"), Verdict::Duplicate);
        assert_eq!(judge("f1", "a", "one"), Verdict::Done { elsewhere: true });
        assert_eq!(judge("f2", "a", "one"), Verdict::Done { elsewhere: false });
        for (source, id) in [("f2", "a"), ("f3", "a"), ("f1", "b")] {
            assert_eq!(judge(source, id, "two"), Verdict::Known(digest("one")), "{source} {id}");
        }
        assert_eq!(documents.judge("f3", digest("a"), None), Verdict::Known(digest("one")));
        assert_eq!(judge("f1", "c", "one"), Verdict::New);
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

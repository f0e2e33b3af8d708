//! Rows → parts. In: shares or lists of documents. Out: the part of each row. It must not separate the rows of a document or depend
//! on their order: with shares, the hash of a document's id decides its part.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::prepare::output::granularity::Row;

/// How to split a corpus.
#[derive(Debug, Clone, PartialEq)]
pub enum Split {
    /// Each part's name and share; the shares need not sum to one.
    Shares(Vec<(String, f64)>),
    /// Each part's name and a file with one document id per line.
    Lists(Vec<(String, PathBuf)>),
}

impl Split {
    /// Reads `train=8,dev=1,test=1` or `train=train.txt,dev=dev.txt`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Setting {
            origin: "prepare".into(),
            key: "--split".into(),
            reason,
            hint: "write shares such as train=8,dev=1,test=1, or lists such as train=train.txt,dev=dev.txt".into(),
        };
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(format!("`{part}` has no `=`")))?;
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(wrong(format!("`{name}` is not a valid folder name")));
            }
            if parts.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!("`{name}` is named twice")));
            }
            parts.push((name, value));
        }
        let shares: Vec<Option<f64>> =
            parts.iter().map(|(_, value)| value.trim_end_matches('%').parse().ok()).collect();
        if shares.iter().all(Option::is_none) {
            return Ok(Self::Lists(parts.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()));
        }
        let mut read = Vec::new();
        for ((name, value), share) in parts.into_iter().zip(shares) {
            let share = share.filter(|share| share.is_finite() && *share > 0.0);
            read.push((name.to_owned(), share.ok_or_else(|| wrong(format!("`{value}` is not a share above zero")))?));
        }
        Ok(Self::Shares(read))
    }
}

/// A corpus in parts.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Each part's name and rows; one part without a name if the corpus is not split.
    pub(crate) parts: Vec<(String, Vec<Row>)>,
    /// The number of documents in no list.
    pub(crate) unlisted: usize,
}

/// Splits the rows.
pub(crate) fn split(rows: Vec<Row>, split: Option<&Split>) -> Result<Parts> {
    let (names, part_of): (Vec<&String>, HashMap<String, usize>) = match split {
        None => return Ok(Parts { parts: vec![(String::new(), rows)], unlisted: 0 }),
        Some(Split::Shares(shares)) => (shares.iter().map(|(name, _)| name).collect(), by_shares(&rows, shares)),
        Some(Split::Lists(lists)) => (lists.iter().map(|(name, _)| name).collect(), by_lists(&rows, lists)?),
    };
    let mut parts: Vec<(String, Vec<Row>)> = names.into_iter().map(|name| (name.clone(), Vec::new())).collect();
    let mut unlisted = HashSet::new();
    for row in rows {
        match part_of.get(&row.group) {
            Some(&part) => parts[part].1.push(row),
            None => _ = unlisted.insert(row.group),
        }
    }
    Ok(Parts { parts, unlisted: unlisted.len() })
}

/// The part of every group: groups are sorted by hash and divided by the shares.
fn by_shares(rows: &[Row], shares: &[(String, f64)]) -> HashMap<String, usize> {
    let groups: BTreeMap<[u8; 32], &str> =
        rows.iter().map(|row| (Sha256::digest(row.group.as_bytes()).into(), row.group.as_str())).collect();
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut limit = 0.0;
    let limits: Vec<usize> = shares
        .iter()
        .map(|(_, share)| {
            limit += share / total * groups.len() as f64;
            limit.round() as usize
        })
        .collect();
    let part = |number: usize| limits.iter().position(|&limit| number < limit).unwrap_or(limits.len() - 1);
    groups.into_values().enumerate().map(|(number, group)| (group.to_owned(), part(number))).collect()
}

/// The part of every listed id. An id is an error if the corpus does not have it, if it names only a part of a document, or if two
/// lists have it.
fn by_lists(rows: &[Row], lists: &[(String, PathBuf)]) -> Result<HashMap<String, usize>> {
    let known: HashSet<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    let inside: HashMap<&str, &str> = rows.iter().map(|row| (row.id.as_str(), row.group.as_str())).collect();
    let mut part_of: HashMap<String, usize> = HashMap::new();
    for (part, (_, path)) in lists.iter().enumerate() {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.clone(), source: source.into() })?;
        for (number, id) in text.lines().enumerate().map(|(number, id)| (number, id.trim())) {
            let wrong = |reason: String| Error::Corpus {
                path: path.clone(),
                place: format!("line {}", number + 1),
                reason,
                hint: "write one document id per line, each id in only one list".into(),
            };
            if id.is_empty() {
                continue;
            }
            if !known.contains(id) {
                return Err(wrong(match inside.get(id) {
                    Some(document) => {
                        format!(
                            "`{id}` is a sentence of `{document}`, and documents are not split: expected `{document}`"
                        )
                    }
                    None => format!("the corpus has no document `{id}`"),
                }));
            }
            if part_of.insert(id.to_owned(), part).is_some_and(|other| other != part) {
                return Err(wrong(format!("`{id}` is also in another list")));
            }
        }
    }
    Ok(part_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::record::Place;

    fn row(id: &str, group: &str) -> Row {
        Row {
            id: id.into(),
            text: "text".into(),
            source: "f".into(),
            place: Place::Line(1),
            document: group.into(),
            sentence: None,
            sentences: 1,
            group: group.into(),
            mentions: Vec::new(),
        }
    }

    #[test]
    fn shares_are_met_and_documents_are_not_split() {
        let rows: Vec<Row> = (0..200).map(|number| row(&format!("{number}"), &format!("d{}", number / 2))).collect();
        let shares = Split::parse("train=8,dev=1,test=1").unwrap();
        let parts = split(rows.clone(), Some(&shares)).unwrap().parts;
        let sizes: Vec<_> = parts.iter().map(|(name, rows)| (name.as_str(), rows.len())).collect();
        assert_eq!(sizes, [("train", 160), ("dev", 20), ("test", 20)]);
        let groups: Vec<HashSet<&str>> =
            parts.iter().map(|(_, rows)| rows.iter().map(|row| row.group.as_str()).collect()).collect();
        assert!(groups[0].is_disjoint(&groups[1]) && groups[1].is_disjoint(&groups[2]));
        assert!(groups[0].is_disjoint(&groups[2]));
        let mut reversed = rows;
        reversed.reverse();
        let again = split(reversed, Some(&shares)).unwrap().parts;
        let ids = |rows: &[Row]| rows.iter().map(|row| row.id.clone()).collect::<HashSet<_>>();
        assert_eq!(ids(&parts[1].1), ids(&again[1].1), "the order of the corpus does not matter");
    }

    #[test]
    fn lists_must_name_existing_documents() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let rows = || vec![row("1", "a"), row("2", "a"), row("3", "b"), row("4", "c")];
        let (train, dev) = (list("train", "a\n\n"), list("dev", "b\n"));
        let lists = Split::parse(&format!("train={train},dev={dev}")).unwrap();
        let found = split(rows(), Some(&lists)).unwrap();
        assert_eq!(found.parts.iter().map(|(_, rows)| rows.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(found.unlisted, 1);
        list("dev", "b\na\n");
        let error = split(rows(), Some(&lists)).unwrap_err().to_string();
        assert!(error.ends_with("line 2: `a` is also in another list"), "{error}");
        list("dev", "z\n");
        assert!(split(rows(), Some(&lists)).unwrap_err().to_string().contains("has no document `z`"));
        list("dev", "2\n");
        let error = split(rows(), Some(&lists)).unwrap_err().to_string();
        assert!(
            error.ends_with("line 1: `2` is a sentence of `a`, and documents are not split: expected `a`"),
            "{error}"
        );
    }

    #[test]
    fn an_invalid_split_is_explained() {
        for (text, reason) in [
            ("train", "`train` has no `=`"),
            ("a=1,a=2", "`a` is named twice"),
            ("../x=1", "`../x` is not a valid folder name"),
            ("a=8,b=list.txt", "`list.txt` is not a share above zero"),
            ("a=0", "`0` is not a share above zero"),
        ] {
            assert!(Split::parse(text).unwrap_err().to_string().contains(reason), "{text}");
        }
    }
}

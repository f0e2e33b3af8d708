//! Names of files. In: a folder, or a path in an object store. Out: the files whose names an object store cannot have; the values that
//! folders named `key=value` give a file. It must not open files.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use object_store::{ObjectMeta, path};

use crate::source::listing::format::Format;

/// The value that Hive writes for null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Everything below a folder.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The files whose names an object store can have.
    pub(super) usable: Vec<path::Path>,
    /// The files of a format that can be read whose paths have control characters or are no UTF-8, with these characters escaped. Hidden
    /// ones are left out.
    pub(super) unusable: Vec<(String, ObjectMeta)>,
}

/// Lists a folder that has names which an object store cannot have: its own listing ends at the first of them.
pub(super) fn names(folder: &Path) -> Names {
    let mut found = Names::default();
    walk(folder, folder, &mut found);
    found.unusable.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn walk(root: &Path, folder: &Path, found: &mut Names) {
    // A folder that cannot be read has failed the listing already.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            walk(root, &path, found);
            continue;
        }
        let inside = path.strip_prefix(root).unwrap_or(&path);
        if inside.to_str().is_some_and(|name| !name.chars().any(|letter| letter.is_ascii_control())) {
            found.usable.extend(path::Path::from_absolute_path(&path));
        } else if !hidden(inside) && Format::of(&name.to_string_lossy()).is_some() {
            found.unusable.push((escaped(&path), meta(&escaped(inside), &metadata)));
        }
    }
}

fn hidden(path: &Path) -> bool {
    path.iter().any(|part| part.as_encoded_bytes().starts_with(b".") || part.as_encoded_bytes().starts_with(b"_"))
}

/// A path as a person can read it: bytes that are no UTF-8 and control characters as `\x0A`.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for part in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for letter in part.valid().chars() {
            if letter.is_control() {
                text.extend(letter.to_string().bytes().map(|byte| format!("\\x{byte:02X}")));
            } else {
                text.push(letter);
            }
        }
        text.extend(part.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}

fn meta(location: &str, metadata: &Metadata) -> ObjectMeta {
    let modified: DateTime<Utc> = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).into();
    let location = path::Path::from(location);
    ObjectMeta { location, last_modified: modified, size: metadata.len(), e_tag: None, version: None }
}

/// The names in folders `key=value` of a path.
pub(crate) fn partition_names(location: &str) -> impl Iterator<Item = &str> {
    let folders = location.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').filter_map(|folder| folder.split_once('=')).map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// The value of a name in the folders of a path; the innermost one if there are several. `None` if there is none, or Hive's null.
pub(crate) fn partition_value(location: &str, name: &str) -> Option<String> {
    let folders = location.rsplit_once('/').map_or("", |(folders, _)| folders);
    let mut values = folders.rsplit('/').filter_map(|folder| folder.split_once('='));
    let (_, value) = values.find(|(key, _)| *key == name)?;
    (value != HIVE_NULL).then(|| decoded(value))
}

/// Hive escapes special characters of values as `%2F`.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn folders_give_values() {
        let location = "lake/dt=2024-01-31/lang=de%2FCH/x=/a=b.csv";
        assert_eq!(partition_names(location).collect::<Vec<_>>(), ["dt", "lang", "x"]);
        let value = |name| partition_value(location, name);
        assert_eq!(value("dt").as_deref(), Some("2024-01-31"));
        assert_eq!(value("lang").as_deref(), Some("de/CH"));
        assert_eq!(value("a"), None);
        assert_eq!(partition_value("dt=__HIVE_DEFAULT_PARTITION__/a.csv", "dt"), None);
        assert_eq!(partition_value("dt=1/dt=50%/a.csv", "dt").as_deref(), Some("50%"));
    }

    #[test]
    fn names_that_cannot_be_used_are_found_and_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
        std::fs::create_dir(inside(b"sub")).unwrap();
        for name in
            [b"a\nb.csv".as_slice(), b"sub/\xff.jsonl", b"good.csv", b"c\n.txt", b".\n.csv", b"\x1b[31m.parquet"]
        {
            std::fs::write(inside(name), "x").unwrap();
        }
        let root = folder.path().to_str().unwrap();
        let names = names(folder.path());
        let usable: Vec<_> = names.usable.iter().filter_map(path::Path::filename).collect();
        assert_eq!(usable, ["good.csv"]);
        let found: Vec<String> = names.unusable.into_iter().map(|(path, _)| path.replacen(root, "", 1)).collect();
        assert_eq!(found, ["/\\x1B[31m.parquet", "/a\\x0Ab.csv", "/sub/\\xFF.jsonl"]);
    }
}

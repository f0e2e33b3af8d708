//! A checkpoint's files → tensors. In: a folder, a file, or the index of shards. Out: every float tensor under the names of the files. It
//! must not execute code in a file.
//!
//! Formats: safetensors, PyTorch, Lightning; shards with an index `{"weight_map": {"tensor": "file"}}`, as Hugging Face's libraries write
//! them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::weights::tensors::Tensor;
use crate::model::weights::{pytorch, safetensors_file};

/// The file names to search in a folder, in this order; then the only file with one of [`SUFFIXES`].
const NAMES: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
const SUFFIXES: [&str; 4] = ["ckpt", "safetensors", "bin", "pt"];

/// The ending of the name of an index of shards.
pub(crate) const INDEX: &str = ".index.json";

/// The weights file of a path: the path itself, or the file in a folder; of shards, their index.
pub fn weights_file(path: &Path) -> Result<PathBuf> {
    let unreadable = |source: std::io::Error| Error::Read { path: path.to_owned(), source: source.into() };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        if is_shard(path) {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                reason: "it is one of several shards".to_owned(),
                hint: format!("name the folder `{}`, which holds all of them", beside(path).display()),
            });
        }
        return Ok(path.to_owned());
    }
    if let Some(found) = NAMES.iter().map(|name| path.join(name)).find(|file| file.exists()) {
        return Ok(found);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix == *known)) {
            found.push(file);
        }
    }
    found.sort();
    let refuse = |reason: String, hint: String| Err(Error::Checkpoint { path: path.to_owned(), reason, hint });
    match found.as_slice() {
        files if files.iter().any(|file| is_shard(file)) => refuse(
            format!("there are {} shards of weights, but no index that lists them", files.len()),
            format!("copy {} or {} beside them", NAMES[1], NAMES[3]),
        ),
        [only] => Ok(only.clone()),
        [] => refuse(
            "there are no weights in this folder".to_owned(),
            "it needs model.safetensors, pytorch_model.bin, shards with their index, or one .ckpt file".to_owned(),
        ),
        [first, ..] => refuse(
            format!("there are {} files with weights", found.len()),
            format!("name one of them, such as `{}`", first.display()),
        ),
    }
}

/// Reads every float tensor of a safetensors, PyTorch or Lightning file, or of the shards that an index lists, under the files' own names;
/// the file can be an encoder without heads. The content determines the format.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    if !path.to_string_lossy().ends_with(INDEX) {
        return read_file(path);
    }
    let mut tensors = BTreeMap::new();
    for (shard, names) in shards(path)? {
        let mut found = read_file(&beside(path).join(&shard))?;
        tensors.extend(names.into_iter().filter_map(|name| found.remove_entry(&name)));
    }
    Ok(tensors)
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source: source.into() })?;
    tensors_of(&bytes).map_err(|reason| Error::Checkpoint {
        path: path.to_owned(),
        reason,
        hint: "safetensors, pytorch_model.bin and Lightning .ckpt files can be read; download a damaged file again"
            .to_owned(),
    })
}

pub(crate) fn tensors_of(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    match bytes {
        [b'P', b'K', ..] | [0x80, _, b'}' | 0x8a, ..] => pytorch::read_tensors(bytes),
        _ => safetensors_file::read_tensors(bytes),
    }
}

/// The shards that an index lists, each with the names of its tensors.
///
/// # Errors
/// [`Error::Checkpoint`] if the index is no such JSON, or lists a file of another folder.
pub(crate) fn shards(index: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let refuse = |reason: String| Error::Checkpoint {
        path: index.to_owned(),
        reason,
        hint: "an index of shards is {\"weight_map\": {\"tensor\": \"file\"}}; download it again".to_owned(),
    };
    let bytes = std::fs::read(index).map_err(|source| Error::Read { path: index.to_owned(), source: source.into() })?;
    let read: Index = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in read.weight_map {
        if Path::new(&file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(refuse(format!("it lists `{file}`, which is not a file name")));
        }
        shards.entry(file).or_default().push(tensor);
    }
    Ok(shards)
}

/// Whether a file's name is that of a shard, such as `model-00001-of-00002.safetensors`.
fn is_shard(file: &Path) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|digit| digit.is_ascii_digit());
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem.rsplit_once("-of-")
        .is_some_and(|(before, count)| number(count) && before.rsplit_once('-').is_some_and(|(_, shard)| number(shard)))
}

/// The folder of a file; the working folder for a bare name.
pub(crate) fn beside(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths point to the same existing file or folder.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_bare_name_is_the_working_folder() {
        for (file, folder) in [("model.safetensors", "."), ("a/b.ckpt", "a"), ("./c.pt", "."), ("/d.bin", "/")] {
            assert_eq!(beside(Path::new(file)), Path::new(folder), "{file}");
        }
    }

    #[test]
    fn shards_are_known_by_their_names() {
        for (name, expected) in [
            ("a/model-00001-of-00002.safetensors", true),
            ("pytorch_model-00010-of-00010.bin", true),
            ("model.safetensors", false),
            ("best-of-00002.ckpt", false),
            ("one-of-two.bin", false),
        ] {
            assert_eq!(is_shard(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn an_index_lists_files_of_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let index = folder.path().join("model.safetensors.index.json");
        let read = |text: &str| {
            std::fs::write(&index, text).expect("written");
            shards(&index)
        };
        let found = read(r#"{"weight_map": {"b": "1", "a": "1", "c": "2"}}"#).expect("it lists two");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("1".to_owned(), vec!["a".to_owned(), "b".to_owned()]), ("2".to_owned(), vec!["c".to_owned()])]
        );
        let outside = read(r#"{"weight_map": {"a": "../1"}}"#).expect_err("another folder").to_string();
        assert!(outside.ends_with("it lists `../1`, which is not a file name"), "{outside}");
        assert!(read("{}").expect_err("no map").to_string().contains("missing field `weight_map`"));
    }
}

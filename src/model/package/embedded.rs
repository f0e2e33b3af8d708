//! The default model, embedded in the program. In: nothing. Out: its folder, unpacked into the per-user cache on first use, so that the
//! program works without other files. It must not use the network.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::cache::{cache_folders, writable_cache};
use crate::machine::files::write_whole;
use crate::machine::hash::short_hash;

/// Its name in jobs.
pub const NAME: &str = "models/default";

/// The files of the folder. The manifest comes last: if it is present, so are the others.
static FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../../models/default/config.json")),
    ("tokenizer.json", include_bytes!("../../../models/default/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../../models/default/model.safetensors")),
    ("quarry.json", include_bytes!("../../../models/default/quarry.json")),
];

/// Returns its folder; missing and damaged files are written first.
pub fn unpack() -> Result<PathBuf> {
    let complete = |folder: &PathBuf| FILES.iter().all(|(name, bytes)| is_file(&folder.join(name), bytes));
    match cache_folders().iter().map(|cache| folder_in(cache)).find(complete) {
        Some(folder) => Ok(folder),
        None => unpack_into(&writable_cache()?),
    }
}

fn folder_in(cache: &Path) -> PathBuf {
    let [.., (_, manifest)] = FILES;
    cache.join("models").join(short_hash(manifest, 8))
}

/// Whether a file has these bytes.
fn is_file(path: &Path, bytes: &[u8]) -> bool {
    let length = std::fs::metadata(path).map(|metadata| metadata.len());
    length.is_ok_and(|length| length == bytes.len() as u64) && std::fs::read(path).is_ok_and(|found| found == bytes)
}

fn unpack_into(cache: &Path) -> Result<PathBuf> {
    let folder = folder_in(cache);
    std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source: source.into() })?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if is_file(&path, bytes) {
            continue;
        }
        if path.exists() {
            tracing::warn!("`{}` is damaged and is unpacked again", path.display());
        }
        write_whole(&path, bytes)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::package::directory::ModelDirectory;

    #[test]
    fn incomplete_and_damaged_files_are_written_again() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack_into(cache.path()).unwrap();
        let hash = ModelDirectory::open(&folder).unwrap().model_hash().to_owned();
        std::fs::write(folder.join("tokenizer.json"), "cut short").unwrap();
        std::fs::remove_file(folder.join("quarry.json")).unwrap();
        let mut weights = std::fs::read(folder.join("model.safetensors")).unwrap();
        let middle = weights.len() / 2;
        weights[middle] ^= 1;
        std::fs::write(folder.join("model.safetensors"), &weights).unwrap();
        let again = unpack_into(cache.path()).unwrap();
        assert_eq!(ModelDirectory::open(&again).unwrap().model_hash(), hash);
    }
}

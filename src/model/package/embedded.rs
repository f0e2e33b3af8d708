//! The default model, embedded in the program. In: nothing. Out: its folder, unpacked into the per-user cache on first use, so that the
//! program works without other files. It must not use the network.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::environment::cache_folder;
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

/// Returns its folder; missing or incomplete files are written first.
pub fn unpack() -> Result<PathBuf> {
    unpack_into(&cache_folder()?)
}

fn unpack_into(cache: &Path) -> Result<PathBuf> {
    let [.., (_, manifest)] = FILES;
    let folder = cache.join("models").join(short_hash(manifest, 8));
    std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source: source.into() })?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) {
            continue;
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
    fn incomplete_files_are_written_again() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack_into(cache.path()).unwrap();
        let hash = ModelDirectory::open(&folder).unwrap().model_hash().to_owned();
        std::fs::write(folder.join("tokenizer.json"), "cut short").unwrap();
        std::fs::remove_file(folder.join("quarry.json")).unwrap();
        let again = unpack_into(cache.path()).unwrap();
        assert_eq!(ModelDirectory::open(&again).unwrap().model_hash(), hash);
    }
}

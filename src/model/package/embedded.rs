//! The model inside the program. In: nothing. Out: its folder, unpacked into the per-user cache when first asked for. So the program works
//! where nothing but itself is installed.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::environment::cache_folder;
use crate::machine::files::write_whole;
use crate::machine::hash::short_hash;

/// What jobs call it.
pub const NAME: &str = "models/default";

/// The folder's files. What describes them is last: where it is, the others are.
static FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../../models/default/config.json")),
    ("tokenizer.json", include_bytes!("../../../models/default/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../../models/default/model.safetensors")),
    ("quarry.json", include_bytes!("../../../models/default/quarry.json")),
];

/// Its folder. Its files are written unless they are there.
pub fn unpack() -> Result<PathBuf> {
    unpack_into(&cache_folder()?)
}

fn unpack_into(cache: &Path) -> Result<PathBuf> {
    let [.., (_, description)] = FILES;
    let folder = cache.join("models").join(short_hash(description, 8));
    std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source: source.into() })?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if std::fs::metadata(&path).is_ok_and(|there| there.len() == bytes.len() as u64) {
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
    fn it_is_whole_and_made_whole_again() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack_into(cache.path()).unwrap();
        let hash = ModelDirectory::open(&folder).unwrap().model_hash().to_owned();
        std::fs::write(folder.join("tokenizer.json"), "cut short").unwrap();
        std::fs::remove_file(folder.join("quarry.json")).unwrap();
        let again = unpack_into(cache.path()).unwrap();
        assert_eq!(ModelDirectory::open(&again).unwrap().model_hash(), hash);
    }
}

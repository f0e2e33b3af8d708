//! The provenance of an encoder. In: its path in the job, its folder. Out: its name and the recipe of an earlier training, for
//! quarry.json. It must not read weights.

use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::model::package::hub;
use crate::model::package::manifest::Manifest;

/// The encoder and recipe from a model's quarry.json. An encoder without one is named after its folder; one from the hub by its name there
/// with the commit, which a job can use again.
///
/// # Errors
/// [`crate::error::Error::Parse`] if quarry.json is invalid.
pub(crate) fn provenance(path: &Path, folder: &Path) -> Result<(String, Option<Value>)> {
    let last = folder.file_name().map(|last| last.to_string_lossy());
    let name = match (hub::Name::parse(path)?, last) {
        // The hub's cache has a folder for each commit.
        (Some(_), Some(commit)) => {
            let hub_name = path.to_string_lossy();
            format!("{}@{commit}", hub_name.split('@').next().unwrap_or_default())
        }
        (None, Some(last)) => last.into_owned(),
        (_, None) => path.display().to_string(),
    };
    let Some(model) = Manifest::of(folder)? else { return Ok((name, None)) };
    let first = if model.encoder.is_empty() { name } else { model.encoder };
    Ok((first, Some(model.recipe).filter(|recipe| !recipe.is_null())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_encoder_is_named_after_its_folder_or_hub_name() {
        let of = |path: &str, folder: &str| provenance(Path::new(path), Path::new(folder)).unwrap();
        assert_eq!(of("./encoders/bert", "./encoders/bert"), ("bert".into(), None));
        assert_eq!(of("bert/last.ckpt", "bert"), ("bert".into(), None));
        for path in ["hf://google-bert/bert-base-cased", "hf://google-bert/bert-base-cased@main"] {
            assert_eq!(of(path, "/cache/snapshots/cd5ef9").0, "hf://google-bert/bert-base-cased@cd5ef9");
        }
    }

    #[test]
    fn a_model_names_its_encoder_and_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let read = |recipe: &Value, encoder: &str| {
            let model = json!({"kind": "mrc", "encoder": encoder, "max_length": 24, "recipe": recipe});
            std::fs::write(folder.path().join("quarry.json"), model.to_string()).unwrap();
            provenance(folder.path(), folder.path()).unwrap()
        };
        let recipe = json!({"steps": 7});
        assert_eq!(read(&recipe, "tiny"), ("tiny".into(), Some(recipe)));
        let (name, before) = read(&Value::Null, "");
        assert_eq!((folder.path().ends_with(name), before), (true, None));
    }
}

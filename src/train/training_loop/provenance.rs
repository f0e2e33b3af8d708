//! Where an encoder comes from. In: what the job calls it, its folder. Out: its name and how it was trained here before, for quarry.json.
//! It may not read weights.

use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::model::package::hub;
use crate::model::package::manifest::Manifest;

/// A model's encoder and recipe, as its quarry.json says. An encoder without one is called after its folder, and one of the hub by its name
/// there with its commit, which can be said in a job again.
///
/// # Errors
/// [`crate::error::Error::Parse`] where there is a quarry.json that cannot be understood.
pub(crate) fn lineage(named: &Path, folder: &Path) -> Result<(String, Option<Value>)> {
    let last = folder.file_name().map(|last| last.to_string_lossy());
    let name = match (hub::Name::parse(named)?, last) {
        // The hub's cache has a folder for each commit.
        (Some(_), Some(commit)) => {
            let whole = named.to_string_lossy();
            format!("{}@{commit}", whole.split('@').next().unwrap_or_default())
        }
        (None, Some(last)) => last.into_owned(),
        (_, None) => named.display().to_string(),
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
    fn an_encoder_is_called_after_where_it_comes_from() {
        let of = |named: &str, folder: &str| lineage(Path::new(named), Path::new(folder)).unwrap();
        assert_eq!(of("./encoders/bert", "./encoders/bert"), ("bert".into(), None));
        assert_eq!(of("bert/last.ckpt", "bert"), ("bert".into(), None));
        for named in ["hf://google-bert/bert-base-cased", "hf://google-bert/bert-base-cased@main"] {
            assert_eq!(of(named, "/cache/snapshots/cd5ef9").0, "hf://google-bert/bert-base-cased@cd5ef9");
        }
    }

    #[test]
    fn a_model_says_what_it_was_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let says = |recipe: &Value, encoder: &str| {
            let model = json!({"kind": "mrc", "encoder": encoder, "max_length": 24, "recipe": recipe});
            std::fs::write(folder.path().join("quarry.json"), model.to_string()).unwrap();
            lineage(folder.path(), folder.path()).unwrap()
        };
        let recipe = json!({"steps": 7});
        assert_eq!(says(&recipe, "tiny"), ("tiny".into(), Some(recipe)));
        let (name, before) = says(&Value::Null, "");
        assert_eq!((folder.path().ends_with(name), before), (true, None));
    }
}

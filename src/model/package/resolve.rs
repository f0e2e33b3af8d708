//! A model's name → its folder. In: a path, or `hf://owner/name`. Out: the folder, and where it was found if that is not where the
//! path points. It must not read files of the folder.
//!
//! A relative path is searched in this order: the working folder, the folder of the executable, the per-user data folder
//! (`$XDG_DATA_HOME/quarry`, or `~/.local/share/quarry`), and for `models/default` the program itself. A path that is in none of them is
//! returned unchanged, so that the error names it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::environment::variable;
use crate::model::package::embedded;
use crate::model::package::hub;
use crate::model::package::hub::Part;

/// A model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub path: PathBuf,
    /// A description of where it was found; `None` if the path itself points there.
    pub origin: Option<&'static str>,
}

/// The folder of a model. A model of the hub is fetched unless it is in the hub's cache. It is logged if the folder is not where the
/// path points.
pub fn model(named: &Path) -> Result<PathBuf> {
    if let Some(name) = hub::Name::parse(named)? {
        return name.fetch(Part::Model);
    }
    let place = local_or_embedded(named)?;
    if let Some(origin) = place.origin {
        tracing::info!("model `{}` is loaded from {origin}: `{}`", named.display(), place.path.display());
    }
    Ok(place.path)
}

/// The folder of a pretrained encoder: a path, or a model of the hub.
pub fn encoder(named: &Path) -> Result<PathBuf> {
    if let Some(name) = hub::Name::parse(named)? {
        return name.fetch(Part::Encoder);
    }
    let Some(other) = on_the_hub(named) else { return Ok(named.to_path_buf()) };
    Err(Error::Checkpoint {
        path: named.into(),
        reason: "there is no such file or folder".into(),
        hint: format!("check that the path is right; {other}"),
    })
}

/// The hint for a path that does not exist and could be the name of a model on the hub. A path in an existing folder is never such a
/// name.
pub(crate) fn on_the_hub(named: &Path) -> Option<String> {
    if named.exists() || named.parent().is_some_and(Path::is_dir) {
        return None;
    }
    let text = named.to_str()?;
    let owner = if text.contains('/') {
        ""
    } else if text.starts_with("bert-base-") || text.starts_with("bert-large-") {
        "google-bert/"
    } else {
        "OWNER/"
    };
    let name = hub::Name::parse(Path::new(&format!("{}{owner}{text}", hub::SCHEME))).ok()??;
    Some(format!("a model on the Hugging Face hub is written {name}"))
}

/// The folder of a model, without fetching; `None` for a model of the hub that is not in the hub's cache.
pub fn here(named: &Path) -> Result<Option<Place>> {
    if let Some(name) = hub::Name::parse(named)? {
        return Ok(name.cached(Part::Model)?.map(|path| Place { path, origin: Some("the hub's cache") }));
    }
    local_or_embedded(named).map(Some)
}

fn local_or_embedded(named: &Path) -> Result<Place> {
    let place = local(named, &folders());
    if place.origin.is_none() && named == Path::new(embedded::NAME) && !named.exists() {
        return Ok(Place { path: embedded::unpack()?, origin: Some("the program") });
    }
    Ok(place)
}

/// The folders in which a relative path is searched, after the working folder.
fn folders() -> Vec<(PathBuf, &'static str)> {
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_path_buf()));
    let from = |name: &str| variable(name).map(PathBuf::from);
    let data = from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")));
    let beside = beside.map(|folder| (folder, "the folder of the executable"));
    let data = data.map(|data| (data.join("quarry"), "the per-user data folder"));
    beside.into_iter().chain(data).collect()
}

fn local(named: &Path, folders: &[(PathBuf, &'static str)]) -> Place {
    if named.is_relative() && !named.exists() {
        let mut candidates = folders.iter().map(|(folder, origin)| (folder.join(named), *origin));
        if let Some((path, origin)) = candidates.find(|(path, _)| path.is_dir()) {
            return Place { path, origin: Some(origin) };
        }
    }
    Place { path: named.to_path_buf(), origin: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_hub_without_scheme_gets_a_hint() {
        for (named, written) in [
            ("bert-base-uncased", "hf://google-bert/bert-base-uncased"),
            ("google-bert/bert-base-uncased", "hf://google-bert/bert-base-uncased"),
            ("some_model.v2", "hf://OWNER/some_model.v2"),
        ] {
            let error = encoder(Path::new(named)).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot use checkpoint `{named}`: there is no such file or folder"));
            let hint = format!("check that the path is right; a model on the Hugging Face hub is written {written}");
            assert_eq!(error.hint(), Some(hint.as_str()));
        }
        for path in ["./bert", "../bert", "/no/bert", "a/b/bert", "bert/", "b ert", "", "src", "src/bert"] {
            assert_eq!(on_the_hub(Path::new(path)), None, "{path}");
            assert_eq!(encoder(Path::new(path)).unwrap(), Path::new(path));
        }
    }

    #[test]
    fn a_relative_path_is_searched_in_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [(first.path().to_path_buf(), "the first"), (second.path().to_path_buf(), "the second")];
        let named = Path::new("models/of-this-test");
        assert_eq!(local(named, &folders), Place { path: named.into(), origin: None });
        std::fs::create_dir_all(second.path().join(named)).unwrap();
        assert_eq!(local(named, &folders), Place { path: second.path().join(named), origin: Some("the second") });
        std::fs::create_dir_all(first.path().join(named)).unwrap();
        assert_eq!(local(named, &folders).origin, Some("the first"));
        // An existing path is returned unchanged, and an absolute path is never searched elsewhere.
        assert_eq!(local(Path::new("src"), &folders).origin, None);
        let absolute = Path::new("/no/such/models/of-this-test");
        assert_eq!(local(absolute, &folders), Place { path: absolute.into(), origin: None });
    }
}

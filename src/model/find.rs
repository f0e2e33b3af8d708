//! What a job calls a model → its folder. In: a path, or `hf://owner/name`. Out: the folder, and where it was found if that is not where
//! the path points. It may not look into the folder.
//!
//! A relative path is looked for in this order: from the working folder, beside the executable, in the per-user data folder
//! (`$XDG_DATA_HOME/quarry`, or `~/.local/share/quarry`), and `models/default` at last inside the program itself. A path that is in
//! none of them stays as it is, for the error to name.

use std::path::{Path, PathBuf};

use super::hub::{self, Part};
use super::{embedded, variable};
use crate::error::Result;

/// A model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub path: PathBuf,
    /// Where it was found, in words; none where the path itself points there.
    pub origin: Option<&'static str>,
}

/// The folder of a model; one of the hub is fetched into the hub's cache unless it is there. `note` is told what is not obvious.
pub fn model(named: &Path, note: &dyn Fn(&str)) -> Result<PathBuf> {
    if let Some(name) = hub::Name::parse(named)? {
        return name.fetch(Part::Model, note);
    }
    let place = local_or_embedded(named)?;
    if let Some(origin) = place.origin {
        note(&format!("model `{}` is taken from {origin}: `{}`", named.display(), place.path.display()));
    }
    Ok(place.path)
}

/// The folder of a pretrained encoder, which is where the path says or on the hub.
pub fn encoder(named: &Path, note: &dyn Fn(&str)) -> Result<PathBuf> {
    hub::Name::parse(named)?.map_or_else(|| Ok(named.to_path_buf()), |name| name.fetch(Part::Encoder, note))
}

/// The folder of a model, without fetching: none for a model of the hub that is not in its cache.
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

/// Where a relative path is looked for, after the working folder.
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
        let mut elsewhere = folders.iter().map(|(folder, origin)| (folder.join(named), *origin));
        if let Some((path, origin)) = elsewhere.find(|(path, _)| path.is_dir()) {
            return Place { path, origin: Some(origin) };
        }
    }
    Place { path: named.to_path_buf(), origin: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_looked_for_in_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [(first.path().to_path_buf(), "the first"), (second.path().to_path_buf(), "the second")];
        let named = Path::new("models/of-this-test");
        assert_eq!(local(named, &folders), Place { path: named.into(), origin: None });
        std::fs::create_dir_all(second.path().join(named)).unwrap();
        assert_eq!(local(named, &folders), Place { path: second.path().join(named), origin: Some("the second") });
        std::fs::create_dir_all(first.path().join(named)).unwrap();
        assert_eq!(local(named, &folders).origin, Some("the first"));
        // One that is there is taken as it stands, and an absolute one is never looked for elsewhere.
        assert_eq!(local(Path::new("src"), &folders).origin, None);
        let absolute = Path::new("/no/such/models/of-this-test");
        assert_eq!(local(absolute, &folders), Place { path: absolute.into(), origin: None });
    }
}

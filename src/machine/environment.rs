//! Environment variables and the cache folder. In: the names of variables. Out: their values, and the folder where fetched
//! libraries and derived files are kept between runs. It must not create anything.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// An environment variable; an empty one counts as unset.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The same as text; one that is not UTF-8 counts as unset.
pub fn text_variable(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// The cache that the command line names.
static CACHE: OnceLock<PathBuf> = OnceLock::new();

/// Uses this folder as the cache from now on, whatever the environment says. Only the first call counts.
pub fn use_cache(folder: PathBuf) {
    // A second call would move the cache while it is used.
    let _ = CACHE.set(folder);
}

/// The per-user cache of fetched libraries and derived graphs: the one of [`use_cache`], `$QUARRY_CACHE`, or `quarry` in `$XDG_CACHE_HOME` or
/// `~/.cache`.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(cache) = CACHE.get() {
        return Ok(cache.clone());
    }
    let from = |name: &str| variable(name).map(PathBuf::from);
    from("QUARRY_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("quarry")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/quarry")))
        .ok_or_else(|| Error::Setting {
            origin: "environment".into(),
            key: "QUARRY_CACHE".into(),
            reason: "there is no cache folder: neither QUARRY_CACHE, XDG_CACHE_HOME nor HOME is set".into(),
            hint: "set QUARRY_CACHE to a writable folder".into(),
        })
}

//! The location of a store. In: a path or URL from the job file, and credentials from the environment. Out: an object store
//! and the paths of the tables in it. It must not read or write there.

use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectStore;
use object_store::path::Path;
use url::{Position, Url};

use crate::error::{Error, Result};
use crate::machine::synced_files::SyncedFiles;
use crate::tables::Table;

/// The URL schemes that a store can have; a text without a scheme is a local path.
const SCHEMES: [&str; 8] = ["file", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];
/// Prefixes of the environment variables with object-store settings, as the vendors' own tools name them.
const VARIABLES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// A folder or an object-store prefix for the six tables, whether they exist yet or not.
#[derive(Debug, Clone)]
pub struct StoreLocation {
    url: Url,
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl StoreLocation {
    /// Parses a location from a job file: a path (absolute, or relative to the working folder) or a `file`, `s3`, `gs`
    /// or `az` URL, whose credentials and endpoint come from the environment.
    ///
    /// # Errors
    /// [`Error::Setting`] for another scheme, a URL that names no bucket or incomplete credentials.
    pub fn parse(text: &str) -> Result<Self> {
        let unusable = |reason: String| Error::Setting {
            origin: "store".to_owned(),
            key: "path".to_owned(),
            reason: format!("`{text}` {reason}"),
            hint: "name a folder, or a URL that begins with s3://, gs:// or az://".to_owned(),
        };
        let url = match Url::parse(text) {
            Ok(url) if has_secrets(&url) => {
                return Err(Error::Setting {
                    origin: "store".to_owned(),
                    key: "path".to_owned(),
                    reason: format!("`{text}` has a log-in or parameters, which would not be used"),
                    hint: "set the vendor's environment variables instead, such as AWS_ACCESS_KEY_ID or AZURE_STORAGE_SAS_TOKEN"
                        .to_owned(),
                });
            }
            Ok(url) if SCHEMES.contains(&url.scheme()) => with_trailing_slash(url),
            Ok(url) if url.has_authority() => {
                return Err(unusable(format!("has the scheme `{}`, which cannot hold a store", url.scheme())));
            }
            // As a path it would lose a slash, and its log-in would no longer be recognized as one.
            Err(cause) if text.contains("://") => return Err(unusable(format!("is not a URL: {cause}"))),
            _ => folder_url(FilePath::new(text)).ok_or_else(|| unusable("is not a path on this machine".to_owned()))?,
        };
        let (objects, prefix) = object_store::parse_url_opts(&url, environment())
            .map_err(|cause| unusable(format!("cannot be used: {cause}")))?;
        let objects: Arc<dyn ObjectStore> =
            if url.scheme() == "file" { Arc::new(SyncedFiles::default()) } else { Arc::from(objects) };
        Ok(Self { url, objects, prefix })
    }

    /// The location of `url` in an existing object store: for stores in memory and for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn within(objects: Arc<dyn ObjectStore>, url: Url) -> Self {
        let url = with_trailing_slash(url);
        let prefix = Path::from_url_path(url.path()).unwrap_or_default();
        Self { url, objects, prefix }
    }

    /// The store's URL; its path ends in a slash. [`StoreLocation::parse`] turns it into the same location.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The object store at its root: paths in it begin at the root of the bucket or of the file system.
    #[must_use]
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The local folder, if the store is on this machine.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        (self.url.scheme() == "file").then(|| self.url.to_file_path().ok()).flatten()
    }

    /// The URL under which DataFusion registers [`StoreLocation::objects`]: scheme and bucket.
    ///
    /// # Errors
    /// [`Error::Engine`] if DataFusion does not accept the URL.
    pub fn object_store_url(&self) -> Result<ObjectStoreUrl> {
        ObjectStoreUrl::parse(&self.url[..Position::BeforePath]).map_err(|cause| Error::Engine {
            doing: format!("name the object store of `{}`", self.url),
            source: Box::new(cause),
        })
    }

    /// The path of `inside` (as `entities/part-1.parquet`) in [`StoreLocation::objects`].
    #[must_use]
    pub fn path(&self, inside: &Path) -> Path {
        self.prefix.parts().chain(inside.parts()).collect()
    }

    /// The path of a table's folder in [`StoreLocation::objects`].
    #[must_use]
    pub fn table_path(&self, table: Table) -> Path {
        self.path(&Path::from(table.name()))
    }

    /// The URL of a table's folder, with a slash at its end.
    #[must_use]
    pub fn table_url(&self, table: Table) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(table.name()).push("");
        }
        url
    }
}

impl std::fmt::Display for StoreLocation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.folder() {
            Some(folder) => write!(formatter, "{}", folder.display()),
            None => write!(formatter, "{}", self.url),
        }
    }
}

/// Whether the URL of an object store has a log-in, a query or a fragment. A user name alone is the container of Azure's `abfs` URLs.
fn has_secrets(url: &Url) -> bool {
    let login = url.password().is_some() || !url.username().is_empty() && !url.scheme().starts_with("abfs");
    SCHEMES.contains(&url.scheme())
        && url.scheme() != "file"
        && (login || url.query().is_some() || url.fragment().is_some())
}

fn with_trailing_slash(mut url: Url) -> Url {
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push("");
    }
    url
}

fn folder_url(path: &FilePath) -> Option<Url> {
    Url::from_directory_path(without_parents(&std::path::absolute(path).ok()?)).ok()
}

/// An absolute path with each `..` and the name before it removed.
pub(crate) fn without_parents(path: &FilePath) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| VARIABLES.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_on_this_machine() {
        let location = StoreLocation::parse("/data/some store/../lake").unwrap();
        assert_eq!(location.url().as_str(), "file:///data/lake/");
        assert_eq!(location.table_url(Table::Runs).as_str(), "file:///data/lake/runs/");
        assert_eq!(location.table_path(Table::Entities).as_ref(), "data/lake/entities");
        assert_eq!(location.object_store_url().unwrap().as_str(), "file:///");
        assert_eq!(location.to_string(), "/data/lake/");
    }

    #[test]
    fn a_relative_path_begins_in_the_working_folder() {
        let here = std::env::current_dir().unwrap();
        for (text, folder) in [("lake", "lake/"), ("./lake/", "lake/"), ("lake/../sea", "sea/")] {
            assert_eq!(StoreLocation::parse(text).unwrap().folder().unwrap(), here.join(folder), "{text}");
        }
    }

    #[test]
    fn a_store_in_memory_has_its_own_folder() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let location = StoreLocation::within(objects, Url::parse("memory:///lake/news").unwrap());
        assert_eq!(location.table_path(Table::Runs).as_ref(), "lake/news/runs");
        assert_eq!(location.table_url(Table::Runs).as_str(), "memory:///lake/news/runs/");
        assert_eq!(location.folder(), None);
    }

    #[test]
    fn a_name_with_a_space_and_a_percent_sign_is_kept() {
        let location = StoreLocation::parse("/data/50% of it").unwrap();
        assert_eq!(location.url().as_str(), "file:///data/50%25%20of%20it/");
        let again = StoreLocation::parse(location.url().as_str()).unwrap();
        assert_eq!(again.folder().unwrap(), FilePath::new("/data/50% of it/"));
        assert_eq!(again.table_path(Table::Runs), location.table_path(Table::Runs));
    }

    #[test]
    fn a_bucket_is_an_object_store() {
        let location = StoreLocation::parse("s3://lake/entities/news").unwrap();
        assert_eq!(location.url().as_str(), "s3://lake/entities/news/");
        assert_eq!(location.table_path(Table::Runs).as_ref(), "entities/news/runs");
        assert_eq!(location.object_store_url().unwrap().as_str(), "s3://lake/");
        assert_eq!(location.folder(), None);
    }

    #[test]
    fn a_log_in_is_refused_and_not_repeated() {
        for text in [
            "s3://me:secret@lake/a",
            "az://lake/a?sv=1&sig=secret",
            "abfss://lake:secret@account.dfs.core.windows.net/a",
        ] {
            let error = StoreLocation::parse(text).unwrap_err();
            assert!(error.to_string().contains("has a log-in or parameters"), "{error}");
            assert!(!error.report().contains("secret"), "{}", error.report());
        }
        let azure = StoreLocation::parse("abfss://lake@account.dfs.core.windows.net/a");
        assert!(azure.is_ok_and(|location| location.table_path(Table::Runs).as_ref() == "a/runs"));
    }

    #[test]
    fn what_looks_like_a_url_is_no_path() {
        let error = StoreLocation::parse("s3://me:secret/x@lake:80/a").unwrap_err();
        assert_eq!(error.to_string(), "store: `path`: `s3://lake:80/a` is not a URL: invalid port number");
    }

    #[test]
    fn another_scheme_is_an_error_that_names_it() {
        let error = StoreLocation::parse("ftp://lake/entities").unwrap_err();
        assert!(error.to_string().contains("the scheme `ftp`"), "{error}");
    }
}

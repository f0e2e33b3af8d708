//! A path, glob or URL → the files it names. In: the job's `documents` setting. Out: the files, sorted by path, with sizes and
//! modification times, and the reader for their format. It must not open files.

use std::sync::Arc;

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use glob::MatchOptions;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::{Error, Result, is_denied};
use crate::source::listing::delta::live_files;
use crate::source::listing::names::names;
use crate::source::location::{StoreLocation, without_parents};
use crate::source::object_stores::{register_location, web_server};
use crate::tables::Table;

mod delta;
mod format;
mod names;

pub(crate) use crate::source::listing::format::has_tabs;
pub use crate::source::listing::format::{Compression, Format};
pub(crate) use crate::source::listing::names::{partition_names, partition_value};

/// The most passed-over files that are named.
const NAMED: usize = 3;

/// An input file.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    /// Its URL or absolute path: the `source` column.
    pub path: String,
    /// Its path, size and modification time in the object store.
    pub meta: ObjectMeta,
    /// How many rows it has, if its metadata says so.
    pub rows: Option<i64>,
    /// If a row cannot be read: how many rows precede it, and the reason.
    pub broken: Option<(i64, String)>,
}

impl SourceFile {
    /// How many of its rows can be read, if known.
    #[must_use]
    pub fn readable(&self) -> Option<i64> {
        self.broken.as_ref().map(|(rows, _)| *rows).or(self.rows)
    }

    /// Whether it is a text file that cannot be read to its end: a plan over it stops early, so no other file can follow in the plan.
    #[must_use]
    pub fn ends_early(&self) -> bool {
        self.rows.is_none() && self.broken.is_some()
    }
}

/// The files of one format that a job names.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The path, glob or URL that was listed.
    pub documents: String,
    /// The format of all the files.
    pub format: Format,
    /// Their object store, as registered in the session.
    pub objects: ObjectStoreUrl,
    /// The part of `source` before an object's path.
    pub prefix: String,
    /// Sorted by path; never empty.
    pub files: Vec<SourceFile>,
    /// Files that are there and cannot be read, and why.
    pub unusable: Vec<(SourceFile, String)>,
    /// How many files of a folder are passed over because they are of no format that can be read, and the first of them.
    pub passed_over: (usize, Vec<String>),
    /// What was listed.
    base: ListingTableUrl,
}

impl Listing {
    /// Lists the files that `documents` names. A folder that is a Delta table has the files of its latest version.
    ///
    /// # Errors
    /// [`Error::Input`] if there are none, they cannot be listed, or they have different formats.
    pub async fn find(context: &SessionContext, documents: &str) -> Result<Self> {
        let refuse = |reason: String, hint: &str| refused(documents, reason, hint);
        let (base, prefix) = listing_url(context, documents)?;
        let objects = store_of(context, &base.object_store())
            .map_err(|reason| refuse(reason, "name a path, or a URL that begins with s3://, gs:// or az://"))?;
        let (mut all, invalid_names) =
            list(&base, objects.as_ref()).await.map_err(|error| listing_error(documents, error))?;
        let path = |location: &Path| format!("{prefix}{location}");
        let source = |meta: ObjectMeta| SourceFile { path: path(&meta.location), meta, rows: None, broken: None };
        let mut unusable: Vec<(SourceFile, String)> = Vec::new();
        if invalid_names && let Ok(folder) = base.get_url().to_file_path() {
            let reason = "its name has control characters or is no UTF-8: rename it";
            let names = names(&folder);
            all.clear();
            for name in &names.usable {
                match objects.head(name).await {
                    Ok(meta) => all.push(meta),
                    // It was removed since.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(listing_error(documents, error)),
                }
            }
            let files =
                names.unusable.into_iter().map(|(path, meta)| SourceFile { path, meta, rows: None, broken: None });
            unusable.extend(files.map(|file| (file, reason.to_owned())));
        }
        let tables = live_files(&base, &objects, &all, documents).await?;
        unusable.extend(tables.missing.into_iter().map(|meta| {
            (source(meta), "it belongs to the latest version of the Delta table, but is not there".to_owned())
        }));
        let in_table = |location: &Path| tables.folders.iter().any(|folder| location.prefix_matches(folder));
        let (mut listed, mut passed_over) = (Vec::new(), (0, Vec::new()));
        for meta in all {
            if in_table(&meta.location) {
                let named = base.get_glob().is_none() || is_listed(&base, &meta.location);
                listed.extend((named && tables.live.contains(&meta.location)).then_some(meta));
                continue;
            }
            if !is_listed(&base, &meta.location) {
                continue;
            }
            if Format::of(meta.location.as_ref()).is_some() || !base.is_collection() {
                listed.push(meta);
            } else {
                passed_over.0 += 1;
                if passed_over.1.len() < NAMED {
                    passed_over.1.push(path(&meta.location));
                }
            }
        }
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        let endings = "the format is known by the file extension: .parquet, .jsonl, .ndjson, .json, .csv or .tsv; all but .parquet also with .gz or .zst";
        let Some(first) = listed.first() else {
            if !base.is_collection() {
                return Err(refuse("there is no such file".into(), "check that the path is right"));
            }
            let also =
                passed_over.1.first().map_or_else(String::new, |other| format!(", only files such as `{other}`"));
            return Err(refuse(format!("there is no Parquet, JSON Lines or CSV file{also}"), endings));
        };
        let format = Format::of(first.location.as_ref())
            .ok_or_else(|| refuse(format!("`{}` has an unknown extension", first.location), endings))?;
        if let Some(other) = listed.iter().find(|meta| Format::of(meta.location.as_ref()) != Some(format)) {
            return Err(refuse(
                format!("`{}` and `{}` are of different formats", first.location, other.location),
                "name one kind with a glob, such as *.parquet",
            ));
        }
        let files = listed.into_iter().map(source).collect();
        let (documents, objects) = (documents.to_owned(), base.object_store());
        Ok(Self { documents, format, objects, prefix, files, unusable, passed_over, base })
    }

    /// Whether the data files of a store at `location` would be among the documents.
    pub fn covers(&self, location: &StoreLocation) -> bool {
        let file = location.table_path(Table::Entities).join("part.parquet");
        let same_store = location.object_store_url().is_ok_and(|url| url == self.objects);
        same_store && self.base.is_collection() && is_listed(&self.base, &file)
    }

    /// A sentence about the files that are passed over, if there are any.
    pub fn passed_over(&self) -> Option<String> {
        let (count, named) = &self.passed_over;
        let more = if *count > named.len() { ", …" } else { "" };
        let formats =
            "only .parquet, .jsonl, .ndjson, .json, .csv and .tsv are read, the text formats also as .gz and .zst";
        (*count > 0).then(|| format!("{count} file(s) are not read: `{}`{more}; {formats}", named.join("`, `")))
    }
}

/// Everything below the listed folder, or the file itself, and whether names were left out that an object store cannot have.
async fn list(
    base: &ListingTableUrl,
    objects: &dyn ObjectStore,
) -> Result<(Vec<ObjectMeta>, bool), object_store::Error> {
    if !base.is_collection() {
        match objects.head(base.prefix()).await {
            Ok(meta) => return Ok((vec![meta], false)),
            // Perhaps a prefix without the slash.
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let (mut all, mut invalid_names) = (Vec::new(), false);
    let mut stream = objects.list(Some(base.prefix()));
    while let Some(meta) = stream.next().await {
        match meta {
            Ok(meta) => all.push(meta),
            Err(object_store::Error::InvalidPath { .. }) => invalid_names = true,
            Err(error) => return Err(error),
        }
    }
    Ok((all, invalid_names))
}

/// Whether a path belongs to a listing: it matches the glob, whose `*` does not match a slash, or lies in the folder. Hidden files and
/// folders are left out, because programs keep unfinished data there (`_temporary`, `_delta_log`, `.part`).
fn is_listed(base: &ListingTableUrl, location: &Path) -> bool {
    let Some(parts) = base.strip_prefix(location) else { return false };
    let parts: Vec<&str> = parts.collect();
    if parts.is_empty() {
        // The job names this file itself.
        return true;
    }
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
    let matches = base.get_glob().as_ref().is_none_or(|glob| glob.matches_with(&parts.join("/"), options));
    matches && !parts.iter().any(|part| part.starts_with(['.', '_']))
}

/// An error for a failed listing: a permanent one if the user must fix something, else one that a retry can get past.
fn listing_error(documents: &str, error: object_store::Error) -> Error {
    use object_store::Error::{Generic, InvalidPath, NotFound, NotSupported, PermissionDenied, Unauthenticated};
    let permanent = match &error {
        InvalidPath { .. }
        | NotFound { .. }
        | NotSupported { .. }
        | PermissionDenied { .. }
        | Unauthenticated { .. } => true,
        Generic { store: "LocalFileSystem", .. } => is_denied(&error),
        _ => false,
    };
    if permanent {
        return refused(documents, error.to_string(), "check that the path is right and that you may read it");
    }
    Error::Engine { doing: format!("list the documents at `{documents}`"), source: error.into() }
}

/// An error about the documents.
pub(crate) fn refused(documents: &str, reason: String, hint: &str) -> Error {
    Error::Input { location: documents.into(), reason, hint: hint.into() }
}

/// The object store that is registered in a session under `url`.
pub(crate) fn store_of(context: &SessionContext, url: &ObjectStoreUrl) -> Result<Arc<dyn ObjectStore>, String> {
    context.runtime_env().object_store(url).map_err(|error| error.strip_backtrace())
}

/// The URL to list for a path, glob or URL, and the prefix of full names before an object's path. Registers the object store.
fn listing_url(context: &SessionContext, documents: &str) -> Result<(ListingTableUrl, String)> {
    let refuse = |reason: String| {
        refused(documents, reason, "name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://")
    };
    if !documents.contains("://") {
        let local = std::path::Path::new(documents);
        // A path that exists is that path, whatever characters it has; only otherwise it is a glob.
        match (local.try_exists(), resolved(local)) {
            (Ok(true), Ok(path)) => {
                let url =
                    if path.is_dir() { url::Url::from_directory_path(path) } else { url::Url::from_file_path(path) };
                let url = url.map_err(|()| refuse("it is not a path on this machine".into()))?;
                let url = ListingTableUrl::try_new(url, None).map_err(|error| refuse(error.strip_backtrace()))?;
                return Ok((url, "/".into()));
            }
            _ if documents.contains(['*', '?', '[']) => {}
            (Err(cause), _) => return Err(refused(documents, cause.to_string(), "check that you may read its folder")),
            _ => return Err(refuse("there is no such file or folder".into())),
        }
        let (folder, names) = documents.split_at(glob_start(documents).unwrap_or(0));
        let folder = resolved(std::path::Path::new(if folder.is_empty() { "." } else { folder }));
        let folder =
            folder.map_err(|cause| refused(documents, cause.to_string(), "check the folder before the `*`"))?;
        let url =
            url::Url::from_directory_path(folder).map_err(|()| refuse("it is not a path on this machine".into()))?;
        let pattern = glob::Pattern::new(names).map_err(|error| refuse(error.to_string()))?;
        let url = ListingTableUrl::try_new(url, Some(pattern)).map_err(|error| refuse(error.strip_backtrace()))?;
        return Ok((url, "/".into()));
    }
    if documents.starts_with("http://") || documents.starts_with("https://") {
        // HTTP cannot list, so only one file.
        let url = url::Url::parse(documents).map_err(|error| refuse(error.to_string()))?;
        if Format::of(url.path()).is_none() {
            let endings =
                "its URL ends in .parquet, .jsonl, .ndjson, .json or .csv; a folder can be read from an object store";
            return Err(refused(documents, "over http(s) only a single file can be read".into(), endings));
        }
        if url.query().is_some() {
            let hint = "download the file, and name the folder it is in";
            return Err(refused(documents, "what follows the `?` cannot be sent to the server".into(), hint));
        }
        let (server, objects) = web_server(&url).map_err(refuse)?;
        let origin = server.to_string();
        let root = ObjectStoreUrl::parse(&origin).map_err(|error| refuse(error.strip_backtrace()))?;
        context.register_object_store(root.as_ref(), objects);
        let file = server.join(url.path()).map_err(|error| refuse(error.to_string()))?;
        let url = ListingTableUrl::try_new(file, None).map_err(|error| refuse(error.strip_backtrace()))?;
        return Ok((url, origin));
    }
    let (base, glob) = glob_start(documents).map_or((documents, None), |at| (&documents[..at], Some(&documents[at..])));
    let location = StoreLocation::parse(base)?;
    register_location(context, &location)?;
    let parsed = url::Url::parse(base).map_err(|error| refuse(error.to_string()))?;
    let prefix = format!("{}/", &parsed[..url::Position::BeforePath]);
    let pattern = glob.map(glob::Pattern::new).transpose().map_err(|error| refuse(error.to_string()))?;
    let url = ListingTableUrl::try_new(parsed, pattern).map_err(|error| refuse(error.strip_backtrace()))?;
    Ok((url, prefix))
}

/// Where the first part of a path with a wildcard begins.
fn glob_start(documents: &str) -> Option<usize> {
    let wildcard = documents.find(['*', '?', '['])?;
    Some(documents[..wildcard].rfind('/').map_or(0, |slash| slash + 1))
}

/// The absolute path without `..`, which object stores do not know: where there are some, with links resolved, as the system reads it, if
/// the path is there.
fn resolved(path: &std::path::Path) -> std::io::Result<std::path::PathBuf> {
    let absolute = std::path::absolute(path)?;
    let up = absolute.components().any(|component| component == std::path::Component::ParentDir);
    Ok(if up { std::fs::canonicalize(&absolute).unwrap_or_else(|_| without_parents(&absolute)) } else { absolute })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::session::{SessionSettings, session};

    #[tokio::test]
    async fn a_folder_includes_its_subfolders_and_a_star_stops_at_a_slash() {
        let folder = tempfile::tempdir().unwrap();
        for path in
            ["a.csv", "b/c.csv", "b/d/e.csv", "dt=1/f.csv", "dt=2/g.csv", "_temporary/h.csv", "b/.i.csv", "j.txt"]
        {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "id,body\n").unwrap();
        }
        let root = folder.path().to_str().unwrap();
        let found = async |documents: &str| {
            let context = session(&SessionSettings::default()).unwrap();
            let listing = Listing::find(&context, &format!("{root}{documents}")).await.unwrap();
            listing.files.iter().map(|file| file.path.replacen(root, "", 1)).collect::<Vec<_>>()
        };
        for all in ["", "/", "/**/*.csv"] {
            assert_eq!(found(all).await, ["/a.csv", "/b/c.csv", "/b/d/e.csv", "/dt=1/f.csv", "/dt=2/g.csv"], "{all}");
        }
        assert_eq!(found("/*.csv").await, ["/a.csv"]);
        assert_eq!(found("/b").await, ["/b/c.csv", "/b/d/e.csv"]);
        assert_eq!(found("/dt=*/*.csv").await, ["/dt=1/f.csv", "/dt=2/g.csv"]);
        assert_eq!(found("/dt=2/*.csv").await, ["/dt=2/g.csv"]);
        assert_eq!(found("/*/c.csv").await, ["/b/c.csv"]);
        assert_eq!(found("/b/.i.csv").await, ["/b/.i.csv"]);
        assert_eq!(found("/b/../a.csv").await, ["/a.csv"]);
        assert_eq!(found("/b/../*.csv").await, ["/a.csv"]);
        let context = session(&SessionSettings::default()).unwrap();
        let nowhere = Listing::find(&context, &format!("{root}/b/../nowhere/*.csv")).await.unwrap_err().to_string();
        let plain = Listing::find(&context, &format!("{root}/nowhere/*.csv")).await.unwrap_err().to_string();
        assert_eq!(nowhere.replace("/b/..", ""), plain, "a folder that is not there has no files");
        assert_eq!(found("/b/d/../../dt=2/../b").await, ["/b/c.csv", "/b/d/e.csv"]);
    }
}

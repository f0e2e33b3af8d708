//! A path, glob or URL → the files it names. In: the job's `documents` setting. Out: the files, sorted by path, with sizes and
//! modification times, and the reader for their format. It must not open files.

use std::sync::Arc;

use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use glob::MatchOptions;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, is_denied};
use crate::source::location::StoreLocation;
use crate::source::object_stores::{register_location, web_server};
use crate::source::plan_error::first_line;

/// A file format of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

impl Format {
    /// The format for a file's extension.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        match name.rsplit_once('.')?.1 {
            "parquet" | "pq" => Some(Self::Parquet),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// DataFusion's reader for the format.
    pub fn reader(self) -> Arc<dyn FileFormat> {
        match self {
            Self::Parquet => Arc::new(ParquetFormat::default().with_enable_pruning(true)),
            Self::JsonLines => Arc::new(JsonFormat::default()),
            Self::Csv => Arc::new(CsvFormat::default().with_has_header(true).with_newlines_in_values(true)),
        }
    }
}

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
}

impl Listing {
    /// Lists the files that `documents` names.
    ///
    /// # Errors
    /// [`Error::Input`] if there are none, they cannot be listed, or they have different formats.
    pub async fn find(context: &SessionContext, documents: &str) -> Result<Self> {
        let refuse = |reason: String, hint: &str| refused(documents, reason, hint);
        let (base, prefix) = listing_url(context, documents)?;
        let objects = store_of(context, &base.object_store())
            .map_err(|reason| refuse(reason, "name a path, or a URL that begins with s3://, gs:// or az://"))?;
        let state = context.state();
        // DataFusion's globs do not match inside `key=value` folders, so it lists everything and we match the glob.
        let everything = match base.get_glob() {
            Some(_) => base.clone().with_glob("*").map_err(|error| refuse(first_line(&error), "correct the glob"))?,
            None => base.clone(),
        };
        let listed = everything.list_all_files(&state, objects.as_ref(), "").await;
        let mut listed: Vec<ObjectMeta> = match listed {
            Ok(stream) => stream.try_collect().await,
            Err(error) => Err(error),
        }
        .map_err(|error| listing_error(documents, error))?;
        listed.retain(|meta| {
            is_listed(&base, &meta.location) && (Format::of(meta.location.as_ref()).is_some() || !base.is_collection())
        });
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        let endings = "the format is known by the file extension: .parquet, .jsonl, .ndjson, .json or .csv";
        let Some(first) = listed.first() else {
            if !base.is_collection() {
                return Err(refuse("there is no such file".into(), "check that the path is right"));
            }
            return Err(refuse("there is no Parquet, JSON Lines or CSV file".into(), endings));
        };
        let format = Format::of(first.location.as_ref())
            .ok_or_else(|| refuse(format!("`{}` has an unknown extension", first.location), endings))?;
        if let Some(other) = listed.iter().find(|meta| Format::of(meta.location.as_ref()) != Some(format)) {
            return Err(refuse(
                format!("`{}` and `{}` are of different formats", first.location, other.location),
                "name one kind with a glob, such as *.parquet",
            ));
        }
        let file = |meta: ObjectMeta| SourceFile {
            path: format!("{prefix}{}", meta.location),
            meta,
            rows: None,
            broken: None,
        };
        let files = listed.into_iter().map(file).collect();
        Ok(Self { documents: documents.to_owned(), format, objects: base.object_store(), prefix, files })
    }
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
fn listing_error(documents: &str, error: DataFusionError) -> Error {
    use object_store::Error::{InvalidPath, NotFound, NotSupported, PermissionDenied, Unauthenticated};
    let permanent = match error.find_root() {
        DataFusionError::ObjectStore(cause) if is_denied(&**cause) => true,
        DataFusionError::ObjectStore(cause) => {
            matches!(
                **cause,
                InvalidPath { .. }
                    | NotFound { .. }
                    | NotSupported { .. }
                    | PermissionDenied { .. }
                    | Unauthenticated { .. }
            )
        }
        _ => true,
    };
    if permanent {
        return refused(documents, first_line(&error), "check that the path is right and that you may read it");
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
        let exists = std::path::Path::new(documents).try_exists();
        match exists {
            _ if documents.contains(['*', '?', '[']) => {}
            Ok(true) => {}
            Ok(false) => return Err(refuse("there is no such file or folder".into())),
            Err(cause) => return Err(refused(documents, cause.to_string(), "check that you may read its folder")),
        }
        let url = ListingTableUrl::parse(documents).map_err(|error| refuse(error.strip_backtrace()))?;
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
    let star = documents.find(['*', '?', '[']).map(|at| documents[..at].rfind('/').map_or(at, |slash| slash + 1));
    let (base, glob) = star.map_or((documents, None), |at| (&documents[..at], Some(&documents[at..])));
    let location = StoreLocation::parse(base)?;
    register_location(context, &location)?;
    let parsed = url::Url::parse(base).map_err(|error| refuse(error.to_string()))?;
    let prefix = format!("{}/", &parsed[..url::Position::BeforePath]);
    let pattern = glob.map(glob::Pattern::new).transpose().map_err(|error| refuse(error.to_string()))?;
    let url = ListingTableUrl::try_new(parsed, pattern).map_err(|error| refuse(error.strip_backtrace()))?;
    Ok((url, prefix))
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
    }
}

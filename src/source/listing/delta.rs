//! Delta tables among the input. In: everything below a folder. Out: the data files of the latest version of each Delta table there. A
//! file that the log does not name must not be read: it is of an older version, or of an unfinished write.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::datasource::listing::ListingTableUrl;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::{Error, Result};

/// The folder of a table's log.
const LOG: &str = "_delta_log";
/// The digits of a log entry's name (Delta's protocol, "Delta Log Entries").
const VERSION_DIGITS: usize = 20;

/// The data files of Delta tables.
#[derive(Debug, Default)]
pub(super) struct TableFiles {
    /// The folders of the tables.
    pub(super) folders: BTreeSet<Path>,
    /// The files of their latest versions that are there,
    pub(super) live: BTreeSet<Path>,
    /// and those that are not.
    pub(super) missing: Vec<ObjectMeta>,
}

/// Reads the logs of the Delta tables among `all`.
///
/// # Errors
/// [`Error::Input`] for a table that cannot be read, or not without a feature that is not supported; [`Error::Engine`] if the object store
/// does not answer.
pub(super) async fn live_files(
    base: &ListingTableUrl,
    objects: &Arc<dyn ObjectStore>,
    all: &[ObjectMeta],
    documents: &str,
) -> Result<TableFiles> {
    let folders: BTreeSet<Path> = all.iter().filter_map(|meta| table_folder(&meta.location)).collect();
    let mut files = TableFiles { folders, ..TableFiles::default() };
    if files.folders.is_empty() {
        return Ok(files);
    }
    let there: BTreeSet<&Path> = all.iter().map(|meta| &meta.location).collect();
    for folder in &files.folders {
        let refuse = |reason: String| Error::Input {
            location: documents.to_owned(),
            reason: format!("the Delta table `{folder}` {reason}"),
            hint: "name other files, or write the table again without that feature".to_owned(),
        };
        let table = open(base, objects, folder).await.map_err(|error| {
            if unavailable(&error) {
                return Error::Engine { doing: format!("read the Delta table `{folder}`"), source: error.into() };
            }
            refuse(format!("cannot be read: {error}"))
        })?;
        let snapshot = table.snapshot().map_err(|error| refuse(format!("cannot be read: {error}")))?.snapshot();
        let mapping = snapshot.metadata().configuration().get("delta.columnMapping.mode");
        if mapping.is_some_and(|mode| mode != "none") {
            return Err(refuse("uses column mapping, which is not supported".to_owned()));
        }
        for file in snapshot.log_data().iter() {
            if file.deletion_vector_descriptor().is_some() {
                return Err(refuse("uses deletion vectors, which are not supported".to_owned()));
            }
            let location: Path = folder.parts().chain(file.object_store_path().parts()).collect();
            if there.contains(&location) {
                files.live.insert(location);
            } else {
                let modified = DateTime::<Utc>::from_timestamp_millis(file.modification_time()).unwrap_or_default();
                let size = file.size().max(0) as u64;
                files.missing.push(ObjectMeta { location, last_modified: modified, size, e_tag: None, version: None });
            }
        }
    }
    Ok(files)
}

/// The folder of the table whose log a file belongs to.
fn table_folder(location: &Path) -> Option<Path> {
    let parts: Vec<_> = location.parts().collect();
    let log = parts.iter().position(|part| part.as_ref() == LOG)?;
    let version = parts.get(log + 1)?.as_ref().strip_suffix(".json")?;
    let is_entry = version.len() == VERSION_DIGITS && version.bytes().all(|byte| byte.is_ascii_digit());
    is_entry.then(|| parts[..log].iter().cloned().collect())
}

async fn open(
    base: &ListingTableUrl,
    objects: &Arc<dyn ObjectStore>,
    folder: &Path,
) -> Result<DeltaTable, DeltaTableError> {
    let mut url = base.get_url().clone();
    url.set_path(&format!("/{folder}/"));
    let inside = Arc::new(PrefixStore::new(Arc::clone(objects), folder.clone()));
    let mut table = DeltaTable::new(default_logstore(inside, Arc::clone(objects), &url, &StorageConfig::default()));
    table.load().await?;
    Ok(table)
}

/// Whether the object store did not answer.
fn unavailable(error: &DeltaTableError) -> bool {
    use object_store::Error::{Generic, NotFound, NotSupported, PermissionDenied, Unauthenticated};
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    let failure = causes.find_map(|error| error.downcast_ref::<object_store::Error>());
    failure.is_some_and(|error| {
        !matches!(
            error,
            NotFound { .. }
                | NotSupported { .. }
                | PermissionDenied { .. }
                | Unauthenticated { .. }
                | Generic { store: "LocalFileSystem", .. }
        )
    })
}

//! The local disk as an object store whose writes survive a power failure. In: writes of an object store. Out: files that are complete or
//! absent, and whose contents, names and folders are on the disk when the write returns. It must not know what the files mean.
//!
//! `object_store`'s own local store never syncs: after a power failure a file of it can be empty, or gone, although a later one is there.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// The local disk. Writes are synced; everything else is [`LocalFileSystem`]'s.
#[derive(Debug, Clone, Default)]
pub struct SyncedFiles {
    files: Arc<LocalFileSystem>,
    folders: Arc<Folders>,
}

impl fmt::Display for SyncedFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "synced {}", self.files)
    }
}

#[async_trait]
impl ObjectStore for SyncedFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let exclusive = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            // The local store says that it has no such puts.
            PutMode::Update(_) => return self.files.put_opts(location, payload, options).await,
        };
        let path = self.files.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            let mut staged = StagedFile::create(path)?;
            for part in &payload {
                staged.file.write_all(part).map_err(|cause| failed("write", &staged.path, cause))?;
            }
            staged.publish(exclusive, &folders)
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.files.path_to_filesystem(location)?;
        let staged = blocking(move || StagedFile::create(path)).await?;
        Ok(Box::new(SyncedUpload { staged: Some(Arc::new(staged)), bytes: 0, folders: Arc::clone(&self.folders) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// A file under a temporary name: `NAME#1`, as [`LocalFileSystem`] names and hides them. It is removed if it is dropped unpublished.
#[derive(Debug)]
struct StagedFile {
    file: File,
    path: PathBuf,
    destination: PathBuf,
    /// Whether it has its name instead of the temporary one, which another writer can then take.
    renamed: AtomicBool,
}

impl StagedFile {
    fn create(destination: PathBuf) -> Result<Self> {
        for number in 1_u32.. {
            let mut path = destination.clone().into_os_string();
            path.push(format!("#{number}"));
            let path = PathBuf::from(path);
            let create = || OpenOptions::new().write(true).create_new(true).open(&path);
            let created = create().or_else(|cause| match (cause.kind(), destination.parent()) {
                (ErrorKind::NotFound, Some(folder)) => std::fs::create_dir_all(folder).and_then(|()| create()),
                _ => Err(cause),
            });
            match created {
                Ok(file) => return Ok(Self { file, path, destination, renamed: AtomicBool::new(false) }),
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists && number < u32::MAX => {}
                Err(cause) => return Err(failed("create", &path, cause)),
            }
        }
        Err(failed("create", &destination, ErrorKind::AlreadyExists.into()))
    }

    /// Syncs the contents, then gives the file its name, then syncs the folder: at no moment has the name another content on the disk.
    /// With `exclusive`, fails if the name is taken.
    fn publish(&self, exclusive: bool, folders: &Folders) -> Result<PutResult> {
        let Self { file, path, destination, renamed } = self;
        file.sync_all().map_err(|cause| failed("sync", path, cause))?;
        note(Step::Contents, destination);
        if exclusive {
            std::fs::hard_link(path, destination).map_err(|cause| match cause.kind() {
                ErrorKind::AlreadyExists => {
                    Error::AlreadyExists { path: destination.display().to_string(), source: cause.into() }
                }
                _ => failed("name", destination, cause),
            })?;
        } else {
            std::fs::rename(path, destination).map_err(|cause| failed("name", destination, cause))?;
            renamed.store(true, Ordering::Relaxed);
        }
        note(Step::Name, destination);
        folders.sync(destination.parent().unwrap_or(FilePath::new("/")))?;
        Ok(PutResult { e_tag: None, version: None })
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.renamed.load(Ordering::Relaxed) {
            // What stays is removed by a vacuum.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file that is written in parts.
#[derive(Debug)]
struct SyncedUpload {
    /// `None` once it is complete or aborted.
    staged: Option<Arc<StagedFile>>,
    /// The size of the parts so far.
    bytes: u64,
    folders: Arc<Folders>,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (staged, mut offset) = (self.staged.clone(), self.bytes);
        self.bytes += data.content_length() as u64;
        blocking(move || {
            let staged = staged.ok_or_else(ended)?;
            for part in &data {
                staged.file.write_all_at(part, offset).map_err(|cause| failed("write", &staged.path, cause))?;
                offset += part.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(ended)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || staged.publish(false, &folders)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged.take().map(drop).ok_or_else(ended)
    }
}

fn ended() -> Error {
    Error::Generic { store: "local disk", source: "the upload has ended".into() }
}

/// The folders whose own names are on the disk.
#[derive(Debug, Default)]
struct Folders(Mutex<BTreeSet<PathBuf>>);

impl Folders {
    /// Syncs a folder, and the first time also the folders that it is in: one of them can be new.
    fn sync(&self, folder: &FilePath) -> Result<()> {
        sync_folder(folder).map_err(|cause| failed("sync", folder, cause))?;
        note(Step::Folder, folder);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (below, above) in folder.ancestors().zip(folder.ancestors().skip(1)) {
            if known.contains(below) {
                break;
            }
            match sync_folder(above) {
                Ok(()) => note(Step::Folder, above),
                // Somebody else's folder, which therefore is not new.
                Err(cause) if cause.kind() == ErrorKind::PermissionDenied => {}
                Err(cause) => return Err(failed("sync", above, cause)),
            }
            known.insert(below.to_owned());
        }
        Ok(())
    }
}

fn sync_folder(folder: &FilePath) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network and user-space file systems cannot sync a folder; their servers keep its entries.
        Err(cause) if matches!(cause.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{}`", path.display())]
struct DiskError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(doing: &'static str, path: &FilePath, source: io::Error) -> Error {
    Error::Generic { store: "local disk", source: Box::new(DiskError { doing, path: path.to_owned(), source }) }
}

/// Runs disk work where it blocks no asynchronous task.
async fn blocking<Out: Send + 'static>(work: impl FnOnce() -> Result<Out> + Send + 'static) -> Result<Out> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

/// What the disk has been told to keep, in order; tests simulate power failures with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file's contents were synced, before it had its name.
    Contents,
    /// A file was given its name.
    Name,
    /// A folder was synced.
    Folder,
}

#[cfg(not(test))]
fn note(_: Step, _: &FilePath) {}

#[cfg(test)]
pub(crate) use journal::note;

/// The steps of all tests of this process.
#[cfg(test)]
pub(crate) mod journal {
    use super::{FilePath, Mutex, PathBuf, PoisonError, Step};

    static STEPS: Mutex<Vec<(Step, PathBuf)>> = Mutex::new(Vec::new());

    pub(crate) fn note(step: Step, path: &FilePath) {
        STEPS.lock().unwrap_or_else(PoisonError::into_inner).push((step, path.to_owned()));
    }

    /// The steps so far inside a folder, the folder itself included.
    pub(crate) fn steps(folder: &FilePath) -> Vec<(Step, PathBuf)> {
        let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
        steps.iter().filter(|(_, path)| path.starts_with(folder)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use object_store::buffered::BufWriter;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn names(folder: &FilePath) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn contents_are_synced_before_the_name_and_the_folders_after_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap();
        let objects = SyncedFiles::default();
        let path = |name: &str| Path::from_absolute_path(folder.join(name)).unwrap();
        objects.put(&path("new/log/1.json"), "one".into()).await.unwrap();
        let file = folder.join("new/log/1.json");
        let expected = [
            (Step::Contents, file.clone()),
            (Step::Name, file.clone()),
            (Step::Folder, folder.join("new/log")),
            (Step::Folder, folder.join("new")),
            (Step::Folder, folder.clone()),
        ];
        assert_eq!(journal::steps(&folder), expected);
        // The folders are known to be there: one sync of the file, one of its folder.
        objects.put_opts(&path("new/log/2.json"), "two".into(), PutMode::Create.into()).await.unwrap();
        assert_eq!(journal::steps(&folder).len(), expected.len() + 3);
        let taken = objects.put_opts(&path("new/log/2.json"), "x".into(), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken:?}");
        objects.put(&path("new/log/1.json"), "other".into()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "other");
        assert_eq!(std::fs::read_to_string(folder.join("new/log/2.json")).unwrap(), "two");
        assert_eq!(names(&folder.join("new/log")), ["1.json", "2.json"], "no temporary file is left");
    }

    #[tokio::test]
    async fn files_in_parts_have_their_name_when_they_are_complete() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap();
        let objects: Arc<dyn ObjectStore> = Arc::new(SyncedFiles::default());
        let path = |name: &str| Path::from_absolute_path(folder.join(name)).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut writer = BufWriter::with_capacity(Arc::clone(&objects), path("parts"), 1 << 16).with_max_concurrency(3);
        for part in bytes.chunks(30_000) {
            writer.write_all(part).await.unwrap();
        }
        assert!(names(&folder).iter().all(|name| name.starts_with("parts#")));
        writer.shutdown().await.unwrap();
        assert_eq!(names(&folder), ["parts"]);
        assert!(std::fs::read(folder.join("parts")).unwrap() == bytes);
        let steps: Vec<Step> = journal::steps(&folder).into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [Step::Contents, Step::Name, Step::Folder]);
        let mut dropped = BufWriter::with_capacity(Arc::clone(&objects), path("dropped"), 8);
        dropped.write_all(b"more than eight bytes").await.unwrap();
        dropped.abort().await.unwrap();
        drop(dropped);
        assert_eq!(names(&folder), ["parts"]);
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_a_folder_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("store"), "").unwrap();
        let path = Path::from_absolute_path(folder.path().join("store/runs/1.json")).unwrap();
        let error = SyncedFiles::default().put(&path, "one".into()).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap();
        assert!(cause.to_string().contains("store/runs/1.json"), "{cause}");
        let kind = cause.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::NotADirectory));
    }
}

//! An object store without some of its files. In: an object store, and the paths to hide. Out: the same store, in which these files seem
//! absent until they are written again. It must not change a file.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// An object store without some of its files.
#[derive(Debug)]
pub(crate) struct HiddenFiles {
    inner: Arc<dyn ObjectStore>,
    hidden: Arc<Mutex<BTreeSet<Path>>>,
}

impl HiddenFiles {
    /// The store, without hidden files yet.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, hidden: Arc::default() }
    }

    /// Hides these files, until they are written again.
    pub(crate) fn hide(&self, paths: impl IntoIterator<Item = Path>) {
        self.hidden().extend(paths);
    }

    /// Whether a file is hidden.
    pub(crate) fn has_hidden(&self, path: &Path) -> bool {
        self.hidden().contains(path)
    }

    fn hidden(&self) -> MutexGuard<'_, BTreeSet<Path>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visible(&self, location: &Path) -> Result<()> {
        if !self.has_hidden(location) {
            return Ok(());
        }
        Err(Error::NotFound { path: location.to_string(), source: "it cannot be read and is left out".into() })
    }

    fn without_hidden(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let hidden = Arc::clone(&self.hidden);
        let visible = move |file: &ObjectMeta| {
            let hidden = hidden.lock().unwrap_or_else(PoisonError::into_inner);
            std::future::ready(!hidden.contains(&file.location))
        };
        listed.try_filter(visible).boxed()
    }
}

impl fmt::Display for HiddenFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for HiddenFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let written = self.inner.put_opts(location, payload, options).await?;
        self.hidden().remove(location);
        Ok(written)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        // Readers of the incomplete upload find what cannot be read, as before.
        self.hidden().remove(location);
        Ok(upload)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.visible(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.visible(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.without_hidden(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.without_hidden(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.retain(|file| !self.has_hidden(&file.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.visible(from)?;
        self.inner.copy_opts(from, to, options).await
    }
}

//! Object stores in queries. In: a URL in SQL (`s3://lake/…`, `https://…`). Out: its object store, created on first use with credentials
//! from the environment, and read-only. It must not read or write there.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};
use percent_encoding::percent_decode_str;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::{Position, Url};

use crate::source::location::StoreLocation;

/// A registry that creates an object store if none is registered for a URL. What it gives out can only be read: rows are written to a
/// store by its own writer, which does not ask the session.
#[derive(Debug)]
pub struct ObjectStores {
    registry: DefaultObjectStoreRegistry,
}

impl Default for ObjectStores {
    fn default() -> Self {
        let registry = DefaultObjectStoreRegistry::new();
        // It comes with a store of local files, which can be written.
        if let Ok(root) = Url::parse("file:///")
            && let Ok(files) = registry.get_store(&root)
        {
            registry.register_store(&root, Arc::new(ReadOnly(files)));
        }
        Self { registry }
    }
}

impl ObjectStoreRegistry for ObjectStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registry.register_store(url, Arc::new(ReadOnly(store)))
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.registry.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(store) = self.registry.get_store(url) {
            return Ok(store);
        }
        let root = &url[..Position::BeforePath];
        let objects: Arc<dyn ObjectStore> = if matches!(url.scheme(), "http" | "https") {
            web_server(url).map_err(|cause| DataFusionError::External(cause.into()))?.1
        } else {
            let location = StoreLocation::parse(root).map_err(|cause| DataFusionError::External(cause.into()))?;
            Arc::clone(location.objects())
        };
        let objects: Arc<dyn ObjectStore> = Arc::new(ReadOnly(objects));
        self.registry.register_store(url, Arc::clone(&objects));
        Ok(objects)
    }
}

/// An object store that can only be read.
#[derive(Debug)]
struct ReadOnly(Arc<dyn ObjectStore>);

impl std::fmt::Display for ReadOnly {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (read-only)", self.0)
    }
}

fn refused<T>(path: &Path) -> object_store::Result<T> {
    let source = "queries cannot write: rows are written with --out".into();
    Err(object_store::Error::PermissionDenied { path: path.to_string(), source })
}

#[async_trait]
impl ObjectStore for ReadOnly {
    async fn put_opts(&self, location: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        refused(location)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        refused(location)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        locations.and_then(async |location| refused(&location)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, to: &Path, _: CopyOptions) -> object_store::Result<()> {
        refused(to)
    }

    async fn rename_opts(&self, from: &Path, _: &Path, _: RenameOptions) -> object_store::Result<()> {
        refused(from)
    }
}

/// The root of a URL's web server without the log-in, and its object store, which sends the log-in in a header with every request:
/// whatever names a file of it, in a table or a message, names it without. Two log-ins for one server are therefore one object store in
/// a session, that of the last.
///
/// # Errors
/// Text for a person, if the URL cannot be used.
pub(crate) fn web_server(url: &Url) -> std::result::Result<(Url, Arc<dyn ObjectStore>), String> {
    let mut root = Url::parse(&url[..Position::BeforePath]).map_err(|error| error.to_string())?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (decoded(root.username()), root.password().map(decoded));
    let without_login = root.set_username("").and_then(|()| root.set_password(None));
    without_login.map_err(|()| "its log-in cannot be read".to_owned())?;
    let mut options = ClientOptions::new().with_allow_http(true);
    if !user.is_empty() || password.is_some() {
        let login = STANDARD.encode(format!("{user}:{}", password.unwrap_or_default()));
        let mut header = HeaderValue::from_str(&format!("Basic {login}")).map_err(|error| error.to_string())?;
        header.set_sensitive(true);
        options = options.with_default_headers(HeaderMap::from_iter([(AUTHORIZATION, header)]));
    }
    let store = HttpBuilder::new().with_url(root.as_str()).with_client_options(options).build();
    let store: Arc<dyn ObjectStore> = Arc::new(store.map_err(|error| error.to_string())?);
    Ok((root, store))
}

/// Registers the object store of `location` in a session.
///
/// # Errors
/// [`crate::error::Error::Engine`] if DataFusion does not accept the URL.
pub fn register_location(context: &SessionContext, location: &StoreLocation) -> crate::error::Result<()> {
    let url = location.object_store_url()?;
    context.register_object_store(url.as_ref(), Arc::clone(location.objects()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[test]
    fn a_store_is_created_on_first_use() {
        let stores = ObjectStores::default();
        let named = |text: &str| stores.get_store(&Url::parse(text).unwrap());
        let (first, second) = (named("https://host/a.parquet").unwrap(), named("https://host/b.parquet").unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(named("file:///tmp/a.parquet").is_ok());
        assert!(Arc::ptr_eq(&named("file:///tmp/a").unwrap(), &named("file:///tmp/b").unwrap()));
        assert!(named("ftp://host/a").unwrap_err().to_string().contains("the scheme `ftp`"));
    }
    #[tokio::test]
    async fn nothing_is_written_through_a_session() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "a\n1\n").unwrap();
        let memory: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        memory.put(&Path::from("a.csv"), "a\n1\n".into()).await.unwrap();
        let stores = ObjectStores::default();
        let bucket = Url::parse("memory://lake/").unwrap();
        stores.register_store(&bucket, memory);
        let local = Path::from_absolute_path(folder.path()).unwrap();
        for (url, root) in [(bucket, Path::default()), (Url::parse("file:///").unwrap(), local)] {
            let store = stores.get_store(&url).unwrap();
            let (old, new) = (root.clone().join("a.csv"), root.join("b.csv"));
            assert_eq!(store.get(&old).await.unwrap().bytes().await.unwrap(), "a\n1\n");
            assert_eq!(store.get_range(&old, 2..3).await.unwrap(), "1");
            assert!(store.put(&new, "b".into()).await.is_err());
            assert!(store.put_multipart(&new).await.is_err());
            assert!(store.copy(&old, &new).await.is_err() && store.copy_if_not_exists(&old, &new).await.is_err());
            assert!(store.rename(&old, &new).await.is_err() && store.rename_if_not_exists(&old, &new).await.is_err());
            assert!(store.delete(&old).await.is_err());
            assert!(store.head(&old).await.is_ok() && store.head(&new).await.is_err());
        }
    }
}

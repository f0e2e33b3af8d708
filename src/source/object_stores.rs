//! Object stores in queries. In: a URL in SQL (`s3://lake/…`, `https://…`). Out: its object store, created on first use with credentials
//! from the environment. It must not read or write there.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use object_store::ObjectStore;
use url::{Position, Url};

use crate::source::location::StoreLocation;
use datafusion::prelude::SessionContext;

/// A registry that creates an object store if none is registered for a URL.
#[derive(Debug, Default)]
pub struct ObjectStores {
    registry: DefaultObjectStoreRegistry,
}

impl ObjectStoreRegistry for ObjectStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registry.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.registry.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(store) = self.registry.get_store(url) {
            return Ok(store);
        }
        let root = &url[..Position::BeforePath];
        let objects = if matches!(url.scheme(), "http" | "https") {
            let root = Url::parse(root).map_err(|cause| DataFusionError::External(cause.into()))?;
            Arc::from(object_store::parse_url(&root)?.0)
        } else {
            let location = StoreLocation::parse(root).map_err(|cause| DataFusionError::External(cause.into()))?;
            Arc::clone(location.objects())
        };
        self.registry.register_store(url, Arc::clone(&objects));
        Ok(objects)
    }
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
    use super::*;

    #[test]
    fn a_store_is_created_on_first_use() {
        let stores = ObjectStores::default();
        let named = |text: &str| stores.get_store(&Url::parse(text).unwrap());
        let (first, second) = (named("https://host/a.parquet").unwrap(), named("https://host/b.parquet").unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(named("file:///tmp/a.parquet").is_ok());
        assert!(named("ftp://host/a").unwrap_err().to_string().contains("the scheme `ftp`"));
    }
}
